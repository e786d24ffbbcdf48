"""From run folders that differ in the size of their cells to v_F in the limit of infinite cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.observables.cell_sizes.limits import (
    collect_limits,
    describe_observables,
    describe_system,
    find_limits,
    list_differences,
)
from mlepi.observables.cell_sizes.record import CellSizesRecord
from mlepi.observables.fermi_velocity.record import FermiVelocityRecord
from mlepi.observables.near_k.record import Estimate
from mlepi.observables.near_k.velocity_tables import list_estimates
from mlepi.observables.near_k.window_models import compare_models
from mlepi.pipeline.discovery import Stages
from mlepi.pipeline.ghosts import GhostSummary
from mlepi.pipeline.stages.structure.relaxation import find_normal, layer_means
from mlepi.results import ResultsStore

STAGE = "fermi_velocity"
"""Every run has its record."""


def compare_sizes(folders: Sequence[Path], stages: Stages) -> CellSizesRecord:
    """Collect v_F and all other quantities of several runs and extrapolate them.

    Args:
        folders: of runs with the stage ``fermi_velocity``, and ``self_energy`` in all or none;
            N × N cells, otherwise equal (``group_runs``).
        stages: all that there are.

    Returns:
        The record, sizes ascending.

    Raises:
        DataError: fewer than two sizes, cells that are not N × N, or runs that differ in more than
            their size.
    """
    read = sorted(
        ((_read(folder, stages), ResultsStore(folder)) for folder in folders),
        key=lambda run: run[0][STAGE].supercell,
    )
    runs, stores = [records for records, _ in read], [store for _, store in read]
    velocities: list[FermiVelocityRecord] = [records[STAGE] for records in runs]
    _check_runs(folders, velocities)
    by_name = [{each.name: each for each in list_estimates(records)} for records in runs]
    names = [name for name in by_name[0] if all(name in found for found in by_name)]
    estimates = [[found[name] for found in by_name] for name in names]
    sizes = np.array([record.supercell[0] for record in velocities])
    values, errors = _stack(estimates)
    quantities = collect_limits(sizes, runs)
    return CellSizesRecord(
        sizes=sizes,
        n_samples=np.array([record.n_samples for record in velocities]),
        temperatures=velocities[0].temperatures,
        velocity_window=velocities[0].velocity_window,
        dispersion=velocities[0].dispersion,
        estimators=tuple(names),
        equilibrium=np.array(
            [
                [row[0].velocity.equilibrium_velocity, row[0].velocity.equilibrium_slope]
                for row in estimates
            ]
        ),
        values=values,
        errors=errors,
        **_extrapolate(sizes, values, errors),
        **_describe(runs[0]),
        **_compare_models(estimates),
        **_compare_openings(velocities),
        **_compare_shear(runs),
        **_compare_ghosts(stores, velocities),
        **_describe_structure(runs[0], stores[0]),
        **_describe_settings(stores, sorted({path.partition(".")[0] for path in quantities})),
        quantities=quantities,
    )


def group_runs(folders: Sequence[Path], stages: Stages) -> dict[tuple[str, str], list[Path]]:
    """Sort run folders by what their structures and samples have in common.

    Args:
        folders: of runs.
        stages: all that there are.

    Returns:
        (Relaxation, what is projected out) → folders, in the order in which they were met.
    """
    groups: dict[tuple[str, str], list[Path]] = {}
    for folder in folders:
        of_run = _describe(_read(folder, stages))
        groups.setdefault((of_run["relaxation"], of_run["project_out"]), []).append(folder)
    return groups


def _describe(records: Mapping[str, Any]) -> dict[str, Any]:
    """Say what distinguishes the structure and the samples of a run, as far as it is told."""
    return {
        "relaxation": records["structure"].relaxation if "structure" in records else "",
        "project_out": records["sampling"].project_out if "sampling" in records else "none",
    }


def _compare_models(estimates: Sequence[Sequence[Estimate]]) -> dict[str, Any]:
    """Return velocities by window and model of every estimator, as fields of the record."""
    found = [[compare_models(each) for each in row] for row in estimates]
    ratios, errors = (
        np.moveaxis(np.array([[getattr(each, name) for each in row] for row in found]), 1, 3)
        for name in ("ratios", "ratio_errors")
    )
    pinned, pinned_errors = (
        np.array([[getattr(each, name)[0, 1] for each in row] for row in found])
        for name in ("values", "errors")
    )
    return {
        "equilibrium_pinned": np.array([row[0].equilibrium[0, 1] for row in found]),
        "pinned": pinned,
        "pinned_errors": pinned_errors,
        "spreads": np.array([[each.spread() for each in row] for row in found]),
        "windows": found[0][0].windows,
        "models": found[0][0].models,
        "window_ratios": ratios,
        "window_ratio_errors": errors,
    }


def _compare_openings(velocities: Sequence[FermiVelocityRecord]) -> dict[str, Any]:
    """Return the folded finite differences as fields of the record; none where a run lacks them."""
    found = [record.folded_difference for record in velocities]
    told = [each for each in found if each is not None]
    if len(told) < len(found) or len({each.step for each in told}) > 1:
        return {}
    return {
        "folds": np.array([each.folded for each in told]),
        "difference_step": told[0].step,
        "differences": np.array([each.ratios for each in told]),
        "difference_errors": np.array([each.ratio_errors for each in told]),
        "openings": np.array([each.openings for each in told]),
        "opening_errors": np.array([each.opening_errors for each in told]),
    }


def _compare_shear(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the interlayer shear of cells and dense meshes; none for one layer, or old files."""
    samplings = [records.get("sampling") for records in runs]
    if any(each is None or not each.interlayer_motion.size for each in samplings):
        return {}
    return {
        name: np.array([getattr(each, field)[..., 0].max(axis=1) for each in samplings])
        for name, field in (
            ("shear", "interlayer_motion"),
            ("mesh_shear", "mesh_interlayer_motion"),
        )
    }


