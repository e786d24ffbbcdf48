"""The comparison that a sweep of trainings leaves in its folder, whatever was swept.

``python -m mlepi.report.trainings FOLDER`` makes it again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, MlepiError, message
from mlepi.figures import save_figure
from mlepi.figures.tables import format_csv, tabulate
from mlepi.physics.averages.significance import LEVEL
from mlepi.project_files import write_json
from mlepi.report.training_figures import plot_bars, plot_curves
from mlepi.report.training_rows import (
    TEST,
    Job,
    Row,
    compare_rows,
    gather_rows,
    read_jobs,
    summarize,
)
from mlepi.tracking import log_comparison

NAME = "comparison"
EFFORT = {"parameters": "parameters", "steps": "steps", "processor_seconds": "processor s"}
"""What a training took → heading."""

WHOLE = ".0f"
EFFORT_FORMS = {"parameters": WHOLE, "steps": WHOLE, "processor_seconds": ".4g"}


def finish_sweep(folder: Path) -> str:
    """Compare the trainings below a folder.

    Writes ``comparison.md``, ``.csv``, ``.json``, ``.png`` and ``.pdf`` there, and a figure of the
    errors against a number that was swept, if there is one; networks of several kinds get files of
    their own. Table and figures go to the services that the trainings went to.

    Args:
        folder: of the sweep.

    Returns:
        The text of the tables.

    Raises:
        DataError: no training has come to its test.
    """
    jobs, unfinished = read_jobs(folder)
    if not jobs:
        raise DataError(
            message(
                str(folder),
                f"no training that was tested, and {len(unfinished)} others",
                "the folder of a sweep",
                "Run train.py -m first.",
            )
        )
    texts = []
    kinds = list(dict.fromkeys(job.kind for job in jobs))
    for kind in kinds:
        name = NAME if len(kinds) == 1 else f"{NAME}_{kind or 'validation'}"
        content = describe_sweep(folder.name, [j for j in jobs if j.kind == kind], unfinished)
        text = format_comparison(content)
        write_json(folder / f"{name}.json", content)
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        header, cells = lay_out(content)
        (folder / f"{name}.csv").write_text(format_csv(header, cells), encoding="utf-8")
        figures = {"bars": save_figure(plot_bars(content), folder, name)}
        curves = plot_curves(content)
        if curves is not None:
            figures["curves"] = save_figure(curves, folder, f"{name}_curves")
        log_comparison(folder, jobs[0].config["logger"], header, cells, figures)
        texts.append(text)
    return "\n".join([*texts, f"Tables, numbers and figure: {folder / NAME}.*"])


def describe_sweep(
    name: str, jobs: Sequence[Job], unfinished: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the content of ``comparison.json``: all rows with all metrics, and what differs.

    Args:
        name: of the sweep.
        jobs: of one kind of network, tested.
        unfinished: name → state of jobs that are not.
    """
    rows = gather_rows(jobs)
    first = jobs[0]
    subsets = list(dict.fromkeys(subset for job in jobs for subset in job.metrics))
    significance = {
        subset: found
        for subset in subsets
        if len(rows) > 1 and (found := compare_rows(rows, subset, first.main_metric))
    }
    return {
        "format": 1,
        "sweep": name,
        "kind": first.kind,
        "main_metric": first.main_metric,
        "columns": dict(first.columns),
        "subsets": {subset: len(first.members.get(subset, ())) for subset in subsets},
        "unfinished": dict(unfinished or {}),
        "rows": [_describe_row(row, subsets) for row in rows],
        "significance": significance,
    }


def _describe_row(row: Row, subsets: Sequence[str]) -> dict[str, Any]:
    metrics = {}
    for subset in subsets:
        names = dict.fromkeys(name for job in row.jobs for name in job.metrics.get(subset, ()))
        metrics[subset] = {name: summarize(row.values(subset, name)) for name in names}
    efforts = {
        name: summarize([job.effort[name] for job in row.jobs if name in job.effort])
        for name in EFFORT
    }
    return {
        "label": row.label,
        "settings": dict(row.settings),
        "jobs": [job.name for job in row.jobs],
        "seeds": [job.config["seed"] for job in row.jobs],
        **efforts,
        "metrics": metrics,
    }


def lay_out(content: Mapping[str, Any]) -> tuple[list[str], list[list[float | str | None]]]:
    """Return header and rows with all numbers: mean and sd of everything, p-values.

    Args:
        content: of ``describe_sweep``.
    """
    rows: list[dict[str, float | str | None]] = []
    for row in content["rows"]:
        cells: dict[str, float | str | None] = {"row": row["label"], "n_starts": len(row["jobs"])}
        groups = {name: row[name] for name in EFFORT}
        for subset, metrics in row["metrics"].items():
            prefix = "" if subset == TEST else f"{subset}/"
            groups |= {f"{prefix}{name}": found for name, found in metrics.items()}
        for name, found in groups.items():
            cells |= {name: found["mean"], f"{name}_sd": found["sd"]}
        for subset, found in content["significance"].items():
            name = f"{'' if subset == TEST else f'{subset}/'}{content['main_metric']}"
            against = found["rows"].get(row["label"], {})
            cells |= {f"{name}_{key}": against.get(key) for key in ("p", "p_adjusted")}
        rows.append(cells)
    header = list(dict.fromkeys(name for cells in rows for name in cells))
    return header, [[cells.get(name) for name in header] for cells in rows]


