"""Check electron-phonon coupling against DFT and literature.

``python benchmarks/coupling.py [CHECKPOINT]``.

1. Rigid displacements of one layer. The data set holds 4-atom cells of equal stacking at several
spacings, and of equal spacing
   at several slides: pairs of structures that differ by a rigid displacement d of the upper layer.
   [H(x + d) − H(x)]/|d| from DFT is compared, block by block, with the mean of the network's
   derivative on the way from one to the other (Gauss–Legendre, exact forward-mode derivatives). A
   Hamiltonian is defined up to H + μS: "gauge-free" removes, per pair, the multiple of S that fits
   best. Nothing is fitted to these differences; pairs of two structures that the network was
   trained on are marked. The other structures of the data set, 3×3 cells with random displacements,
   differ from each other in everything: no pairs.
2. dγ₁/dd: half the distance of the outer low bands of AB bilayer graphene at K, from the same
pairs.
3. ⟨g²⟩ of the optical modes that matter in graphene, E2g at Γ and A1' at K, against DFT of graphene
(Piscanec et al., Phys. Rev.
   Lett. 93, 185503 (2004), doi:10.1103/PhysRevLett.93.185503): Σ |g_mn|²/4 over the π bands at K, g
   with its (ħ/2ω)^{1/2}. In a bilayer each mode comes twice (layers in and out of phase); the sum
   over the four π bands, over 4 as well, gives the same number when the layers do not interact.

Writes ``coupling.json``, ``coupling.md`` and a figure into ``benchmarks/results``. Nothing is
random.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.checkpoint import load_model
from mlepi.figures import BLUE, COLUMN, GREEN, RED, house_style, new_figure, save_figure
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.observables.linear_response.derivatives import Crystal, build_responses
from mlepi.physics.bands.lattice import hexagonal_points
from mlepi.physics.bands.unfolding import cell_major_map
from mlepi.physics.coupling.linear_response import mean_square_coupling, perturb
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.predictors import BlockDerivatives, ElectronPredictor
from mlepi.project_files import find_file
from mlepi.structures import HamiltonianDataset, LabelledStructure, build_graphene, read_split
from mlepi.units import HBAR2_PER_AMU, PLANCK, THZ_TO_INVERSE_CM

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data" / "blg_openmx"
CHECKPOINTS = ROOT / "data" / "checkpoints"
NODES = 3
"""Points of the Gauss–Legendre quadrature between two structures."""

LARGEST_STEP = 0.5
"""Å; structures further apart are no pair."""

PARTS = {"onsite": RED, "intra": BLUE, "inter": GREEN}
LITERATURE = {"E2g at Γ": 0.0405, "A1' at K": 0.0994}
"""⟨g²⟩ of graphene by DFT, eV² (Piscanec et al. 2004)."""


@dataclass(frozen=True)
class Pair:
    """Two structures that differ by a rigid displacement of the upper layer.

    Attributes:
        first: name of the first one.
        second: name of the second one.
        kind: "spacing" or "slide".
        length: of the displacement, Å.
        trained: how many of the two the network was trained on.
        parts: "onsite", "intra", "inter" → root mean squares of the DFT derivative and of the
            network's error, raw and gauge-free, eV/Å, and the correlation of the two derivatives.
    """

    first: str
    second: str
    kind: str
    length: float
    trained: int
    parts: dict[str, dict[str, float]]


def read_slides(electron: ElectronPredictor) -> list[LabelledStructure]:
    """Return the undisplaced stackings of the shipped data, with the overlaps of a network."""
    dataset = HamiltonianDataset(DATA / "hamiltonians.h5")
    names = [name for name in dataset.names if name.startswith("slide_")]
    return [complete_overlaps(dataset[name], electron.overlap_table) for name in names]


def find_pairs(
    structures: Iterable[LabelledStructure],
) -> list[tuple[LabelledStructure, LabelledStructure, str]]:
    """Find neighbours along the spacing at fixed slide, and along the slide at fixed spacing."""
    slides = list(structures)
    pairs = []
    for first in slides:
        for kind in ("spacing", "slide"):
            steps = [
                (displacement(first.atoms, other.atoms), other)
                for other in slides
                if other.name != first.name
            ]
            found = [
                (float(np.linalg.norm(step)), other)
                for step, other in steps
                if _direction(step) == kind and step.sum() > 0
            ]
            if found and min(found, key=lambda item: item[0])[0] < LARGEST_STEP:
                pairs.append((first, min(found, key=lambda item: item[0])[1], kind))
    return pairs


def displacement(first: Atoms, second: Atoms) -> NDArray[np.float64]:
    """Return the shift of the upper layer, (3,), Å; NaN when the layers are not rigid."""
    change = second.positions - first.positions
    upper = first.arrays["layer"] == 1
    change = change - change[~upper][0]
    expected = np.where(upper[:, None], change[upper][0], 0.0)
    same = np.allclose(first.cell.array, second.cell.array) and np.allclose(
        change, expected, atol=1e-6
    )
    return np.asarray(change[upper][0]) if same else np.full(3, np.nan)


def _direction(step: NDArray[np.float64]) -> str:
    """Tell a change of the spacing from a slide."""
    if np.allclose(step[:2], 0.0, atol=1e-6):
        return "spacing"
    return "slide" if abs(step[2]) < 1e-6 else ""


def compare_pair(
    predictor: ElectronPredictor,
    first: LabelledStructure,
    second: LabelledStructure,
    kind: str,
    trained: int,
) -> tuple[Pair, dict[str, NDArray[np.float64]]]:
    """Compare the derivative of DFT with that of the network.

    Returns:
        The comparison, and per part the elements of both derivatives, (2, n), eV/Å.
    """
    step = displacement(first.atoms, second.atoms)
    length = float(np.linalg.norm(step))
    direction = np.zeros((1, len(first.atoms), 3))
    direction[0, first.atoms.arrays["layer"] == 1] = step / length
    ends = [block_matrices(labels) for labels in (first, second)]
    terms = [(-1.0 / length, ends[0][0]), (1.0 / length, ends[1][0])]
    overlap = [(0.5, ends[0][1]), (0.5, ends[1][1])]
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    network = []
    for node, weight in zip(nodes, weights, strict=True):
        atoms = first.atoms.copy()
        atoms.positions += 0.5 * (1.0 + node) * length * direction[0]
        network.append((0.5 * weight, predictor.derivatives(atoms, direction).hamiltonian))
    edges, (dft, found, metric) = combine(terms, network, overlap)
    layer = first.atoms.arrays["layer"]
    onsite = (edges[:, 0] == edges[:, 1]) & ~edges[:, 2:].any(axis=1)
    same = layer[edges[:, 0]] == layer[edges[:, 1]]
    shift = float(np.sum((dft - found) * metric) / np.sum(metric**2))
    parts, elements = {}, {}
    for name, chosen in (("onsite", onsite), ("intra", same & ~onsite), ("inter", ~same)):
        truth, guess = dft[chosen].ravel(), found[chosen].ravel()
        gauge_free = truth - guess - shift * metric[chosen].ravel()
        parts[name] = {
            "dft": _rms(truth),
            "error": _rms(truth - guess),
            "gauge_free_error": _rms(gauge_free),
            "correlation": float(np.corrcoef(truth, guess)[0, 1]),
        }
        elements[name] = np.stack([truth, guess + shift * metric[chosen].ravel()])
    return Pair(first.name, second.name, kind, length, trained, parts), elements


def combine(
    *sums: Sequence[tuple[float, BlockMatrix | BlockDerivatives]],
) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Add up weighted matrices of different edge lists; a missing block is zero.

    Returns:
        Edges (n_edges, 5) as source, target and shift, and one array (n_edges, p, p) per sum.
    """
    matrices = [(weight, m) for terms in sums for weight, m in terms]
    rows = np.concatenate(
        [np.column_stack([m.edge_index.T, m.edge_cell_shift]) for _, m in matrices]
    )
    edges, place = np.unique(rows, axis=0, return_inverse=True)
    places = np.split(
        place.reshape(-1), np.cumsum([m.edge_index.shape[1] for _, m in matrices])[:-1]
    )
    results = []
    remaining = iter(zip(matrices, places, strict=True))
    for terms in sums:
        total: Any = 0.0
        for _ in terms:
            (weight, matrix), at = next(remaining)
            blocks = matrix.blocks if isinstance(matrix, BlockMatrix) else matrix.values[0]
            spread = np.zeros((len(edges), *blocks.shape[1:]))
            spread[at] = weight * blocks
            total = total + spread
        results.append(total)
    return edges, results


