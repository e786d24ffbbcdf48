"""A network on labelled structures: read, predict, compare, and put together what was found."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.checkpoint import load_model
from mlepi.errors import MlepiError
from mlepi.evaluation.breakdown import (
    add_breakdowns,
    tabulate_distances,
    tabulate_orbitals,
    tabulate_shells,
)
from mlepi.evaluation.data import ALL, LEARNED, JudgedData, adapt_labels, open_data
from mlepi.evaluation.electron import ElectronJudge
from mlepi.evaluation.findings import MOST_POINTS, Finding, Judge, Points
from mlepi.evaluation.outliers import find_outliers
from mlepi.evaluation.phonon import PhononJudge
from mlepi.evaluation.settings import Settings
from mlepi.physics.overlaps import read_overlap_table
from mlepi.pipeline.progress import ProgressReport, StageLine
from mlepi.predictors import ElectronPredictor, PhononPredictor
from mlepi.predictors.electron import check_overlap_table
from mlepi.project_files import find_file, locate_file
from mlepi.results.provenance import collect_provenance, hash_file
from mlepi.training.slopes import find_pairs
from mlepi.training.test_table import group_by_size, tabulate

FORMAT, FORMAT_VERSION = "mlepi-eval", 1

MADE_SPLIT = "split.json"
"""File of a run folder with the split that a training made because none was given."""

SLOPES = "slope_"
"""Beginning of the metrics of paired displacements, which no subset need hold alone."""


@dataclass(frozen=True)
class Judgement:
    """What was found.

    Attributes:
        result: all numbers as plain data, see ``docs/eval.md``.
        points: quantity and unit → points of the parity plot.
    """

    result: dict[str, Any]
    points: dict[str, Points]


def judge(
    checkpoint: str | Path,
    data: str | None = None,
    *,
    split: str | None = None,
    extra: str | None = None,
    overlap: str | None = None,
    potentials: str | None = None,
    settings: Settings | None = None,
    progress: ProgressReport | None = None,
) -> Judgement:
    """Judge a checkpoint of either kind on labelled structures.

    Args:
        checkpoint: file.
        data: data set, HDF5 of Hamiltonians or extxyz; None for the one of the training.
        split: JSON file that divides it, see ``open_data``.
        extra: data set with further structures of the split.
        overlap: table of radial overlap functions in the place of the checkpoint's own.
        potentials: of layers, added to the labels, see ``open_data``.
        settings: everything else; the defaults by default.
        progress: told about every structure; silent by default.

    Returns:
        The numbers, and points of the parity plots.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DataError: data, split, or what the labels lack.
        ConfigError: a setting cannot be used.
    """
    settings = settings or Settings()
    began = time.monotonic()
    predictor = load_model(checkpoint)
    if overlap is not None and isinstance(predictor, ElectronPredictor):
        table = read_overlap_table(find_file("--overlap", overlap))
        check_overlap_table(predictor.basis, table)
        predictor.overlap_table = table
    made_split = (
        Path(checkpoint).resolve().parent.parent / MADE_SPLIT
    )  # of RUN/checkpoints/best.ckpt
    found = open_data(
        predictor,
        data,
        split,
        extra,
        settings.subsets,
        settings.max_structures,
        made_split,
        potentials,
    )
    most_points = max(1, MOST_POINTS // len(found.names))
    own_overlap = any(labels.has_overlap for labels in found.labels)
    measuring: Judge = (
        ElectronJudge(predictor, settings, most_points, own_overlap)
        if isinstance(predictor, ElectronPredictor)
        else PhononJudge(predictor, settings, most_points)
    )
    report = progress or ProgressReport(quiet=True)
    with report.stage("structures") as line:
        findings = measure_all(predictor, measuring, found, line)
    result = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": predictor.kind,
        "checkpoint": Path(checkpoint).name,
        "data": found.describe(),
        "settings": settings.describe(),
        "notes": list_notes(predictor, found, findings, settings),
        **put_together(measuring, found, findings),
    }
    if isinstance(predictor, ElectronPredictor):
        result |= tabulate_blocks(predictor, found, findings, settings.bin_width)
    result["provenance"] = describe_origin(checkpoint, found, result["settings"])
    result["seconds"] = round(time.monotonic() - began, 1)
    return Judgement(make_plain(result), join_points(findings.values()))


def measure_all(
    predictor: ElectronPredictor | PhononPredictor,
    measuring: Judge,
    data: JudgedData,
    line: StageLine,
) -> dict[str, Finding]:
    """Measure all judged structures one after the other, and tell how long it will take.

    Raises:
        MlepiError: a structure cannot be measured; the text names it.
    """
    paired = {name for pair in find_pairs(data.names) for name in pair}
    findings: dict[str, Finding] = {}
    line.start(len(data.names))
    for name in data.names:
        labels = data.find(name)
        try:
            structure = labels.read(name)
            if isinstance(predictor, ElectronPredictor):
                structure = adapt_labels(predictor, structure, data)
            findings[name] = measuring.measure(structure, data.numbers[name], name in paired)
        except MlepiError as error:
            raise type(error)(f"{labels.path.name}, {name}: {error}") from error
        line.advance(f"{name}, {len(structure.atoms)} atoms")
    return findings


def put_together(
    measuring: Judge, data: JudgedData, findings: Mapping[str, Finding]
) -> dict[str, Any]:
    """Return the metrics of every subset, size and structure, and the outliers.

    The metrics of the whole are those of the first subset; the slopes those of all pairs.
    """
    names = list(findings)
    numbers = {name: number for number, name in enumerate(names)}
    atoms = {number: findings[name].atoms for name, number in numbers.items()}

    def summarize(members: Sequence[int]) -> dict[str, float]:
        return measuring.summarize({names[number]: findings[names[number]] for number in members})

    groups = {subset: [numbers[n] for n in of_subset] for subset, of_subset in data.subsets.items()}
    subsets = tabulate(groups, atoms, summarize)
    structures: dict[str, dict[str, Any]] = {
        name: {
            "n_atoms": len(findings[name].atoms),
            "subsets": [subset for subset, members in data.subsets.items() if name in members],
            "metrics": summarize([number]) | findings[name].extremes,
        }
        for name, number in numbers.items()
    }
    for subset, group in subsets.items():
        group["medians"] = take_medians([structures[n]["metrics"] for n in data.subsets[subset]])
    first = next(iter(subsets))
    every = summarize(list(atoms))
    slopes = {metric: value for metric, value in every.items() if metric.startswith(SLOPES)}
    return {
        "metrics": subsets[first]["metrics"] | slopes,
        "subsets": subsets,
        "sizes": tabulate(group_by_size(atoms), atoms, summarize),
        "structures": structures,
        "outliers": {
            subset: rows
            for subset, members in data.subsets.items()
            if (
                rows := find_outliers(
                    {name: structures[name]["metrics"] for name in members}, measuring.outlying
                )
            )
        },
    }


def take_medians(structures: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """Return the median of every metric over structures, of those that have it.

    One structure decides root mean squares of a subset, but no median.
    """
    names = dict.fromkeys(chain.from_iterable(structures))
    found = {name: [x for own in structures if (x := own.get(name)) is not None] for name in names}
    return {name: float(np.median(values)) for name, values in found.items() if values}


def tabulate_blocks(
    predictor: ElectronPredictor,
    data: JudgedData,
    findings: Mapping[str, Finding],
    bin_width: float,
) -> dict[str, Any]:
    """Return the gauge-free errors of H by pair of shells and orbitals, and by distance.

    Of the first subset.
    """
    first = next(iter(data.subsets.values()))
    parts = [part for name in first if (part := findings[name].breakdown) is not None]
    total = add_breakdowns(parts)
    return {
        "shells": tabulate_shells(total, predictor.basis),
        "orbitals": tabulate_orbitals(total, predictor.basis),
        "distances": tabulate_distances(total, bin_width),
    }


def list_notes(
    predictor: ElectronPredictor | PhononPredictor,
    data: JudgedData,
    findings: Mapping[str, Finding],
    settings: Settings,
) -> list[str]:
    """Say what a reader of the numbers must know."""
    notes = []
    learned = sorted(data.learned & set(findings))
    if learned:
        notes.append(f"{len(learned)} structures are of {' or '.join(LEARNED)} of the split.")
    if data.split is None and ALL in data.subsets:
        notes.append("No split: whether the network was trained on these is not known here.")
    if data.absent:
        notes.append(f"{len(data.absent)} structures of the subsets are in no data set.")
    if isinstance(predictor, ElectronPredictor):
        notes += _list_electron_notes(predictor, data, findings, settings)
    elif not any("stress" in finding.sums for finding in findings.values()):
        notes.append("The labels hold no stress.")
    return notes


def _list_electron_notes(
    predictor: ElectronPredictor,
    data: JudgedData,
    findings: Mapping[str, Finding],
    settings: Settings,
) -> list[str]:
    notes = []
    if not all(labels.has_overlap for labels in data.labels):
        notes.append("The labels hold no overlaps: S comes from the table on both sides.")
    elif predictor.overlap_table is None:
        notes.append("The checkpoint has no overlap table: levels are those of the labels' S.")
    if data.potentials_file is not None:
        notes.append(f"The potentials of {data.potentials_file.name} are added to the labels.")
    if settings.with_levels and settings.window is not None:
        low, high = settings.window
        notes.append(f"The window of --window is {low:g} to {high:g} eV from E_F.")
    if settings.with_levels and predictor.level_shift is None:
        notes.append("The checkpoint has no level shift.")
    unknown = sum(
        "bands_2ev" not in f.sums or not f.sums["bands_5ev"][2] for f in findings.values()
    )
    if settings.with_levels and unknown:
        notes.append(f"{unknown} structures have no levels in the windows, or no Fermi energy.")
    if not find_pairs(findings):
        notes.append("No pairs NAME_p, NAME_m of displacements: no slopes.")
    return notes


def describe_origin(
    checkpoint: str | Path, data: JudgedData, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return commit, versions and digests of everything that went in."""
    files = {"checkpoint": Path(locate_file(checkpoint) or checkpoint)}
    files |= {f"data {n}": labels.path for n, labels in enumerate(data.labels, start=1)}
    if data.split is not None:
        files["split"] = data.split
    if data.potentials_file is not None:
        files["layer potentials"] = data.potentials_file
    digests = {name: hash_file(path) for name, path in files.items()}
    return collect_provenance(settings, digests, seed=0)


def join_points(findings: Iterable[Finding]) -> dict[str, Points]:
    """Join the points of all structures, quantity by quantity."""
    collected: dict[str, list[Points]] = {}
    for finding in findings:
        for quantity, points in finding.points.items():
            collected.setdefault(quantity, []).append(points)
    return {quantity: Points.join(parts) for quantity, parts in collected.items()}


def make_plain(value: Any) -> Any:
    """Replace numbers that JSON lacks by None, in nested plain data."""
    if isinstance(value, Mapping):
        return {str(key): make_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [make_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
