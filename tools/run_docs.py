"""Run the shell blocks of the pages as a reader would, at small size, and say what came of it.

    make docs-run                                     # every page
    make docs-run PAGES="docs/label.md README.md"     # some of them
    python tools/run_docs.py --list                   # what would be run, and what not and why

Every page gets a folder of its own with the files that git knows, as a fresh clone has them, and
what the page takes as given (``page_files.py``). Its lines are run there one after the other, each
by bash, with the options of ``SIZES`` at the end, which make it small. A block that needs others
has ``<!-- run with: OPTIONS -->`` in the line before, and gets these instead; one that can run
nowhere but on the reader's machine has ``<!-- not run: REASON -->``. What single lines need (a GPU,
SLURM, a program) is looked for; where it is absent, the table says what was missing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from page_files import SETUP, make_files, replace_words  # noqa: E402

FENCED = re.compile(
    r"(?:^<!-- (?P<mark>not run|run with):(?P<text>[^\n]*?) ?-->\n)?"
    r"^```bash\n(?P<lines>.*?)^```$",
    flags=re.DOTALL | re.MULTILINE,
)
SWEPT = re.compile(r"\s([\w.]+)=[^\s,\[\]]+,\S")
COMMENT = re.compile(r"\s+#\s.*$|^#.*$")

TRAIN = (
    "optimizer.max_epochs=1 data.n_train=4 trainer.limit_val_batches=1 trainer.limit_test_batches=1"
    " trainer.check_val_every_n_epoch=1"
    " size.phonon.num_features=2 size.phonon.wide_features=3 size.phonon.l_max=2"
    " size.phonon.radial_widths=[4] size.electron.channels=[4,2]"
    " size.electron.wide_channels=[5,3] size.electron.pseudo_channels=[0,2]"
    " size.electron.num_radial=4 size.electron.radial_hidden=[4] size.electron.num_layers=1"
)
DEMO = "supercell=[3,3,1] n_samples=2 temperature=[0,300] stage.phonon.dos_mesh=[4,4,1]"
INFER = f"{DEMO} report=false"

SIZES = {
    r"(mlepi infer|python infer\.py) experiment=headline\b": "supercell=[2,2,1],[3,3,1]"
    " n_samples=2 report=false"
    " stage.structure.relax=none stage.sampling.project_out=none",
    r"mlepi infer experiment=tbg_magic\b": "structure.m=3",
    r"python train\.py experiment=paper_table\d_time\b": f"{TRAIN} callbacks.clock.limit=00:00:02",
    # the whole test, which make.py repeats
    r"python train\.py experiment=ship_(hbn|mos2)_": TRAIN.replace(
        " trainer.limit_test_batches=1", ""
    ),
    r"mlepi train\b|python train\.py\b": TRAIN,
    r"mlepi demo\b": DEMO,
    r"mlepi infer\b|python infer\.py\b": INFER,
    r"mlepi design\b": "n_structures=2 n_shapes=2 min_atoms=8 max_atoms=16 reach=5",
    r"mlepi label\b.* dft=cp2k\b": "measure_noise=false"
    " dft.basis=SZV-MOLOPT-SR-GTH dft.cutoff=100 dft.k_spacing=2",
    r"mlepi study\b": "hours=0.005",
    r"mlepi convert\b": "--workers 1",
    r"mlepi eval\b": "--max-structures 2",
    r"mlepi export wannier90\b": "--mesh 6,6,1",
    r"mlepi export couplings\b": "--qpoints 1x1x1",
    r"python benchmarks/originals\.py\b": "--quick",
}
"""Command → what is written behind it; the first that fits counts."""

ELSEWHERE = {
    r"git clone ": "the folder is the clone",
    r"make (test|lint)\b": "the checks of .ci/run",
    r"make (verify|attack|coverage|release|bench.*)\b": "minutes to hours, at one size only",
    r"make gpu-wheels\b|(python\S* -m )?pip install|python -m venv|apt-get ": "needs a network",
    r"source \.venv/bin/activate": "the environment is that of this script",
}
"""Lines that are not for this script → why."""


@dataclass(frozen=True)
class Need:
    """What a line may need beside mlepi.

    Attributes:
        sign: pattern of the lines that need it.
        name: what it is.
        is_here: whether it is.
    """

    sign: str
    name: str
    is_here: Callable[[], bool]


def _has_program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


def _has_package(name: str) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return find_spec(name) is not None
        except ModuleNotFoundError:
            return False

    return look


NEEDS = (
    Need(r"=slurm\b|submitit_slurm|^srun |^#SBATCH|grace=100", "SLURM", _has_program("sbatch")),
    Need(r"trainer=gpu|device=cuda|make gpu\b", "a GPU", _has_program("nvidia-smi")),
    Need(r"submitit_local", "submitit", _has_package("hydra_plugins.hydra_submitit_launcher")),
    Need(r"search_phonon", "optuna", _has_package("hydra_plugins.hydra_optuna_sweeper")),
    Need(r"mlepi export sisl", "sisl", _has_package("sisl")),
    Need(r"tcp://host", "a scheduler of dask", lambda: False),
    Need(r"dft=cp2k", "CP2K", _has_program("cp2k")),
    Need(r"dft=openmx", "OpenMX", lambda: False),
    Need(r"dft=siesta", "SIESTA with pseudopotentials", lambda: False),
    Need(r"dft=abacus", "ABACUS with its files", lambda: False),
    Need(r"dft=vasp", "VASP", lambda: False),
    Need(r"dft=espresso", "Quantum ESPRESSO with its files", lambda: False),
    Need(r"dft=gpaw", "GPAW", lambda: False),
    Need(r"dft=pyscf", "PySCF", _has_package("pyscf")),
    Need(r"\.pao\b|\.ion\.xml\b", "orbitals of OpenMX and SIESTA", lambda: False),
    Need(r"\.venv-peers|mace-env|foundation\.npz|foundation\.ckpt", "mace-torch", lambda: False),
    Need(r"graph_data\.npz|convert graphs", "a pickle of HamGNN", lambda: False),
    Need(r"your_code|valence_width", "code that the reader writes", lambda: False),
    Need(r"BASIS_MOLOPT", "basis sets of CP2K", Path("/usr/share/cp2k/BASIS_MOLOPT").is_file),
)


@dataclass(frozen=True)
class Line:
    """One line of a block.

    Attributes:
        page: relative to the repository.
        text: as the page has it, without its comment.
        command: what is run.
        reason: why it is not run; empty where it is.
    """

    page: str
    text: str
    command: str
    reason: str


@dataclass(frozen=True)
class Result:
    """What came of a line: seconds, and what was wrong, empty where nothing was."""

    line: Line
    seconds: float
    error: str


def find_pages() -> list[str]:
    """Return README, CONTRIBUTING and the pages of ``docs``, relative to the repository."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def read_lines(page: str, text: str) -> list[Line]:
    """List the lines of the shell blocks of a page.

    Args:
        page: its name.
        text: Markdown.
    """
    lines = []
    for block in FENCED.finditer(text):
        rows = block["lines"].splitlines()
        if block["mark"] == "not run":
            first = next(row for row in rows if row.strip() and not row.startswith("#"))
            more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
            lines.append(Line(page, f"{first}{more}", "", block["text"].strip()))
            continue
        for row in rows:
            if command := COMMENT.sub("", row).strip():
                lines.append(_build_line(page, command, block["text"]))
    return lines