def gamma_1(hamiltonian: BlockMatrix, overlap: BlockMatrix, atoms: Atoms, n_occupied: int) -> float:
    """Return half the distance of the outer low bands at K, eV."""
    corner = hexagonal_points(atoms.cell.array)["K"]
    energies = solve_bands(hamiltonian.lay_out().at(corner), overlap.lay_out().at(corner))
    return float(0.5 * (energies[n_occupied + 1] - energies[n_occupied - 2]))


def measure_couplings(
    electron: ElectronPredictor, phonon: Any, spacing: float, supercell: int
) -> list[dict[str, Any]]:
    """Return ⟨g²⟩ of the highest in-plane modes at Γ and K of AB bilayer graphene."""
    atoms = build_graphene(stacking="AB", spacing=spacing)
    repeats = (supercell, supercell, 1)
    calculator = phonon.calculator(device="cpu", dtype="float64")
    modes = compute_modes(compute_force_constants(atoms, calculator, repeats))
    hamiltonian = electron.hamiltonian(atoms, dtype="float64").lay_out()
    overlap = electron.overlap(atoms).lay_out()
    crystal = Crystal(
        electron, atoms, cell_major_map(len(atoms), repeats), hamiltonian, overlap, "cpu", 0.01
    )
    responses, _ = build_responses(crystal, lambda: None)
    corner = hexagonal_points(atoms.cell.array)["K"]
    n_occupied = 2 * len(atoms)
    pi = slice(n_occupied - 2, n_occupied + 2)
    rows = []
    for name, qpoint, count in (("E2g at Γ", np.zeros(3), 4), ("A1' at K", corner, 2)):
        number = int(np.argmin(np.linalg.norm(modes.qpoints - np.mod(qpoint, 1.0), axis=1)))
        ends = []
        for point in (corner, corner + qpoint):
            energies, states = crystal.solve(point[None])
            ends.append((energies[:, pi], states[:, :, pi]))
        [cartesian] = perturb(responses, qpoint, corner[None], *ends)
        highest = slice(modes.frequencies.shape[1] - count, None)
        vectors = modes.eigenvectors[number][:, highest]
        frequencies = modes.frequencies[number, highest]
        squares = mean_square_coupling(cartesian.along(vectors, modes.masses), frequencies, 2)
        for frequency, square in zip(frequencies, squares, strict=True):
            zero_point = HBAR2_PER_AMU / (float(modes.masses[0]) * 2.0 * PLANCK * frequency)
            rows.append(
                {
                    "mode": name,
                    "frequency_cm": float(frequency * THZ_TO_INVERSE_CM),
                    "g2_ev2": float(square),
                    "d2_ev2_per_angstrom2": float(square / zero_point),
                    "literature_g2_ev2": LITERATURE[name],
                }
            )
    return rows


