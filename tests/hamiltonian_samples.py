"""Two structures with Hamiltonians in OpenMX order, and independent writers of files.

``real_sample`` is DFT (bilayer graphene, OpenMX 4.0, tests/data/openmx_slide.npz);
``slater_koster_sample`` is made of two-centre blocks known from direction cosines, with two
elements, ungrouped atoms and a triclinic cell. The writers follow the tables of the formats and
share no code with the package.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.linalg

BOHR = 0.529177210903
HARTREE = 27.211386245988
SYMBOLS = {1: "H", 6: "C", 16: "S", 42: "Mo"}
DATA = Path(__file__).parent / "data"


@dataclass
class Sample:
    """Blocks ⟨i,0|·|j,R⟩ of all pairs, both directions, as lists in OpenMX order.

    Pairs are [R1, R2, R3, i, j] from 0.
    """

    name: str
    cell: np.ndarray
    positions: np.ndarray
    numbers: np.ndarray
    pao: dict[int, str]
    shells: dict[int, list[int]]
    radii: dict[int, float]  # Å
    pairs: np.ndarray
    hamiltonian: list[np.ndarray]  # eV
    overlap: list[np.ndarray]
    fermi_energy: float  # eV
    energy: float  # eV
    forces: np.ndarray  # eV/Å

    @property
    def counts(self) -> np.ndarray:
        return np.array([sum(2 * l + 1 for l in self.shells[z]) for z in self.numbers])

    def dense(self, blocks: list[np.ndarray], kpoint: np.ndarray) -> np.ndarray:
        """H(k) = Σ exp(2πi k·R) H(R) in OpenMX order, by the plainest loop."""
        ends = np.concatenate([[0], np.cumsum(self.counts)])
        dense = np.zeros((ends[-1], ends[-1]), dtype=complex)
        for (*cell, i, j), block in zip(self.pairs, blocks, strict=True):
            dense[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] += (
                np.exp(2j * np.pi * np.dot(kpoint, cell)) * block
            )
        return dense

    def eigenvalues(self, kpoint: np.ndarray) -> np.ndarray:
        return scipy.linalg.eigvalsh(
            self.dense(self.hamiltonian, kpoint), self.dense(self.overlap, kpoint)
        )


def real_sample() -> Sample:
    """Four-atom slid bilayer graphene; the file holds one direction of each pair."""
    with np.load(DATA / "openmx_slide.npz") as data:
        i, j, R = data["i"].astype(int), data["j"].astype(int), data["R"].astype(int)
        H, S = data["H"].astype(float), data["S"].astype(float)
        cell, positions, numbers = data["cell"], data["positions"], data["numbers"]
        fermi, energy, forces = float(data["fermi"]), float(data["energy"]), data["forces"]
    other = ~((i == j) & np.all(R == 0, axis=1))
    pairs = np.concatenate([np.column_stack([R, i, j]), np.column_stack([-R, j, i])[other]])
    H, S = (list(np.concatenate([b, b.transpose(0, 2, 1)[other]])) for b in (H, S))
    order = np.lexsort((pairs[:, 4], pairs[:, 2], pairs[:, 1], pairs[:, 0], pairs[:, 3]))
    return Sample(
        "slide",
        cell,
        positions,
        numbers,
        {6: "C6.0-s2p2"},
        {6: [0, 0, 1, 1]},
        {6: 6.0 * BOHR},
        pairs[order],
        [H[k] for k in order],
        [S[k] for k in order],
        fermi,
        energy,
        forces,
    )


def openmx_harmonics(l: int, direction: np.ndarray) -> np.ndarray:
    """Y_l of a unit vector in OpenMX order (s; x, y, z; 3z²−r², x²−y², xy, xz, yz).

    Scaled to unit length.
    """
    x, y, z = direction
    r3 = np.sqrt(3.0)
    return np.array(
        {
            0: [1.0],
            1: [x, y, z],
            2: [(3 * z * z - 1) / 2, r3 / 2 * (x * x - y * y), r3 * x * y, r3 * x * z, r3 * y * z],
        }[l]
    )


def slater_koster_block(
    shells_i: list[int], shells_j: list[int], vector: np.ndarray, reach: float, scale: float
) -> np.ndarray:
    """Two-centre block: V_σ Y_l1 Y_l2ᵀ, and for p–p the whole V_ppπ 1 + (V_ppσ − V_ppπ) d dᵀ.

    Amplitude by shell index.
    """
    r = np.linalg.norm(vector)
    d, envelope = vector / r, scale * (1 - (r / reach) ** 2) ** 2
    rows = []
    for a, la in enumerate(shells_i):
        row = []
        for b, lb in enumerate(shells_j):
            f = envelope * (1 + 0.3 * a) * (1 + 0.3 * b) * (-1) ** lb
            block = f * np.outer(openmx_harmonics(la, d), openmx_harmonics(lb, d))
            if la == lb == 1:
                block += 0.4 * f * (np.outer(d, d) - np.eye(3))  # V_ppπ = −0.4 V, V_ppσ = V
            row.append(block)
        rows.append(row)
    return np.block(rows)


def slater_koster_sample() -> Sample:
    """C (s2p2d1) and H (s1p1) in the order C H C, in a triclinic cell."""
    shells, radii = {1: [0, 1], 6: [0, 0, 1, 1, 2]}, {1: 3.0 * BOHR, 6: 4.0 * BOHR}
    cell = np.array([[3.1, 0.0, 0.0], [0.7, 3.4, 0.0], [-0.4, 0.5, 4.2]])
    numbers = np.array([6, 1, 6])
    positions = np.array([[0.1, 0.2, 0.3], [1.1, 0.4, -0.2], [1.4, 1.7, 2.3]])
    onsite = {6: [-14.0, 3.0, -6.0, 5.0, 9.0], 1: [-9.0, 4.0]}
    pairs, hamiltonian, overlap = [], [], []
    for i, j in itertools.product(range(3), repeat=2):
        za, zb = int(numbers[i]), int(numbers[j])
        reach = radii[za] + radii[zb]
        for R in itertools.product(range(-3, 4), repeat=3):
            vector = positions[j] + np.array(R) @ cell - positions[i]
            if i == j and R == (0, 0, 0):
                size = sum(2 * l + 1 for l in shells[za])
                energies = np.concatenate(
                    [[e] * (2 * l + 1) for e, l in zip(onsite[za], shells[za], strict=True)]
                )
                S, H = np.eye(size), np.diag(energies)
                H[0, -1] = H[-1, 0] = 0.37  # a crystal-field element that tells the orbitals apart
            elif np.linalg.norm(vector) < reach:
                S = slater_koster_block(shells[za], shells[zb], vector, reach, 0.06)
                H = slater_koster_block(shells[za], shells[zb], vector, reach, -1.3)
            else:
                continue
            pairs.append([*R, i, j])
            overlap.append(S)
            hamiltonian.append(H)
    forces = np.array([[0.1, -0.2, 0.3], [0.0, 0.5, -0.1], [-0.1, -0.3, -0.2]])
    pao = {6: "C4.0-s2p2d1", 1: "H3.0-s1p1"}
    return Sample(
        "slater_koster",
        cell,
        positions,
        numbers,
        pao,
        shells,
        radii,
        np.array(pairs),
        hamiltonian,
        overlap,
        -2.5,
        -321.5,
        forces,
    )


def openmx_input(sample: Sample) -> str:
    """The part of an OpenMX input file that names species and atoms."""
    used = sorted(set(sample.numbers.tolist()))
    lines = [
        f"System.Name {sample.name}",
        f"Species.Number {len(used)}",
        "<Definition.of.Atomic.Species",
    ]
    lines += [f" {SYMBOLS[z]}   {sample.pao[z]}   {SYMBOLS[z]}_PBE19  # {z}" for z in used]
    lines += [
        "Definition.of.Atomic.Species>",
        "",
        f"Atoms.Number {len(sample.numbers)}",
        "<Atoms.SpeciesAndCoordinates",
    ]
    lines += [
        f" {k + 1} {SYMBOLS[z]} {x:.10f} {y:.10f} {w:.10f} 2.0 2.0"
        for k, (z, (x, y, w)) in enumerate(
            zip(sample.numbers.tolist(), sample.positions, strict=True)
        )
    ]
    return "\n".join([*lines, "Atoms.SpeciesAndCoordinates>", "HS.fileout on", ""])


def write_scfout(
    path: Path,
    sample: Sample,
    *,
    byte_order: str = "<",
    code: int = 12,
    order_max: int = 2,
    text: str | None = None,
    n_central: int = 0,
) -> Path:
    """Write every section of the OpenMX 3.9/4.0 format.

    Matrices that a reader has to skip are filled with 777. Atoms between leads are counted, by
    OpenMX, in runs of NEGF alone: all others have n_central = 0.
    """
    i4, f8 = byte_order + "i4", byte_order + "f8"
    n_atoms = len(sample.numbers)
    cells = [(0, 0, 0), *sorted({tuple(p[:3]) for p in sample.pairs.tolist()} - {(0, 0, 0)})]
    index = {cell: k for k, cell in enumerate(cells)}
    per_atom = []
    for i in range(n_atoms):
        own = [k for k, p in enumerate(sample.pairs.tolist()) if p[3] == i]
        per_atom.append(
            sorted(own, key=lambda k: tuple(sample.pairs[k].tolist()) != (0, 0, 0, i, i))
        )  # itself first
    order = [k for own in per_atom for k in own]
    padded = lambda rows: (  # noqa: E731
        np.column_stack([np.full(len(rows), 9.9), rows]).astype(f8).tobytes()
    )
    n_values = sum(sample.overlap[k].size for k in order)
    garbage = np.full(n_values, 777.0).astype(f8).tobytes()
    lines = (openmx_input(sample) if text is None else text).splitlines(keepends=True)
    parts = [
        np.array([n_atoms, code, n_central, 0, 0, len(cells) - 1]).astype(i4).tobytes(),
        np.array([order_max]).astype(i4).tobytes(),
        padded(np.array(cells) @ sample.cell / BOHR),
        np.column_stack([np.full(len(cells), 9), cells]).astype(i4).tobytes(),
        sample.counts.astype(i4).tobytes(),
        np.array([len(own) - 1 for own in per_atom]).astype(i4).tobytes(),
        (sample.pairs[order, 4] + 1).astype(i4).tobytes(),
        np.array([index[tuple(p[:3])] for p in sample.pairs[order].tolist()]).astype(i4).tobytes(),
        padded(sample.cell / BOHR),
        padded(2 * np.pi * np.linalg.inv(sample.cell).T * BOHR),
        padded(sample.positions / BOHR),
        np.concatenate([sample.hamiltonian[k].ravel() / HARTREE for k in order])
        .astype(f8)
        .tobytes(),
        np.concatenate([sample.overlap[k].ravel() for k in order]).astype(f8).tobytes(),
        garbage * (3 * order_max + 3 + 3),  # OLPpo, OLPmo, DM and iDM
        np.array([3]).astype(i4).tobytes(),
        np.array([sample.fermi_energy / HARTREE, 0.001, *range(8)]).astype(f8).tobytes(),
        np.array([len(lines)]).astype(i4).tobytes(),
        b"".join(line.encode() + b"\0" + b"#" * (255 - len(line.encode())) for line in lines),
    ]
    path.write_bytes(b"".join(parts))
    return path


def patch_bytes(path: Path, offset: int, values: object, dtype: str) -> Path:
    """Overwrite bytes of a file."""
    data = bytearray(path.read_bytes())
    raw = np.asarray(values).astype(dtype).tobytes()
    data[offset : offset + len(raw)] = raw
    path.write_bytes(bytes(data))
    return path


def scfout_sections(sample: Sample) -> dict[str, int]:
    """Where the sections of ``write_scfout`` begin, bytes."""
    n = len(sample.numbers)
    n_cells = len({tuple(p[:3]) for p in sample.pairs.tolist()})
    n_pairs = len(sample.pairs)
    sizes = {
        "header": 24,
        "order_max": 4,
        "atv": 32 * n_cells,
        "atv_ijk": 16 * n_cells,
        "orbitals": 4 * n,
        "fnan": 4 * n,
        "natn": 4 * n_pairs,
        "ncn": 4 * n_pairs,
        "tv": 96,
        "rtv": 96,
        "positions": 32 * n,
        "hamiltonian": 8 * sum(b.size for b in sample.hamiltonian),
        "overlap": 0,
    }
    return dict(
        zip(
            sizes, np.concatenate([[0], np.cumsum(list(sizes.values()))])[:-1].tolist(), strict=True
        )
    )


def openmx_out(sample: Sample) -> str:
    """OpenMX's text with energy, chemical potential and forces, after an earlier step."""
    rows = "".join(
        f" {k + 1:4d}  {SYMBOLS[z]:>4s}   {x[0]:9.5f} {x[1]:9.5f} {x[2]:9.5f}  {f[0]:15.12f} "
        f"{f[1]:15.12f} {f[2]:15.12f}\n"
        for k, (z, x, f) in enumerate(
            zip(
                sample.numbers.tolist(),
                sample.positions,
                sample.forces / (HARTREE / BOHR),
                strict=True,
            )
        )
    )
    return (
        f"{openmx_input(sample)}\n  Utot.         -1.000000000000\n\n  Chemical potential "
        "(Hartree)      -9.000000000000\n"
        f"  Uele.    -2.123456789012\n\n  Utot.    {sample.energy / HARTREE:20.12f}\n\n  "
        "Note:\n\n  Utot = Ukin+UH0+UH1+Una\n"
        f"  Chemical potential (Hartree) {sample.fermi_energy / HARTREE:20.12f}\n\n"
        "       xyz-coordinates (Ang) and forces (Hartree/Bohr)  \n\n<coordinates.forces\n  "
        f"{len(sample.numbers)}\n"
        f"{rows}coordinates.forces>\n"
    )


