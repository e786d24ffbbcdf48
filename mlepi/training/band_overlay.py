"""Bands of a labelled structure and of the Hamiltonian that a network predicts, in one figure."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlepi.checkpoint import load_model
from mlepi.errors import StructureError
from mlepi.figures import COLUMN, GREY, RED, house_style, label_path, new_figure, save_figure
from mlepi.graphs.block_matrix import block_matrices, compute_bands
from mlepi.physics.bands.lattice import (
    KPath,
    build_k_path,
    hexagonal_points,
    reciprocal_lattice,
)
from mlepi.predictors import ElectronPredictor
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.tracking import attempt

log = logging.getLogger(__name__)

N_KPOINTS = 24
"""About as many k-points are on the path."""
WINDOW = 3.0
"""Energies that are shown, eV on both sides of the label's Fermi level."""
MOST_ORBITALS = 2000
"""Beyond so many orbitals diagonalising a path takes minutes, and nothing is drawn."""


def plot_band_overlay(
    structures: Iterable[LabelledStructure], checkpoint: Path, folder: Path
) -> dict[str, Path]:
    """Draw the bands of the smallest labelled structure, by its label and by a network.

    Both with the overlap of the label, and without a level shift, as the levels of the test.

    Args:
        structures: of the test.
        checkpoint: of the network.
        folder: gets ``bands_STRUCTURE.png`` and ``.pdf``.

    Returns:
        "bands/STRUCTURE" → PNG file; nothing for forces, for structures that are too large, and
        where drawing fails, which is told.
    """
    labelled = [
        each
        for each in structures
        if each.hamiltonian_blocks is not None and each.overlap_blocks is not None
    ]
    if not labelled:
        return {}
    chosen = min(labelled, key=lambda each: len(each.atoms))
    drawn = attempt("the figure of bands", lambda: _draw(chosen, checkpoint))
    if drawn is None:
        return {}
    name = f"bands_{chosen.name}".replace("/", "_")
    return {f"bands/{chosen.name}": save_figure(drawn, folder, name)}


def _draw(structure: LabelledStructure, checkpoint: Path) -> Figure | None:
    hamiltonian, overlap = block_matrices(structure)
    if hamiltonian.n_orbitals > MOST_ORBITALS:
        log.info("no figure of bands: %d orbitals are too many", hamiltonian.n_orbitals)
        return None
    predictor = load_model(checkpoint)
    if not isinstance(predictor, ElectronPredictor):
        return None
    path = build_path(structure.atoms.cell.array)
    reference = compute_bands(hamiltonian, overlap, path.kpoints)
    found = compute_bands(predictor.hamiltonian(structure.atoms), overlap, path.kpoints)
    fermi = structure.fermi_energy
    zero = float(np.median(reference)) if fermi is None else fermi
    return draw_overlay(path, reference - zero, found - zero)


def build_path(cell: NDArray[np.float64]) -> KPath:
    """Return a path through the first two reciprocal vectors with about ``N_KPOINTS`` points.

    Γ M K Γ of a hexagonal cell, Γ X S Γ (corner of the plane) of others.

    Args:
        cell: (3, 3) rows, Å.
    """
    try:
        points = hexagonal_points(cell)
        route = ["Γ", "M", "K", "Γ"]
    except StructureError:
        corners = {"Γ": (0.0, 0.0, 0.0), "X": (0.5, 0.0, 0.0), "S": (0.5, 0.5, 0.0)}
        points = {name: np.array(k) for name, k in corners.items()}
        route = ["Γ", "X", "S", "Γ"]
    corners_at = np.array([points[name] for name in route]) @ reciprocal_lattice(cell)
    length = float(np.linalg.norm(np.diff(corners_at, axis=0), axis=1).sum())
    return build_k_path(points, route, cell, length / N_KPOINTS)


def draw_overlay(path: KPath, reference: NDArray[np.float64], found: NDArray[np.float64]) -> Figure:
    """Draw two sets of bands over each other.

    Args:
        path: of the k-points.
        reference: (n_kpoints, n_bands), eV from the Fermi level, of the label.
        found: (n_kpoints, n_bands), eV from the same zero, of the network.
    """
    with house_style():
        figure = new_figure(COLUMN, 1.2 * COLUMN)
        axes = figure.add_subplot()
        for bands, colour, style, words in (
            (reference, GREY, "-", "label"),
            (found, RED, "--", "network"),
        ):
            near = (np.abs(bands) < 1.3 * WINDOW).any(axis=0)
            lines = axes.plot(path.distances, bands[:, near], style, color=colour, linewidth=0.8)
            if lines:
                lines[0].set_label(words)
        label_path(axes, path.ticks, path.labels)
        axes.set(ylabel="E − E_F (eV)", ylim=(-WINDOW, WINDOW))
        axes.legend(loc="upper right")
    return figure
