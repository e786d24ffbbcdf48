"""Files with one thing wrong are refused with one message: file, fault, expectation, remedy.

``python tests/contracts/test_doctored_files.py`` counts kinds and places by format.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import test_readers
from foreign_writers import write_abacus, write_dftio, write_hsx, write_kmesh
from hamiltonian_samples import (
    openmx_out,
    patch_bytes,
    scfout_sections,
    slater_koster_sample,
    write_legacy_folder,
    write_new_folder,
    write_scfout,
)
from test_hamiltonian_readers import by_element

from mlepi.errors import MlepiError
from mlepi.structures.abacus import read_abacus
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.deeph import read_deeph
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.dftio import read_dftio
from mlepi.structures.kmesh_files import read_kmesh
from mlepi.structures.openmx import read_openmx
from mlepi.structures.siesta import read_siesta

SAMPLE = slater_koster_sample()
MESH = (7, 7, 7)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Folders of all formats that are read without a remark."""
    root = tmp_path_factory.mktemp("good")
    write_legacy_folder(root / "legacy", SAMPLE)
    write_new_folder(root / "new", SAMPLE)
    write_dftio(root / "dftio", SAMPLE)
    write_kmesh(root / "kmesh", SAMPLE, MESH)
    write_abacus(root / "older", by_element(SAMPLE), "older")
    write_abacus(root / "newer", by_element(SAMPLE), "newer")
    (root / "siesta").mkdir()
    write_hsx(root / "siesta" / "a.HSX", SAMPLE)
    (root / "openmx").mkdir()
    write_scfout(root / "openmx" / "a.scfout", SAMPLE)
    (root / "openmx" / "a.out").write_text(openmx_out(SAMPLE))
    for name, kind in FORCES.items():
        (root / name).mkdir()
        kind().write(root / name / kind.name)
    return root


FORCES = {
    "ml_ab": test_readers.TestMlAb,
    "vaspout": test_readers.TestVaspout,
    "extxyz": test_readers.TestExtxyz,
    "vasprun": test_readers.TestVasprun,
    "outcar": test_readers.TestOutcar,
}


READ = {
    "legacy": read_deeph_legacy,
    "new": read_deeph,
    "dftio": read_dftio,
    "kmesh": lambda folder: read_kmesh(folder, 0),
    "older": lambda folder: read_abacus(folder / "OUT.sample"),
    "newer": lambda folder: read_abacus(folder / "OUT.sample"),
    "siesta": lambda folder: read_siesta(folder / "a.HSX"),
    "openmx": lambda folder: read_openmx(folder / "a.scfout", folder / "a.out"),
    **{
        name: lambda folder, kind=kind: read_forces_dataset(folder / kind.name)[0]
        for name, kind in FORCES.items()
    },
}


def remove(name):
    return lambda folder: (folder / name).unlink()


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def cut(name, fraction):
    def doctor(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(fraction * len(content))])

    return doctor


def edit(name, old, new, count=1):
    """Replace a pattern in a text; it must be there."""

    def doctor(folder):
        text = (folder / name).read_text()
        changed, n = re.subn(old, new, text, count=count, flags=re.MULTILINE)
        assert n > 0
        (folder / name).write_text(changed)

    return doctor


def info(name, **values):
    """Change entries of a JSON file."""

    def doctor(folder):
        (folder / name).write_text(
            json.dumps({**json.loads((folder / name).read_text()), **values})
        )

    return doctor


def h5(name, change):
    """Change an HDF5 file by a function of it."""

    def doctor(folder):
        with h5py.File(folder / name, "a") as file:
            change(file)

    return doctor


def block(key, change):
    """Change one dataset."""

    def apply(file):
        values = change(np.asarray(file[key]))
        del file[key]
        file[key] = values

    return apply


def every(change):
    """Change the names and values of all datasets of a file or its group "0"."""

    def apply(file):
        group = file.get("0", file)
        items = [(name, np.asarray(group[name])) for name in group]
        for name, _ in items:
            del group[name]
        for name, values in items:
            new_name, new_values = change(name, values)
            group[new_name] = new_values

    return apply


def entry(place, value):
    def change(values):
        values = values.astype(float).copy()
        values.flat[place] = value
        return values

    return change


