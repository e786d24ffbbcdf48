"""Calibration of a committee: its spread against true errors.

n networks that differ in their random numbers give n predictions of every quantity; their standard
deviation s (with n − 1) estimates how far one of them is from their common mean, and says nothing
of what they all get wrong. On structures with labels the factor

    f = √(⟨e²⟩ / ⟨s²⟩)

makes the spread an error: f·s is right on average over these structures, for the prediction whose
error e was taken (the mean of the networks, or one of them). For n independent networks without
common error the factor is √(1/n) for the mean and 1 for one network; common errors raise both.
Whether f·s is right element by element is another question, answered by a reliability plot: true
against predicted errors in bins of the prediction. Where f·s falls short of the errors, the
structures are outside what the networks know alike.

References:
    Musil et al., J. Chem. Theory Comput. 15, 906 (2019), doi:10.1021/acs.jctc.8b00959, eq. 21 (a
    factor from a validation set); Levi et al., Sensors 22, 5540 (2022), doi:10.3390/s22155540
    (bins of the predicted variance).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message


class Agreement(NamedTuple):
    """Spread and errors of one quantity over labelled structures, in its unit.

    Attributes:
        n: number of elements.
        rms_spread: root mean square of the standard deviations among the networks.
        rms_error_of_mean: of the mean of the networks.
        rms_error_of_one: of single networks, over all of them.
    """

    n: int
    rms_spread: float
    rms_error_of_mean: float
    rms_error_of_one: float

    @property
    def factor_of_mean(self) -> float:
        """True error over spread, of the mean of the networks."""
        return self.rms_error_of_mean / self.rms_spread

    @property
    def factor_of_one(self) -> float:
        """True error over spread, of a single network."""
        return self.rms_error_of_one / self.rms_spread


class Reliability(NamedTuple):
    """A reliability plot: root mean squares in bins of equal population.

    Attributes:
        predicted: (n_bins,), ascending.
        found: (n_bins,), true errors of the same elements.
        counts: (n_bins,) int.
    """

    predicted: NDArray[np.float64]
    found: NDArray[np.float64]
    counts: NDArray[np.int64]


def compare_spread(
    errors: NDArray[np.floating], errors_of_mean: NDArray[np.floating] | None = None
) -> Agreement:
    """Compare the spread of networks with their errors.

    Args:
        errors: (n_networks, n_elements), prediction less label of every network, n_networks ≥ 2.
        errors_of_mean: (n_elements,), of what the networks predict together; None takes the mean of
            the errors. Levels of the mean Hamiltonian are not the mean of levels.

    Raises:
        PhysicsError: fewer than two networks, no elements, or networks that never differ.
    """
    if errors.ndim != 2 or errors.shape[0] < 2 or errors.shape[1] == 0:
        raise _unusable(f"errors of shape {errors.shape}", "two networks or more, and labels")
    spreads = np.std(errors, axis=0, ddof=1)
    together = errors.mean(axis=0) if errors_of_mean is None else errors_of_mean
    found = Agreement(
        n=errors.shape[1],
        rms_spread=_root_mean_square(spreads),
        rms_error_of_mean=_root_mean_square(together),
        rms_error_of_one=_root_mean_square(errors),
    )
    if not found.rms_spread > 0:
        raise _unusable("networks that do not differ", "networks of different seeds")
    return found


def join_agreements(parts: list[Agreement]) -> Agreement:
    """Return what ``compare_spread`` gives for the elements of all parts together.

    Args:
        parts: at least one, of the same networks.
    """
    counts = np.array([part.n for part in parts])

    def joined(values: list[float]) -> float:
        return float(np.sqrt(np.sum(counts * np.square(values)) / counts.sum()))

    return Agreement(
        int(counts.sum()),
        joined([part.rms_spread for part in parts]),
        joined([part.rms_error_of_mean for part in parts]),
        joined([part.rms_error_of_one for part in parts]),
    )


def bin_errors(
    errors: NDArray[np.floating], predicted: NDArray[np.floating], n_bins: int = 10
) -> Reliability:
    """Collect true errors by the error that was predicted.

    Args:
        errors: (n_elements,), prediction less label.
        predicted: (n_elements,), predicted standard deviations.
        n_bins: of equal population; no more than there are elements.
    """
    order = np.argsort(predicted, kind="stable")
    groups = [g for g in np.array_split(order, min(n_bins, len(order))) if len(g)]
    return Reliability(
        np.array([_root_mean_square(predicted[group]) for group in groups]),
        np.array([_root_mean_square(errors[group]) for group in groups]),
        np.array([len(group) for group in groups], dtype=np.int64),
    )


def _root_mean_square(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _unusable(found: str, expected: str) -> PhysicsError:
    return PhysicsError(
        message("calibration", found, expected, "Train members with different seeds.")
    )
