"""The limit 1/N → 0 of every quantity of a series of sizes, and how far every size is from it.

What a run is a run *of* stands in the provenance of its records: structure, networks and
distribution of the samples, and the settings of every observable. Runs of a series share all of it
but the cell; so must a run that takes the cell part of its error budget from a series.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.cell_sizes.record import QuantityLimits
from mlepi.physics.averages.size_series import extrapolate_sizes
from mlepi.results import ResultsStore
from mlepi.results.quantities import list_quantities

IGNORED: Mapping[str, tuple[str, ...]] = {
    "structure": ("note", "max_steps"),
    "phonon": ("supercell", "path", "n_points", "in_plane", "dos_mesh", "dos_broadening"),
    "hamiltonian": ("deeph",),
}
"""Stage → settings that change with the size, or decide no number of an observable."""

DISTRIBUTION = {
    "statistics": "quantum",
    "imaginary": "error",
    "floor_frequency": 0.5,
    "project_out": "none",
}
"""Settings of the sampling that decide what samples are drawn from, with their defaults."""

OF_THE_RUN = ("supercell", "bootstrap", "n_resamples", "n_counts")
"""Settings of observables that may differ between runs whose numbers mean the same."""


def describe_system(store: ResultsStore) -> dict[str, str]:
    """Return what the samples of a run are samples of, as texts that can be compared.

    Args:
        store: of the run; what its records do not tell is left out.

    Returns:
        "structure", "phonon", "hamiltonian", "sampling" and "level_shift" → JSON.
    """
    present, found = store.stages(), {}
    for stage, ignored in IGNORED.items():
        settings = _inputs(store, stage).get("settings") if stage in present else None
        if settings is not None:
            found[stage] = _without(settings, ignored)
    settings = _inputs(store, "sampling").get("settings") if "sampling" in present else None
    if settings is not None:
        chosen = {key: settings.get(key, usual) for key, usual in DISTRIBUTION.items()}
        found["sampling"] = json.dumps(chosen, sort_keys=True)
    shifts = [
        _inputs(store, stage)["level_shift"]
        for stage in sorted(present)
        if "level_shift" in _inputs(store, stage)
    ]
    if shifts:
        found["level_shift"] = json.dumps(shifts[0], sort_keys=True)
    return found


def describe_observables(store: ResultsStore, stages: Sequence[str]) -> dict[str, str]:
    """Return the settings of observables but for those that change with the run: stage → JSON."""
    found = {}
    for stage in stages:
        settings = _inputs(store, stage).get("settings")
        if settings is not None:
            found[stage] = _without(settings, OF_THE_RUN)
    return found


def list_differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the names of what two descriptions do not have in common, in alphabetical order."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def collect_limits(
    sizes: NDArray[np.int64], runs: Sequence[Mapping[str, Any]]
) -> dict[str, QuantityLimits]:
    """Extrapolate every quantity that all runs of a series have.

    Args:
        sizes: (n_sizes,), N, ascending.
        runs: stage → record, of every size.

    Returns:
        Stage and path of the quantity, "fermi_velocity.spectral.slopes" → what is known of it.
    """
    found = {}
    for stage in runs[0]:
        if not all(stage in records for records in runs):
            continue
        by_path = [{each.path: each for each in list_quantities(run[stage])} for run in runs]
        for path, first in by_path[0].items():
            some = [quantities[path] for quantities in by_path if path in quantities]
            if len(some) == len(runs) and all(q.values.shape == first.values.shape for q in some):
                name = f"{stage}/{path}".replace("/", ".")
                values, errors = (
                    np.array([q.values for q in some]),
                    np.array([q.errors for q in some]),
                )
                found[name] = find_limits(sizes, values, errors, first.unit)
    return found


def find_limits(
    sizes: NDArray[np.int64],
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    unit_name: str,
) -> QuantityLimits:
    """Draw a straight line in 1/N through every component of a quantity.

    Args:
        sizes: (n_sizes,), N.
        values: (n_sizes, …).
        errors: (n_sizes, …), standard errors; sizes without one take no part.
        unit_name: of both.

    Returns:
        NaN where fewer than two sizes tell.
    """
    shape = values.shape[1:]
    limits, limit_errors, chi_squared = (np.full(shape, np.nan) for _ in range(3))
    degrees = np.zeros(shape, dtype=np.int64)
    distances, distance_errors = (np.full(values.shape, np.nan) for _ in range(2))
    for place in np.ndindex(shape):
        some, bars = values[(slice(None), *place)], errors[(slice(None), *place)]
        told = np.isfinite(some) & (bars > 0)
        if np.count_nonzero(told) < 2:
            continue
        fit = extrapolate_sizes(sizes[told], some[told], bars[told])
        limits[place], limit_errors[place] = fit.limit, fit.limit_error
        chi_squared[place], degrees[place] = fit.chi_squared, fit.degrees_of_freedom
        distances[(told, *place)] = fit.distances
        distance_errors[(told, *place)] = fit.distance_errors
    return QuantityLimits(
        unit_name=unit_name,
        values=values,
        errors=errors,
        limits=limits,
        limit_errors=limit_errors,
        chi_squared=chi_squared,
        degrees_of_freedom=degrees,
        distances=distances,
        distance_errors=distance_errors,
    )


def _inputs(store: ResultsStore, stage: str) -> Mapping[str, Any]:
    """Return what decided a record; empty where its provenance does not say."""
    inputs: Mapping[str, Any] = store.provenance(stage).get("inputs", {})
    return inputs


def _without(settings: Mapping[str, Any], ignored: Sequence[str]) -> str:
    kept = {key: value for key, value in settings.items() if key not in ignored}
    return json.dumps(kept, sort_keys=True)