def key_of(text, change):
    """Change the numbers of a key such as "[0, 0, 1, 2, 1]" or "1_0_0_0_1"."""
    if text.startswith("["):
        return json.dumps(change(json.loads(text)))
    i, j, *cell = (int(word) for word in text.split("_"))
    *cell, i, j = change([*cell, i, j])
    return "_".join(map(str, [i, j, *cell]))


def rekey(change):
    return every(lambda name, values: (key_of(name, change), values))


ONSITE = {"legacy": "[0, 0, 0, {k}, {k}]", "dftio": "0/{k}_{k}_0_0_0"}
FIRST = {"legacy": 1, "dftio": 0}
FILES = {
    "legacy": ("hamiltonians.h5", "overlaps.h5"),
    "dftio": ("hamiltonians.h5", "overlaps.h5"),
    "new": ("hamiltonian.h5", "overlap.h5"),
}


def blockwise_cases():
    """Faults of blocks that have names, in both matrices, at every atom."""
    for form in ("legacy", "dftio"):
        for file in FILES[form]:
            for fraction in (0.0, 0.3, 0.9):
                yield (
                    form,
                    f"{file} cut at {fraction}",
                    cut(file, fraction),
                    r"no readable HDF5|unreadable|no group",
                )
            yield (
                form,
                f"{file} with a strange key",
                h5(file, lambda f: f.get("0", f).create_dataset("here", data=1.0)),
                "key 'here'",
            )
            yield (
                form,
                f"{file} of another base",
                h5(file, rekey(lambda v: [*v[:3], v[3] + 1, v[4] + 1])),
                r"indices from \d to \d for 3 atoms",
            )
            yield (
                form,
                f"{file} spinful",
                h5(file, every(lambda name, v: (name, v + 0j))),
                "spinful data",
            )
            yield (
                form,
                f"{file} with the cells reversed",
                h5(file, rekey(lambda v: [-v[0], -v[1], -v[2], v[3], v[4]])),
                r"bond direction|symmetric around its bonds|sum of the orbital radii|correlate",
            )
            for k in range(3):
                key = ONSITE[form].format(k=k + FIRST[form])
                for what, change, text in (
                    ("NaN", entry(1, np.nan), "NaN or infinite"),
                    ("infinite", entry(0, np.inf), "NaN or infinite"),
                    ("short", lambda v: v[:-1], "a block of shape"),
                    ("not Hermitian", entry(1, 0.3), "differ from their transposed reverse"),
                ):
                    yield form, f"{file} {what} at {k}", h5(file, block(key, change)), text
                yield (
                    form,
                    f"{file} without atom {k}",
                    h5(file, lambda f, key=key: f.__delitem__(key)),
                    "no on-site block for 1 atoms",
                )
        for k in range(3):
            key = ONSITE[form].format(k=k + FIRST[form])
            for factor in (-1.0, 0.0, 3.0):
                yield (
                    form,
                    f"S times {factor} at {k}",
                    h5(FILES[form][1], block(key, lambda v, f=factor: f * v)),
                    "on-site overlap of",
                )


