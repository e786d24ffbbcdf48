"""Choosing the level shift of a basis from labels: as strong as its bias allows.

The bias is what the shift does to *exact* H and S: the RMS change of the levels near the Fermi
energy, once their mean change is taken back; of the median structure, since a single distorted one
can have several times as much. Errors of H mix soft directions of S
(eigenvalue s, levels some D above) into physical states, which moves these by ε²/(sD + λf(s)); of
all shifts whose bias is small enough, the one with the smallest mean of 1/(sD + λf(s)) is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.graphs.block_matrix import block_matrices
from mlepi.graphs.shifted_matrix import shift_matrix
from mlepi.physics.eigenstates.bloch import cholesky_factor
from mlepi.physics.eigenstates.level_shift import LevelShift, first_order_levels
from mlepi.structures.labelled_structure import LabelledStructure

LARGEST_BIAS = 1e-3
"""eV, RMS."""

WINDOW = 2.0
"""eV, half width around the Fermi energy."""

THRESHOLDS = (0.005, 0.007, 0.01, 0.014, 0.02)
STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.4, 2.0)
"""eV."""

SOFT_DISTANCE = 10.0
"""eV, D: how far above the Fermi energy soft directions lie."""

SOFT = 0.02
"""Eigenvalues of S that count as soft when shifts are compared."""

KPOINTS = ((0.0, 0.0, 0.0), (0.137, 0.271, 0.0))
"""Fractional, of every structure: Γ and a general point."""

Changes = tuple[NDArray[np.float64], NDArray[np.float64]]
"""By how much the levels of the window rise, before and after the first-order correction, eV."""


@dataclass(frozen=True)
class ShiftTrial:
    """What one shift does to labels.

    Attributes:
        shift: its parameters, the offset fitted.
        bias: eV, RMS change of the levels in the window, the offset taken back, of the median
            structure.
        worst_bias: eV, the same of the structure where it is largest.
        corrected_bias: eV, after the first-order correction of every level, of the median
            structure.
        amplification: 1/eV, mean of 1/(sD + λf(s)) over soft directions; smaller is better.
    """

    shift: LevelShift
    bias: float
    worst_bias: float
    corrected_bias: float
    amplification: float


def choose_level_shift(
    structures: Sequence[LabelledStructure],
    *,
    largest_bias: float = LARGEST_BIAS,
    window: float = WINDOW,
    thresholds: Sequence[float] = THRESHOLDS,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[LevelShift | None, list[ShiftTrial]]:
    """Choose τ and λ of a basis from its training structures.

    Args:
        structures: labels with H, S and the Fermi energy.
        largest_bias: eV, of the RMS change of levels in the window, of the median structure.
        window: eV, half width around the Fermi energy.
        thresholds: values of τ to try.
        strengths: values of λ to try, eV.

    Returns:
        The shift, None where every one tried has a larger bias or where S has no soft direction;
        and all trials. ``LevelShift.to_dict()`` of it belongs into the metadata of a checkpoint,
        under ``mlepi.predictors.level_shifts.KEY``.

    Raises:
        DataError: there are no structures.
    """
    if not structures:
        raise DataError(
            message("level shift", "no structures", "labels to choose it from", "Give some.")
        )
    pairs = [(float(t), float(s)) for t in thresholds for s in strengths]
    soft, changes = [], []
    for structure in structures:
        values, found = _measure(structure, pairs, window)
        soft.append(values)
        changes.append(found)
    directions = np.concatenate(soft)
    trials = []
    for threshold, strength in pairs:
        own = [found[threshold, strength] for found in changes]
        whole = np.concatenate([rise for rise, _ in own])
        offset = float(whole.mean()) if whole.size else 0.0
        biases = [_rms(rise - offset) for rise, _ in own]
        corrected = [_rms(remainder) for _, remainder in own]
        lifted = directions * SOFT_DISTANCE + strength * (threshold / (directions + threshold)) ** 4
        trials.append(
            ShiftTrial(
                LevelShift(threshold, strength, offset),
                bias=float(np.median(biases)),
                worst_bias=max(biases),
                corrected_bias=float(np.median(corrected)),
                amplification=float(np.mean(1.0 / lifted)) if lifted.size else 0.0,
            )
        )
    possible = [trial for trial in trials if trial.bias <= largest_bias]
    if not possible or not directions.size:
        return None, trials
    return min(possible, key=lambda trial: trial.amplification).shift, trials


def _measure(
    structure: LabelledStructure, pairs: Sequence[tuple[float, float]], window: float
) -> tuple[NDArray[np.float64], dict[tuple[float, float], Changes]]:
    """Return the soft eigenvalues of S at Γ, and what every τ and λ does to a structure."""
    hamiltonian, overlap = block_matrices(structure)
    values = np.asarray(np.linalg.eigvalsh(overlap.dense(KPOINTS[0])), dtype=np.float64)
    parts: dict[tuple[float, float], list[Changes]] = {pair: [] for pair in pairs}
    for threshold in {t for t, _ in pairs}:
        added = shift_matrix(structure.atoms, overlap, LevelShift(threshold, 1.0))
        strengths = [s for t, s in pairs if t == threshold]
        for kpoint in KPOINTS:
            matrices = [matrix.dense(kpoint) for matrix in (hamiltonian, overlap, added)]
            fermi_energy = float(structure.fermi_energy or 0.0)
            found = _try_strengths(matrices, fermi_energy, window, strengths)
            for strength, change in found.items():
                parts[threshold, strength].append(change)
    whole = {
        pair: (np.concatenate([c[0] for c in some]), np.concatenate([c[1] for c in some]))
        for pair, some in parts.items()
    }
    return values[values < SOFT], whole


def _try_strengths(
    matrices: Sequence[NDArray[np.complexfloating]],
    fermi_energy: float,
    window: float,
    strengths: Sequence[float],
) -> dict[float, Changes]:
    """Return what every λ does at one k-point; the matrices are H, S and F."""
    hamiltonian_k, overlap_k, added_k = matrices
    lower = cholesky_factor(overlap_k)

    def reduce(matrix: NDArray[np.complexfloating]) -> NDArray[np.complexfloating]:
        half = scipy.linalg.solve_triangular(lower, matrix, lower=True)
        reduced = scipy.linalg.solve_triangular(lower, half.conj().T, lower=True)
        return np.asarray(0.5 * (reduced + reduced.conj().T))

    plain, added = reduce(hamiltonian_k), reduce(added_k)
    levels = scipy.linalg.eigvalsh(plain)
    inside = np.flatnonzero(np.abs(levels - fermi_energy) <= window)
    if not inside.size:
        return {strength: (np.empty(0), np.empty(0)) for strength in strengths}
    subset = (int(inside[0]), int(inside[-1]))
    found = {}
    for strength in strengths:
        raised, vectors = scipy.linalg.eigh(plain + strength * added, subset_by_index=subset)
        corrected = first_order_levels(raised, vectors, strength * added)
        found[strength] = (raised - levels[inside], corrected - levels[inside])
    return found


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0
