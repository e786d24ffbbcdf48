"""The jobs of a sweep of trainings, gathered into rows that differ in more than the random start.

Everything is read from the folders of the jobs, so a comparison can be made again at any time, also
while jobs are missing. Lower is better in every metric that is compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.averages.significance import adjust_p_values, compare_errors
from mlepi.sweep_names import (
    find_swept,
    is_free,
    order_naturally,
    split_override,
    write_label,
)
from mlepi.untrusted import read_json

JOB_FILE, METRICS_FILE, STRUCTURES_FILE = "job.json", "test_metrics.json", "test_structures.json"
TEST, VALIDATION = "test", "val"


@dataclass(frozen=True)
class Job:
    """One training with what its test left.

    Attributes:
        name: of its folder.
        config: resolved configuration.
        settings: key → value of its overrides, without the seed.
        kind: of the network.
        main_metric: by which networks are compared.
        columns: metric → heading of those that are shown.
        effort: "parameters", "steps", "processor_seconds" → number.
        metrics: subset → metric → value; "test" first.
        members: subset → names of its structures.
        counts: structure → number of values behind its main metric.
        errors: structure → metric → value.
    """

    name: str
    config: Mapping[str, Any]
    settings: Mapping[str, str]
    kind: str
    main_metric: str
    columns: Mapping[str, str]
    effort: Mapping[str, float]
    metrics: Mapping[str, Mapping[str, float | None]]
    members: Mapping[str, Sequence[str]]
    counts: Mapping[str, float]
    errors: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Row:
    """Trainings that differ in their random start only.

    Attributes:
        label: what else differs between the rows.
        settings: key → value of what differs between the rows.
        jobs: of this row.
    """

    label: str
    settings: Mapping[str, str]
    jobs: Sequence[Job]

    def values(self, subset: str, metric: str) -> list[float]:
        """Return a metric of every start that has it."""
        found = (job.metrics.get(subset, {}).get(metric) for job in self.jobs)
        return [value for value in found if value is not None]


def read_jobs(folder: Path) -> tuple[list[Job], dict[str, str]]:
    """Read the jobs below the folder of a sweep.

    Args:
        folder: of the sweep.

    Returns:
        Those that have been tested, in the order of their names, and name → what is the matter with
        those that are not finished.
    """
    jobs, unfinished = [], {}
    for path in sorted(
        folder.glob(f"*/{JOB_FILE}"), key=lambda path: order_naturally(path.parent.name)
    ):
        record = _read(path)
        if record["state"] != "finished":
            told = record.get("error", "").splitlines()
            unfinished[path.parent.name] = ": ".join([record["state"], *told[:1]])
        job = _read_job(path.parent, record)
        if job is not None and record["state"] in ("finished", "stopped"):
            jobs.append(job)
    return jobs, unfinished


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(path)
    return content


def _read_job(folder: Path, record: Mapping[str, Any]) -> Job | None:
    """Return a job, None without results."""
    settings = dict(split_override(text) for text in record["overrides"])
    settings.pop("seed", None)
    common = {"name": folder.name, "config": record["config"], "settings": settings}
    if not (folder / METRICS_FILE).is_file():  # trained without a test
        if "metrics" not in record:
            return None
        monitor = record["config"]["task"]["monitor"].removeprefix(f"{VALIDATION}/")
        prefix = f"{VALIDATION}/"
        metrics = {
            name.removeprefix(prefix): value
            for name, value in record["metrics"].items()
            if name.startswith(prefix)
        }
        shown = {monitor: f"{monitor}, validation"}
        return Job(**common, kind="", main_metric=monitor, columns=shown, effort={},
                   metrics={TEST: metrics}, members={}, counts={}, errors={})  # fmt: skip
    table, found = _read(folder / METRICS_FILE), _read(folder / STRUCTURES_FILE)
    subsets = {name: row["metrics"] for name, row in table["subsets"].items()}
    return Job(
        **common,
        kind=table["kind"],
        main_metric=table["main_metric"],
        columns=table["columns"],
        effort={name: table[name] for name in ("parameters", "steps", "processor_seconds")},
        metrics={TEST: table["metrics"], **{k: v for k, v in subsets.items() if k != TEST}},
        members=found["subsets"],
        counts=found["counts"],
        errors=found["structures"],
    )


def gather_rows(jobs: Iterable[Job]) -> list[Row]:
    """Return the rows, in the order in which the jobs were given.

    Jobs of one row have the same configuration but for the seed and what decides nothing.
    """
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        kept = {key: value for key, value in job.config.items() if key != "seed"}
        groups.setdefault(json.dumps(_without_free(kept), sort_keys=True), []).append(job)
    found = list(groups.values())
    settings = [group[0].settings for group in found]
    keys = find_swept(settings)
    rows = []
    for group in found:
        own = {key: group[0].settings[key] for key in keys if key in group[0].settings}
        rows.append(Row(write_label(own, keys) or str(group[0].config["name"]), own, group))
    labels = [row.label for row in rows]
    return [
        row if labels.count(row.label) == 1 else Row(row.jobs[0].name, row.settings, row.jobs)
        for row in rows
    ]


def _without_free(node: Any, prefix: str = "") -> Any:
    """Return a configuration without the keys that decide nothing."""
    if not isinstance(node, Mapping):
        return node
    return {
        key: _without_free(value, f"{prefix}{key}.")
        for key, value in node.items()
        if not is_free(f"{prefix}{key}")
    }


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation (None for one value) and the values themselves."""
    return {
        "mean": float(np.mean(values)) if values else None,
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "values": list(values),
    }