def chunk_cases():
    """Faults of the new DeepH layout."""
    for file in FILES["new"]:
        for name in ("atom_pairs", "chunk_shapes", "chunk_boundaries", "entries"):
            yield (
                "new",
                f"{file} without {name}",
                h5(file, lambda f, name=name: f.__delitem__(name)),
                f"no dataset .*{name}",
            )
        for name in ("atom_pairs", "chunk_shapes", "chunk_boundaries"):
            yield (
                "new",
                f"{file} short {name}",
                h5(file, block(name, lambda v: v[:-1])),
                r"chunk_boundaries \(|atom_pairs \(",
            )
        yield "new", f"{file} short entries", h5(file, block("entries", lambda v: v[:-1])), "values"
        yield "new", f"{file} complex", h5(file, block("entries", lambda v: v + 0j)), "spinful"
        yield (
            "new",
            f"{file} base 1",
            h5(file, block("atom_pairs", lambda v: np.add(v, [0, 0, 0, 1, 1]))),
            "indices from 1 to 3",
        )
        yield (
            "new",
            f"{file} reversed",
            h5(file, block("atom_pairs", lambda v: v * [-1, -1, -1, 1, 1])),
            r"bond direction|symmetric around its bonds|sum of the orbital radii|correlate",
        )
        for place in (0, 40, -1):
            for value in (np.nan, np.inf):
                yield (
                    "new",
                    f"{file} {value} at {place}",
                    h5(file, block("entries", entry(place, value))),
                    "NaN or infinite",
                )
            yield (
                "new",
                f"{file} not Hermitian at {place}",
                h5(file, block("entries", entry(place, 7.7))),
                r"transposed reverse|on-site overlap",
            )
        for fraction in (0.0, 0.5):
            yield "new", f"{file} cut at {fraction}", cut(file, fraction), "no readable HDF5"
    for key, value, text in (
        ("atoms_quantity", 4, "atoms_quantity = 4"),
        ("orbits_quantity", 1, "orbits_quantity = 1"),
        ("spinful", True, "spinful"),
        ("elements_orbital_map", {"C": [0, 0, 1, 1, 2]}, r"no elements_orbital_map for \['H'\]"),
        ("elements_orbital_map", {"C": [0, 1], "H": [0, 1]}, "orbits_quantity"),
        ("fermi_energy_eV", "high", "fermi_energy_eV = 'high'"),
        ("fermi_energy_eV", -400.0, "Fermi energy -400"),
    ):
        yield "new", f"info.json {key}={value}", info("info.json", **{key: value}), text
    for name in ("POSCAR", "info.json", "overlap.h5"):
        yield "new", f"without {name}", remove(name), f"no file {name}"
    for name, text in (("POSCAR", "no POSCAR"), ("info.json", "no JSON")):
        yield "new", f"empty {name}", write(name, ""), text
    yield (
        "new",
        "another structure",
        edit("POSCAR", r"^3\.1\d* ", "4.40 "),
        (r"bond direction|sum of the orbital radii"),
    )


def text_cases():
    """Faults of texts beside the matrices."""
    for name in (
        "element.dat",
        "lat.dat",
        "site_positions.dat",
        "orbital_types.dat",
        "info.json",
        "overlaps.h5",
    ):
        yield "legacy", f"without {name}", remove(name), f"no file {name}"
    for name in ("element.dat", "lat.dat", "site_positions.dat"):
        yield "legacy", f"words in {name}", write(name, "a b c\n"), "no table|could not convert"
        yield "legacy", f"NaN in {name}", edit(name, r"\S+", "nan"), "NaN or infinite"
    for name in ("lat.dat", "site_positions.dat"):
        yield "legacy", f"short {name}", edit(name, r"\A.*\n", ""), "vectors as columns"
    yield "legacy", "strange element", write("element.dat", "6\n1\n200\n"), "got 200"
    yield "legacy", "fewer elements", write("element.dat", "6\n1\n"), r"\(3, 2\)"
    yield "legacy", "fewer shells", edit("orbital_types.dat", r"\A.*\n", ""), "2 lines of shells"
    yield "legacy", "strange shells", edit("orbital_types.dat", "2", "d"), "lists of l"
    yield "legacy", "two bases", edit("orbital_types.dat", r"\A.*\n", "0 1 2\n"), "for element 6"
    yield "legacy", "other shells", edit("orbital_types.dat", "1 1 2", "1 1", 0), "block of shape"
    for key, value, text in (
        ("isspinful", True, "spinful"),
        ("fermi_level", [1], "fermi_level"),
        ("fermi_level", -300.0, "Fermi energy -300"),
    ):
        yield "legacy", f"{key}={value}", info("info.json", **{key: value}), text
    yield "legacy", "a list as info", write("info.json", "[1]"), "a JSON object"
    for name, text in (
        ("cell.dat", "no cell.dat"),
        ("positions.dat", "no positions.dat"),
        ("atomic_numbers.dat", "no atomic_numbers.dat"),
        ("basis.dat", "no basis"),
        ("hamiltonians.h5", "no hamiltonians.h5"),
        ("overlaps.h5", "no overlaps.h5"),
    ):
        yield "dftio", f"without {name}", remove(name), text
    for words, text in (
        ("{'C': '2s2p1d'}", r"no shells for atomic numbers \[1\]"),
        ("{'C': '2s2p', 'H': '1s1p'}", "block of shape"),
        ("{'C': 'two', 'H': '1s1p'}", "no basis"),
        ("C 2s2p1d", "no basis"),
        ("{'Xx': '1s'}", "element 'Xx'"),
    ):
        yield "dftio", f"basis {words}", write("basis.dat", words), text
    yield "dftio", "fewer positions", edit("positions.dat", r"\A.*\n", ""), "positions"
    yield "dftio", "words in cell", write("cell.dat", "a\n"), "no table|could not convert"
    yield (
        "dftio",
        "another cell",
        edit("cell.dat", r"\A3\.1\S*", "4.4"),
        (r"bond direction|sum of the orbital radii"),
    )


