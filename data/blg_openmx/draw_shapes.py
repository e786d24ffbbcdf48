"""Draw thermal structures in supercells of many shapes, to be labelled by DFT.

``python data/blg_openmx/draw_shapes.py OUT.extxyz --first 100 --count 64 --seed 2611``.

In one supercell alone an atom and its periodic images always move together, and a network with a
receptive field beyond the cell learns that as if it were a law. Here every structure has another
lattice: a reduced integer matrix M of 9 to 16 primitive cells, never 3×3 or 4×4. Displacements come
from the phonons of AB-stacked bilayer graphene by the shipped network (quantum, all q commensurate
with M) at 0, 150, 300, 450 or 600 K; the upper layer slides, half of them near AB and half
anywhere, the layers are 3.05 to 3.60 Å apart, and a third of the structures are strained by up to
1.5 %.

The names are ``shape_NNN``; ``info["job"]`` says how each was made.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write
from numpy.typing import NDArray

from mlepi.checkpoint import load_model
from mlepi.physics.vibrations.force_constants import ForceConstants, compute_force_constants
from mlepi.physics.vibrations.phonon_bands import compute_eigenvectors
from mlepi.physics.vibrations.thermal import mode_variance
from mlepi.structures.builders import build_graphene

PHONONS = Path(__file__).resolve().parents[1] / "checkpoints" / "hedgenet_phonon.ckpt"
TEMPERATURES = (0.0, 150.0, 300.0, 450.0, 600.0)
SIZES = range(9, 17)
"""Primitive cells of four atoms: 36 to 64 atoms."""

SHORTEST_ROW = 1.9
"""Lattice constants. A thinner cell lets flexural waves grow to amplitudes that no crystal has."""

LARGEST_STRETCH = 0.35
"""Å, largest displacement accepted: beyond it the harmonic amplitude of a long wave is
unphysical."""

SOFTEST = 0.3
"""THz; softer modes than the shear mode of rigid layers get this frequency."""

Shape = tuple[tuple[int, int], tuple[int, int]]


def reduce_shape(shape: NDArray[np.int64], cell: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the shortest rows that span the same lattice (Lagrange–Gauss reduction)."""
    rows = shape.copy()
    while True:
        lengths = np.linalg.norm(rows @ cell, axis=1)
        if lengths[0] > lengths[1] + 1e-9:
            rows = rows[::-1].copy()
            lengths = lengths[::-1]
        projection = float((rows[0] @ cell) @ (rows[1] @ cell) / lengths[0] ** 2)
        if abs(projection) <= 0.5 + 1e-9:
            break
        rows[1] -= int(np.rint(projection)) * rows[0]
    if np.linalg.det(rows) < 0:
        rows[1] *= -1
    return rows


