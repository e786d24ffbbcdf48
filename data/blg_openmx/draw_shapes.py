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
from mlepi.physics.vibrations import supercell_shapes
from mlepi.physics.vibrations.force_constants import ForceConstants, compute_force_constants
from mlepi.physics.vibrations.shaped_modes import compute_shaped_modes
from mlepi.physics.vibrations.thermal import HarmonicEnsemble
from mlepi.structures.builders import build_graphene

PHONONS = Path(__file__).resolve().parents[1] / "checkpoints" / "hedgenet_phonon.ckpt"
TEMPERATURES = (0.0, 150.0, 300.0, 450.0, 600.0)
SIZES = range(9, 17)
"""Primitive cells of four atoms: 36 to 64 atoms."""
IN_PLANE = (0, 1)
"""Lattice vectors along which cells are repeated."""

SHORTEST_ROW = 1.9
"""Lattice constants. A thinner cell lets flexural waves grow to amplitudes that no crystal has."""

LARGEST_STRETCH = 0.35
"""Å, largest displacement accepted: beyond it the harmonic amplitude of a long wave is
unphysical."""

SOFTEST = 0.3
"""THz; softer modes than the shear mode of rigid layers get this frequency."""

Shape = tuple[tuple[int, int], tuple[int, int]]


def list_shapes(cell: NDArray[np.float64]) -> list[Shape]:
    """List all supercells of the accepted sizes and widths, 3×3 and 4×4 left out.

    Args:
        cell: (2, 2) primitive vectors, rows, in lattice constants.
    """
    vectors = np.eye(3)
    vectors[:2, :2] = cell
    shapes: list[Shape] = []
    for matrix in supercell_shapes.list_shapes(vectors, IN_PLANE, SIZES):
        rows, size = matrix[:2, :2], supercell_shapes.count_cells(matrix)
        lengths = np.linalg.norm(rows @ cell, axis=1)
        square = np.allclose(lengths, np.sqrt(size)) and np.isclose(
            abs((rows[0] @ cell) @ (rows[1] @ cell)), size / 2
        )
        if lengths[0] >= SHORTEST_ROW and not (square and size in (9, 16)):
            shapes.append(((*map(int, rows[0]),), (*map(int, rows[1]),)))  # type: ignore[arg-type]
    return sorted(shapes)


def fill_matrix(shape: Shape) -> NDArray[np.int64]:
    """Return the (3, 3) matrix of a supercell that is not repeated along the third vector."""
    matrix = np.eye(3, dtype=np.int64)
    matrix[:2, :2] = shape
    return matrix


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
    shaped = compute_shaped_modes(phonons, fill_matrix(shape))
    ensemble = HarmonicEnsemble(
        shaped.modes, (temperature,), imaginary="floor", floor_frequency=SOFTEST
    )
    ordered = np.empty((1, shaped.modes.n_supercell, 3))
    ordered[0, shaped.order] = normals.reshape(-1, 3)
    moved = ensemble.displacements_at(temperature, ordered)[0, shaped.order]
    return np.asarray(moved.reshape(len(normals), -1, 3))


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
    atoms = supercell_shapes.build_shaped_supercell(primitive, fill_matrix(shape))
    deformation = np.eye(3)
    if strain is not None:
        deformation[:2, :2] += [[strain[0], strain[2] / 2], [strain[2] / 2, strain[1]]]
    atoms.set_cell(atoms.cell.array @ deformation)
    atoms.positions = atoms.positions @ deformation + moved.reshape(-1, 3)
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
