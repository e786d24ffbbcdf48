"""What level shifts cost exact labels, in levels and in slopes, and what they mend.

``python benchmarks/level_shift_bias.py LABELS CHECKPOINT``.

LABELS is a folder of OpenMX labels. Three tables:

- *bias* of the labels' own levels within ±2 eV of E_F, at Γ and at a general point, over all levels
  of all structures (mean taken back), of the median structure, of the worst one, and over all
  levels once more after the first-order correction E − λ c†Fc;
- *slopes* between 0.04 and 0.10 Å⁻¹ from K (Γ of a 3×3 cell), levels within ±1 eV: RMS change, in
  thousandths of that of the lowest conduction band of the ideal AB cell; of levels of H′, and of
  corrected levels;
- *ghosts and soft states* of structures in which the network has some, with all of its errors of H
  and with these scaled down, as a better network has them; RMS of the levels within ±2 eV less the
  median.

What is printed is Markdown. Nothing is random.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from level_shift import load_reader
from numpy.typing import NDArray

from mlepi.checkpoint import load_model
from mlepi.errors import MlepiError
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices
from mlepi.graphs.shifted_matrix import shift_matrix
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.level_shift import LevelShift, first_order_levels
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training.level_errors import choose_kpoints, compare_levels, predict_states
from mlepi.training.level_shift import KPOINTS, ShiftLabels
from mlepi.training.metrics import MILLI

TRIALS = (
    (0.003, 0.5),
    (0.003, 1.4),
    (0.005, 0.5),
    (0.005, 0.7),
    (0.007, 0.4),
    (0.01, 0.25),
    (0.01, 0.5),
    (0.01, 1.0),
)
"""τ and λ (eV)."""

BIASED = (
    "thermal3_0000,thermal3_0003,thermal3_0005,thermal3_0007,thermal3_0012,thermal3_0013,"
    "thermal3_0021,thermal3_0030,thermal3_0052,thermal4_0003,shape_000,shape_005,shape_015,"
    "shape_018,shape_022,shape_070,shape_077,random3_0004,random3_0012"
)
SLOPED = "slide_+0.000_+0.000_3.25,ideal3_3.35,thermal3_0003,thermal3_0021,thermal3_0000"
HAUNTED = "thermal3_0048,thermal3_0020,shape_075"

DISTANCES = (0.04, 0.10)
"""Å⁻¹ from K, between which slopes are taken."""
NEAR = 1.0
"""eV, half width around the Fermi energy in which slopes are compared."""
SCALES = (1.0, 0.7)
"""Factors of the errors of the network."""


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table."""
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cells)} |", flush=True)


def measure_bias(structures: Sequence[LabelledStructure]) -> Iterable[Sequence[str]]:
    """Yield the rows of the biases, meV."""
    labels = ShiftLabels(structures)
    for threshold in sorted({t for t, _ in TRIALS}):
        attempt = labels.prepare(threshold)
        for strength in [s for t, s in TRIALS if t == threshold]:
            found = attempt(strength)
            values = (found.bias, found.median_bias, found.worst_bias, found.corrected_bias)
            offset = f"{MILLI * found.shift.offset:.2f}"
            texts = (f"{MILLI * value:.2f}" for value in values)
            yield (f"{threshold:g}", f"{strength:g}", offset, *texts, f"{found.amplification:.1f}")


def measure_slopes(structures: Sequence[LabelledStructure]) -> Iterable[Sequence[str]]:
    """Yield the rows of the slopes, the first structure being the ideal cell."""
    unit = 0.0
    rows: list[list[str]] = [[f"{t:g}", f"{s:g}"] for t, s in TRIALS]
    for structure in structures:
        hamiltonian, overlap = block_matrices(structure)
        cell = structure.atoms.cell.array
        origin = choose_kpoints(cell, 2)[1] if len(structure.atoms) == 4 else np.zeros(3)
        points = [origin + cell @ [distance, 0, 0] / (2.0 * np.pi) for distance in DISTANCES]
        pencils = [(hamiltonian.dense(k), overlap.dense(k)) for k in points]
        exact = [solve_bands(*pencil) for pencil in pencils]
        near = np.abs(exact[0] - float(structure.fermi_energy or 0.0)) <= NEAR
        step = DISTANCES[1] - DISTANCES[0]
        if not unit:
            conduction = 2 * len(structure.atoms)
            unit = float(exact[1][conduction] - exact[0][conduction]) / step
        for row, (threshold, strength) in zip(rows, TRIALS, strict=True):
            added = shift_matrix(structure.atoms, overlap, LevelShift(threshold, strength))
            ends = [
                _rise(pencil, added.dense(k)) for pencil, k in zip(pencils, points, strict=True)
            ]
            changes = [
                (end - start - (exact[1] - exact[0]))[near] / (step * unit)
                for start, end in zip(*ends, strict=True)
            ]
            row.append(" / ".join(f"{MILLI * np.sqrt(np.mean(x**2)):.2f}" for x in changes))
    print(f"slope of the ideal cell: {unit:.3f} eV Å", flush=True)
    return rows