def kmesh_cases():
    for name, text in (
        ("frames.xyz", "0 xyz files"),
        ("a_fock_0.npy", r"no \*_fock_0\.npy"),
        ("a_over_0.npy", "unreadable file"),
    ):
        yield "kmesh", f"without {name}", remove(name), text
    for values, text in (
        ({"mesh": [7, 7]}, "mesh"),
        ({"mesh": [7, 7, 0]}, "mesh"),
        ({"mesh": [7, 7, 6]}, "k-points of the mesh"),
        ({"shells": {"C": [0, 0, 1, 1, 2]}}, "shells"),
        ({"shells": {"C": [0, 1], "H": [0]}}, "orbitals of the shells"),
        ({"order": "mine"}, "order 'mine'"),
        ({"order": "pyscf"}, "bond direction"),
        ({"order": "siesta"}, "bond direction"),
        ({"order": "openmx"}, "bond direction"),
    ):
        yield "kmesh", f"{values}", info("kmesh.json", **values), text
    yield "kmesh", "no lattice", edit("frames.xyz", "Lattice=", "Nothing="), "no cell"
    yield "kmesh", "no JSON", write("kmesh.json", "{"), "no settings"

    def matrices(name, change):
        def doctor(folder):
            np.save(folder / name, change(np.load(folder / name)))

        return doctor

    for name in ("a_fock_0.npy", "a_over_0.npy"):
        yield "kmesh", f"{name} NaN", matrices(name, lambda m: m * np.nan), "not finite"
        yield "kmesh", f"{name} cut", cut(name, 0.5), "unreadable file"
        yield "kmesh", f"{name} fewer k", matrices(name, lambda m: m[:-1]), "k-points of the mesh"
        yield (
            "kmesh",
            f"{name} other order of k",
            matrices(name, lambda m: np.roll(m, 1, axis=0)),
            ("imaginary parts"),
        )
        yield "kmesh", f"{name} lower half", matrices(name, np.tril), "not Hermitian"


def abacus_cases():
    names = {
        "older": ("data-HR-sparse_SPIN0.csr", "data-SR-sparse_SPIN0.csr"),
        "newer": ("hrs1_nao.csr", "sr_nao.csr"),
    }
    for form, files in names.items():
        for file in (f"OUT.sample/{name}" for name in files):
            yield form, f"without {file}", remove(file), r"no H\(R\) and S\(R\)"
            for fraction in (0.5, 0.99):
                yield (
                    form,
                    f"{file} cut at {fraction}",
                    cut(file, fraction),
                    "the end of the file inside",
                )
            yield form, f"{file} empty", write(file, ""), "Matrix Dimension"
            yield (
                form,
                f"{file} NaN",
                edit(file, r"-?\d\.\d{9}\d*e[+-]\d+", "nan"),
                "NaN or infinite",
            )
            yield (
                form,
                f"{file} complex",
                edit(file, r"-?\d\.\d{9}\d*e[+-]\d+", "(1.0,0.0)"),
                "complex numbers",
            )
            yield form, f"{file} words", edit(file, r"-?\d\.\d{9}\d*e[+-]\d+", "1.0x"), "'1.0x'"
            yield form, f"{file} long", edit(file, r"\Z", "1 2 3\n"), "more or fewer numbers"
            size = r"(?<=\(R\): )30" if form == "older" else r"30(?= # number of localized)"
            yield form, f"{file} of another size", edit(file, size, "31"), "."
        yield (
            form,
            "two spins",
            write(
                "OUT.sample/hrs2_nao.csr"
                if form == "newer"
                else "OUT.sample/data-HR-sparse_SPIN1.csr",
                "",
            ),
            "two spins",
        )
        yield (
            form,
            "spin in the log",
            edit("OUT.sample/running_scf.log", "nspin = 1", "nspin = 4"),
            "spin",
        )
        yield (
            form,
            "another STRU",
            edit("STRU", r"^3\.1\d* ", "4.40 "),
            (r"bond direction|sum of the orbital radii|the same structure"),
        )
        yield form, "no STRU", remove("STRU"), "no STRU"
        for section in (
            "ATOMIC_SPECIES",
            "LATTICE_CONSTANT",
            "LATTICE_VECTORS",
            "ATOMIC_POSITIONS",
        ):
            yield (
                form,
                f"STRU without {section}",
                edit("STRU", f"^{section}", "SOMETHING"),
                ("missing or malformed section"),
            )
        yield (
            form,
            "strange positions",
            edit("STRU", "^Direct", "Spherical"),
            "positions 'Spherical'",
        )
        yield form, "strange element", edit("STRU", "^H #label", "Xx #label"), "element 'Xx'"
    yield (
        "newer",
        "spin in the header",
        edit("OUT.sample/hrs1_nao.csr", "1 # number of spin", "2 # number of spin"),
        "2 spin directions",
    )
    yield (
        "newer",
        "folded",
        edit("OUT.sample/sr_nao.csr", " # print", " # representation: gamma-only folded\n # print"),
        "a run at Γ alone",
    )
    yield (
        "newer",
        "two steps",
        edit("OUT.sample/hrs1_nao.csr", r"\Z", " --- Ionic Step 2 ---\n"),
        ("several ionic steps"),
    )