def _stack(
    estimates: Sequence[Sequence[Estimate]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return v_F and mean slopes, m/s, and their errors from estimators × sizes.

    (n_estimators, 2, n_sizes, n_temperatures) each.
    """
    rows = [[each.velocity for each in row] for row in estimates]
    values = np.array([[[v.velocities for v in row], [v.slopes for v in row]] for row in rows])
    errors = np.array(
        [[[v.velocity_errors for v in row], [v.slope_errors for v in row]] for row in rows]
    )
    return values, errors


def _extrapolate(
    sizes: NDArray[np.int64], values: NDArray[np.float64], errors: NDArray[np.float64]
) -> dict[str, Any]:
    """Draw straight lines in 1/N through the sizes that tell; NaN where fewer than two do.

    Returns:
        The fields of ``CellSizesRecord`` that follow, (n_estimators, 2, n_temperatures) each.
    """
    found = find_limits(sizes, np.moveaxis(values, 2, 0), np.moveaxis(errors, 2, 0), "m/s")
    names = ("limits", "limit_errors", "chi_squared", "degrees_of_freedom")
    return {name: getattr(found, name) for name in names}


def _compare_ghosts(
    stores: Sequence[ResultsStore], velocities: Sequence[FermiVelocityRecord]
) -> dict[str, Any]:
    """Return how many samples had ghost states, and how many snapshots were left out."""
    found = [GhostSummary.from_provenance(store.provenance(STAGE)) for store in stores]
    unknown = np.full((len(velocities[0].temperatures), 2), np.nan)
    counts = [
        unknown if each is None or each.unknown else np.array([each.plain, each.shifted]).T
        for each in found
    ]
    left_out = [0 if each is None else len(each.left_out) for each in found]
    return {"ghosts": np.array(counts, dtype=np.float64), "left_out": np.array(left_out)}


def _describe_structure(records: Mapping[str, Any], store: ResultsStore) -> dict[str, Any]:
    """Return structure and networks of a run as fields of the record, as far as they are told."""
    config = store.provenance(STAGE).get("config", {})
    sources = [config[key] for key in ("electron", "phonon") if key in config]
    names = [str(each.get("_target_") if isinstance(each, dict) else each) for each in sources]
    structure = records.get("structure")
    if structure is None:
        return {"networks": tuple(names)}
    spacing = structure.spacings[0] if len(structure.spacings) else np.nan
    lattice = structure.atoms.cell.lengths()[0]
    numbers = (lattice, spacing, *_measure_forces(records))
    return {"networks": tuple(names), "structure": tuple(float(x) for x in numbers)}


def _measure_forces(records: Mapping[str, Any]) -> tuple[float, float]:
    """Return the largest force on an atom without the means of the layers, and of these, eV/Å.

    Those about which the phonons were expanded; NaN where no record tells.
    """
    structure, phonon = records["structure"], records.get("phonon")
    if phonon is None or not len(phonon.layer_forces):
        residual = np.nan if structure.residual_force is None else structure.residual_force
        pushed = np.abs(structure.layer_forces).max() if len(structure.layer_forces) else np.nan
        return float(residual), float(pushed)
    layer, normal = phonon.atoms.arrays["layer"], find_normal(phonon.atoms)
    left = phonon.residual_forces - layer_means(phonon.residual_forces, layer, normal)
    return float(np.linalg.norm(left, axis=1).max()), float(np.abs(phonon.layer_forces).max())


def _describe_settings(
    stores: Sequence[ResultsStore], observables: Sequence[str]
) -> dict[str, Any]:
    """Return what all runs are runs of, and the settings of observables that they share.

    Raises:
        DataError: they are not runs of the same.
    """
    systems = [describe_system(store) for store in stores]
    settings = [describe_observables(store, observables) for store in stores]
    for store, system in zip(stores, systems, strict=True):
        if differences := list_differences(systems[0], system):
            raise _refusal(
                [stores[0].folder, store.folder],
                f"different settings or files of {', '.join(differences)}",
                "runs that differ in their size only",
            )
    common = {
        stage: text
        for stage, text in settings[0].items()
        if all(each.get(stage) == text for each in settings)
    }
    return {"system": systems[0], "observables": common}


def _read(folder: Path, stages: Stages) -> dict[str, Any]:
    store = ResultsStore(folder)
    present = store.stages()
    if STAGE not in present:
        raise _refusal([folder], f"stages {list(present)}", f"the stage {STAGE}")
    return {stage: store.read(stage, stages[stage].record) for stage in present if stage in stages}


def _check_runs(folders: Sequence[Path], velocities: Sequence[FermiVelocityRecord]) -> None:
    """Refuse runs that do not differ in the size of N × N cells alone."""
    cells = [record.supercell for record in velocities]
    if len(set(cells)) != len(cells) or len(cells) < 2 or any(cell[0] != cell[1] for cell in cells):
        raise _refusal(
            folders,
            f"cells {[list(cell) for cell in cells]}",
            "at least two different sizes N × N, each once",
        )
    settings = [
        (record.velocity_window, record.dispersion, record.temperatures.tolist())
        for record in velocities
    ]
    if any(each != settings[0] for each in settings):
        raise _refusal(
            folders,
            "runs of different windows, dispersions or temperatures",
            "runs that differ in their size only",
        )


def _refusal(folders: Sequence[Path], got: str, expected: str) -> DataError:
    where = "size series in " + ", ".join(str(folder) for folder in folders)
    return DataError(message(where, got, expected, "Run experiment=headline in a fresh folder."))
