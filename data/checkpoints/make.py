"""Ship the best checkpoint of a training, or those of several as a committee.

``python data/checkpoints/make.py RUN_FOLDER [RUN_FOLDER …] [--name NAME] [--storage float16]``.

Writes NAME.ckpt (weights only, with the overlap table of an electron network), NAME.md (the model
card), NAME.json (all measured numbers) and NAME.yaml (the config of the run) next to this file, and
for a phonon network NAME.png (its phonons). The numbers are measured here on the exported file, by
the scripts in ``benchmarks/``.

Of several runs, one per seed, NAME_1.ckpt, NAME_2.ckpt, … and one card of all of them: the tables
are those of the first, with the errors of every network, the calibration of their spread, which the
checkpoints then carry, and its reliability plot, NAME_committee.png.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from mlepi.checkpoint import export_checkpoint, load_checkpoint, load_model
from mlepi.errors import CheckpointError, DataError, MlepiError, message
from mlepi.physics.overlaps import read_overlap_table
from mlepi.pipeline.stages.structure.relaxation import measure_spacings
from mlepi.predictors.level_shifts import KEY as SHIFT_KEY
from mlepi.predictors.storage import AS_TRAINED, STORAGES
from mlepi.project_files import find_file
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.splits import read_split
from mlepi.training.level_shift import AUTO, LARGEST_BIAS, describe_training

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
OVERLAP_TABLE = "data/blg_openmx/overlap_C6.0-s2p2.h5"
LARGEST_SIZE = 10_000_000
"""Bytes, of a checkpoint in the repository."""

REPRODUCED = {"hamiltonian_gauge_free_mae_mev": 0.01, "forces_mae_mev_per_angstrom": 0.01}
"""Metric of the run's own test table → largest accepted relative difference to what is measured
here."""

PREDICTS = {
    "phonon": "Total energy (eV), forces (eV/Å) and stress of bilayer graphene, Grimme D2 included "
    "as in the labels.",
    "electron": "The Kohn–Sham Hamiltonian of bilayer graphene in OpenMX's C6.0-s2p2 orbitals, as "
    "real-space blocks (eV). The overlap matrix does not come from the network but from radial "
    "tables of the orbitals, which the checkpoint carries.",
}

BANDS_NOTE = """Levels at Γ, K and a generic k of each structure's own cell, plain H, paired by \
band index; less the median: of the differences in the
window, one constant per structure. Gauge-free: with the shift μ of each structure that minimises \
Σ|ΔH − μS|. In the metric of S:
√(Tr[(S⁻¹(ΔH − μS))²]/N) at one k-point; the soft directions of S, states of some hundred eV, are \
nearly all of it. Ghost: a level more than
1 eV below DFT's lowest at these k-points; there is none where the form bound, the largest \
eigenvalue of −ΔH against H raised by that energy, is
below 1. Slopes: ‖ΔH − ΔH_DFT‖/‖ΔH_DFT‖ between paired displacements ±u.
"""

WEAKNESSES = {
    "phonon": (
        "The labels' small basis overbinds the layers (basis-set superposition), and the network "
        "with it: relaxed, they sit near "
        "3.15 Å instead of 3.35 Å. Fix the spacing when an experiment is meant, and say so.",
        "Forces of waves that no training cell contains are extrapolated, see the frequencies "
        "against DFT and the bending rigidity.",
    ),
    "electron": (
        "A part of the error of the bands is a common shift of each structure: compare aligned "
        "and unaligned.",
        "S is ill-conditioned (see its smallest eigenvalue): errors of H grow by its inverse in "
        "the worst direction, mostly in "
        "states far above E_F, which should not be used.",
        "H keeps the energy zero of the DFT code, which depends on the cell; differences within "
        "one structure have a meaning.",
    ),
}

NOT_TESTED = (
    "other elements, defects, edges, adsorbates; one layer or more than two; bulk; twisted cells, "
    "beyond what a local network "
    "infers from slides; fields, charge, spin; displacements beyond those of the training set, so "
    "temperatures far above 300 K."
)


def portable(value: Any) -> Any:
    """Replace absolute paths in nested plain data by their last part."""
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def read_command(run: Path) -> str:
    """Return the command line of a run, without where its files went."""
    overrides: Any = OmegaConf.to_container(OmegaConf.load(run / ".hydra" / "overrides.yaml"))
    kept = [text for text in overrides if not text.startswith(("hydra.", "ckpt_path=", "name="))]
    return " ".join(["python train.py", *(str(portable(text)) for text in kept)])


def read_history(run: Path) -> dict[str, Any]:
    """Return "epochs" trained, "best_epoch" and "wall_time" (hours and minutes) of a run."""
    epochs = {
        name: int(
            torch.load(run / "checkpoints" / f"{name}.ckpt", map_location="cpu", weights_only=True)[
                "epoch"
            ]
        )
        + 1
        for name in ("best", "last")
    }
    times = re.findall(
        r"^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)",
        (run / "train.log").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    wall = datetime.timedelta(0)
    if times:
        begin, end = (datetime.datetime.fromisoformat(time) for time in (times[0], times[-1]))
        wall = end - begin
    minutes = round(wall.total_seconds() / 60)
    return {
        "epochs": epochs["last"],
        "best_epoch": epochs["best"],
        "wall_time": f"{minutes // 60} h {minutes % 60:02d} min",
    }


def describe_structures(path: Path, split: Path) -> dict[str, Any]:
    """Measure what the training subset covers.

    "kinds", "n_atoms", "spacing", "lattice_constant" (of a hexagonal cell of the same area),
    "out_of_plane"; Å.
    """
    labelled = list(HamiltonianDataset(path)) if path.suffix == ".h5" else read_forces_dataset(path)
    subsets = read_split(split, [structure.name for structure in labelled])
    chosen = [structure for structure in labelled if structure.name in set(subsets["train"])]
    spacings, lattices, heights = [], [], []
    for structure in chosen:
        atoms = structure.atoms
        spacings.append(float(measure_spacings(atoms)[0]))
        # of any supercell: the side of the rhombus that two atoms per layer cover
        area = np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1])) / (len(atoms) / 4)
        lattices.append(float(np.sqrt(area * 2.0 / np.sqrt(3.0))))
        layer = atoms.arrays["layer"]
        z = atoms.positions[:, 2]
        heights.append(
            max(
                float(np.abs(z[layer == number] - z[layer == number].mean()).max())
                for number in (0, 1)
            )
        )
    kinds = [str(structure.provenance.get("kind", "structures")) for structure in chosen]
    return {
        "kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "n_structures": {subset: len(names) for subset, names in subsets.items()},
        "elements": sorted(
            {symbol for structure in chosen for symbol in structure.atoms.get_chemical_symbols()}
        ),
        "n_atoms": sorted({len(structure.atoms) for structure in chosen}),
        "spacing": [min(spacings), max(spacings)],
        "lattice_constant": [min(lattices), max(lattices)],
        "out_of_plane": max(heights),
    }


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
    return describe_training(AUTO, [s for s in labelled if s.name in chosen])


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
        table = read_overlap_table(find_file("overlap table", OVERLAP_TABLE))
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


def describe_shift(shift: Mapping[str, float] | None, kind: str) -> list[str]:
    """Return the row of the card that tells the level shift against ghost states."""
    if kind != "electron":
        return []
    if shift is None:
        return ["| level shift | none |"]
    return [
        f"| level shift | τ = {shift['threshold']:g}, λ = {shift['strength']:g} eV, offset "
        f"{1e3 * shift['offset']:.2f} meV: moves levels of exact H and S within 2 eV of E_F by "
        f"less than {1e3 * LARGEST_BIAS:g} meV RMS over all training structures that were tried |"
    ]


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


def format_card(name: str, facts: Mapping[str, Any], tables: Mapping[str, str]) -> str:
    """Return the model card as Markdown.

    Args:
        name: of the checkpoint.
        facts: "kind", "command", "n_parameters", "metadata", "history", "covered", "size",
            "failed", and of a committee "members", rows of ``describe_member``.
        tables: "accuracy", for a phonon network "phonons", for a committee "committee".
    """
    kind = facts["kind"]
    metadata = facts["metadata"]
    covered = facts["covered"]
    history = facts["history"]
    data = metadata["config"]["data"]
    # "-modified" is how the first checkpoints say "+changes"
    commit, *changes = re.split(r"\+changes|-modified", metadata["commit"])
    counts = ", ".join(f"{number} {subset}" for subset, number in covered["n_structures"].items())
    kinds = ", ".join(f"{number} × `{label}`" for label, number in covered["kinds"].items())
    low, high = covered["lattice_constant"]
    strains = f"{100 * (low / 2.46 - 1):+.1f} to {100 * (high / 2.46 - 1):+.1f} %"
    versions = ", ".join(f"{package} {number}" for package, number in metadata["versions"].items())
    sizes = covered["n_atoms"]
    cells = (
        " and ".join(f"{n} atoms" for n in sizes)
        if len(sizes) < 3
        else f"{sizes[0]} to {sizes[-1]} atoms"
    )
    basis = " Orbitals: C6.0-s2p2 (s s p p), reach of a pair 6.35 Å." if kind == "electron" else ""
    lines = [
        f"# {name}",
        "",
        PREDICTS[kind],
        "",
        "## Training",
        "| | |",
        "|---|---|",
        f"| data | `{data['path']}`: {kinds} in the training subset; see [its "
        "card](../blg_openmx/README.md) |",
        f"| split | `{data['split']}`: {counts} |",
        f"| command | `{facts['command']}` |",
        f"| config | [{name}.yaml]({name}.yaml), also inside the checkpoint "
        '(`load_model(…).metadata["config"]`) |',
        f"| seed | {metadata['seed']} |",
        f"| epochs, wall time | {history['epochs']} (best: {history['best_epoch']}), "
        f"{history['wall_time']} |",
        f"| parameters, file | {facts['n_parameters']}, {facts['size'] / 1e6:.1f} MB |",
        f"| commit | `{commit}`" + (" with uncommitted changes" if changes else "") + " |",
        f"| versions | {versions} |",
        *describe_shift(metadata.get(SHIFT_KEY), kind),
        "",
        "## Accuracy",
        tables["accuracy"],
    ]
    if kind == "electron":
        lines.append(BANDS_NOTE)
    if "committee" in tables:
        lines += format_members(name, facts["members"], tables["committee"])
    if "phonons" in tables:
        lines += [
            "## Phonons of AB bilayer graphene",
            f"![phonons]({name}.png)",
            "",
            tables["phonons"],
        ]
    lines += [
        "## Domain of validity",
        f"- Elements: {', '.join(covered['elements'])}; two layers.{basis}",
        f"- Layer spacings {covered['spacing'][0]:.2f}–{covered['spacing'][1]:.2f} Å (mean "
        "planes), any slide.",
        f"- Lattice constants {low:.3f}–{high:.3f} Å (strain {strains} from 2.46 Å).",
        "- Gaussian displacements, in-plane 0.015–0.045 Å, out-of-plane 0.02–0.10 Å per component "
        "(standard deviation); "
        "largest distance of an atom from the mean plane of its layer "
        f"{covered['out_of_plane']:.2f} Å.",
        f"- Training cells of {cells} atoms. Larger cells work as far as the table of sizes says; "
        "longer waves were never seen.",
        f"- Not tested: {NOT_TESTED}",
        "",
        "## Known weaknesses",
        *(f"- {text}" for text in (*facts["failed"], *WEAKNESSES[kind])),
        "- Few structures: the test numbers above have sizeable statistical errors of their own.",
        "",
        "## Licence",
        "MIT, as the project. Trained on OpenMX calculations made for it; no file of OpenMX is "
        "contained"
        + (
            " (the overlap table holds two-centre integrals on a grid, not the orbitals)."
            if kind == "electron"
            else "."
        ),
        "",
        "Made by `python data/checkpoints/make.py RUN_FOLDER`"
        + (" of all runs" if "committee" in tables else "")
        + "; all numbers: "
        f"[{name}.json]({name}.json).",
        "",
    ]
    return "\n".join(lines)


def list_failures(results: Mapping[str, Any], table: str) -> list[str]:
    """Return what was required and is not met, and what the phonons show, as sentences."""
    rows = [line.split("|") for line in table.splitlines() if "**no**" in line]
    failed = [
        f"Target missed: {row[1].strip()} is {row[2].strip()}, wanted {row[3].strip()}."
        for row in rows
    ]
    fixed, relaxed = (
        results.get("phonons", {}).get(structure) for structure in ("fixed", "relaxed")
    )
    if fixed and relaxed and fixed["lowest_interpolated"] < -1.0:
        failed.append(
            f"At a = 2.46 Å and d = 3.35 Å the in-plane stress is {fixed['in_plane_stress']:.2f} "
            "eV/Å² (lattice constant of the "
            f"network's minimum: {relaxed['lattice_constant']:.3f} Å). The longest flexural waves "
            "are therefore imaginary, down "
            f"to {fixed['lowest_interpolated']:.0f} cm⁻¹, between the q-points of the 6×6 "
            "supercell."
        )
    for structure in ("relaxed", "fixed"):
        measured = results.get("phonons", {}).get(structure, {})
        verdicts = measured.get("verdicts", []) + measured.get("reference", {}).get("verdicts", [])
        failed += [
            f"Phonons, {structure} structure: {verdict['requirement']}: {verdict['value']}, "
            f"wanted {verdict['limit']}."
            for verdict in verdicts
            if not verdict["met"]
        ]
    return failed


def require_run(run: Path) -> None:
    """Raise ``DataError`` when a folder lacks what a training leaves behind."""
    needed = [
        run / "checkpoints" / "best.ckpt",
        run / "checkpoints" / "last.ckpt",
        run / "config.yaml",
        run / "train.log",
    ]
    missing = [
        path.name for path in [*needed, run / ".hydra" / "overrides.yaml"] if not path.is_file()
    ]
    if missing:
        raise DataError(
            message(
                str(run),
                f"no {', '.join(missing)}",
                "the run folder of a training",
                "Check the path.",
            )
        )


def ship(
    run: Path, name: str, output: Path, storage: str, with_phonons: bool = True
) -> tuple[dict[str, Any], dict[str, str]]:
    """Export the best checkpoint of a run and measure it.

    Args:
        run: folder of ``train.py``.
        name: of the checkpoint.
        output: gets NAME.ckpt, and NAME.png where phonons are measured.
        storage: of the weights.
        with_phonons: measure the phonons of a phonon network.

    Returns:
        Script → what it measured, and its table.

    Raises:
        DataError: a measurement failed.
        CheckpointError: the checkpoint cannot be used, is too large, or has other errors than its
            training reported.
    """
    data: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))["data"]  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        trial = folder / f"{name}.ckpt"
        electron = load_checkpoint(run / "checkpoints" / "best.ckpt")[0]["kind"] == "electron"
        learned = find_level_shift(run, data) if electron else {}
        export(run, trial, storage=storage, learned=learned)
        phonons = with_phonons and load_model(trial).kind == "phonon"
        scripts = ["accuracy", *(["phonons"] if phonons else [])]
        where = {"accuracy": ["--data", str(data["path"]), "--split", str(data["split"])]}
        results = {
            script: run_benchmark(script, trial, folder, where.get(script, ()))
            for script in scripts
        }
        tables = {
            script: (folder / f"{script}.md").read_text(encoding="utf-8") for script in scripts
        }
        metrics = results["accuracy"]["metrics"]
        check_reproduced(run, metrics)
        export(run, output / trial.name, metrics, storage, learned)
        if phonons:
            shutil.copyfile(folder / "phonons.png", output / f"{name}.png")
    return results, tables


def describe(run: Path, checkpoint: Path, failed: Sequence[str]) -> dict[str, Any]:
    """Return the facts that a card tells of a run and its checkpoint, see ``format_card``."""
    config: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    predictor, data = load_model(checkpoint), config["data"]
    return {
        "kind": predictor.kind,
        "command": read_command(run),
        "n_parameters": sum(parameter.numel() for parameter in predictor.network().parameters()),
        "metadata": predictor.metadata,
        "history": read_history(run),
        "covered": describe_structures(
            find_file("data.path", data["path"]), find_file("data.split", data["split"])
        ),
        "size": checkpoint.stat().st_size,
        "failed": list(failed),
    }


def write_card(
    name: str,
    run: Path,
    output: Path,
    facts: Mapping[str, Any],
    numbers: Mapping[str, Any],
    tables: Mapping[str, str],
) -> None:
    """Write NAME.md, NAME.json with all numbers and NAME.yaml with the config of a run."""
    config: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    (output / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (output / f"{name}.yaml").write_text(
        OmegaConf.to_yaml(OmegaConf.create(portable(config))), encoding="utf-8"
    )
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
    name = name or str(OmegaConf.load(run / "config.yaml").name)
    results, tables = ship(run, name, output, storage)
    checkpoint = output / f"{name}.ckpt"
    facts = describe(run, checkpoint, list_failures(results, tables["accuracy"]))
    write_card(name, run, output, facts, {**results, "training": facts["history"]}, tables)
    return checkpoint


def make_committee(
    runs: Sequence[Path], name: str, output: Path = HERE, storage: str = AS_TRAINED
) -> list[Path]:
    """Export, measure, calibrate and describe the best checkpoints of several runs of one recipe.

    Args:
        runs: folders of ``train.py``, one per seed.
        name: of the committee; its members are NAME_1, NAME_2, …
        output: folder to write into.
        storage: of the weights.

    Returns:
        The checkpoints, with their calibration.

    Raises:
        DataError: a folder is no run, the networks do not belong together, or a measurement failed.
        CheckpointError: see ``ship``.
    """
    for run in runs:
        require_run(run)
    names = [f"{name}_{number}" for number in range(1, len(runs) + 1)]
    files = [output / f"{member}.ckpt" for member in names]
    shipped = [
        ship(run, member, output, storage, with_phonons=member == names[0])
        for run, member in zip(runs, names, strict=True)
    ]
    results, tables = shipped[0]
    data: Any = OmegaConf.to_container(OmegaConf.load(runs[0] / "config.yaml"))["data"]  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--data", str(data["path"]), "--split", str(data["split"]), "--store"]
        measured = run_benchmark("committee", files, Path(scratch), options)
        table = (Path(scratch) / "committee.md").read_text(encoding="utf-8")
        shutil.copyfile(Path(scratch) / "committee.png", output / f"{name}_committee.png")
    facts = describe(runs[0], files[0], list_failures(results, tables["accuracy"]))
    facts["members"] = [
        describe_member(run, file, own["accuracy"]["metrics"])
        for run, file, (own, _) in zip(runs, files, shipped, strict=True)
    ]
    if (output / f"{names[0]}.png").is_file():
        (output / f"{names[0]}.png").replace(output / f"{name}.png")
    numbers = {
        "members": {
            member: {**own, "training": read_history(run)}
            for member, run, (own, _) in zip(names, runs, shipped, strict=True)
        },
        "committee": measured,
    }
    write_card(name, runs[0], output, facts, numbers, {**tables, "committee": table})
    return files


MEMBER_METRICS = {
    "hamiltonian_gauge_free_mae_mev": "H, gauge-free MAE (meV)",
    "shifted_bands_2ev_aligned_rms_mev": "levels within ±2 eV, RMS (meV)",
    "energy_mae_mev_per_atom": "energy, MAE (meV/atom)",
    "forces_rmse_mev_per_angstrom": "forces, RMSE (meV/Å)",
}
"""Metric → column of the table of members, where they have it."""


def describe_member(run: Path, file: Path, metrics: Mapping[str, float]) -> dict[str, str]:
    """Return the row of a member of a committee: column → cell."""
    history = read_history(run)
    return {
        "checkpoint": f"[{file.name}]({file.name}), {file.stat().st_size / 1e6:.2f} MB",
        "command": f"`{read_command(run)}`",
        "epochs (best), wall time": f"{history['epochs']} ({history['best_epoch']}), "
        f"{history['wall_time']}",
        **{title: f"{metrics[key]:.3g}" for key, title in MEMBER_METRICS.items() if key in metrics},
    }


def format_members(name: str, rows: Sequence[Mapping[str, str]], table: str) -> list[str]:
    """Return the part of a card on the members of a committee, as lines of Markdown."""
    return [
        "## Committee",
        f"{len(rows)} networks of one recipe and {len(rows)} seeds; the tables above are of the "
        "first. Each is made by its command:",
        "",
        "| " + " | ".join(rows[0]) + " |",
        "|---" * len(rows[0]) + "|",
        *("| " + " | ".join(row.values()) + " |" for row in rows),
        "",
        "How far their spread tells their error (`benchmarks/committee.py`; the checkpoints carry "
        "the factors):",
        "",
        table,
        f"![reliability]({name}_committee.png)",
        "",
    ]


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
        if len(chosen.runs) == 1:
            files = [make(chosen.runs[0], chosen.name, **arguments)]
        else:
            require_run(chosen.runs[0])
            name = chosen.name or str(OmegaConf.load(chosen.runs[0] / "config.yaml").name)
            files = make_committee(chosen.runs, name, **arguments)
    except MlepiError as error:
        sys.exit(f"error: {error}")
    for path in files:
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    card = f"{chosen.name or files[0].stem.removesuffix('_1')}.md"
    print(f"card: {chosen.output / card}")


if __name__ == "__main__":
    main()