def siesta_cases():
    content = {}

    def patch(offset, values, kind="<i4"):
        def doctor(folder):
            data = bytearray((folder / "a.HSX").read_bytes())
            chunk = np.asarray(values, dtype=kind).tobytes()
            data[offset : offset + len(chunk)] = chunk
            (folder / "a.HSX").write_bytes(data)

        return doctor

    del content
    for fraction in (0.0, 0.0005, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999):
        yield (
            "siesta",
            f"cut at {fraction}",
            cut("a.HSX", fraction),
            r"the end of the file|HSX format",
        )
    yield "siesta", "missing", remove("a.HSX"), "no such file"
    yield "siesta", "SIESTA 4", patch(4, [7]), "HSX format 7"
    yield "siesta", "broken record", patch(8, [5]), "a broken record"
    yield "siesta", "spin", patch(28 + 8, [2]), "2 spin components"
    yield "siesta", "no atoms", patch(28, [0]), "sizes below 1"
    yield "siesta", "more atoms", patch(28, [4]), "bytes of the structure"
    yield "siesta", "more orbitals", patch(28 + 4, [31]), "."
    yield "siesta", "short forces", write("a.FA", "3\n1 0 0 0\n"), "forces of shape"
    yield "siesta", "words as forces", write("a.FA", "3\n1 a b c\n"), "forces of shape"
    yield "siesta", "NaN forces", edit("a.FA", r"0\.1\S*", "nan"), "forces of shape"
    for place in (-12, -4 - 8 * 3):
        yield (
            "siesta",
            f"NaN in S at {place}",
            lambda folder, place=place: nan_at(folder, place),
            (r"NaN or infinite|broken record"),
        )


def forces_cases():
    for title in (
        "Atom types and atom numbers",
        "Primitive lattice vectors",
        "Atomic positions",
        "Total energy",
        "Forces",
    ):
        yield (
            "ml_ab",
            f"without {title}",
            edit("ML_AB", f"     {title}.*", "     Something", 0),
            ("configuration 1 with a missing or short section"),
        )
        text = f"(     {title}.*\n-+\n).*\n"
        yield (
            "ml_ab",
            f"short {title}",
            edit("ML_AB", text, r"\1"),
            ("configuration 1 with a missing or short section"),
        )
    yield "ml_ab", "words", edit("ML_AB", r"\d\.\d{15}", "many"), "missing or short section"
    yield "ml_ab", "NaN", edit("ML_AB", r"(Forces.*\n-+\n\s*)\S+", r"\1nan"), "not finite"
    yield "ml_ab", "empty", write("ML_AB", ""), "no configurations"
    yield "ml_ab", "missing", remove("ML_AB"), "no such file"
    steps = "intermediate/ion_dynamics"
    for name in ("energies", "energies_tags", "forces", "position_ions", "lattice_vectors"):
        yield (
            "vaspout",
            f"without {name}",
            h5("vaspout.h5", lambda f, name=name: f[steps].__delitem__(name)),
            "a missing array",
        )
    for name in ("ion_types", "number_ion_types"):
        yield (
            "vaspout",
            f"without {name}",
            h5("vaspout.h5", lambda f, name=name: f["results/positions"].__delitem__(name)),
            "a missing array",
        )
    for name in ("energies", "forces"):
        yield (
            "vaspout",
            f"{name} NaN",
            h5("vaspout.h5", block(f"{steps}/{name}", entry(0, np.nan))),
            "not finite",
        )
    yield (
        "vaspout",
        "fewer positions",
        h5("vaspout.h5", block(f"{steps}/position_ions", lambda v: v[:, :-1])),
        "positions of all atoms",
    )
    yield (
        "vaspout",
        "other tags",
        h5("vaspout.h5", block(f"{steps}/energies_tags", lambda v: np.array([b"energy"] * 3))),
        "a free energy",
    )
    yield "vaspout", "missing", remove("vaspout.h5"), "no such file"
    name = "train.extxyz"
    for key in ("forces:R:3", r"free_energy=\S+ energy=\S+|energy=\S+ free_energy=\S+"):
        yield (
            "extxyz",
            f"without {key[:6]}",
            edit(name, key, "other:R:3" if ":" in key else "", 0),
            ("an energy and forces"),
        )
    yield "extxyz", "no lattice", edit(name, "Lattice=", "Nothing=", 0), "no periodic cell"
    yield "extxyz", "cut", edit(name, r"\A3", "4"), "an unreadable file"
    yield "extxyz", "words", edit(name, r"^Mo\s+\S+", "Mo here"), "an unreadable file"
    yield "extxyz", "NaN", edit(name, r"^(Mo.*\s)\S+$", r"\1nan"), "not finite"
    yield "extxyz", "empty", write(name, ""), "unreadable|no structures"


