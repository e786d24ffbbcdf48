"""Choosing the level shift of a basis from labels: as strong as its bias allows.

The bias is what the shift does to *exact* H and S: the RMS change of the levels near the Fermi
energy over all structures, once their mean change is taken back. It is below a limit over all
levels together, not in the median structure: a few hot structures, whose σ states reach the window,
have several times as much as the others. Errors of H mix soft directions of S (eigenvalue s, levels
some D above) into physical states, which moves these by ε²/(sD + λf(s)); of all shifts whose bias
is small enough, the one with the smallest mean of 1/(sD + λf(s)) is taken.

No first-order correction is needed then: H′ is one analytic function of k and of the positions, and
levels, velocities and derivatives are those of H′ alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mlepi.errors import ConfigError, DataError, PhysicsError, message
from mlepi.graphs.block_matrix import block_matrices
from mlepi.graphs.shifted_matrix import shift_matrix
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.level_shift import LevelShift, first_order_levels
from mlepi.predictors.level_shifts import KEY, NORM_KEY
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training.level_errors import NORM_WINDOW

LARGEST_BIAS = 1e-3
"""eV, RMS."""

WINDOW = 2.0
"""eV, half width around the Fermi energy."""

THRESHOLDS = (0.003, 0.005, 0.007, 0.01, 0.02)
STRENGTHS = (
    0.05, 0.07, 0.1, 0.14, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0,
)  # fmt: skip
"""eV, ascending."""

SOFT_DISTANCE = 10.0
"""eV, D: how far above the Fermi energy soft directions lie."""

SOFT = 0.02
"""Eigenvalues of S that count as soft when shifts are compared."""

KPOINTS = ((0.0, 0.0, 0.0), (0.137, 0.271, 0.0))
"""Fractional, of every structure: Γ and a general point."""

N_STRUCTURES = 16
"""Training structures that a shift is chosen from, at equal steps of their list."""

AUTO, OFF = "auto", "off"
"""Words that ``task.level_shift`` takes in the place of parameters."""


@dataclass(frozen=True)
class ShiftTrial:
    """What one shift does to labels.

    Attributes:
        shift: its parameters, the offset fitted.
        bias: eV, RMS change of the levels in the window, the offset taken back, over all levels of
            all structures.
        median_bias: eV, the same of the median structure.
        worst_bias: eV, of the structure where it is largest.
        corrected_bias: eV, over all levels, after the first-order correction of every one.
        amplification: 1/eV, mean of 1/(sD + λf(s)) over soft directions; smaller is better.
    """

    shift: LevelShift
    bias: float
    median_bias: float
    worst_bias: float
    corrected_bias: float
    amplification: float


class _Pencil(NamedTuple):
    """Exact states at one k-point.

    Levels (n,) eV; states as columns, (n, n), c†Sc = 1; numbers of the first and the last level of
    the window, None where there is none.
    """

    levels: NDArray[np.float64]
    states: NDArray[Any]
    window: tuple[int, int] | None


def choose_level_shift(
    labels: ShiftLabels,
    *,
    largest_bias: float = LARGEST_BIAS,
    thresholds: Sequence[float] = THRESHOLDS,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[LevelShift | None, list[ShiftTrial]]:
    """Choose τ and λ of a basis from its training structures.

    The bias grows with λ, so that the largest possible one of every τ is found by bisection.

    Args:
        labels: of training structures.
        largest_bias: eV, of the RMS change of the levels in the window, over all structures.
        thresholds: values of τ to try.
        strengths: values of λ to try, eV.

    Returns:
        The shift, None where every one has a larger bias or where S has no soft direction; and the
        trials. ``LevelShift.to_dict()`` of it belongs into the metadata of a checkpoint, under
        ``mlepi.predictors.level_shifts.KEY``.
    """
    if not labels.soft.size:
        return None, []
    trials: list[ShiftTrial] = []
    for threshold in thresholds:
        values, low, high = sorted(strengths), -1, len(strengths)
        try_strength = labels.prepare(float(threshold))
        while high - low > 1:
            middle = (low + high) // 2
            trials.append(try_strength(float(values[middle])))
            low, high = (middle, high) if trials[-1].bias <= largest_bias else (low, middle)
    possible = [trial for trial in trials if trial.bias <= largest_bias]
    if not possible:
        return None, trials
    return min(possible, key=lambda trial: trial.amplification).shift, trials


class ShiftLabels:
    """Exact pencils of labelled structures, diagonalised once, on which shifts are tried.

    Args:
        structures: labels with H, S and the Fermi energy.
        window: eV, half width around the Fermi energy.

    Raises:
        DataError: there are no structures.
    """

    def __init__(self, structures: Sequence[LabelledStructure], window: float = WINDOW) -> None:
        if not structures:
            raise DataError(
                message("level shift", "no structures", "labels to choose it from", "Give some.")
            )
        self._structures = list(structures)
        self._window = window

    @cached_property
    def soft(self) -> NDArray[np.float64]:
        """(n_soft,), soft eigenvalues of S at Γ of all structures."""
        softest = []
        for structure in self._structures:
            values = np.linalg.eigvalsh(block_matrices(structure)[1].dense(KPOINTS[0]).real)
            softest.append(values[values < SOFT])
        return np.concatenate(softest)

    def find_largest_norm(self, window: float = NORM_WINDOW) -> float:
        """Return the largest |c|² of a state up to ``window`` (eV) above the Fermi energy.

        A state of a prediction with far more lies along soft directions of S: c†Sc = 1. Structures
        without a Fermi energy are passed over; 0 where there is no state.
        """
        largest = 0.0
        for structure, pencils in zip(self._structures, self._pencils, strict=True):
            if structure.fermi_energy is None:
                continue
            for pencil in pencils:
                below = pencil.levels <= structure.fermi_energy + window
                norms = np.sum(np.abs(pencil.states[:, below]) ** 2, axis=0)
                largest = max(largest, float(norms.max(initial=0.0)))
        return largest

    @cached_property
    def _pencils(self) -> list[list[_Pencil]]:
        return [_solve(structure, self._window) for structure in self._structures]

    def prepare(self, threshold: float) -> Callable[[float], ShiftTrial]:
        """Filter S of all structures once; return what tries a strength, eV, with that τ."""
        added = []
        for structure, pencils in zip(self._structures, self._pencils, strict=True):
            overlap = block_matrices(structure)[1]
            matrix = shift_matrix(structure.atoms, overlap, LevelShift(threshold, 1.0))
            added.append(
                [
                    pencil.states.conj().T @ matrix.dense(kpoint) @ pencil.states
                    for pencil, kpoint in zip(pencils, KPOINTS, strict=True)
                ]
            )
        return lambda strength: self._try(threshold, strength, added)

    def _try(
        self, threshold: float, strength: float, added: Sequence[Sequence[NDArray[Any]]]
    ) -> ShiftTrial:
        """Return what a shift does; ``added`` are F of every structure at every k-point."""
        found = [
            [_raise_levels(*pair, strength) for pair in zip(pencils, matrices, strict=True)]
            for pencils, matrices in zip(self._pencils, added, strict=True)
        ]
        rises, corrected = (
            [np.concatenate([of_k[part] for of_k in own]) for own in found] for part in (0, 1)
        )
        whole = np.concatenate(rises)
        offset = float(whole.mean()) if whole.size else 0.0
        biases = [_rms(rise - offset) for rise in rises]
        lifted = self.soft * SOFT_DISTANCE
        lifted += strength * (threshold / (self.soft + threshold)) ** 4
        return ShiftTrial(
            LevelShift(threshold, strength, offset),
            bias=_rms(whole - offset),
            median_bias=float(np.median(biases)),
            worst_bias=max(biases),
            corrected_bias=_rms(np.concatenate(corrected)),
            amplification=float(np.mean(1.0 / lifted)) if lifted.size else 0.0,
        )


def describe_training(
    chosen: str | bool | Mapping[str, float], structures: Sequence[LabelledStructure]
) -> dict[str, Any]:
    """Return the level shift of a training and the norm of its states, for its checkpoint.

    Args:
        chosen: ``task.level_shift``: "auto", "off", or parameters of ``LevelShift``.
        structures: the training subset; ``N_STRUCTURES`` of them decide.

    Returns:
        ``KEY`` → parameters as plain data, None for no shift; with a shift also ``NORM_KEY`` → the
        number of ``ShiftLabels.find_largest_norm``.

    Raises:
        ConfigError: another word, or parameters without meaning.
    """
    if chosen is False or chosen == OFF:  # YAML takes the word off for false
        return {KEY: None}
    if not isinstance(chosen, Mapping) and chosen != AUTO:
        raise _refuse(repr(chosen))
    labels = ShiftLabels(structures[:: -(-len(structures) // N_STRUCTURES)])
    if isinstance(chosen, Mapping):
        try:
            shift: LevelShift | None = LevelShift.from_dict(chosen)
        except (PhysicsError, TypeError, ValueError) as error:
            raise _refuse(str(error)) from error
    else:
        shift = choose_level_shift(labels)[0]
    if shift is None:
        return {KEY: None}
    return {KEY: shift.to_dict(), NORM_KEY: labels.find_largest_norm()}


def _refuse(found: str) -> ConfigError:
    expected = "auto, off, or {threshold: …, strength: …}"
    return ConfigError(message("task.level_shift", found, expected, "Edit the config."))


def _solve(structure: LabelledStructure, window: float) -> list[_Pencil]:
    """Diagonalise the labels of a structure at ``KPOINTS``."""
    hamiltonian, overlap = block_matrices(structure)
    fermi_energy = float(structure.fermi_energy or 0.0)
    pencils = []
    for kpoint in KPOINTS:
        levels, states = solve_bands(hamiltonian.dense(kpoint), overlap.dense(kpoint), vectors=True)
        inside = np.flatnonzero(np.abs(levels - fermi_energy) <= window)
        ends = (int(inside[0]), int(inside[-1])) if inside.size else None
        pencils.append(_Pencil(levels, states, ends))
    return pencils


def _raise_levels(
    pencil: _Pencil, added: NDArray[Any], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return by how much the levels of the window rise, eV, before and after the correction."""
    if pencil.window is None:
        return np.empty(0), np.empty(0)
    first, last = pencil.window
    matrix = strength * added
    raised, vectors = scipy.linalg.eigh(
        np.diag(pencil.levels) + matrix, subset_by_index=pencil.window
    )
    exact = pencil.levels[first : last + 1]
    return raised - exact, first_order_levels(raised, vectors, matrix) - exact


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0
