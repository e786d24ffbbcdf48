"""Ship the best checkpoint of a training, or those of several as a committee.

``python data/checkpoints/make.py RUN_FOLDER [RUN_FOLDER …] [--name NAME] [--add]
[--storage float16]``.

Writes NAME.ckpt (weights only, with the overlap table of an electron network), NAME.md (the model
card), NAME.json (all measured numbers) and NAME.yaml (the config of the run) next to this file, and
for a phonon network NAME.png (its phonons). The numbers are measured here on the exported file, as
``mlepi eval`` does and by the scripts in ``benchmarks/``.

Of several runs, one per seed, NAME.ckpt, NAME_2.ckpt, … and one card of all of them: the tables
are those of the first, with the errors of every network, the calibration of their spread, which the
checkpoints then carry, and its reliability plot, NAME_committee.png. With --add the runs join the
network, or the committee, that is shipped under this name.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols
from materials import find_material
from member import Member, recall, require_one_recipe
from model_card import describe_member, format_accuracy, format_card, list_failures
from omegaconf import OmegaConf
from run_folder import (
    describe_structures,
    portable,
    read_command,
    read_config,
    read_history,
    require_run,
)

from mlepi.checkpoint import export_checkpoint, load_checkpoint, load_model
from mlepi.errors import CheckpointError, DataError, MlepiError, message
from mlepi.evaluation import judge
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.overlaps import OverlapTable, read_overlap_table
from mlepi.predictors.level_shifts import KEY as SHIFT_KEY
from mlepi.predictors.storage import AS_TRAINED, STORAGES
from mlepi.project_files import find_file, locate_file
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.splits import read_split
from mlepi.training.level_shift import AUTO, describe_training

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
LARGEST_SIZE = 10_000_000
"""Bytes, of a checkpoint in the repository."""

REPRODUCED = {"hamiltonian_gauge_free_mae_mev": 0.01, "forces_mae_mev_per_angstrom": 0.01}
"""Metric of the run's own test table → largest accepted relative difference to what is measured
here."""


def read_overlaps(elements: Iterable[str]) -> OverlapTable:
    """Return the radial overlap functions of a material, for a checkpoint without any."""
    return read_overlap_table(find_file("overlap table", find_material(elements).overlap_table))


def find_level_shift(run: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of its level shift: what its training found, or would find now.

    Args:
        run: folder of ``train.py``, of an electron network.
        data: config of the training data, with "path" and "split".

    Returns:
        Entries of the metadata, see ``describe_training``.
    """
    metadata = load_checkpoint(run / "checkpoints" / "best.ckpt")[0]["metadata"]
    if SHIFT_KEY in metadata:
        return {}
    labelled = list(HamiltonianDataset(find_file("data.path", data["path"])))
    names = [structure.name for structure in labelled]
    chosen = set(read_split(find_file("data.split", data["split"]), names)["train"])
    table = read_overlaps({e for s in labelled for e in s.atoms.get_chemical_symbols()})
    trained = [complete_overlaps(s, table) for s in labelled if s.name in chosen]
    return describe_training(AUTO, trained)


def export(
    run: Path,
    destination: Path,
    metrics: Mapping[str, float] | None = None,
    storage: str = AS_TRAINED,
    learned: Mapping[str, Any] | None = None,
) -> None:
    """Write the best checkpoint of a run, without machine paths.

    That of an electron network carries its overlap table. Weights are stored as ``storage`` says.

    Raises:
        CheckpointError: the result is too large for the repository.
    """
    source = run / "checkpoints" / "best.ckpt"
    content, _ = load_checkpoint(source)
    metadata = {**portable(content["metadata"]), **(learned or {})}
    if metrics is not None:
        metadata["test_metrics"] = dict(metrics)
    table = None
    if content["kind"] == "electron" and "overlap_table" not in content:
        numbers = content["model"]["network"]["elements"]
        table = read_overlaps(chemical_symbols[int(number)] for number in numbers)
    export_checkpoint(source, destination, overlap_table=table, metadata=metadata, storage=storage)
    if (size := destination.stat().st_size) > LARGEST_SIZE:
        raise CheckpointError(
            message(
                str(destination),
                f"{size / 1e6:.1f} MB",
                "at most 10 MB",
                "Train a smaller network.",
            )
        )