def openmx_cases():
    """Faults of the .scfout by section, and of the .out beside it."""
    sections = scfout_sections(SAMPLE)

    def number(section, shift, value, kind):
        place = sections[section] + shift
        return lambda folder: patch_bytes(folder / "a.scfout", place, value, kind)

    for fraction in (0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999):
        text = r"the end of the file \(\d+ bytes\) inside"
        yield "openmx", f"a.scfout cut at {fraction}", cut("a.scfout", fraction), text
    yield "openmx", "without a.scfout", remove("a.scfout"), "no such file"
    yield "openmx", "without a.out", remove("a.out"), "no such file"
    yield "openmx", "text", write("a.scfout", "System.Name graphene\n" * 9), "no OpenMX header"
    for code, text in (
        (0, "format code 0"),
        (4, "format code 1"),
        (8, "format code 2"),
        (16, "format code 4"),
        (13, "spin-polarised"),
        (15, "non-collinear"),
    ):
        yield "openmx", f"code {code}", number("header", 4, code, "<i4"), text
    for section, shift, value, kind, text in (
        ("header", 12, 2, "<i4", "leads"),
        ("orbitals", 0, 0, "<i4", "negative counts"),
        ("fnan", 0, -2, "<i4", "negative counts"),
        ("natn", 8, 0, "<i4", "indices"),
        ("natn", 8, 4, "<i4", "indices from 1 to 4"),
        ("natn", 0, 2, "<i4", "begin with the atom itself"),
        ("ncn", 8, 9999, "<i4", "a cell index outside"),
        ("ncn", 8, -1, "<i4", "a cell index outside"),
        ("tv", 8, np.nan, "<f8", "cell and position values that are NaN"),
        ("positions", 8, np.inf, "<f8", "cell and position values that are NaN"),
        ("hamiltonian", 0, np.nan, "<f8", "1 Hamiltonian values that are NaN"),
        ("hamiltonian", 8, 1.0, "<f8", "differ from their transposed reverse"),
        ("overlap", 0, np.inf, "<f8", "1 overlap values that are NaN"),
        ("overlap", 0, -1.0, "<f8", "on-site overlap of -1"),
        ("overlap", 8, 0.3, "<f8", "differ from their transposed reverse"),
    ):
        yield "openmx", f"{section} {value} at {shift}", number(section, shift, value, kind), text
    for old, new, text in (
        ("  Utot. ", "  Vtot. ", "no Utot"),
        ("coordinates\\.forces", "coordinates", "no coordinates.forces"),
        (r"Chemical potential", "Chemical", "no Chemical potential"),
        (r"-0\.0918", "-0.1918", "chemical potential -0.19"),
        (r"  1\.10000 ", "  1.20000 ", "differ by up to"),
        (r"  1\.10000 ", "  *.***** ", "could not convert"),
        (r"    2     H ", "    2     C ", "or other elements"),
        (r"    3     C ", "  # 3     C ", "forces on 2 atoms"),
    ):
        yield "openmx", f"a.out {old.strip()} {new.strip()}", edit("a.out", old, new, 0), text


