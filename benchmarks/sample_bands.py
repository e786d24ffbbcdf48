"""Compare the bands of thermal supercells by DFT and by an electron network.

``python benchmarks/sample_bands.py LABELS [CHECKPOINT] [--samples NAME …] [--spacing 0.123]``

LABELS is a folder of OpenMX labels (``data/blg_openmx/make.py`` reads them); the samples are 6×6
cells of AB bilayer graphene drawn from its phonons, as in Fig. 4(d) of Wang, Duan and Lin,
arXiv:2602.23084. H and S of the labels, and H and S of the network for the same structure, are
diagonalised at the k-points of the supercell onto which those of Γ–M–K–Γ of the primitive zone
fold. Levels are those that the labels have within ±2 eV of their Fermi energy, paired by number;
"aligned" removes the median of all of them, since H is defined up to a multiple of S. A ghost is a
level more than 1 eV below the lowest of the labels. The level shift is that of the checkpoint.

Writes ``sample_bands.json``, ``sample_bands.md`` and a figure per sample into
``benchmarks/results``. Nothing is random.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from level_shift import GHOST_DISTANCE, WINDOW, load_reader
from numpy.typing import NDArray

from mlepi.checkpoint import load_model
from mlepi.errors import DataError, MlepiError, StructureError, message
from mlepi.figures import (
    BLUE,
    COLUMN,
    RED,
    house_style,
    label_path,
    new_figure,
    save_figure,
)
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices
from mlepi.graphs.shifted_matrix import shift_hamiltonian
from mlepi.physics.bands.lattice import KPath, build_k_path, hexagonal_points
from mlepi.physics.bands.spectra import compute_spectral_function
from mlepi.physics.bands.unfolding import AtomMap, match_folded, total_weights, unfold_states
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.structures.labelled_structure import LabelledStructure

PROJECT = Path(__file__).resolve().parents[1]
CHECKPOINT = PROJECT / "data" / "checkpoints" / "hedgenet_electron.ckpt"
REPEATS = (6, 6, 1)
ROUTE = ("Γ", "M", "K", "Γ")
SAME_SITE = 0.7
"""Å; half a bond: atoms closer to each other than this in plane, but for lattice vectors, are
images of one atom of the primitive cell."""

SHOWN = 1.0
"""eV, half height of the panel with the levels."""

LINE_WIDTH = 0.05
"""eV, standard deviation of the lines of A(k, E)."""

COLUMNS = (
    *("sample", "k-points", "levels", "H", "RMS", "aligned", "median"),
    *("ghosts", "k-points with ghosts"),
)
"""Of the table."""


@dataclass(frozen=True)
class SampleBands:
    """Levels of one supercell and their weights in the primitive zone.

    Attributes:
        levels: (n_points, n_states), eV, ascending, at every point of the path.
        weights: (n_points, n_states), unfolded; empty where not asked for.
    """

    levels: NDArray[np.float64]
    weights: NDArray[np.float64]


def find_sites(atoms: Atoms, repeats: Sequence[int]) -> AtomMap:
    """Find which atom of the primitive cell every atom of a displaced supercell is.

    Args:
        atoms: Å, with the layer of each atom; in any order.
        repeats: primitive cells along each lattice vector.

    Returns:
        Primitive atoms numbered by first appearance.

    Raises:
        StructureError: not every primitive atom is there once per cell.
    """
    cell = atoms.cell.array / np.array(repeats)[:, None]
    places = np.linalg.solve(cell.T, atoms.positions.T).T
    layers = atoms.arrays["layer"]
    sites: list[int] = []
    owners, cells = np.empty(len(atoms), dtype=np.int64), np.zeros((len(atoms), 3), dtype=np.int64)
    for atom, place in enumerate(places):
        for number, first in enumerate(sites):
            step = np.round((place - places[first])[:2])
            moved = (place - places[first])[:2] - step
            near = np.linalg.norm(moved @ cell[:2, :2]) < SAME_SITE
            if near and layers[atom] == layers[first]:
                owners[atom], cells[atom, :2] = number, step
                break
        else:
            owners[atom] = len(sites)
            sites.append(atom)
    found = np.column_stack([owners, np.mod(cells, repeats)])
    n_cells = int(np.prod(repeats))
    if len(sites) * n_cells != len(atoms) or len(np.unique(found, axis=0)) != len(atoms):
        raise StructureError(
            message(
                "sample",
                f"{len(sites)} different sites among {len(atoms)} atoms",
                f"{len(atoms) // n_cells} sites in each of {n_cells} cells",
                "Use a supercell of weakly displaced atoms, and its own repeats.",
            )
        )
    return AtomMap(owners, cells, (int(repeats[0]), int(repeats[1]), int(repeats[2])))


def solve_path(
    matrices: tuple[BlockMatrix, BlockMatrix],
    atom_map: AtomMap,
    kpoints: NDArray[np.float64],
    *,
    unfolded: bool,
) -> SampleBands:
    """Diagonalise a supercell at the points of a primitive path, every folded point once.

    Args:
        matrices: H (eV) and S.
        atom_map: atoms of the supercell.
        kpoints: (n_points, 3) fractional, primitive.
        unfolded: compute the weights, for which eigenvectors are needed.
    """
    counts = np.array(
        [
            np.diff(matrices[1].offsets)[np.flatnonzero(atom_map.primitive_atoms == site)[0]]
            for site in range(atom_map.primitive_atoms.max() + 1)
        ]
    )
    solved, index, reverse = match_folded(atom_map, kpoints)
    levels = np.empty((len(kpoints), matrices[0].n_orbitals))
    weights = np.empty_like(levels) if unfolded else np.empty((0, 0))
    for number, kpoint in enumerate(solved):
        hamiltonian_k, overlap_k = (matrix.dense(kpoint) for matrix in matrices)
        found = solve_bands(hamiltonian_k, overlap_k, vectors=unfolded)
        for point in np.flatnonzero(index == number):
            levels[point] = found[0] if unfolded else found
            if unfolded:
                components = unfold_states(
                    found[1],
                    overlap_k,
                    atom_map,
                    counts,
                    kpoints[point],
                    reverse=bool(reverse[point]),
                )
                weights[point] = total_weights(components)
    return SampleBands(levels, weights)


def measure_errors(
    exact: NDArray[np.float64], found: NDArray[np.float64], fermi_energy: float
) -> dict[str, float]:
    """Return how far levels are from those of DFT.

    Args:
        exact: (n_points, n_states), eV, of DFT.
        found: (n_points, n_states), eV.
        fermi_energy: eV, of DFT.

    Returns:
        "rms" and "aligned" in meV, within ``WINDOW`` of the Fermi energy; "median" in meV;
        "ghosts", levels far below the lowest of DFT, and "haunted", points that have any.
    """
    inside = np.abs(exact - fermi_energy) <= WINDOW
    errors = 1e3 * (found - exact)[inside]
    ghosts = found < exact.min() - GHOST_DISTANCE
    return {
        "rms": float(np.sqrt(np.mean(errors**2))),
        "aligned": float(np.sqrt(np.mean((errors - np.median(errors)) ** 2))),
        "median": float(np.median(errors)),
        "ghosts": int(ghosts.sum()),
        "haunted": int(ghosts.any(axis=1).sum()),
    }


def compare_sample(
    labels: LabelledStructure, model: Any, spacing: float
) -> tuple[dict[str, Any], KPath, dict[str, SampleBands]]:
    """Solve one sample by DFT and by the network, without and with its level shift.

    Args:
        labels: H and S by DFT.
        model: electron network.
        spacing: of the k-points, Å⁻¹.

    Returns:
        Errors by "plain" and "shifted" (the latter without a level shift absent), the path, and the
        bands by "dft", "plain" and "shifted".
    """
    atoms, fermi_energy = labels.atoms, float(labels.fermi_energy or 0.0)
    atom_map = find_sites(atoms, REPEATS)
    primitive = atoms.cell.array / np.array(REPEATS)[:, None]
    path = build_k_path(hexagonal_points(primitive), ROUTE, primitive, spacing)
    overlap, plain = model.overlap(atoms), model.hamiltonian(atoms)
    shift = model.level_shift
    pencils = {"dft": block_matrices(labels), "plain": (plain, overlap)}
    if shift is not None:
        pencils["shifted"] = (shift_hamiltonian(atoms, plain, overlap, shift), overlap)
    last = list(pencils)[-1]
    bands = {
        name: solve_path(pencil, atom_map, path.kpoints, unfolded=name in ("dft", last))
        for name, pencil in pencils.items()
    }
    exact = bands["dft"].levels
    inside = np.abs(exact - fermi_energy) <= WINDOW
    errors = {
        name: measure_errors(exact, bands[name].levels, fermi_energy)
        for name in pencils
        if name != "dft"
    }
    result = {
        "sample": labels.name,
        "n_atoms": len(atoms),
        "fermi_energy": fermi_energy,
        "n_kpoints": len(path.kpoints),
        "n_levels": int(inside.sum()),
        "level_shift": None if shift is None else shift.to_dict(),
        "errors": errors,
    }
    return result, path, bands


def plot_sample(
    result: Mapping[str, Any], path: KPath, bands: Mapping[str, SampleBands], folder: Path
) -> Path:
    """Draw the levels of DFT and network, and their unfolded spectral functions side by side."""
    fermi_energy, last = result["fermi_energy"], list(bands)[-1]
    errors = result["errors"][last]
    offset = fermi_energy + 1e-3 * errors["median"]
    with house_style():
        figure = new_figure(2.4 * COLUMN, COLUMN)
        folded, *spectra = figure.subplots(1, 3, width_ratios=(1.3, 1.0, 1.0))
        for name, zero, style in (
            ("dft", fermi_energy, {"color": "black", "linewidth": 0.9}),
            (last, offset, {"color": RED, "linewidth": 0.7, "linestyle": (0, (3, 2))}),
        ):
            shown = np.abs(bands["dft"].levels - fermi_energy).min(axis=0) < SHOWN
            lines = folded.plot(path.distances, bands[name].levels[:, shown] - zero, **style)
            lines[0].set_label("DFT" if name == "dft" else "network")
        folded.set_ylim(-SHOWN, SHOWN)
        folded.set_ylabel("E − E$_F$ (eV)")
        folded.legend(loc="upper right", frameon=True, framealpha=0.9)
        folded.set_title(
            f"levels, RMS within {WINDOW:g} eV {errors['rms']:.1f} meV, {errors['aligned']:.1f} "
            "aligned"
        )
        energies = np.arange(-WINDOW, WINDOW + 0.005, 0.01)
        maps = [
            np.array(
                [
                    compute_spectral_function(energies, row - zero, weights, LINE_WIDTH, "gaussian")
                    for row, weights in zip(each.levels, each.weights, strict=True)
                ]
            )
            for each, zero in ((bands["dft"], fermi_energy), (bands[last], offset))
        ]
        for axes, title, spectrum in zip(spectra, ("A(k, E), DFT", "network"), maps, strict=True):
            image = axes.pcolormesh(
                path.distances,
                energies,
                spectrum.T,
                shading="nearest",
                vmin=0.0,
                vmax=float(maps[0].max()),
                rasterized=True,
            )
            axes.set_title(title)
        figure.colorbar(image, ax=spectra, label="A (1/eV per spin)", shrink=0.8)
        for axes in (folded, *spectra):
            label_path(axes, path.ticks, path.labels)
            axes.axhline(0.0, color=BLUE, linewidth=0.4, zorder=0)
    return save_figure(figure, folder, f"sample_bands_{result['sample']}")


def write_markdown(results: Mapping[str, Any]) -> str:
    """Write all samples as one table."""
    lines = [
        "# Bands of thermal 6×6 cells: DFT and network",
        "",
        f"`python benchmarks/sample_bands.py LABELS {results['checkpoint']}`, made by the script; "
        "definitions in its head. Γ–M–K–Γ of the primitive zone, levels within "
        f"±{WINDOW:g} eV of the Fermi energy, meV.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for row in results["samples"]:
        for name, errors in row["errors"].items():
            words = "as predicted" if name == "plain" else "with the level shift"
            lines.append(
                f"| {row['sample']} | {row['n_kpoints']} | {row['n_levels']} | {words} | "
                f"{errors['rms']:.1f} | {errors['aligned']:.1f} | {errors['median']:.1f} | "
                f"{errors['ghosts']} | {errors['haunted']} |"
            )
    lines += [
        "",
        *(
            f"![levels and spectral functions of {row['sample']}](sample_bands_{row['sample']}.png)"
            for row in results["samples"]
        ),
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Compare the samples; write tables and figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", type=Path)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=CHECKPOINT)
    parser.add_argument("--samples", nargs="*", help="names; all 6×6 samples by default")
    parser.add_argument("--spacing", type=float, default=0.123, help="of k-points, 1/Å")
    parser.add_argument("--output", type=Path, default=PROJECT / "benchmarks" / "results")
    arguments = parser.parse_args()
    names = arguments.samples or sorted(p.stem for p in arguments.labels.glob("sample6_*.npz"))
    if not names:
        raise DataError(
            message(str(arguments.labels), "no sample6_*.npz", "labels of 6×6 cells", "Name some.")
        )
    read, model = load_reader(), load_model(arguments.checkpoint, kind="electron")
    rows = []
    for name in names:
        compared = compare_sample(read(arguments.labels / f"{name}.npz"), model, arguments.spacing)
        plot_sample(*compared, arguments.output)
        rows.append(compared[0])
    results = {"checkpoint": arguments.checkpoint.stem, "samples": rows}
    (arguments.output / "sample_bands.json").write_text(
        json.dumps(results, indent=1) + "\n", encoding="utf-8"
    )
    text = write_markdown(results)
    (arguments.output / "sample_bands.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    try:
        main()
    except MlepiError as error:
        sys.exit(f"error: {error}")
