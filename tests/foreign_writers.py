"""Samples written as ABACUS, SIESTA, dftio and k-mesh files, by their published layouts.

Harmonics by hand from OpenMX's order: ABACUS m = 0, 1, −1, …, SIESTA m = −l…l, both with a minus
sign for odd m.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import scipy.sparse
from hamiltonian_samples import SYMBOLS, Sample

from mlepi.units import BOHR, HARTREE

FROM_OPENMX = {
    "abacus": {0: ([0], [1]), 1: ([2, 0, 1], [1, -1, -1]), 2: ([0, 3, 4, 1, 2], [1, -1, -1, 1, 1])},
    "siesta": {0: ([0], [1]), 1: ([1, 2, 0], [-1, 1, -1]), 2: ([2, 4, 0, 3, 1], [1, -1, 1, -1, 1])},
    "e3nn": {0: ([0], [1]), 1: ([1, 2, 0], [1, 1, 1]), 2: ([2, 4, 0, 3, 1], [1, 1, 1, 1, 1])},
}


def reorder(sample: Sample, order: str, blocks: list[np.ndarray]) -> list[np.ndarray]:
    """Blocks in the order of another code."""
    places, signs = {}, {}
    for z, shells in sample.shells.items():
        starts = np.concatenate([[0], np.cumsum([2 * l + 1 for l in shells])])
        parts = [FROM_OPENMX[order][l] for l in shells]
        places[z] = np.concatenate(
            [start + np.array(p) for start, (p, _) in zip(starts, parts, strict=False)]
        )
        signs[z] = np.concatenate([np.array(s, dtype=float) for _, s in parts])
    numbers = sample.numbers
    return [
        np.outer(signs[numbers[i]], signs[numbers[j]])
        * block[places[numbers[i]]][:, places[numbers[j]]]
        for (*_, i, j), block in zip(sample.pairs.tolist(), blocks, strict=True)
    ]


def dense_cells(sample: Sample, blocks: list[np.ndarray]) -> dict[tuple, np.ndarray]:
    """One dense matrix per cell R."""
    ends = np.concatenate([[0], np.cumsum(sample.counts)])
    cells: dict[tuple, np.ndarray] = {}
    for (*cell, i, j), block in zip(sample.pairs.tolist(), blocks, strict=True):
        matrix = cells.setdefault(tuple(cell), np.zeros((ends[-1], ends[-1])))
        matrix[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] = block
    return dict(sorted(cells.items()))


def write_stru(path: Path, sample: Sample) -> None:
    """STRU with atoms grouped by element; only samples that are so already."""
    elements = list(dict.fromkeys(sample.numbers.tolist()))
    assert sample.numbers.tolist() == sorted(sample.numbers.tolist(), key=elements.index)
    letters = "spdf"
    lines = ["ATOMIC_SPECIES", *(f"{SYMBOLS[z]} 1.0 {SYMBOLS[z]}.upf" for z in elements), ""]
    lines += ["NUMERICAL_ORBITAL"]
    for z in elements:
        shells = sample.shells[z]
        text = "".join(f"{shells.count(l)}{letters[l]}" for l in sorted(set(shells)))
        lines += [f"{SYMBOLS[z]}_gga_{sample.radii[z] / BOHR:g}au_100Ry_{text}.orb"]
    lines += ["", "LATTICE_CONSTANT", f"{1 / BOHR:.14f} // Bohr", "", "LATTICE_VECTORS"]
    lines += [" ".join(f"{v:.14f}" for v in row) + " #vector" for row in sample.cell]
    lines += ["", "ATOMIC_POSITIONS", "Direct", ""]
    scaled = sample.positions @ np.linalg.inv(sample.cell)
    for z in elements:
        mine = np.flatnonzero(sample.numbers == z)
        lines += [f"{SYMBOLS[z]} #label", "0 #magnetism", f"{len(mine)} #number of atoms"]
        lines += [" ".join(f"{v:.14f}" for v in scaled[k]) + " m 1 1 1" for k in mine]
    path.write_text("\n".join([*lines, ""]))


def csr_lines(matrix: np.ndarray, titles: bool) -> list[str]:
    sparse = scipy.sparse.csr_array(matrix)
    parts = (
        (" # CSR values", " ".join(f"{v:.16e}" for v in sparse.data)),
        (" # CSR column indices", " ".join(map(str, sparse.indices))),
        (" # CSR row pointers", " ".join(map(str, sparse.indptr))),
    )
    return [line for title, text in parts for line in ([title, text] if titles else [text])]


def into_cell(sample: Sample) -> Sample:
    """The sample with every atom inside the cell, as ABACUS moves them."""
    scaled = sample.positions @ np.linalg.inv(sample.cell)
    moves = np.rint((scaled + 10000.0) % 1.0 - scaled).astype(int)
    pairs = sample.pairs.copy()
    pairs[:, :3] += moves[pairs[:, 3]] - moves[pairs[:, 4]]
    return replace(sample, positions=sample.positions + moves @ sample.cell, pairs=pairs)


def write_abacus(folder: Path, sample: Sample, layout: str = "older") -> Path:
    """OUT.NAME with H(R) in Rydberg, S(R) and a log, STRU above it."""
    inside = into_cell(sample)
    out = folder / "OUT.sample"
    out.mkdir(parents=True)
    write_stru(folder / "STRU", sample)
    names = {
        "older": ("data-HR-sparse_SPIN0.csr", "data-SR-sparse_SPIN0.csr"),
        "newer": ("hrs1_nao.csr", "sr_nao.csr"),
    }[layout]
    for letter, name, blocks, unit in (
        ("H", names[0], sample.hamiltonian, HARTREE / 2),
        ("S", names[1], sample.overlap, 1.0),
    ):
        cells = dense_cells(inside, reorder(sample, "abacus", blocks))
        size = len(next(iter(cells.values())))
        elements = list(dict.fromkeys(sample.numbers.tolist()))
        if layout == "older":
            lines = ["STEP: 0", f"Matrix Dimension of {letter}(R): {size}"]
            lines += [f"Matrix number of {letter}(R): {len(cells)}"]
        else:
            lines = [" --- Ionic Step 1 ---", f" # print {letter} matrix in real space {letter}(R)"]
            lines += [" 1 # number of spin directions", " 1 # spin index"]
            lines += [f" {size} # number of localized basis"]
            lines += [f" {len(cells)} # number of Bravais lattice vector R", ""]
            lines += [" user_defined_lattice", " 1.0"]
            lines += [" " + " ".join(f"{v:.12f}" for v in row) for row in sample.cell]
            lines += [" " + " ".join(SYMBOLS[z] for z in elements)]
            lines += [" " + " ".join(str(np.count_nonzero(sample.numbers == z)) for z in elements)]
            scaled = inside.positions @ np.linalg.inv(sample.cell)
            lines += [" Direct", *(" " + " ".join(f"{x:.15g}" for x in row) for row in scaled)]
            lines += ["", " #----#", " #   CSR Format   #", " #--#", ""]
        for cell, matrix in cells.items():
            lines += [f"{cell[0]} {cell[1]} {cell[2]} {np.count_nonzero(matrix)}"]
            lines += csr_lines(matrix / unit, layout == "newer")
        (out / name).write_text("\n".join([*lines, ""]))
    (out / "running_scf.log").write_text(abacus_log(sample))
    return out


def abacus_log(sample: Sample) -> str:
    blocks = ""
    for n, z in enumerate(dict.fromkeys(sample.numbers.tolist())):
        shells = sample.shells[z]
        zetas = "".join(
            f"                     L={l}, number of zeta = {shells.count(l)}\n"
            for l in sorted(set(shells))
        )
        blocks += f"READING ATOM TYPE {n + 1}\n   atom label = {SYMBOLS[z]}\n{zetas}\n"
    rows = "".join(
        f"{SYMBOLS[z]}{k + 1} {f[0]:20.10f} {f[1]:20.10f} {f[2]:20.10f}\n"
        for k, (z, f) in enumerate(zip(sample.numbers.tolist(), sample.forces, strict=True))
    )
    return (
        f"{blocks}   nspin = 1\nE_Fermi   0.1   {sample.fermi_energy + 1}\n"
        f" EFERMI = {sample.fermi_energy:.12f} eV\nTOTAL-FORCE (eV/Angstrom)\n-----\n{rows}-----\n"
        f" !FINAL_ETOT_IS {sample.energy:.12f} eV\n"
    )


def record(*parts: bytes) -> bytes:
    body = b"".join(parts)
    length = np.int32(len(body)).tobytes()
    return length + body + length


def write_hsx(path: Path, sample: Sample, version: int = 2, n_spins: int = 1) -> Path:
    """HSX of SIESTA 5, double precision, and the forces as .FA."""
    i4 = lambda values: np.asarray(values, dtype="<i4").tobytes()  # noqa: E731
    f8 = lambda values: np.asarray(values, dtype="<f8").tobytes()  # noqa: E731
    elements = list(dict.fromkeys(sample.numbers.tolist()))
    matrices = [
        dense_cells(sample, reorder(sample, "siesta", blocks))
        for blocks in (sample.hamiltonian, sample.overlap)
    ]
    pattern = dense_cells(sample, [np.ones_like(block) for block in sample.overlap])
    cells = [(0, 0, 0), *(cell for cell in pattern if cell != (0, 0, 0))]
    size = len(pattern[(0, 0, 0)])
    wide = np.concatenate([pattern[cell] for cell in cells], axis=1)
    columns = [np.flatnonzero(row) for row in wide]
    species = b"".join(
        f"{SYMBOLS[z]}_x".ljust(20).encode()
        + f8([4.0])
        + i4([sum(2 * l + 1 for l in sample.shells[z])])
        for z in elements
    )
    parts = [
        record(i4([version])),
        record(i4([-1])),
        record(i4([len(sample.numbers), size, n_spins, len(elements), len(cells), 1, 1])),
        record(f8(sample.cell / BOHR), f8([sample.fermi_energy / (HARTREE / 2), 4.0, 0.002])),
        record(
            i4(cells),
            f8(sample.positions / BOHR),
            i4([elements.index(z) + 1 for z in sample.numbers.tolist()]),
            i4(np.cumsum(sample.counts)),
        ),
        record(species),
    ]
    for z in elements:
        orbitals = [(3, l, n + 1) for n, l in enumerate(sample.shells[z]) for _ in range(2 * l + 1)]
        parts.append(record(i4(orbitals)))
    if version == 2:
        parts.append(record(i4(8 * np.eye(3)), f8(np.zeros(3))))
    parts.append(record(i4([len(c) for c in columns])))
    parts += [record(i4(c + 1)) for c in columns]
    for cells_of, unit in zip(matrices, (HARTREE / 2, 1.0), strict=True):
        matrix = np.concatenate([cells_of[cell] for cell in cells], axis=1) / unit
        parts += [record(f8(row[c])) for row, c in zip(matrix, columns, strict=True)]
    path.write_bytes(b"".join(parts))
    rows = [f"{k + 1} {f[0]} {f[1]} {f[2]}" for k, f in enumerate(sample.forces.tolist())]
    path.with_suffix(".FA").write_text("\n".join([str(len(rows)), *rows, ""]))
    return path


def write_old_hsx(path: Path, sample: Sample, at_gamma: bool = False) -> Path:
    """HSX of SIESTA 4, single precision, with structure and Fermi energy as .XV and .EIG.

    At Γ there is one cell, in which all images of a pair are added up.
    """
    i4 = lambda values: np.asarray(values, dtype="<i4").tobytes()  # noqa: E731
    f4 = lambda values: np.asarray(values, dtype="<f4").tobytes()  # noqa: E731
    elements = list(dict.fromkeys(sample.numbers.tolist()))
    pattern = [np.ones_like(block) for block in sample.overlap]
    listed, hamiltonian, overlap = (
        dense_cells(sample, reorder(sample, "siesta", blocks))
        for blocks in (pattern, sample.hamiltonian, sample.overlap)
    )
    cells = [(0, 0, 0), *(cell for cell in listed if cell != (0, 0, 0))]
    if at_gamma:
        parts = [{(0, 0, 0): sum(m.values())} for m in (listed, hamiltonian, overlap)]
        listed, hamiltonian, overlap = parts
        cells = cells[:1]
    size = sum(sample.counts)
    columns = [np.flatnonzero(row) for row in np.concatenate([listed[c] for c in cells], axis=1)]
    parts = [
        record(i4([size, size * len(cells), 1, sum(map(len, columns))])),
        record(i4([-int(at_gamma)])),
    ]
    if not at_gamma:
        parts.append(record(i4(np.tile(np.arange(size) + 1, len(cells)))))
    parts.append(record(i4([len(c) for c in columns])))
    parts += [record(i4(c + 1)) for c in columns]
    for of_cell, unit in ((hamiltonian, HARTREE / 2), (overlap, 1.0)):
        matrix = np.concatenate([of_cell[cell] for cell in cells], axis=1) / unit
        parts += [record(f4(row[c])) for row, c in zip(matrix, columns, strict=True)]
    parts.append(record(np.array([4.0, 0.002]).tobytes()))
    atom = np.repeat(np.arange(len(sample.numbers)), sample.counts)
    ends = np.concatenate([sample.positions[atom] + np.array(c) @ sample.cell for c in cells])
    if not at_gamma:
        starts = zip(sample.positions[atom], columns, strict=True)
        parts += [record(f4((ends[c] - start) / BOHR)) for start, c in starts]
    parts.append(record(i4([len(elements)])))
    counts = {z: sum(2 * l + 1 for l in sample.shells[z]) for z in elements}
    words = [SYMBOLS[z].ljust(20).encode() + np.float64(4).tobytes() for z in elements]
    parts.append(record(*(w + i4(counts[z]) for w, z in zip(words, elements, strict=True))))
    for z in elements:
        orbitals = [(3, l, n + 1) for n, l in enumerate(sample.shells[z]) for _ in range(2 * l + 1)]
        parts += [record(i4(orbital)) for orbital in orbitals]
    parts.append(record(i4([len(sample.numbers)])))
    parts.append(record(i4([elements.index(z) + 1 for z in sample.numbers.tolist()])))
    parts.append(record(i4(np.ones((size, 2)))))
    path.write_bytes(b"".join(parts))
    rows = [" ".join(f"{v:.9f}" for v in row / BOHR) + " 0 0 0" for row in sample.cell]
    rows += [str(len(sample.numbers))]
    for z, place in zip(sample.numbers.tolist(), sample.positions / BOHR, strict=True):
        rows += [f"{elements.index(z) + 1} {z} " + " ".join(f"{v:.9f}" for v in place) + " 0 0 0"]
    path.with_suffix(".XV").write_text("\n".join([*rows, ""]))
    path.with_suffix(".EIG").write_text(f" {sample.fermi_energy:.9E}\n 1 1 1\n 1 0.0\n")
    return path


def write_dftio(folder: Path, sample: Sample) -> Path:
    """Folder of dftio, one frame, one direction of every pair, double precision."""
    folder.mkdir(parents=True)
    np.savetxt(folder / "cell.dat", sample.cell)
    np.savetxt(folder / "positions.dat", sample.positions)
    np.savetxt(folder / "atomic_numbers.dat", sample.numbers, fmt="%d")
    np.savetxt(folder / "pbc.dat", np.ones(3))
    words = {
        SYMBOLS[z]: "".join(f"{ls.count(l)}{'spdf'[l]}" for l in sorted(set(ls)))
        for z, ls in sample.shells.items()
    }
    (folder / "basis.dat").write_text(str(words))
    for name, blocks in (("hamiltonians.h5", sample.hamiltonian), ("overlaps.h5", sample.overlap)):
        with h5py.File(folder / name, "w") as file:
            group = file.create_group("0")
            rows = zip(sample.pairs.tolist(), reorder(sample, "e3nn", blocks), strict=True)
            for (*cell, i, j), block in rows:
                if (tuple(cell), i) <= (tuple(-c for c in cell), j):
                    group[f"{i}_{j}_{cell[0]}_{cell[1]}_{cell[2]}"] = block
    return folder


def write_kmesh(folder: Path, sample: Sample, mesh: tuple[int, int, int]) -> Path:
    """Bloch sums on a mesh in Hartree, in e3nn's order, with the frame and the settings."""
    folder.mkdir(parents=True)
    rows = "\n".join(
        f"{SYMBOLS[z]} {x[0]:.14f} {x[1]:.14f} {x[2]:.14f}"
        for z, x in zip(sample.numbers.tolist(), sample.positions, strict=True)
    )
    lattice = " ".join(f"{v:.14f}" for v in sample.cell.ravel())
    (folder / "frames.xyz").write_text(
        f'{len(sample.numbers)}\nLattice="{lattice}" Properties=species:S:1:pos:R:3\n{rows}\n'
    )
    for what, blocks, unit in (
        ("fock", sample.hamiltonian, HARTREE),
        ("over", sample.overlap, 1.0),
    ):
        cells = dense_cells(sample, reorder(sample, "e3nn", blocks))
        kpoints = [np.array(k) / mesh for k in np.ndindex(*mesh)]
        sums = [
            sum(np.exp(2j * np.pi * k @ np.array(R)) * m for R, m in cells.items()) for k in kpoints
        ]
        np.save(folder / f"a_{what}_0.npy", np.array(sums) / unit)
    shells = {SYMBOLS[z]: ls for z, ls in sample.shells.items()}
    (folder / "kmesh.json").write_text(
        json.dumps({"mesh": list(mesh), "shells": shells, "order": "e3nn"})
    )
    return folder