def list_setup(page: str) -> list[Line]:
    """List what is run before a page, which takes its results as given."""
    return [Line(page, text, make_small(text, None), "") for text in SETUP.get(page, ())]


def _build_line(page: str, text: str, options: str | None) -> Line:
    for sign, reason in ELSEWHERE.items():
        if re.match(sign, text):
            return Line(page, text, "", reason)
    absent = [need.name for need in NEEDS if re.search(need.sign, text) and not need.is_here()]
    if absent:
        return Line(page, text, "", f"needs {' and '.join(absent)}")
    return Line(page, text, make_small(replace_words(text), options), "")


def make_small(command: str, options: str | None) -> str:
    """Write what makes a command small behind it.

    Args:
        command: a line of a page. Keys that it sweeps stay as they are.
        options: of its block, in the place of those of ``SIZES``; None: it has none.
    """
    for sign, sizes in SIZES.items():
        if re.match(rf"(OMP_NUM_THREADS=1 |exec )?({sign})", command):
            words = (sizes if options is None else options).split()
            swept = set(SWEPT.findall(command))
            return " ".join([command, *(word for word in words if word.split("=")[0] not in swept)])
    return command


def copy_clone(folder: Path) -> None:
    """Copy what git knows, or would add, into an empty folder."""
    kinds = ["--cached", "--others", "--exclude-standard"]
    told = subprocess.run(  # noqa: S603 - arguments of this file
        ["git", "-C", str(ROOT), "ls-files", "-z", *kinds],  # noqa: S607 - whichever git there is
        capture_output=True,
        check=True,
    )
    for name in filter(None, told.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def link_packages(folder: Path) -> None:
    """Give a copy of the clone an environment: links to the one of this script, marked as current.

    With its stamps newer than all files, make takes the packages as they are.
    """
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if not path.name.startswith("installed-"):
            (folder / ".venv" / path.name).symlink_to(path)
    for stamp in ("installed-run", "installed-dev"):
        (folder / ".venv" / stamp).touch()


def build_environment(folder: Path) -> dict[str, str]:
    """Return variables with which the programs of a clone in a folder are found."""
    programs = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "disabled",
        "PIP_DRY_RUN": "1",  # nothing that a page says may change the packages of this script
        "PIP_NO_INDEX": "1",
        "DEMO_OPTIONS": DEMO,
    }