def write_legacy_folder(folder: Path, sample: Sample) -> Path:
    """Write a legacy DeepH folder: columns, OpenMX order, atoms from 1."""
    folder.mkdir()
    np.savetxt(folder / "lat.dat", sample.cell.T, fmt="%.14e")
    np.savetxt(folder / "site_positions.dat", sample.positions.T, fmt="%.14e")
    np.savetxt(folder / "element.dat", sample.numbers, fmt="%d")
    (folder / "orbital_types.dat").write_text(
        "".join(" ".join(map(str, sample.shells[z])) + "\n" for z in sample.numbers.tolist())
    )
    (folder / "info.json").write_text(
        json.dumps({"isspinful": False, "fermi_level": sample.fermi_energy})
    )
    for file, blocks in (("hamiltonians.h5", sample.hamiltonian), ("overlaps.h5", sample.overlap)):
        with h5py.File(folder / file, "w") as h5:
            for (*cell, i, j), block in zip(sample.pairs.tolist(), blocks, strict=True):
                h5[json.dumps([*cell, i + 1, j + 1])] = block
    return folder


def write_new_folder(folder: Path, sample: Sample) -> Path:
    """Write the new DeepH layout.

    Atoms grouped by element as in POSCAR, (y, z, x) order, atoms from 0.
    """
    folder.mkdir()
    grouped = [
        k
        for z in dict.fromkeys(sample.numbers.tolist())
        for k in range(len(sample.numbers))
        if sample.numbers[k] == z
    ]
    rank = {old: new for new, old in enumerate(grouped)}
    elements = list(dict.fromkeys(sample.numbers.tolist()))
    wiki = {0: [0], 1: [1, 2, 0], 2: [2, 4, 0, 3, 1]}
    (folder / "POSCAR").write_text(
        "\n".join(
            [
                "sample",
                "1.0",
                *(" ".join(f"{v:.14f}" for v in row) for row in sample.cell),
                " ".join(SYMBOLS[z] for z in elements),
                " ".join(str(int(np.sum(sample.numbers == z))) for z in elements),
                "Cartesian",
                *(" ".join(f"{v:.14f}" for v in sample.positions[k]) for k in grouped),
                "",
            ]
        )
    )
    info = {
        "atoms_quantity": len(grouped),
        "orbits_quantity": int(sample.counts.sum()),
        "orthogonal_basis": False,
        "spinful": False,
        "fermi_energy_eV": sample.fermi_energy,
        "elements_orbital_map": {SYMBOLS[z]: sample.shells[z] for z in elements},
    }
    (folder / "info.json").write_text(json.dumps(info))
    permutation = {}
    for z in elements:
        starts = np.concatenate([[0], np.cumsum([2 * l + 1 for l in sample.shells[z]])])
        permutation[z] = np.concatenate(
            [start + np.array(wiki[l]) for start, l in zip(starts, sample.shells[z], strict=False)]
        )
    pairs = np.array([[*p[:3], rank[p[3]], rank[p[4]]] for p in sample.pairs.tolist()])
    for file, blocks in (("hamiltonian.h5", sample.hamiltonian), ("overlap.h5", sample.overlap)):
        chunks = [
            block[permutation[sample.numbers[i]]][:, permutation[sample.numbers[j]]]
            for (*_, i, j), block in zip(sample.pairs.tolist(), blocks, strict=True)
        ]
        with h5py.File(folder / file, "w") as h5:
            h5["atom_pairs"] = pairs
            h5["chunk_shapes"] = np.array([c.shape for c in chunks])
            h5["chunk_boundaries"] = np.concatenate([[0], np.cumsum([c.size for c in chunks])])
            h5["entries"] = np.concatenate([c.ravel() for c in chunks])
    return folder
