"""Draw the pictures of the documentation: ``python docs/make_pictures.py [NAME …]``.

No trained network is needed: schemes are drawn from structures, and numbers are computed by springs
and tight binding of graphene, but for ``ghost_states``, which takes a Hamiltonian of the shipped
DFT labels. Pictures are written as SVG to ``docs/pictures``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from ase import Atoms
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

from mlepi.figures import BLUE, GREEN, GREY, RED, house_style, label_path, new_figure
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices
from mlepi.graphs.neighbours import find_edges
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.graphs.shifted_matrix import shift_hamiltonian
from mlepi.physics.bands.lattice import build_k_path, build_line, hexagonal_points
from mlepi.physics.bands.spectra import compute_spectral_function, find_peaks
from mlepi.physics.bands.unfolding import band_weights, cell_major_map, unfold_states
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.physics.overlaps import read_overlap_table
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.thermal import mode_variance, sample_displacements
from mlepi.reference_systems import HoneycombSprings, TightBinding
from mlepi.structures import HamiltonianDataset, build_graphene, build_supercell
from mlepi.units import THZ_TO_INVERSE_CM

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
CARBON = 12.011  # amu
DECAY = 3.37 / 1.42  # 1/Å, of the hopping of the tight binding
WIDTH = 0.07  # eV, of the lines whose maxima are taken
GRID = np.linspace(-2.0, 2.0, 401)  # eV, of their spectra


@dataclass(frozen=True)
class Scan:
    """States of displaced monolayers by tight binding, at the same k-points as those at rest.

    Attributes:
        rest: (n_k, 2), bands of the primitive cell, eV.
        levels: (n_samples, n_k, n_states), eV.
        weights: (n_samples, n_k, 2, n_states), of every state on the two bands at rest.
    """

    rest: NDArray[np.float64]
    levels: NDArray[np.float64]
    weights: NDArray[np.float64]

    def middle(self) -> NDArray[np.float64]:
        """Return half the distance of sorted levels around zero, (n_samples, n_distances).

        Two on either side, since K and K′ fold onto one point; mean over the three directions.
        """
        half = self.levels.shape[2] // 2
        upper, lower = self.levels[..., half : half + 2], self.levels[..., half - 2 : half]
        distances = 0.5 * (upper.mean(axis=2) - lower.mean(axis=2))
        return distances.reshape(len(distances), 3, -1).mean(axis=1)

    @cached_property
    def spectra(self) -> NDArray[np.float64]:
        """Return the spectra of both bands, (n_samples, n_k, 2, n_energies), 1/eV."""
        shape = self.weights.shape[:3]
        levels = self.levels.reshape(-1, self.levels.shape[2])
        weights = self.weights.reshape(-1, 2, self.weights.shape[3])
        lines = [
            compute_spectral_function(GRID, e, w, WIDTH, "gaussian")
            for e, w in zip(levels, weights, strict=True)
        ]
        return np.reshape(lines, (*shape, len(GRID)))

    def peaks(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return half the distance of the peaks of both bands, of all samples and without each.

        Of spectra that are averaged over the samples; mean over the three directions.
        (n_distances,) and (n_samples, n_distances), eV.
        """
        total = self.spectra.sum(axis=0)
        return _split(total), np.array([_split(total - each) for each in self.spectra])