def compare_gamma_1(
    electron: ElectronPredictor, data: Iterable[LabelledStructure], valence: int = 4
) -> list[dict[str, Any]]:
    """Return γ₁ of AB bilayer graphene at the spacings of the data, by DFT and by the network."""
    rows = []
    for labels in data:
        if not labels.name.startswith("slide_+0.000_+0.000_"):
            continue
        n_occupied = valence * len(labels.atoms) // 2
        predicted = (
            electron.hamiltonian(labels.atoms, dtype="float64"),
            electron.overlap(labels.atoms),
        )
        values = [
            gamma_1(*matrices, labels.atoms, n_occupied)
            for matrices in (block_matrices(labels), predicted)
        ]
        rows.append(
            {
                "spacing": float(np.ptp(labels.atoms.positions[:, 2])),
                "dft": values[0],
                "network": values[1],
            }
        )
    return sorted(rows, key=lambda row: row["spacing"])


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def write_markdown(results: dict[str, Any]) -> str:
    """Write all results as tables."""
    lines = [
        "# Electron-phonon coupling against DFT and literature",
        "",
        f"`python benchmarks/coupling.py`, checkpoint `{results['checkpoint']}`. Made by the "
        "script; definitions in its head.",
        "",
        "## Rigid displacements of a layer: derivative of H, network against differences of DFT",
        "",
        "Root mean squares over the elements of all blocks, eV/Å; error gauge-free. Column three "
        "counts those of the two",
        "structures that the network was trained on.",
        "",
        "| pair | Å | trained | on-site: DFT | error | intra: DFT | error | inter: DFT | error | "
        "correlation (inter) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for pair in results["pairs"]:
        cells = [
            f"{pair['first'][6:]} → {pair['second'][6:]}",
            f"{pair['length']:.3f}",
            str(pair["trained"]),
        ]
        for part in PARTS:
            cells += [
                f"{pair['parts'][part]['dft']:.4f}",
                f"{pair['parts'][part]['gauge_free_error']:.4f}",
            ]
        lines.append(
            "| " + " | ".join([*cells, f"{pair['parts']['inter']['correlation']:.4f}"]) + " |"
        )
    lines += ["", "| pairs | n | on-site error / DFT | intra | inter |", "|---|---|---|---|---|"]
    for name, summary in results["summary"].items():
        ratios = " | ".join(f"{100 * summary[part]:.1f} %" for part in PARTS)
        lines.append(f"| {name} | {summary['n']} | {ratios} |")
    lines += [*format_gamma_1(results["gamma_1"]), *format_couplings(results)]
    return "\n".join([*lines, ""])


def format_gamma_1(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the lines of γ₁ by spacing, and of its slopes."""
    lines = [
        "",
        "## γ₁ of AB bilayer graphene",
        "",
        "| spacing (Å) | DFT (eV) | network (eV) |",
        "|---|---|---|",
    ]
    lines += [f"| {row['spacing']:.2f} | {row['dft']:.4f} | {row['network']:.4f} |" for row in rows]
    lines += ["", "| interval (Å) | dγ₁/dd, DFT (eV/Å) | network |", "|---|---|---|"]
    for low, high in pairwise(rows):
        step = high["spacing"] - low["spacing"]
        slopes = [(high[key] - low[key]) / step for key in ("dft", "network")]
        lines.append(
            f"| {low['spacing']:.2f}–{high['spacing']:.2f} | {slopes[0]:.3f} | {slopes[1]:.3f} |"
        )
    return lines


def format_couplings(results: Mapping[str, Any]) -> list[str]:
    """Return the lines of ⟨g²⟩ by mode."""
    lines = [
        "",
        f"## ⟨g²⟩ of AB bilayer graphene, spacing {results['spacing']} Å, "
        f"{results['supercell']}×{results['supercell']} cells",
        "",
        "Literature: DFT of graphene (Piscanec et al. 2004). ⟨D²⟩ = ⟨g²⟩·2Mω/ħ does not depend on "
        "the frequency.",
        "",
        "| mode | frequency (cm⁻¹) | ⟨g²⟩ (eV²) | literature | ⟨D²⟩ (eV²/Å²) |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['mode']} | {row['frequency_cm']:.0f} | {row['g2_ev2']:.4f} | "
        f"{row['literature_g2_ev2']:.4f} | "
        f"{row['d2_ev2_per_angstrom2']:.1f} |"
        for row in results["couplings"]
    ]
    return lines


def plot_elements(elements: dict[str, NDArray[np.float64]], folder: Path) -> Path:
    """Draw the elements of the network's derivative against those of DFT, one panel per part."""
    with house_style():
        figure = new_figure(2.2 * COLUMN, 0.85 * COLUMN)
        for axes, (part, colour) in zip(figure.subplots(1, 3), PARTS.items(), strict=True):
            values = elements[part]
            limit = 1.05 * float(np.abs(values).max())
            axes.plot([-limit, limit], [-limit, limit], color="0.7", linewidth=0.6)
            axes.plot(
                *values, linestyle="", marker=".", markersize=1.0, color=colour, rasterized=True
            )
            axes.set_title(part)
            axes.set_xlabel("∂H/∂d, DFT (eV/Å)")
        figure.axes[0].set_ylabel("network (eV/Å)")
    return save_figure(figure, folder, "coupling")


def summarise(pairs: list[Pair]) -> dict[str, dict[str, float]]:
    """Return error over DFT derivative, root mean squares over all and over unseen pairs."""
    groups = {
        "all": pairs,
        "no structure trained on": [p for p in pairs if p.trained == 0],
        "one trained on": [p for p in pairs if p.trained == 1],
        "spacing": [p for p in pairs if p.kind == "spacing"],
        "slide": [p for p in pairs if p.kind == "slide"],
    }
    return {
        name: {
            "n": len(chosen),
            **{
                part: _rms(np.array([p.parts[part]["gauge_free_error"] for p in chosen]))
                / _rms(np.array([p.parts[part]["dft"] for p in chosen]))
                for part in PARTS
            },
        }
        for name, chosen in groups.items()
        if chosen
    }


def main() -> None:
    """Measure, and write tables and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoint", nargs="?", type=Path, default=CHECKPOINTS / "hedgenet_electron.ckpt"
    )
    parser.add_argument("--phonon", type=Path, default=CHECKPOINTS / "hedgenet_phonon.ckpt")
    parser.add_argument("--spacing", type=float, default=3.35, help="Å, for the couplings")
    parser.add_argument(
        "--supercell", type=int, default=6, help="a multiple of 3, for the couplings"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    electron: Any = load_model(options.checkpoint, kind="electron")
    phonon: Any = load_model(options.phonon, kind="phonon")
    data = read_slides(electron)
    split = find_file("data.split", electron.metadata["config"]["data"]["split"])
    seen = set(read_split(split, HamiltonianDataset(DATA / "hamiltonians.h5").names)["train"])
    pairs, elements = [], []
    for first, second, kind in find_pairs(data):
        pair, values = compare_pair(
            electron, first, second, kind, sum(s.name in seen for s in (first, second))
        )
        pairs.append(pair)
        elements.append(values)
        print(
            pair.first,
            pair.second,
            {k: round(v["gauge_free_error"] / v["dft"], 3) for k, v in pair.parts.items()},
            flush=True,
        )
    results = {
        "checkpoint": options.checkpoint.name,
        "pairs": [asdict(pair) for pair in pairs],
        "summary": summarise(pairs),
        "gamma_1": compare_gamma_1(electron, data),
        "spacing": options.spacing,
        "supercell": options.supercell,
        "couplings": measure_couplings(electron, phonon, options.spacing, options.supercell),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    text = write_markdown(results)
    (options.output / "coupling.json").write_text(
        json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (options.output / "coupling.md").write_text(text, encoding="utf-8")
    plot_elements(
        {part: np.concatenate([e[part] for e in elements], axis=1) for part in PARTS},
        options.output,
    )
    print(text)


if __name__ == "__main__":
    main()