def format_comparison(content: Mapping[str, Any]) -> str:
    """Write the tables of a comparison as Markdown, and what can be concluded.

    Args:
        content: of ``describe_sweep``.
    """
    main = content["main_metric"]
    columns = {**content["columns"], main: content["columns"].get(main, main)}
    rows = content["rows"]
    known = {
        name: heading
        for name, heading in columns.items()
        if any(row["metrics"].get(TEST, {}).get(name, {}).get("values") for row in rows)
    }
    heads = ["", "starts", *EFFORT.values(), *known.values(), "p"]
    lines = [
        f"{content['sweep']}: mean ± standard deviation over random starts, "
        f"{content['subsets'].get(TEST, 0)} test structures.",
        "",
        *tabulate(heads, [_main_cells(row, known, content) for row in rows]),
    ]
    further = [subset for subset in content["subsets"] if subset != TEST]
    if further:
        title = [f"{name} ({content['subsets'][name]})" for name in further]
        cells = [_subset_cells(row, further, content) for row in rows]
        lines += ["", f"{columns[main]} by named subset (structures), in brackets p.", ""]
        lines += tabulate(["", *title], cells)
    lines += ["", *conclude(content)]
    lines += [f"Not finished: {name}, {told}." for name, told in content["unfinished"].items()]
    return "\n".join(lines) + "\n"


def _main_cells(
    row: Mapping[str, Any], known: Mapping[str, str], content: Mapping[str, Any]
) -> list[str]:
    found = row["metrics"].get(TEST, {})
    return [
        row["label"],
        str(len(row["jobs"])),
        *(write_spread(row[name], form) for name, form in EFFORT_FORMS.items()),
        *(write_spread(found.get(name), ".4g") for name in known),
        _write_p(row["label"], TEST, content),
    ]


def _subset_cells(
    row: Mapping[str, Any], subsets: Sequence[str], content: Mapping[str, Any]
) -> list[str]:
    cells = [row["label"]]
    for subset in subsets:
        value = write_spread(row["metrics"][subset].get(content["main_metric"]), ".4g")
        told = _write_p(row["label"], subset, content)
        cells.append(value if told in ("", "–") else f"{value} ({told})")
    return cells


def write_spread(found: Mapping[str, Any] | None, form: str) -> str:
    """Write "mean ± sd", the mean alone of one value, a dash for nothing."""
    if found is None or found["mean"] is None:
        return "–"
    mean = format(found["mean"], form)
    if found["sd"] is None or (form == WHOLE and found["sd"] == 0.0):
        return mean
    return f"{mean} ± {format(found['sd'], WHOLE if form == WHOLE else '.2g')}"


def _write_p(label: str, subset: str, content: Mapping[str, Any]) -> str:
    """Write the adjusted p-value of a row against the best; * without other starts."""
    found = content["significance"].get(subset)
    if found is None:
        return "–"
    if label == found["best"]:
        return "best"
    against = found["rows"].get(label, {})
    value = against.get("p_adjusted")
    if value is None:
        return "–"
    return f"{value:.2g}" if against["starts"] else f"{value:.2g}*"


def conclude(content: Mapping[str, Any]) -> list[str]:
    """Say which row is best, and whether that is more than chance.

    A winner is named only where it is better than every other row at the level of 0.05, p-values
    adjusted for all of them, with two or more random starts of each.
    """
    found = content["significance"].get(TEST)
    if found is None:
        return []
    heading = content["columns"].get(content["main_metric"], content["main_metric"])
    labels = [row["label"] for row in content["rows"] if row["label"] != found["best"]]
    open_ = []
    for label in labels:
        against = found["rows"].get(label)
        if against is None or against["p_adjusted"] is None:
            open_.append(f"{label} (not on the same structures, or too few)")
        elif not against["starts"]:
            open_.append(f"{label} (one start)")
        elif against["p_adjusted"] >= LEVEL:
            open_.append(f"{label} (p = {against['p_adjusted']:.2g})")
    lowest = f"Lowest {heading}: {found['best']}."
    if open_:
        verdict = f"{lowest} No winner: not shown to be lower than {', '.join(open_)}."
    else:
        verdict = f"{lowest} Lower than every other row, p < {LEVEL:g} each."
    rule = (
        "p: two-sided, against the best row, t-test paired over structures with the spread of "
        "random starts, for all rows at once by Holm; * structures only, of single trainings: it "
        "says nothing about other starts."
    )
    return [verdict, "", rule]


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the sweep")
    try:
        print(finish_sweep(parser.parse_args().folder))
    except MlepiError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
