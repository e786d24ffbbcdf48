"""Labels chosen for what they tell of an observable, beside labels chosen by chance.

``python benchmarks/active_learning.py [--seeds 3] [--minutes 60] [--store]``.

The loop of ``mlepi study`` on AB bilayer graphene by springs and tight binding, where the answer is
known: design, ``dft=fake``, two electron networks without baseline, the density of states at the
Fermi energy at two temperatures with the phonons of the springs. Both ways start from the same
first round, and have the same candidates, trainings and samples; they differ in ``select``. The
error is that of the density by the mean of the networks against the tight binding itself on the
same samples, root mean square over the temperatures.

Everything is kept in ``--folder``, and the same command goes on there; ``--minutes`` ends it
between two rounds. ``--store`` writes ``results/active_learning.json`` and ``.md`` of what is
finished.

``--oracle`` takes labels of a data set instead: candidates are the training structures of the
shipped bilayer graphene (``--data``, ``--split``), labels are revealed as they are asked for, and
the reference is a network trained on all of them (``--reference``, the shipped one).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.global_hydra import GlobalHydra

from mlepi.commands.main import main as run_command
from mlepi.commands.study import build_settings, check_config, join_words
from mlepi.commands.study_words import compose, open_run
from mlepi.observables import all_stages
from mlepi.pipeline.sources import Source, load_structure
from mlepi.project_files import find_commit, write_json, write_whole
from mlepi.results import ResultsStore
from mlepi.study import Study, find_stage
from mlepi.study.rounds import FILE, read_memory
from mlepi.study.settings import INFORMATIVE, RANDOM, StudySettings, build_infer
from mlepi.untrusted import read_json

RESULTS = Path(__file__).parent / "results"
TARGET = "fermi_dos"
ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data" / "blg_openmx"
TOY = (
    "structure._target_=mlepi.structures.build_graphene",
    "structure.stacking=AB",
    "structure.spacing=3.35",
    "dft=fake",
    "dft.orthogonal=true",
    "phonon=toy",
    "n_first=10",
    "n_more=5",
    "n_candidates=60",
    "supercell=[3,3,1]",
    "n_samples=12",
    "n_compared=12",
    "design.phonon=toy",
    "design.min_atoms=4",
    "design.max_atoms=12",
    "design.pool=1",
    "design.n_shapes=6",
    "design.supercell=[3,3,1]",
    "design.temperature=[0,300]",
    "train.electron.model.baseline=none",
    "train.electron.size.electron.channels=[8,4,2]",
    "train.electron.size.electron.pseudo_channels=[0,2]",
    "train.electron.size.electron.l_max=2",
    "train.electron.size.electron.num_radial=12",
    "train.electron.size.electron.radial_hidden=[16]",
    "train.electron.size.electron.num_layers=1",
    "train.electron.graph.cutoffs={intra:2.8,inter:4.65}",
    "infer.valence_electrons={6:1}",
)
ORACLE = (
    "structure._target_=mlepi.structures.build_graphene",
    "structure.stacking=AB",
    "structure.spacing=3.35",
    "dft=held_back",
    f"dft.hamiltonians={DATA / 'hamiltonians.h5'}",
    f"dft.forces={DATA / 'forces.extxyz'}",
    f"dft.overlap={DATA / 'overlap_C6.0-s2p2.h5'}",
    "n_first=16",
    "n_more=16",
    "supercell=[6,6,1]",
    "n_samples=16",
    "n_compared=8",
)
COMMON = (
    f"target={TARGET}",
    "temperature=[0,300]",
    "target_error=1e-9",
    "patience=99",
    "infer.report=false",
    "infer.stage.phonon.dos_mesh=[4,4,1]",
    "infer.stage.sampling.interlayer_mesh=[4,4,1]",
)


def start_here(words: Sequence[str], log: Path, note: Callable[[], None]) -> int:
    """Run a command of mlepi in this process, whose imports are there already."""
    GlobalHydra.instance().clear()
    with (
        log.open("a", encoding="utf-8") as said,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            status: Any = run_command(list(words))
        except SystemExit as end:
            status = 0 if end.code is None else end.code
        finally:
            for handler in list(logging.getLogger().handlers):
                handler.close()
                logging.getLogger().removeHandler(handler)
    note()
    return int(status) if isinstance(status, int) else 1


def build_study(folder: Path, words: Sequence[str], say: Callable[[str], None]) -> Study:
    """Return a study of the command's words, whose steps run in this process."""
    every = join_words([*COMMON, *words, f"folder={folder}"])
    plain = check_config(compose("study", every))
    settings, limits = build_settings(plain, folder, every)
    atoms = load_structure(Source("structure", plain["structure"]))
    return Study(settings, limits, atoms, all_stages(), open_run, say, start_here)


