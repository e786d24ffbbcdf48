"""Figures of data cards: blocks by distance, spectrum of S, levels; energies and forces."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlepi.figures.style import COLUMN, house_style, new_figure
from mlepi.structures.card import ForcesCard, HamiltonianCard


def draw_hamiltonian_card(card: HamiltonianCard) -> Figure:
    """Draw the largest elements of blocks against distance, and the spectra of S and H."""
    with house_style():
        figure = new_figure(2.2 * COLUMN, 1.8 * COLUMN)
        axes = figure.subplots(2, 2)
        for column, (label, unit) in enumerate((("H", " (eV)"), ("S", ""))):
            panel: Axes = axes[0, column]
            shown = card.sizes[:, column] > 0.0
            panel.semilogy(card.distances[shown], card.sizes[shown, column], ".", markersize=2)
            panel.set_xlabel("distance (Å)")
            panel.set_ylabel(f"largest element of {label}{unit}")
        spectrum: Axes = axes[1, 0]
        if card.overlap_eigenvalues.size:
            values = np.maximum(card.overlap_eigenvalues.ravel(), 1e-12)
            low = min(float(values.min()), 0.5)
            spectrum.hist(values, bins=np.geomspace(low, values.max() * 1.01, 40).tolist())
            spectrum.set_xscale("log")
        spectrum.set_xlabel("eigenvalue of S(k)")
        spectrum.set_ylabel("states")
        levels: Axes = axes[1, 1]
        levels.plot(card.levels, np.arange(len(card.levels)), "_")
        if card.fermi_energy is not None:
            levels.axvline(card.fermi_energy, linestyle=":", color="0.4")
        levels.set_xlabel("level at Γ (eV)")
        levels.set_ylabel("number")
        figure.suptitle(f"{card.name}: {card.formula}", fontsize="medium")
    return figure


def draw_forces_card(card: ForcesCard) -> Figure:
    """Draw distributions of energies per atom and of largest forces."""
    with house_style():
        figure = new_figure(2.2 * COLUMN, 0.9 * COLUMN)
        axes = figure.subplots(1, 2)
        bins = max(5, min(40, card.n_structures))
        axes[0].hist(1000.0 * card.energies, bins=bins)
        axes[0].set_xlabel("energy − mean of the formula (meV/atom)")
        axes[1].hist(card.forces, bins=bins)
        axes[1].set_xlabel("largest force (eV/Å)")
        for panel in axes:
            panel.set_ylabel("structures")
    return figure
