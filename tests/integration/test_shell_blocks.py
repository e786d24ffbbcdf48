"""Shell blocks of pages are run: some here, all by ``tools/run_docs.py``.

Here a folder with links stands for the clone, and commands are forked instead of started by bash.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
import warm_python

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import page_files  # noqa: E402
import run_docs  # noqa: E402

PAGES = ["docs/howto/dft_data.md", "docs/design.md", "docs/start/install.md"]
"""Those whose lines take no time worth speaking of."""


def link_clone(folder):
    """Make a folder look like the clone to commands that are typed there."""
    for name in ("infer.py", "train.py", "data", "conf", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)


def run_forked(command, folder, environment):
    """Run a line that needs no shell."""
    start = {"mlepi": [sys.executable, "-m", "mlepi"], "python": [sys.executable]}
    first, *words = shlex.split(command)
    found = [sorted(folder.glob(word)) if "*" in word else [word] for word in words]
    done = warm_python.run(
        [*start[first], *(str(word) for each in found for word in each)],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_shell_blocks_run(page, tmp_path):
    lines = run_docs.read_lines(page, (ROOT / page).read_text("utf-8"))
    lines = [line for line in lines if re.match(r"mlepi (?!label)", line.command)]
    assert lines
    link_clone(tmp_path)
    before = run_docs.list_setup(page)
    page_files.make_files(tmp_path, " ".join(line.command for line in [*before, *lines]), ROOT)
    for result in run_docs.run_lines([*before, *lines], tmp_path, run_forked):
        assert result.error == "", result.line.command


def test_every_page_is_read_and_every_reason_is_given():
    lines = [
        line
        for page in run_docs.find_pages()
        for line in run_docs.read_lines(page, (ROOT / page).read_text("utf-8"))
    ]
    assert all(bool(line.command) != bool(line.reason) for line in lines)
    assert sum(bool(line.command) for line in lines) > 80
    assert {line.page for line in lines} > {"README.md", "docs/label.md", "docs/reproduction.md"}


@pytest.mark.parametrize("page", run_docs.find_pages())
def test_what_can_be_run_stands_in_blocks_that_are_run(page):
    """A line in another block shows what a command takes, with words in capitals."""
    text = (ROOT / page).read_text("utf-8")
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S)
    others = "".join(block for language, block in blocks if language == "")
    typed = re.findall(r"^(?:\$ )?(?:mlepi|python) .*$", others, re.M)
    assert [line for line in typed if not re.search(r"\b[A-Z]{4,}\b", line)] == []


PAGE = """
```bash
export COLOUR=red
echo "$COLOUR" > told      # a comment
mlepi train -m model=a size.phonon.num_features=16,32
mlepi train model=hedgenet_phonon trainer=gpu
```
<!-- run with: n_samples=1 -->
```bash
mlepi infer temperature=[0,300]
false
```
<!-- not run: no time -->
```bash
#SBATCH --nodes=2
sleep 1000
sleep 1001
```
"""


def test_lines_are_made_small_or_say_why_they_are_not_run(monkeypatch):
    nowhere = [run_docs.Need("trainer=gpu", "a GPU", lambda: False)]
    monkeypatch.setattr(run_docs, "NEEDS", nowhere)
    export, echo, sweep, gpu, infer, wrong, rest = run_docs.read_lines("page.md", PAGE)
    assert export.command == "export COLOUR=red"
    assert echo.command == 'echo "$COLOUR" > told'
    assert "optimizer.max_epochs=1" in sweep.command
    assert sweep.command.count("size.phonon.num_features=") == 1
    assert (gpu.command, gpu.reason) == ("", "needs a GPU")
    assert infer.command == "mlepi infer temperature=[0,300] n_samples=1"
    assert wrong.command == "false"
    assert (rest.text, rest.reason) == ("sleep 1000 (and 2 more)", "no time")


def test_what_failed_is_told_and_variables_stay(tmp_path, capsys):
    export, echo, *_, wrong, rest = run_docs.read_lines("page.md", PAGE)
    results = list(run_docs.run_lines([export, echo, wrong, rest], tmp_path))
    assert [result.error for result in results] == ["", "", "exit status 1: ", ""]
    assert (tmp_path / "told").read_text() == "red\n"
    assert run_docs.format_row(results[2]).endswith("page.md: false  [FAILED]")
    assert run_docs.format_row(results[3]).endswith("[not run: no time]")
    assert run_docs.main(["--list", "docs/report.md"]) == 0
    assert "docs/report.md: mlepi report outputs/*" in capsys.readouterr().out


def test_a_copy_of_the_clone_has_its_files_and_packages_that_nobody_changes(tmp_path):
    run_docs.copy_clone(tmp_path)
    run_docs.link_packages(tmp_path)
    assert (tmp_path / "mlepi" / "__init__.py").is_file()
    assert not (tmp_path / "outputs").exists()
    environment = run_docs.build_environment(tmp_path)
    assert environment["PIP_DRY_RUN"] == environment["PIP_NO_INDEX"] == "1"
    status, said = run_docs.run_command("make -n demo", tmp_path, environment)
    assert status == 0
    assert "pip install" not in said