def branch(first: Path, folder: Path, select: str) -> None:
    """Let a study go on from the first round of another, with its own way to choose."""
    if (folder / FILE).is_file():
        return
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(first, draft, ignore=shutil.ignore_patterns("run.lock"))
    content = read_json(draft / FILE)
    content["made_from"]["select"] = select
    write_json(draft / FILE, content)
    draft.rename(folder)


def find_reference(folder: Path, settings: StudySettings, electron: str) -> None:
    """Compute the target by the known answer on the samples of a study."""
    step = build_infer(settings, 0, [find_stage(TARGET, all_stages())])
    words = [word for word in step.words if not word.startswith(("electron=", "folder="))]
    words = [word.replace(",committee]", "]") for word in words]
    words += [electron, f"folder={folder}"]
    log = folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    if start_here(words, log, lambda: None):
        raise SystemExit(f"the reference failed: see {log}")


def read_target(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the target in the folder of an inference, and what single samples contribute.

    (n_temperatures,) and (n_samples, n_temperatures).
    """
    stages = all_stages()
    stage: Any = stages[find_stage(TARGET, stages)]
    record = ResultsStore(folder).read(stage.name, stage.record)
    # settings do not matter to them
    values, parts = stage.target_values(None, record), stage.contributions(None, record)
    return np.asarray(values[TARGET]), np.asarray(parts[TARGET])


def list_errors(folder: Path, reference: Path) -> list[dict[str, float]]:
    """Return labels, errors and what the networks say of them, of every round of a study."""
    memory = read_memory(folder)
    exact, of_samples = read_target(reference)
    rows = []
    for number, each in enumerate([] if memory is None else memory.rounds):
        values, parts = read_target(folder / f"round_{number:02d}" / "infer")
        told = np.array([float(x or 0.0) for x in each.parts["network"]])
        rows.append(
            {
                "labels": each.n_labels,
                "error": float(np.sqrt(np.mean((values - exact) ** 2))),
                "samples": float(np.sqrt(np.mean((parts - of_samples) ** 2))),
                "predicted": float(np.sqrt(np.mean(told**2))),
            }
        )
    return rows


def count_equal(curves: Mapping[str, Sequence[Mapping[str, float]]], key: str) -> float:
    """Return how many times the labels of chance the informed way needs for the same error.

    By power laws through all rounds of both, at the last labels of chance: single rounds scatter
    more than the ways differ. NaN where an error does not fall.
    """
    fits = {}
    for select, rows in curves.items():
        if len(rows) < 2:
            return math.nan
        labels, errors = (np.log([row[name] for row in rows]) for name in ("labels", key))
        fits[select] = np.polyfit(labels, errors, 1)
    last = math.log(curves[RANDOM][-1]["labels"])
    slope, height = fits[INFORMATIVE]
    if slope >= 0.0 or fits[RANDOM][0] >= 0.0:
        return math.nan
    return math.exp((float(np.polyval(fits[RANDOM], last)) - height) / slope - last)


def average(curves: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """Return the root mean square over seeds, of the rounds that all of them have."""
    found = []
    for rows in zip(*curves, strict=False):
        mean = {
            key: math.sqrt(np.mean([row[key] ** 2 for row in rows]))
            for key in ("error", "samples", "predicted")
        }
        found.append({"labels": float(np.mean([row["labels"] for row in rows])), **mean})
    return found


def tabulate(content: Mapping[str, Any]) -> str:
    """Return the page of the results."""
    lines = [
        "# Labels by what they tell, beside labels by chance",
        "",
        f"`{content['command']}`, {content['what']}. Errors of the density of states at E_F "
        "against the known answer on the same samples, 1e-3/eV, RMS over 0 and 300 K and over the "
        "seeds: of the average, in brackets what the networks differ by, and of single samples.",
        "",
        f"| labels | average, {INFORMATIVE} | {RANDOM} | samples, {INFORMATIVE} | {RANDOM} |",
        "|---|---|---|---|---|",
    ]
    both = [content["mean"][select] for select in (INFORMATIVE, RANDOM)]
    for rows in zip(*both, strict=False):
        cells = [f"{1e3 * row['error']:.3g} ({1e3 * row['predicted']:.3g})" for row in rows]
        cells += [f"{1e3 * row['samples']:.3g}" for row in rows]
        lines.append(f"| {rows[0]['labels']:.0f} | {' | '.join(cells)} |")
    lines += ["", f"Seeds: {', '.join(map(str, content['seeds']))}.", ""]
    for words in content["verdict"].values():
        lines += [words, ""]
    lines += ["| seed | way | errors of the average by round | of single samples |"]
    lines += ["|---|---|---|---|"]
    for seed, ways in content["each"].items():
        for select, rows in ways.items():
            told = [
                ", ".join(f"{1e3 * row[key]:.3g}" for row in rows) for key in ("error", "samples")
            ]
            lines.append(f"| {seed} | {select} | {' | '.join(told)} |")
    return "\n".join([*lines, ""])


def judge(each: Sequence[Mapping[str, Any]], key: str) -> tuple[float, str]:
    """Return labels of the informed way over those of chance at equal error, and say it.

    Args:
        each: curves of both ways, by seed.
        key: of the error.
    """

    def compare(seeds: Sequence[Mapping[str, Any]]) -> float:
        return count_equal({s: average([x[s] for x in seeds]) for s in (INFORMATIVE, RANDOM)}, key)

    ratio = compare(each)
    of = {"error": "the average", "samples": "single samples"}[key]
    told = f"For equal error of {of}, by power laws through all rounds, chosen labels are"
    if math.isnan(ratio):
        return ratio, f"{told} not known: too few rounds, or an error that does not fall."
    others = [
        compare([*each[:k], *each[k + 1 :]]) for k in range(len(each) if len(each) > 1 else 0)
    ]
    spread = f" ({min(others):.2f} to {max(others):.2f} without one seed)" if others else ""
    return ratio, f"{told} {ratio:.2f} times those by chance{spread}."


def main() -> None:
    """Run what is left of the comparison, for so many minutes, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("outputs/active_learning"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4, help="after the first; %(default)s")
    parser.add_argument("--epochs", type=int, nargs=2, default=(60, 30), metavar=("FIRST", "WARM"))
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--oracle", action="store_true", help="labels of the shipped graphene")
    parser.add_argument("--store", action="store_true", help="write the results")
    given = parser.parse_args()
    end = time.monotonic() + 60.0 * given.minutes
    material = ORACLE if given.oracle else TOY
    kind = "oracle" if given.oracle else "toy"
    epochs = [
        f"train.optimizer.max_epochs={given.epochs[0]}",
        f"train.warm.optimizer.max_epochs={given.epochs[1]}",
    ]
    for n_rounds in range(given.rounds + 1):  # all seeds advance together
        for seed in range(given.seeds):
            base = given.folder / kind / f"seed_{seed}"
            ways = (INFORMATIVE, RANDOM) if n_rounds else ("first",)
            for select in ways:
                if time.monotonic() > end:
                    report(given, kind, material)
                    return
                folder = base / select
                if n_rounds:
                    branch(base / "first", folder, select)
                advance(folder, [*material, *epochs, f"seed={10 * seed}"], n_rounds, select, kind)
    report(given, kind, material)


def advance(folder: Path, words: Sequence[str], n_rounds: int, select: str, kind: str) -> None:
    """Bring a study to so many rounds after the first."""
    sizes = dict(word.split("=", 1) for word in words if word.startswith(("n_first", "n_more")))
    labels = int(sizes["n_first"]) + n_rounds * int(sizes["n_more"])
    own = [*words, f"max_labels={labels}", f"select={select if n_rounds else INFORMATIVE}"]
    if kind == "oracle":
        own.append(f"candidates={write_candidates(folder.parent)}")

    def say(line: str) -> None:
        print(f"{folder.parent.name} {folder.name:<12} {line}", flush=True)

    folder.mkdir(parents=True, exist_ok=True)
    study = build_study(folder, own, say)
    study.run()
    if not (folder.parent / "reference" / "results.h5").is_file():
        exact = (
            "electron={_target_:mlepi.reference_systems.TightBinding,orbitals:s,orthogonal:true}"
        )
        if kind == "oracle":
            exact = f"electron={ROOT / 'data/checkpoints/hedgenet_electron.ckpt'}"
        find_reference(folder.parent / "reference", study.settings, exact)


def write_candidates(folder: Path) -> Path:
    """Write the structures of the shipped set that networks may be trained on."""
    from mlepi.structures.ase_files import read_frames

    path = folder / "candidates.extxyz"
    if not path.is_file():
        from ase.io import write

        split = read_json(DATA / "splits" / "shapes_81_09_10.json")["split"]
        kept = {*split["train"], *split["val"]}
        frames = [a for a in read_frames(DATA / "forces.extxyz") if a.info["name"] in kept]
        for atoms in frames:
            atoms.calc = None
            atoms.info = {"name": atoms.info["name"], "kind": atoms.info["kind"]}
        folder.mkdir(parents=True, exist_ok=True)
        write(path, frames)
    return path


def report(given: argparse.Namespace, kind: str, material: Sequence[str]) -> None:
    """Print what is known so far, and store it if asked."""
    each: dict[str, dict[str, Any]] = {}
    for seed in range(given.seeds):
        base = given.folder / kind / f"seed_{seed}"
        if (base / "reference" / "results.h5").is_file():
            rows = {s: list_errors(base / s, base / "reference") for s in (INFORMATIVE, RANDOM)}
            if all(rows.values()):
                each[str(seed)] = rows
    if not each:
        print("no seed has both ways yet")
        return
    mean = {s: average([ways[s] for ways in each.values()]) for s in (INFORMATIVE, RANDOM)}
    n_rounds = min(map(len, mean.values()))
    mean = {select: rows[:n_rounds] for select, rows in mean.items()}
    found = {key: judge(list(each.values()), key) for key in ("error", "samples")}
    content = {
        "command": f"python benchmarks/active_learning.py{' --oracle' if given.oracle else ''} "
        f"--seeds {given.seeds} --rounds {given.rounds} --epochs {given.epochs[0]} "
        f"{given.epochs[1]}",
        "what": "the shipped bilayer graphene" if kind == "oracle" else "toy bilayer graphene",
        "settings": [*COMMON, *material, f"epochs {given.epochs[0]}, {given.epochs[1]}"],
        "seeds": list(each),
        "ratio": {k: None if math.isnan(ratio) else ratio for k, (ratio, _) in found.items()},
        "verdict": {key: words for key, (_, words) in found.items()},
        "mean": mean,
        "each": each,
        "commit": find_commit(ROOT),
    }
    print(tabulate(content))
    if given.store:
        name = "active_learning" if kind == "toy" else "active_learning_oracle"
        write_json(RESULTS / f"{name}.json", content)
        write_whole(RESULTS / f"{name}.md", tabulate(content))


if __name__ == "__main__":
    main()