def jackknife_error(left_out: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the error of an estimate from those without one sample each (first axis)."""
    n = len(left_out)
    return np.asarray(np.sqrt((n - 1) * left_out.var(axis=0)))


def _split(spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    found = find_peaks(GRID, spectra)
    halves: NDArray[np.float64] = 0.5 * (found[:, 1] - found[:, 0])
    return halves.reshape(3, -1).mean(axis=0)


@cache
def springs_of(size: int) -> tuple[Atoms, Any]:
    """Return the monolayer and its force constants in a cell of size × size."""
    atoms = build_graphene("monolayer")
    return atoms, compute_force_constants(atoms, HoneycombSprings(), (size, size, 1))


def scan(
    size: int, temperatures: Sequence[float], n_samples: int, kpoints: NDArray[np.float64]
) -> list[Scan]:
    """Diagonalise displaced supercells at primitive k-points; one result per temperature."""
    atoms, force_constants = springs_of(size)
    model = TightBinding(orbitals="s")
    at_rest = model.hamiltonian(atoms).lay_out()
    rest, vectors = solve_bands(np.array([at_rest.at(k) for k in kpoints]), vectors=True)
    supercell, where = build_supercell(atoms, (size, size, 1)), cell_major_map(2, (size, size, 1))
    counts, unit = np.ones(2, dtype=int), np.eye(len(supercell))
    results = []
    for displacements in sample_displacements(force_constants, temperatures, n_samples, seed=1):
        levels, weights = [], []
        for displacement in displacements:
            moved = supercell.copy()
            moved.positions += displacement
            layout = model.hamiltonian(moved).lay_out()
            for k, states_at_rest in zip(kpoints, vectors, strict=True):
                energies, states = solve_bands(layout.at(where.fold(k)), vectors=True)
                components = unfold_states(states, unit, where, counts, k)
                levels.append(energies)
                weights.append(band_weights(components, states_at_rest, np.eye(2)))
        shape = (n_samples, len(kpoints))
        results.append(
            Scan(
                rest,
                np.reshape(levels, (*shape, -1)),
                np.reshape(weights, (*shape, 2, -1)),
            )
        )
    return results


def near_k(distances: Sequence[float]) -> NDArray[np.float64]:
    """Return k-points at distances, Å⁻¹, from K towards the three Γ around it, (3 n, 3)."""
    cell = build_graphene("monolayer").cell.array
    corner = hexagonal_points(cell)["K"]
    centres = ([0, 0, 0], [1, 0, 0], [1, 1, 0])  # of the zones that meet at (2/3, 1/3)
    return np.concatenate([build_line(corner, centre, distances, cell) for centre in centres])


def distances_from_middle(atoms: Atoms) -> NDArray[np.float64]:
    """Return how far the atoms of the lower layer are from the middle; upper ones are far, Å."""
    middle = atoms.cell.array[:2].sum(axis=0)[:2] / 2
    distances = np.linalg.norm(atoms.positions[:, :2] - middle, axis=1)
    return np.where(atoms.arrays["layer"] == 0, distances, np.inf)


def put_box(axes: Axes, place: tuple[float, float], text: str, colour: str = GREY) -> None:
    """Write a text into a box, width 1.7 and height 1, around a place."""
    x, y = place
    axes.add_patch(
        FancyBboxPatch(
            (x - 0.85, y - 0.5), 1.7, 1.0, boxstyle="round,pad=0.05",
            facecolor=(*mpl.colors.to_rgb(colour), 0.12), edgecolor=colour, linewidth=0.8,
        )
    )  # fmt: skip
    axes.text(x, y, text, ha="center", va="center", fontsize=6.5)


def put_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow."""
    style = {"arrowstyle": "-|>", "color": "0.3", "linewidth": 0.8}
    axes.annotate("", end, start, arrowprops=style)


def draw_workflow() -> Figure:
    """Draw the way from labels to a number at temperature."""
    figure = new_figure(6.8, 2.1)
    axes = figure.subplots()
    upper, lower = 2.4, 0.8
    put_box(axes, (0.0, 1.6), "DFT labels\nE, F · H, S")
    put_box(axes, (2.6, upper), "phonon network\nenergy, forces", BLUE)
    put_box(axes, (2.6, lower), "electron network\nHamiltonian H", RED)
    put_box(axes, (5.2, upper), "force constants\nmodes, ω", BLUE)
    put_box(axes, (7.8, upper), "displaced\nsupercells", BLUE)
    put_box(axes, (7.8, lower), "H, S of each\nstates", RED)
    put_box(axes, (10.4, lower), "unfold, average\nA(k, E), v_F, gap", GREEN)
    put_box(axes, (10.4, upper), "report, error\nbudget", GREEN)
    for start, end in (
        ((0.9, 1.8), (1.7, upper)),
        ((0.9, 1.4), (1.7, lower)),
        ((3.5, upper), (4.3, upper)),
        ((6.1, upper), (6.9, upper)),
        ((7.8, upper - 0.55), (7.8, lower + 0.55)),
        ((3.5, lower), (6.9, lower)),
        ((8.7, lower), (9.5, lower)),
        ((10.4, lower + 0.55), (10.4, upper - 0.55)),
    ):
        put_arrow(axes, start, end)
    axes.text(1.3, 1.6, "train", fontsize=6.5, color="0.3", va="center")
    axes.text(5.2, lower + 0.12, "predicts each", fontsize=6.5, color="0.3", ha="center")
    axes.set(xlim=(-1.0, 11.4), ylim=(0.1, 3.1))
    axes.axis("off")
    return figure


def draw_zero_point() -> Figure:
    """Draw amplitudes of modes against temperature, and averages of a hopping of all orders."""
    figure = new_figure(6.6, 2.4)
    left, right = figure.subplots(1, 2)
    temperatures = np.linspace(0.0, 800.0, 161)
    for wavenumber, colour in ((1580, BLUE), (500, GREEN), (100, RED)):
        frequency = np.array([wavenumber / THZ_TO_INVERSE_CM])
        for statistics, style in (("quantum", "-"), ("classical", ":")):
            squares = [mode_variance(frequency, t, statistics)[0] for t in temperatures]  # type: ignore[arg-type]
            label = f"{wavenumber} cm⁻¹" if style == "-" else None
            left.plot(
                temperatures, np.sqrt(np.array(squares) / CARBON), style, color=colour, label=label
            )
    left.plot([], [], "k:", label="classical")
    left.set(
        xlabel="temperature (K)", ylabel="root mean square\nof a carbon atom (Å)", ylim=(0, 0.24)
    )
    left.legend()
    spreads = np.linspace(0.0, 0.4, 81)
    right.plot(spreads, np.exp((DECAY * spreads) ** 2 / 2), color=BLUE, label="exact, all orders")
    right.plot(spreads, 1 + (DECAY * spreads) ** 2 / 2, "--", color=RED, label="second order")
    for spread in (0.05, 0.15, 0.25, 0.35):
        hopping = np.exp(-DECAY * spread * np.random.default_rng(2).standard_normal(500))
        right.errorbar(spread, hopping.mean(), hopping.std() / np.sqrt(500), fmt="o", color="k")
    right.errorbar([], [], [], fmt="o", color="k", label="mean of 500 samples")
    right.set(xlabel="root mean square of the bond length (Å)", ylabel="⟨t⟩ / t at rest")
    right.legend()
    return figure


def draw_hedgenet() -> Figure:
    """Draw edges within and between layers, and the two networks that see them."""
    figure = new_figure(6.8, 2.5)
    left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.25])
    atoms = build_supercell(build_graphene("AB"), (8, 8, 1))
    layer = atoms.arrays["layer"]
    flat = atoms.positions - atoms.positions[np.argmin(distances_from_middle(atoms))]
    x, z = flat[:, 0] + 0.5 * flat[:, 1], 1.5 * flat[:, 2] + 0.3 * flat[:, 1]  # seen from aside
    near = np.hypot(flat[:, 0], flat[:, 1]) < 4.4
    (source, target), shift = find_edges(atoms, 4.2)
    inside = near[source] & near[target] & ~shift.any(axis=1)
    for j, i in zip(source[inside], target[inside], strict=True):
        same, length = layer[i] == layer[j], np.linalg.norm(flat[i] - flat[j])
        if same and length < 1.5:
            left.plot(x[[i, j]], z[[i, j]], color="0.8", linewidth=0.8, zorder=1)
        if not flat[i].any():
            left.plot(x[[i, j]], z[[i, j]], color=BLUE if same else RED, linewidth=0.9, zorder=2)
    left.scatter(x[near], z[near], s=9, color="0.45", zorder=3)
    left.scatter(0.0, 0.0, s=30, color="k", zorder=4)
    left.set(xlim=(-6.8, 6.8), ylim=(-3.0, 8.4), aspect="equal")
    left.text(0.0, -2.6, "edges within a layer", color=BLUE, ha="center", fontsize=7)
    left.text(0.0, 7.4, "edges between layers", color=RED, ha="center", fontsize=7)
    left.axis("off")
    put_box(right, (0.0, 1.5), "structure\nas a graph")
    put_box(right, (2.7, 2.4), "network\nwithin layers", BLUE)
    put_box(right, (2.7, 0.6), "network\nbetween", RED)
    put_box(right, (5.3, 1.5), "sum at\nevery atom")
    put_box(right, (7.7, 1.5), "energy or\nblocks of H", GREEN)
    for start, end in (
        ((0.9, 1.7), (1.8, 2.4)),
        ((0.9, 1.3), (1.8, 0.6)),
        ((3.6, 2.4), (4.4, 1.7)),
        ((3.6, 0.6), (4.4, 1.3)),
        ((6.2, 1.5), (6.8, 1.5)),
    ):
        put_arrow(right, start, end)
    right.set(xlim=(-1.0, 8.7), ylim=(-0.1, 3.1))
    right.axis("off")
    return figure