def list_shapes(cell: NDArray[np.float64]) -> list[Shape]:
    """List all supercells of the accepted sizes and widths, 3×3 and 4×4 left out.

    Args:
        cell: (2, 2) primitive vectors, rows, in lattice constants.
    """
    shapes: set[Shape] = set()
    for size in SIZES:
        for a in range(1, size + 1):
            if size % a:
                continue
            for b in range(size // a):
                rows = reduce_shape(np.array([[a, b], [0, size // a]]), cell)
                lengths = np.linalg.norm(rows @ cell, axis=1)
                square = np.allclose(lengths, np.sqrt(size)) and np.isclose(
                    abs((rows[0] @ cell) @ (rows[1] @ cell)), size / 2
                )
                if lengths[0] >= SHORTEST_ROW and not (square and size in (9, 16)):
                    shapes.add(((*map(int, rows[0]),), (*map(int, rows[1]),)))  # type: ignore[arg-type]
    return sorted(shapes)


def list_supercell(shape: Shape) -> NDArray[np.int64]:
    """List the lattice points of the primitive cell inside a supercell: (n_cells, 2)."""
    matrix = np.array(shape)
    reach = int(np.abs(matrix).sum())
    axis = np.arange(-reach, reach + 1)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = points @ np.linalg.inv(matrix)
    return np.asarray(points[np.all((inside > -1e-9) & (inside < 1 - 1e-9), axis=1)])


def displace(
    phonons: ForceConstants, shape: Shape, temperature: float, normals: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Turn standard normals into a thermal displacement: (n_cells, n_atoms, 3), Å.

    Args:
        phonons: of the primitive cell.
        shape: rows are the vectors of the supercell in primitive vectors.
        temperature: K.
        normals: (n_cells, 3 n_atoms), dimensionless.
    """
    cells = list_supercell(shape)
    n_cells, n_atoms = len(cells), len(phonons.atoms)
    # M·q is an integer vector: q runs over the cells of the transposed lattice, divided by M
    transposed: Shape = tuple(zip(*shape, strict=True))  # type: ignore[assignment]
    qpoints = list_supercell(transposed) @ np.linalg.inv(np.array(shape)).T
    frequencies, vectors = compute_eigenvectors(
        phonons, np.column_stack([qpoints, np.zeros(n_cells)])
    )
    moving = np.ones_like(frequencies)
    origin = int(np.argmin(np.linalg.norm(qpoints, axis=1)))
    moving[origin, np.argsort(np.abs(frequencies[origin]))[:3]] = 0.0
    amplitudes = moving * np.sqrt(mode_variance(np.maximum(frequencies, SOFTEST), temperature))
    roots = (vectors * amplitudes[:, None, :]) @ vectors.conj().swapaxes(1, 2)
    phases = np.exp(2j * np.pi * qpoints @ cells.T)  # (n_q, n_cells)
    waves = np.einsum("qij,qj->qi", roots, phases.conj() @ normals)
    moved = (phases.T @ waves).real / n_cells  # q and −q are both there
    masses = np.repeat(phonons.atoms.get_masses(), 3)
    result = (moved / np.sqrt(masses)).reshape(n_cells, n_atoms, 3)
    return np.asarray(result - result.mean(axis=(0, 1)))


def draw_structure(phonons: ForceConstants, shape: Shape, seed: list[int], index: int) -> Atoms:
    """Draw one structure: slide, spacing, strain, temperature and displacements.

    Args:
        phonons: of AB bilayer graphene.
        shape: of the supercell.
        seed: of the random numbers of this structure.
        index: of the structure; decides about temperature, slide and strain in turn.
    """
    generator = np.random.default_rng(seed)
    temperature = TEMPERATURES[index % len(TEMPERATURES)]
    near = bool((index // len(TEMPERATURES)) % 2 == 0)
    slide = generator.normal(0.0, 0.08, 2) if near else generator.uniform(0.0, 1.0, 2)
    spacing = float(generator.uniform(3.05, 3.60))
    strain = generator.uniform(-0.015, 0.015, 3) if index % 3 == 2 else None
    primitive = build_graphene("AB", spacing=spacing, height=18.0, slide=slide)
    while True:
        normals = generator.standard_normal((abs(round(np.linalg.det(shape))), 12))
        moved = displace(phonons, shape, temperature, normals)
        if np.abs(moved).max() <= LARGEST_STRETCH:
            break
    vectors = primitive.cell.array
    cells = list_supercell(shape) @ vectors[:2]
    positions = (primitive.positions[None] + cells[:, None]).reshape(-1, 3)
    rows = np.vstack([np.array(shape) @ vectors[:2], vectors[2:]])
    deformation = np.eye(3)
    if strain is not None:
        deformation[:2, :2] += [[strain[0], strain[2] / 2], [strain[2] / 2, strain[1]]]
    atoms = Atoms(
        numbers=np.tile(primitive.numbers, len(cells)),
        positions=positions @ deformation + moved.reshape(-1, 3),
        cell=rows @ deformation,
        pbc=True,
    )
    atoms.set_array("layer", np.tile(primitive.arrays["layer"], len(cells)))
    job: dict[str, Any] = {
        "kind": "shape",
        "seed": seed,
        "drawn": {
            "M": [list(row) for row in shape],
            "T": temperature,
            "shift": slide.tolist(),
            "d": spacing,
            "strain": None if strain is None else (deformation[:2, :2] - np.eye(2)).tolist(),
        },
    }
    atoms.info["job"] = job
    return atoms


def main() -> None:
    """Write the structures that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="extxyz file to write")
    parser.add_argument("--first", type=int, default=100, help="number of the first structure")
    parser.add_argument("--count", type=int, default=64, help="structures to draw")
    parser.add_argument("--seed", type=int, default=2611, help="of all random numbers")
    options = parser.parse_args()
    calculator = load_model(PHONONS, kind="phonon").calculator(dtype="float64")  # type: ignore[union-attr]
    bilayer = build_graphene("AB")
    phonons = compute_force_constants(bilayer, calculator, (6, 6, 1))
    unit = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
    shapes = list_shapes(unit)
    order = np.random.default_rng(options.seed).permutation(len(shapes))
    structures = []
    for index in range(options.first, options.first + options.count):
        shape = shapes[order[(index - options.first) % len(shapes)]]
        atoms = draw_structure(phonons, shape, [options.seed, index], index)
        atoms.info["name"] = f"shape_{index:03d}"
        structures.append(atoms)
        print(
            f"{atoms.info['name']}: {len(atoms)} atoms, {json.dumps(atoms.info['job']['drawn'])}",
            flush=True,
        )
    write(options.output, structures, format="extxyz")


if __name__ == "__main__":
    main()