def vasp_cases():
    """Faults of vasprun.xml and OUTCAR."""
    xml, text = "vasprun.xml", "OUTCAR"
    for form, name in (("vasprun", xml), ("outcar", text)):
        yield form, "empty", write(name, ""), "unreadable|no structures|no labels"
        yield form, "of something else", write(name, "nothing\n"), "unreadable|no structures"
        yield form, "missing", remove(name), "no such file"
        yield form, "zero bytes", lambda f, n=name: (f / n).write_bytes(bytes(99)), "a zero byte"
    for pattern, new, told in (
        ('name="forces"', 'name="other"', "an energy and forces|unreadable"),
        ("e_fr_energy", "e_other", "unreadable|an energy"),
        ('name="basis"', 'name="other"', "unreadable"),
        ('name="positions"', 'name="other"', "unreadable"),
        ("<atominfo>", "<atoms>", "unreadable"),
        (r'(forces"><v> )\S+', r"\1nan", "not finite"),
        (r'(forces"><v> )\S+', r"\1many", "unreadable"),
        (r'(e_fr_energy"> )\S+', r"\1nan", "not finite"),
        (r'(e_fr_energy"> )\S+', r"\1-1e300", "at most 1e"),
        (r'(basis"><v> )\S+', r"\1nan", "not finite|unreadable"),
    ):
        yield "vasprun", f"{pattern} {new}", edit(xml, pattern, new, 0), told
    for pattern, new, told in (
        (r"POSITION .*", "OTHER", "unreadable|an energy and forces"),
        ("free  energy   TOTEN", "something", "unreadable|an energy and forces"),
        ("direct lattice vectors", "other vectors", "unreadable|no periodic cell"),
        ("ions per type", "ions", "unreadable"),
        (r"(TOTEN  =\s+)\S+", r"\1********", "unreadable"),
        (r"0\.750000", "     nan", "not finite"),
        (r"0\.750000", "********", "unreadable"),
    ):
        yield "outcar", f"{pattern} {new}", edit(text, pattern, new, 0), told


def nan_at(folder: Path, place: int) -> None:
    data = bytearray((folder / "a.HSX").read_bytes())
    start = len(data) + place
    data[start : start + 8] = np.array([np.nan]).tobytes()
    (folder / "a.HSX").write_bytes(data)


CASES = [
    *blockwise_cases(),
    *chunk_cases(),
    *text_cases(),
    *kmesh_cases(),
    *abacus_cases(),
    *siesta_cases(),
    *forces_cases(),
    *openmx_cases(),
    *vasp_cases(),
]


def count_cases() -> Counter[str]:
    """Count kinds and places by format."""
    return Counter(form for form, *_ in CASES)


def test_there_are_enough_of_them():
    """As many as docs/data_formats.md says."""
    assert len({(form, what) for form, what, *_ in CASES}) == len(CASES)
    docs = Path(__file__).parents[2] / "docs" / "data_formats.md"
    said = re.search(r"(\d+) doctored files", docs.read_text(encoding="utf-8"))
    assert said is not None
    assert int(said[1]) == len(CASES)


@pytest.mark.parametrize("form", READ)
def test_the_good_ones_are_read(good, form):
    structure = READ[form](good / form)
    assert "unusual" not in structure.provenance


@pytest.mark.parametrize(
    ("form", "doctor", "text"),
    [pytest.param(f, d, t, id=f"{f}: {w}") for f, w, d, t in CASES],
)
def test_a_doctored_file_is_refused(good, tmp_path, form, doctor, text):
    folder = tmp_path / form
    shutil.copytree(good / form, folder)
    doctor(folder)
    with pytest.raises(MlepiError, match=text) as refusal:
        READ[form](folder)
    told = str(refusal.value)
    assert str(folder) in told
    found = re.fullmatch(r"(?s)(.+?): got (.+); expected (.+?)\. ([A-Z].+\.)", told)
    assert found, told
    assert "\n" not in told


if __name__ == "__main__":
    for form, count in count_cases().items():
        print(f"{form:<10} {count:5d}")
    print(f"{'together':<10} {len(CASES):5d}")
