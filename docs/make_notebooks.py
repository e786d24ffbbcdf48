"""Run notebooks at full size and store their outputs: ``python docs/make_notebooks.py [NAME …]``.

Without names all of them are run, about a minute each on one core. Needed again when a notebook has
changed, or what it shows: the shipped networks and data, a finished series in ``outputs/headline``.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import matplotlib as mpl
import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib_inline.backend_inline import configure_inline_support
from traitlets.config import Config

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
BACKEND = "module://matplotlib_inline.backend_inline"


def run_notebook(path: Path) -> None:
    """Run one notebook and store it with its outputs; nothing is stored unless all cells have run.

    Raises:
        RuntimeError: a cell has failed.
    """
    mpl.use(BACKEND)
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.display_formatter.active_types = list(shell.display_formatter.formatters)
    configure_inline_support(shell, BACKEND)
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        with capture_output() as said:
            done = shell.run_cell(cell.source, store_history=True)
        if not done.success:
            raise RuntimeError(f"{path.name}, cell {number}: {done.error_in_exec!r}")
        cell.execution_count, cell.outputs = number, list(_collect(said))
    nbformat.write(notebook, path)


def _collect(said: Any) -> list[Any]:
    """Return what a cell has printed and shown, as outputs of a notebook."""
    outputs = []
    if said.stdout:
        outputs.append(nbformat.v4.new_output("stream", name="stdout", text=said.stdout))
    if said.stderr:
        outputs.append(nbformat.v4.new_output("stream", name="stderr", text=said.stderr))
    for shown in said.outputs:
        outputs.append(nbformat.v4.new_output("display_data", data=_encode(shown.data)))
    return outputs


def _encode(data: dict[str, Any]) -> dict[str, Any]:
    """Return a bundle of formats whose pictures are text."""
    return {
        kind: b64encode(value).decode("ascii") if isinstance(value, bytes) else value
        for kind, value in data.items()
    }


def _run_and_leave(path: Path) -> NoReturn:
    """Run a notebook in a process of its own, and end it without tidying up what was imported."""
    try:
        run_notebook(path)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def main(names: Sequence[str]) -> int:
    """Run the named notebooks, or all, each in a process that has imported everything already."""
    import mlepi.observables
    import mlepi.training.run  # what commands import when they need it

    mlepi.observables.all_stages()
    os.chdir(FOLDER)
    failed = 0
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            _run_and_leave(path)
        _, status, used = os.wait4(child, 0)
        failed += status != 0
        told = "failed" if status else f"{used.ru_utime:.0f} processor seconds"
        print(f"{path.name}: {told}, {time.monotonic() - start:.0f} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parent))
    sys.exit(main(sys.argv[1:]))