def collect_errors(row: Row, subset: str, metric: str) -> dict[str, NDArray[np.float64]]:
    """Return the errors of every structure of a subset that all starts of a row have.

    Returns:
        Structure → (n_starts,).
    """
    found: dict[str, NDArray[np.float64]] = {}
    for structure in row.jobs[0].members.get(subset, ()):
        values = [job.errors.get(structure, {}).get(metric) for job in row.jobs]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            found[structure] = np.array(known)
    return found


def compare_rows(rows: Sequence[Row], subset: str, metric: str) -> dict[str, Any]:
    """Compare all rows with the best one, paired over the structures of a subset.

    Args:
        rows: two or more.
        subset: of the test structures.
        metric: the main one of their networks.

    Returns:
        "best", its label; "rows": label of each other that was tested on the same structures →
        "difference" to the best, its "error", "p", "p_adjusted" for as many comparisons by Holm,
        "starts" and "n_structures". Empty where no row has the metric.
    """
    values = {row.label: row.values(subset, metric) for row in rows}
    means = {label: float(np.mean(found)) for label, found in values.items() if found}
    if not means:
        return {}
    best = min(means, key=lambda label: means[label])
    errors = {row.label: collect_errors(row, subset, metric) for row in rows if row.label in means}
    names = list(errors[best])
    counts = next(row for row in rows if row.label == best).jobs[0].counts
    weights = np.array([counts[name] for name in names], dtype=np.float64)
    reference = [errors[best][name] for name in names]
    compared = {
        label: compare_errors(
            np.stack([found[name] for name in names], axis=1),
            np.stack(reference, axis=1),
            weights,
        )
        for label, found in errors.items()
        if label != best and names and found.keys() == errors[best].keys()
    }
    adjusted = adjust_p_values([each.p_value for each in compared.values()])
    told = {
        label: {
            "difference": each.mean,
            "error": _finite(each.error),
            "p": _finite(each.p_value),
            "p_adjusted": _finite(float(p_value)),
            "starts": each.starts,
            "n_structures": len(names),
        }
        for (label, each), p_value in zip(compared.items(), adjusted, strict=True)
    }
    return {"best": best, "rows": told}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
