"""What users get wrong most.

One message that says where, what and how to mend it, exit status 1, and nothing written.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import h5py
import pytest
import warm_python
from ase import Atoms
from ase.io import write

from mlepi.structures import build_graphene

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data" / "blg_openmx" / "hamiltonians.h5"
PHONON = "data/checkpoints/hedgenet_phonon.ckpt"
ELECTRON = "data/checkpoints/hedgenet_electron.ckpt"


def run_script(script, folder, *overrides):
    where = f"hydra.run.dir={folder}" if script == "train.py" else f"folder={folder}"
    command = [sys.executable, str(ROOT / script), where, *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return warm_python.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )


def check_refused(run, *texts):
    assert run.returncode == 1, run.stdout + run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, run.stderr
    assert "Traceback" not in run.stderr + run.stdout
    for text in texts:
        assert text in run.stderr


def structure_file(tmp_path, kind):
    atoms = build_graphene(stacking="AB")
    if kind == "wrong element":
        atoms = Atoms("B2N2", positions=atoms.positions, cell=atoms.cell, pbc=True)
    else:
        atoms.positions[1] = atoms.positions[0] + [0.2, 0.0, 0.0]
    write(tmp_path / "structure.extxyz", atoms)
    return tmp_path / "structure.extxyz"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("wrong element", "atomic numbers [5, 7]; expected only elements of"),
        ("too close", "0.200 Å apart"),
    ],
)
def test_structure_that_cannot_be_used(tmp_path, kind, text):
    file = structure_file(tmp_path, kind)
    check_refused(
        run_script("infer.py", tmp_path / "run", "stage=hamiltonian", f"structure={file}"), text
    )
    assert not list((tmp_path / "run").glob("hamiltonian*"))


@pytest.mark.parametrize(("key", "path"), [("electron", PHONON), ("phonon", ELECTRON)])
def test_checkpoint_of_the_wrong_kind(tmp_path, key, path):
    other = "electron" if key == "phonon" else "phonon"
    check_refused(
        run_script("infer.py", tmp_path / "run", f"{key}={ROOT / path}"),
        f"a checkpoint of kind '{other}'",
    )


def damage(tmp_path, how):
    file = tmp_path / "damaged.h5"
    shutil.copy(DATA, file)
    if how == "truncated":
        file.write_bytes(file.read_bytes()[: DATA.stat().st_size // 2])
    elif how == "missing key":
        with h5py.File(file, "a") as data:
            del data["blocks/packed_hamiltonian"]
    else:
        content = bytearray(file.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(64)
        file.write_bytes(content)
    return file


@pytest.mark.parametrize("how", ["truncated", "missing key", "overwritten"])
def test_damaged_data_set(tmp_path, how):
    file = damage(tmp_path, how)
    check_refused(
        run_script("train.py", tmp_path / "run", "model=hedgenet_electron", f"data.path={file}"),
        "damaged.h5",
    )
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("script", "overrides", "texts"),
    [
        (
            "train.py",
            ["model=hedgenet_electron", "optimizer.max_epoch=1"],
            ["max_epoch", "max_epochs"],
        ),
        ("train.py", ["+sed=1"], ["sed", "seed"]),
        ("train.py", ["model=hedgenet_fonon"], ["hedgenet_phonon"]),
        ("infer.py", ["temprature=[0]"], ["temprature", "temperature"]),
        ("infer.py", ["+stage.sampling.statistic=quantum"], ["statistic", "statistics"]),
        ("infer.py", ["~seed"], ["seed"]),
    ],
)
def test_mistakes_in_the_config(tmp_path, script, overrides, texts):
    check_refused(run_script(script, tmp_path / "run", *overrides), *texts)
