"""The six notebooks: their form, what they have stored, and that they run, at reduced size.

Cells are run one after the other in this process; ``docs/make_notebooks.py``, which stores the
outputs, runs them in a kernel.
"""

import re
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SMALL = {
    "1_quick_start": {"kind": "slide", "k_points": 2, "steps": 2, "n_samples": 2},
    "2_train_your_own": {"n_structures": 10, "epochs": 2, "n_points": 7},
    "3_own_material": {
        "n_structures": 8,
        "epochs": 6,
        "size": "size.electron.channels=[8,4] size.electron.pseudo_channels=[0,2] "
        "size.electron.num_radial=8 size.electron.radial_hidden=[8] size.electron.num_layers=1",
        "spacing": 0.6,
    },
    "4_ablation": {
        "models": "mace,hedgenet_phonon",
        "seeds": "1",
        "n_structures": 10,
        "epochs": 1,
        "size": "size.phonon.num_features=2 size.phonon.l_max=1 size.phonon.radial_widths=[4]",
    },
    "5_what_is_a_third": {"cells": "[2,2,1],[3,3,1]", "samples": "2", "n_resamples": 5},
    "6_magic_angle": {"shells": 4, "twists": np.array([1.0, 2.0]), "n_points": 4, "m": 2},
}
"""Notebook → what its parameters are here."""

ANSWERS = {
    "1_quick_start": r"meV at 300 K \(mean ± standard error of 2 samples\)",
    "2_train_your_own": r"After 2 epochs on 8 structures .* meV/Å off",
    "3_own_material": r"After 6 epochs on 8 files H is .* are \d+ meV from DFT",
    "4_ablation": r"Lowest .*(No winner|Lower than every other row).* 1 random starts each",
    "5_what_is_a_third": r"changes by .* ± .* % in 2×2, .* % in 3×3",
    "6_magic_angle": r"at \d\.\d\d°; with those of the literature for relaxed layers, at 1\.\d\d°",
}
"""Notebook → what its answer says."""


def read(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_six():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == list(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_has_a_question_an_answer_and_at_most_15_cells(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert len(notebook.cells) <= 15
    heading, *_ = notebook.cells[0].source.splitlines()
    assert re.fullmatch(r"# .*\?", heading)
    assert notebook.cells[-1].source.endswith("display(Markdown(answer))")
    assert sum("parameters" in cell.metadata.get("tags", ()) for cell in notebook.cells) == 1


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_is_stored_as_it_was_run(name):
    cells = code_of(read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data"}
    assert all(output.name == "stdout" for output in outputs if output.output_type == "stream")
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert re.match(r"\*\*Answer\.\*\* ", cells[-1].outputs[0]["data"]["text/markdown"])
    written = (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r"/(tmp|home|work)/|Warning|Traceback", written)
    assert len(written) < 500_000


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    before, shown, names = set(NOTEBOOKS.iterdir()), [], {"__name__": "__main__"}
    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()) or plt.close("all"))
    for number, cell in enumerate(code_of(read(name))):
        exec(compile(cell.source, f"{name}, cell {number}", "exec"), names)  # noqa: S102
        if "parameters" in cell.metadata.get("tags", ()):
            assert SMALL[name].keys() <= names.keys()
            names.update(SMALL[name])
    assert re.search(ANSWERS[name], names["answer"].replace("−", "-"), re.DOTALL)
    assert shown or "figure" in names
    assert set(NOTEBOOKS.iterdir()) == before