def _rise(
    pencil: tuple[NDArray[Any], NDArray[Any]], added: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the levels of H′ and the corrected ones, eV."""
    levels, states = solve_bands(pencil[0] + added, pencil[1], vectors=True)
    return levels, first_order_levels(levels, states, added)


def measure_ghosts(
    structures: Sequence[LabelledStructure], model: Any, largest_norm: float
) -> Iterable[Sequence[str]]:
    """Yield the rows of ghosts, soft states and errors, of every scale of the errors."""
    rows: dict[tuple[float, float], list[str]] = {(0.0, 0.0): ["–", "–"]}
    rows |= {trial: [f"{trial[0]:g}", f"{trial[1]:g}"] for trial in TRIALS}
    for structure in structures:
        exact, overlap = block_matrices(structure)
        predicted = model.hamiltonian(structure.atoms)
        label, wrong, metric = (m.dense_many(KPOINTS) for m in (exact, predicted, overlap))
        reference = np.asarray(solve_bands(label, metric))
        for scale in SCALES:
            hamiltonian = label + scale * (wrong - label)
            for (threshold, strength), row in rows.items():
                added = None
                if strength:
                    added = _add(structure, overlap, threshold, strength).dense_many(KPOINTS)
                levels, norms = predict_states(hamiltonian, metric, added)
                fermi = float(structure.fermi_energy or 0.0)
                found = compare_levels(levels, reference, fermi, norms, largest_norm)
                _, squares, count = found["bands_2ev_aligned"]
                row.append(
                    f"{found['ghosts'][0]:.0f} / {found['soft_states'][0]:.0f} / "
                    f"{MILLI * np.sqrt(squares / count):.1f}"
                )
    return rows.values()


def _add(
    structure: LabelledStructure, overlap: BlockMatrix, threshold: float, strength: float
) -> BlockMatrix:
    """Return λF; F of the last structure and τ is kept."""
    key = (structure.name, threshold)
    if key not in _FILTERED:
        _FILTERED.clear()
        _FILTERED.update(
            {
                (structure.name, t): shift_matrix(structure.atoms, overlap, LevelShift(t, 1.0))
                for t in {t for t, _ in TRIALS}
            }
        )
    return replace(_FILTERED[key], blocks=strength * _FILTERED[key].blocks)


_FILTERED: dict[tuple[str, float], BlockMatrix] = {}


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("labels", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--biased", default=BIASED, help="structures of the first table")
    parser.add_argument("--sloped", default=SLOPED, help="of the second, an AB cell first")
    parser.add_argument("--haunted", default=HAUNTED, help="of the third")
    chosen = parser.parse_args()
    read, model = load_reader(), load_model(chosen.checkpoint, kind="electron")
    biased, sloped, haunted = (
        [read(chosen.labels / f"{name}.npz") for name in names.split(",")]
        for names in (chosen.biased, chosen.sloped, chosen.haunted)
    )
    head = ("τ", "λ/eV", "mean rise", "all levels", "median", "worst", "corrected", "amplification")
    print(f"{len(biased)} structures; meV, 1/eV\n")
    print_table(head, measure_bias(biased))
    print()
    rows = measure_slopes(sloped)
    print()
    print_table(("τ", "λ/eV", *(s.name for s in sloped)), rows)
    largest = ShiftLabels(biased).find_largest_norm()
    print(f"\nlargest |c|² of the labels up to 2 eV above E_F: {largest:.2f}\n")
    names = (f"{s.name}, {scale:g} ΔH" for s in haunted for scale in SCALES)
    print_table(("τ", "λ/eV", *names), measure_ghosts(haunted, model, largest))


if __name__ == "__main__":
    try:
        main()
    except MlepiError as error:
        sys.exit(str(error))