def run_benchmark(
    script: str, checkpoint: Path | Sequence[Path], folder: Path, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Run a script of ``benchmarks/`` on a checkpoint, or on several, and return its JSON.

    Its Markdown and figure stay in the folder.
    """
    command = [
        sys.executable,
        str(PROJECT / "benchmarks" / f"{script}.py"),
        *map(str, [checkpoint] if isinstance(checkpoint, Path) else checkpoint),
        "--output",
        str(folder),
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        reason = " ".join((done.stderr.strip() or "no message").splitlines()[-1:])
        raise DataError(
            message(
                f"benchmarks/{script}.py",
                reason,
                "a finished measurement",
                "Run it alone to see more.",
            )
        )
    result: dict[str, Any] = json.loads((folder / f"{script}.json").read_text(encoding="utf-8"))
    return result


def measure(checkpoint: Path, run: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """Judge a checkpoint on the test subsets of its training, see ``mlepi.evaluation.judge``.

    Args:
        checkpoint: file.
        run: folder of ``train.py``, which holds the split where none was given.
        data: config of the training data.
    """
    extra = data.get("extra")
    found = judge(
        checkpoint,
        str(data["path"]),
        split=str(data["split"] if isinstance(data["split"], str) else run / "split.json"),
        extra=extra if extra and locate_file(extra) else None,
    ).result
    return {name: value for name, value in found.items() if name not in LEFT_OUT}


LEFT_OUT = ("checkpoint", "orbitals", "provenance", "seconds")
"""Parts of a judgement that the file of a card does not need."""


def check_reproduced(run: Path, metrics: Mapping[str, float]) -> None:
    """Check that the exported network has the test errors that its training reported."""
    path = run / "test_metrics.json"
    if not path.is_file():
        return
    reported = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    for name, tolerance in REPRODUCED.items():
        if (
            name in metrics
            and name in reported
            and abs(metrics[name] / reported[name] - 1.0) > tolerance
        ):
            raise CheckpointError(
                message(
                    str(path),
                    f"{name} {reported[name]:.4g}",
                    f"{metrics[name]:.4g} as measured here",
                    "Measure both again.",
                )
            )


def ship(run: Path, name: str, output: Path, storage: str) -> Member:
    """Export the best checkpoint of a run and measure its accuracy.

    Args:
        run: folder of ``train.py``.
        name: of the checkpoint.
        output: gets NAME.ckpt.
        storage: of the weights.

    Raises:
        DataError: a measurement failed.
        CheckpointError: the checkpoint cannot be used, is too large, or has other errors than its
            training reported.
    """
    data = read_config(run)["data"]
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch) / f"{name}.ckpt"
        electron = load_checkpoint(run / "checkpoints" / "best.ckpt")[0]["kind"] == "electron"
        learned = find_level_shift(run, data) if electron else {}
        export(run, trial, storage=storage, learned=learned)
        accuracy = measure(trial, run, data)
        check_reproduced(run, accuracy["metrics"])
        export(run, output / trial.name, accuracy["metrics"], storage, learned)
    numbers = {
        "accuracy": accuracy,
        "training": read_history(run),
        "command": read_command(run),
        "covered": describe_structures(
            find_file("data.path", data["path"]), find_file("data.split", data["split"])
        ),
    }
    return Member(output / trial.name, numbers)


def measure_phonons(member: Member, name: str, output: Path) -> str:
    """Measure the phonons of a network of graphene that has some, and return their table.

    They join the member's numbers, and their figure is NAME.png.
    """
    material = find_material(member.numbers["covered"]["elements"])
    if not (material.has_ab_phonons and load_model(member.checkpoint).kind == "phonon"):
        return ""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        member.numbers["phonons"] = run_benchmark("phonons", member.checkpoint, folder)
        shutil.copyfile(folder / "phonons.png", output / f"{name}.png")
        return (folder / "phonons.md").read_text(encoding="utf-8")


def tabulate_accuracy(member: Member) -> str:
    """Return the errors of a network beside the targets of its material, as Markdown."""
    targets = find_material(member.numbers["covered"]["elements"]).targets
    return format_accuracy(member.numbers["accuracy"], targets)


def describe(member: Member) -> dict[str, Any]:
    """Return the facts that a card tells of a network, see ``format_card``."""
    predictor, numbers = load_model(member.checkpoint), member.numbers
    return {
        "kind": predictor.kind,
        "command": numbers["command"],
        "n_parameters": sum(parameter.numel() for parameter in predictor.network().parameters()),
        "metadata": predictor.metadata,
        "history": numbers["training"],
        "covered": numbers["covered"],
        "size": member.checkpoint.stat().st_size,
        "failed": list_failures(numbers, tabulate_accuracy(member)),
    }


def write_card(
    name: str,
    output: Path,
    facts: Mapping[str, Any],
    numbers: Mapping[str, Any],
    tables: Mapping[str, str],
) -> None:
    """Write NAME.md, NAME.json with all numbers and NAME.yaml with the config of the training."""
    config = OmegaConf.create(portable(facts["metadata"]["config"]))
    (output / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (output / f"{name}.yaml").write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    (output / f"{name}.md").write_text(format_card(name, facts, tables), encoding="utf-8")


def make(
    run: Path, name: str | None = None, output: Path = HERE, storage: str = AS_TRAINED
) -> Path:
    """Export, measure and describe the best checkpoint of a run.

    Args:
        run: folder of ``train.py``.
        name: of the checkpoint; that of the run by default.
        output: folder to write into.
        storage: "as trained" or "float16", of the weights.

    Returns:
        The checkpoint.

    Raises:
        DataError: the folder is no run, or a measurement failed.
        CheckpointError: see ``ship``.
    """
    require_run(run)
    name = name or str(read_config(run)["name"])
    member = ship(run, name, output, storage)
    tables = {"accuracy": tabulate_accuracy(member)}
    if phonons := measure_phonons(member, name, output):
        tables["phonons"] = phonons
    write_card(name, output, describe(member), member.numbers, tables)
    return member.checkpoint


def make_committee(
    runs: Sequence[Path],
    name: str,
    output: Path = HERE,
    storage: str = AS_TRAINED,
    add: bool = False,
) -> list[Path]:
    """Export, measure, calibrate and describe the best checkpoints of several runs of one recipe.

    Args:
        runs: folders of ``train.py``, one per seed.
        name: of the committee; its members are NAME, NAME_2, …
        output: folder to write into.
        storage: of the weights.
        add: the runs join what is shipped under this name.

    Returns:
        The checkpoints, with their calibration.

    Raises:
        DataError: a folder is no run, the networks do not belong together, or a measurement failed.
        CheckpointError: see ``ship``.
    """
    for run in runs:
        require_run(run)
    members = recall(name, output) if add else []
    for run in runs:
        number = len(members) + 1
        members.append(ship(run, f"{name}_{number}" if number > 1 else name, output, storage))
    require_one_recipe(members)
    first, files = members[0], [member.checkpoint for member in members]
    tables = {"accuracy": tabulate_accuracy(first)}
    if phonons := measure_phonons(first, name, output):
        tables["phonons"] = phonons
    data = read_config(runs[0])["data"]
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--data", str(data["path"]), "--split", str(data["split"]), "--store"]
        measured = run_benchmark("committee", files, Path(scratch), options)
        tables["committee"] = (Path(scratch) / "committee.md").read_text(encoding="utf-8")
        shutil.copyfile(Path(scratch) / "committee.png", output / f"{name}_committee.png")
    facts = describe(first)
    facts["members"] = [describe_member(member.checkpoint, member.numbers) for member in members]
    numbers = {
        "members": {member.checkpoint.stem: member.numbers for member in members},
        "committee": measured,
    }
    write_card(name, output, facts, numbers, tables)
    return files


def main() -> None:
    """Read the command line and make the files."""
    parser = argparse.ArgumentParser(
        description="Export, measure and describe the best checkpoints of trainings."
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", help="run folders of train.py; several make a committee"
    )
    parser.add_argument("--name", help="of the checkpoint; that of the run by default")
    parser.add_argument(
        "--add", action="store_true", help="the runs join the network or committee NAME"
    )
    parser.add_argument(
        "--storage", default=AS_TRAINED, choices=STORAGES, help="of the learned weights"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=HERE,
        help="folder to write into; that of this script by default",
    )
    chosen = parser.parse_args()
    arguments: Any = {"output": chosen.output, "storage": chosen.storage}
    try:
        if len(chosen.runs) == 1 and not chosen.add:
            files = [make(chosen.runs[0], chosen.name, **arguments)]
        else:
            require_run(chosen.runs[0])
            name = chosen.name or str(read_config(chosen.runs[0])["name"])
            files = make_committee(chosen.runs, name, add=chosen.add, **arguments)
    except MlepiError as error:
        sys.exit(f"error: {error}")
    for path in files:
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    print(f"card: {files[0].with_suffix('.md')}")


if __name__ == "__main__":
    main()