def run_command(command: str, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a line by bash; return its exit status and the end of what it said."""
    done = subprocess.run(  # noqa: S603 - our own pages
        ["/bin/bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def run_lines(
    lines: Iterable[Line],
    folder: Path,
    run: Callable[[str, Path, Mapping[str, str]], tuple[int, str]] = run_command,
) -> Iterator[Result]:
    """Run lines of one page, one after the other, in a folder.

    Args:
        lines: of ``read_lines``.
        folder: where; holds what the page takes as given.
        run: from command, folder and variables to exit status and what was said.
    """
    environment = build_environment(folder)
    for line in lines:
        start, error = time.monotonic(), ""
        if found := re.fullmatch(r"export (\w+)=(\S*)", line.command):
            environment[found[1]] = found[2]
        elif line.command:
            status, said = run(line.command, folder, environment)
            if status:
                error = f"exit status {status}: {said.strip()[-600:]}"
        yield Result(line, time.monotonic() - start, error)


def run_page(page: str, kept: Path | None) -> Iterator[Result]:
    """Run the lines of a page in a copy of the clone, with what the page takes as given.

    Args:
        page: relative to the repository.
        kept: folder for what comes out; None to remove it.
    """
    lines = read_lines(page, (ROOT / page).read_text("utf-8"))
    if not any(line.command for line in lines):
        yield from (Result(line, 0.0, "") for line in lines)
        return
    with tempfile.TemporaryDirectory(prefix="docs-") as temporary:
        folder = Path(temporary) / "mlepi" if kept is None else kept / page.replace("/", "_")
        folder.mkdir(parents=True)
        copy_clone(folder)
        link_packages(folder)
        before = list_setup(page)
        make_files(folder, " ".join(line.command for line in [*before, *lines]), ROOT)
        yield from (found for found in run_lines(before, folder) if found.error)
        yield from run_lines(lines, folder)


def format_row(result: Result) -> str:
    """Write one row of the table."""
    line = result.line
    text = line.text if len(line.text) <= 78 else f"{line.text[:77]}…"
    if line.reason:
        return f"     –  {line.page}: {text}  [not run: {line.reason}]"
    return f"{result.seconds:4.0f} s  {line.page}: {text}  [{'FAILED' if result.error else 'ok'}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run pages; the exit status is 1 where a line failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", help="relative to the repository; all by default")
    parser.add_argument("--list", action="store_true", help="show the lines, run nothing")
    parser.add_argument("--keep", type=Path, help="new folder that keeps what comes out")
    options = parser.parse_args(arguments)
    counts = {"ran": 0, "failed": 0, "not run": 0}
    for page in options.pages or find_pages():
        if options.list:
            for line in read_lines(page, (ROOT / page).read_text("utf-8")):
                print(f"{page}: {line.command or line.text + f'  [not run: {line.reason}]'}")
            continue
        for result in run_page(page, options.keep and options.keep.resolve()):
            counts["not run" if result.line.reason else "failed" if result.error else "ran"] += 1
            print(format_row(result), flush=True)
            if result.error:
                print(f"        {result.line.command}\n{result.error}\n", flush=True)
    if not options.list:
        print(", ".join(f"{number} lines {name}" for name, number in counts.items()))
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