def draw_unfolding() -> Figure:
    """Draw levels of a displaced 6×6 monolayer, folded and unfolded."""
    cell = build_graphene("monolayer").cell.array
    path = build_k_path(hexagonal_points(cell), ["Γ", "K", "M"], cell, 0.03)
    (found,) = scan(6, [300.0], 12, path.kpoints)
    figure = new_figure(6.6, 2.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for levels in found.levels[0].T:
        left.plot(path.distances, levels, color=GREY, linewidth=0.35, rasterized=True)
    energies = np.linspace(-4.0, 4.0, 161)
    spectra = np.mean(
        [
            [
                compute_spectral_function(energies, e, w.sum(axis=0), 0.08, "gaussian")
                for e, w in zip(*at, strict=True)
            ]
            for at in zip(found.levels, found.weights, strict=True)
        ],
        axis=0,
    )
    right.pcolormesh(path.distances, energies, spectra.T, rasterized=True, vmin=0.0)
    for axes, title in (
        (left, "levels of one sample, 72 atoms"),
        (right, "A(k, E), mean of 12 samples"),
    ):
        axes.plot(
            path.distances,
            found.rest,
            color=BLUE if axes is left else "0.2",
            linewidth=0.8,
            linestyle="-" if axes is left else ":",
        )
        label_path(axes, path.ticks, path.labels)
        axes.set(title=title, ylim=(-4.0, 4.0))
    left.set_ylabel("energy (eV)")
    return figure


def draw_estimators() -> Figure:
    """Draw the cone of a 6×6 monolayer at 0 K by two estimators, and what size does to slopes."""
    distances = np.array([0.0, 0.02, 0.04, 0.1])
    figure = new_figure(6.6, 2.5)
    left, right = figure.subplots(1, 2)
    for size, n_samples in ((3, 64), (6, 48), (9, 24), (12, 8)):
        (found,) = scan(size, [0.0], n_samples, near_k(distances))
        rest = found.rest[: len(distances), 1]
        (peaks, peaks_left_out), levels = found.peaks(), found.middle()
        mean = levels.mean(axis=0)
        levels_left_out = (levels.sum(axis=0) - levels) / (n_samples - 1)
        if size == 6:
            left.plot(distances, rest, color=GREY, label="at rest")
            style = {"fmt": "o", "color": BLUE, "label": "peak of A(k, E)"}
            left.errorbar(distances[1:], peaks[1:], jackknife_error(peaks_left_out)[1:], **style)
            style = {"fmt": "s--", "color": RED, "label": "mean of sorted levels"}
            left.errorbar(distances, mean, jackknife_error(levels_left_out), **style)
        for values, left_out, first, colour, label in (
            (peaks, peaks_left_out, 2, BLUE, "peak, 0.04–0.10/Å"),
            (mean, levels_left_out, 2, RED, "sorted, 0.04–0.10/Å"),
            (mean, levels_left_out, 0, GREY, "sorted, K to 0.02/Å"),
        ):
            last = 3 if first else 1
            flat = rest[last] - rest[first]
            ratio = (values[last] - values[first]) / flat
            error = jackknife_error((left_out[:, last] - left_out[:, first]) / flat)
            shown = {"fmt": "o", "color": colour, "label": label if size == 3 else None}
            right.errorbar(1 / size, ratio, error, **shown)
    left.set(xlabel="|k − K| (1/Å)", xlim=(-0.005, 0.11), ylim=(0, None))
    left.set_ylabel("half the distance\nof the bands (eV)")
    left.legend()
    right.set(xlabel="1/N of the N × N cell", xlim=(0, 0.36), ylim=(0, 1.1))
    right.set_ylabel("slope over that at rest")
    right.legend(loc="lower left")
    return figure


def draw_error_bars() -> Figure:
    """Draw how a mean and a change with temperature settle, for common and independent numbers."""
    cold, hot = (found.middle()[:, 0] * 1e3 for found in scan(6, [0.0, 300.0], 128, near_k([0.1])))
    other = np.roll(cold, 1)  # samples of other random numbers
    numbers = np.arange(4, 129)
    figure = new_figure(6.6, 2.2)
    axes = figure.subplots()
    for values, colour, label in (
        (hot - other, RED, "independent"),
        (hot - cold, BLUE, "common random numbers"),
    ):
        mean = np.array([values[:n].mean() for n in numbers])
        error = np.array([values[:n].std(ddof=1) / np.sqrt(n) for n in numbers])
        axes.fill_between(
            numbers, mean - error, mean + error, color=colour, alpha=0.25, linewidth=0
        )
        axes.plot(numbers, mean, color=colour, label=label)
    axes.set(xlabel="samples", ylabel="E(300 K) − E(0 K) (meV)", xlim=(4, 128))
    axes.legend()
    return figure


def draw_ghost_states() -> Figure:
    """Draw errors of levels of a DFT Hamiltonian to which noise was added."""
    data = HamiltonianDataset(ROOT / "data/blg_openmx/hamiltonians.h5")
    labels = data[next(name for name in data.names if name.startswith("slide_+0.000_+0.000"))]
    table = read_overlap_table(ROOT / "data/blg_openmx/overlap_C6.0-s2p2.h5")
    exact, overlap = block_matrices(complete_overlaps(labels, table))
    kpoints = np.random.default_rng(3).uniform(-0.5, 0.5, (12, 3)) * [1, 1, 0]
    random = np.random.default_rng(4).standard_normal(exact.blocks.shape)
    random[exact.blocks == 0] = 0.0
    shift = LevelShift(threshold=0.005, strength=0.7)
    truth = levels_of(exact, overlap, kpoints)
    figure = new_figure(6.6, 2.4)
    left, right = figure.subplots(1, 2)
    depths: dict[str, list[float]] = {"as it is": [], "with the level shift": []}
    sizes = np.array([1.0, 3.0, 6.0, 9.0, 13.0, 19.0, 28.0, 40.0])
    for size in sizes:
        # the mean of a number and of its reverse has 1/√2 of its size
        noisy = with_blocks(exact, exact.blocks + 1e-3 * np.sqrt(2) * size * random).symmetrised()
        raised = shift_hamiltonian(labels.atoms, noisy, overlap, shift)
        for matrix, name, colour in (
            (noisy, "as it is", RED),
            (raised, "with the level shift", BLUE),
        ):
            found = levels_of(matrix, overlap, kpoints)
            depths[name].append(float(found.min() - truth.min()))
            if size == 1.0 and matrix is noisy:
                left.plot(
                    truth.ravel() - labels.fermi_energy,
                    1e3 * np.abs(found - truth).ravel(),
                    ".",
                    color=colour,
                    markersize=2,
                )
    left.set(
        yscale="log",
        xlabel="true level, from E_F (eV)",
        ylabel="its error by 1 meV\nof noise on H (meV)",
    )
    for (name, values), colour in zip(depths.items(), (RED, BLUE), strict=True):
        right.plot(sizes, values, "o-", color=colour, label=name)
    right.axhline(-1.0, color="0.6", linewidth=0.7, linestyle=":")
    right.set(
        xscale="log",
        xlabel="noise on every element of H (meV)",
        ylabel="lowest level,\nfrom that of DFT (eV)",
    )
    right.legend()
    return figure


def with_blocks(matrix: BlockMatrix, blocks: NDArray[np.float64]) -> BlockMatrix:
    """Return the matrix with other numbers."""
    return BlockMatrix(
        matrix.numbers, matrix.basis, matrix.edge_index, matrix.edge_cell_shift, blocks
    )


def levels_of(
    hamiltonian: BlockMatrix, overlap: BlockMatrix, kpoints: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the levels, (n_k, n_orbitals), eV."""
    return np.asarray(solve_bands(hamiltonian.dense_many(kpoints), overlap.dense_many(kpoints)))


PICTURES: dict[str, Callable[[], Figure]] = {
    "workflow": draw_workflow,
    "zero_point": draw_zero_point,
    "hedgenet": draw_hedgenet,
    "unfolding": draw_unfolding,
    "estimators": draw_estimators,
    "error_bars": draw_error_bars,
    "ghost_states": draw_ghost_states,
}
"""Name of the file → what draws it."""


def main(names: Sequence[str]) -> None:
    """Draw the pictures of these names, or all."""
    FOLDER.mkdir(exist_ok=True)
    with house_style(), mpl.rc_context({"svg.hashsalt": "mlepi", "svg.image_inline": True}):
        for name in names or PICTURES:
            figure = PICTURES[name]()
            figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None}, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1:])
