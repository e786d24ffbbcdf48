"""What makes the numbers of a run doubtful, as the domain stage sees it: in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlepi.doubts import Doubt
from mlepi.observables.domain.record import DomainRecord


def list_doubts(record: DomainRecord) -> Iterator[str]:
    """Tell of samples outside the training data, of ghosts, and of networks that differ.

    Args:
        record: of the stage.
    """
    yield from _list_unseen(record)
    yield from _list_periods(record)
    yield from _list_outside(record)
    yield from _list_ghosts(record)
    yield from _list_spreads(record)


def _list_unseen(record: DomainRecord) -> Iterator[str]:
    for what in record.unseen:
        yield Doubt(
            f"the structure lies outside the training data, whatever its distances: {what}.",
            "The networks never saw anything like it, and no test error holds for it.",
            "Train on structures of this kind.",
            "serious",
        )


def _list_periods(record: DomainRecord) -> Iterator[str]:
    if record.unseen_periods.size:
        lengths = ", ".join(f"{length:.1f}" for length in record.unseen_periods)
        yield Doubt(
            f"every training cell repeats after {lengths} Å, within the reach of the electron "
            "network, and this supercell does not.",
            "The network never saw an atom move without its image there, and errs more than in "
            "its test set.",
            "Train on cells of other shapes.",
        )


def _list_outside(record: DomainRecord) -> Iterator[str]:
    if not record.source:
        yield Doubt(
            "no training structures are known.",
            "How far the samples are from them cannot be told.",
            "Set stage.domain.data.",
            "note",
        )
    shares = record.outside_shares
    if np.nan_to_num(shares).max(initial=0.0) > 0:
        worst = np.unravel_index(np.nanargmax(record.distances), record.distances.shape)
        name = record.quantities[int(record.worst_quantities[worst])]
        told = ", ".join(
            f"{100 * share:.0f} % at {temperature:g} K"
            for share, temperature in zip(shares, record.temperatures, strict=True)
            if share > 0
        )
        yield Doubt(
            f"samples lie outside the training data: {told}, by up to "
            f"{record.distances[worst]:.1f} standard deviations ({name}).",
            "The networks extrapolate there, and their test errors do not hold.",
            "Label the worst samples, whose inputs are in label/, and train on them too.",
        )


def _list_ghosts(record: DomainRecord) -> Iterator[str]:
    haunted = np.count_nonzero(record.ghosts.any(axis=1))
    if haunted:
        yield Doubt(
            f"{haunted} of {record.n_samples} samples have ghost states far below all bands.",
            "H is wrong there where S is soft, whatever their distance from the training data.",
            "Label them, or do not count states.",
        )


def _list_spreads(record: DomainRecord) -> Iterator[str]:
    for what, spreads, training, unit in (
        ("H", record.hamiltonian_spreads, record.training_hamiltonian_spreads, "eV"),
        ("forces", record.force_spreads, record.training_force_spreads, "eV/Å"),
    ):
        if spreads.size and training.size and np.nanmax(spreads) > training.max():
            yield Doubt(
                f"the networks differ in {what} by up to {np.nanmax(spreads):.3g} {unit}, more "
                f"than on any training structure ({training.max():.3g} {unit}).",
                "At least one of them extrapolates.",
                "Label the samples on which they differ most, and train on them too.",
            )
