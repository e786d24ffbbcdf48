"""Records and figures of series of runs that differ in the size of their cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlepi.errors import DataError, message
from mlepi.figures import save_figure
from mlepi.observables.cell_sizes.compare import STAGE, compare_sizes, group_runs
from mlepi.observables.cell_sizes.figure import plot_cell_sizes
from mlepi.observables.cell_sizes.record import CellSizesRecord
from mlepi.pipeline.discovery import Stages
from mlepi.results import ResultsStore, collect_provenance, hash_data
from mlepi.results.store import FILE_NAME

NAME = "cell_sizes"


@dataclass(frozen=True)
class Series:
    """Runs that differ in the size of their cells only.

    Attributes:
        name: of the record in the folder of the series.
        record: the comparison.
        folders: of the runs.
    """

    name: str
    record: CellSizesRecord
    folders: tuple[Path, ...]


def write_series(folder: Path, stages: Stages) -> list[Series]:
    """Compare the runs in the folders below one; write records and figures beside them.

    Runs that differ in more than their size, in what their samples leave out or in how their
    structure was relaxed, are series of their own: the record of the first is ``cell_sizes``, those
    of others say in their names what they are. A single size is no series and is left out.

    Args:
        folder: of the series.
        stages: all that there are.

    Returns:
        Structures as given before relaxed ones, all modes before some.

    Raises:
        DataError: no runs, or runs that cannot be compared.
    """
    stores = sorted(path for path in folder.glob(f"*/{FILE_NAME}"))
    if not stores:
        raise DataError(
            message(
                str(folder),
                "no runs below it",
                "one folder per size",
                "Run experiment=headline first.",
            )
        )
    found: list[Series] = []
    groups = group_runs([store.parent for store in stores], stages)
    complete = {choice: runs for choice, runs in groups.items() if len(runs) > 1} or groups
    order = sorted(complete, key=lambda choice: (choice[1] != "none", choice[0] != "none", choice))
    for relaxation, project_out in order:
        folders = complete[relaxation, project_out]
        record = compare_sizes(folders, stages)
        told = [f"relaxed_{relaxation}"] if found and relaxation not in ("", "none") else []
        name = "_".join([NAME, *told, *([] if project_out == "none" else [project_out])])
        contents = {each.name: str(ResultsStore(each).content(STAGE)) for each in folders}
        provenance = collect_provenance({}, contents, 0)
        ResultsStore(folder).write(name, record, hash_data(contents), provenance)
        save_figure(plot_cell_sizes(record), folder, name)
        found.append(Series(name, record, tuple(folders)))
    return found
