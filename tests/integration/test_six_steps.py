"""The six commands of docs/own_material.md, as they stand there, on files of two materials.

MoS2 of OpenMX as DeepH folders and extxyz, and a slab of copper with forces alone. Networks are the
smallest and trained for one epoch: that everything comes together is tested here, not how well.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from material_files import ELECTRONS, SHELLS, write_copper, write_mos2, write_vasp_run

from mlepi.checkpoint import load_checkpoint
from mlepi.command_line import compose_config
from mlepi.commands.main import main
from mlepi.errors import DataError
from mlepi.observables import all_stages
from mlepi.observables.sparse_bands.record import SparseBandsRecord
from mlepi.pipeline import infer
from mlepi.pipeline.stages.phonon.record import PhononRecord
from mlepi.project_files import PROJECT_FOLDER
from mlepi.report import write_report
from mlepi.results import ResultsStore
from mlepi.structures import read_forces_dataset, split_structures
from mlepi.training.run import train

PAGE = PROJECT_FOLDER / "docs" / "own_material.md"
STRUCTURES = ["mos2m1_ideal", "mos2b1_ideal", "mos2b2_000", "mos2b2_001"]
SMALL = {
    "inspect": [],
    "convert": ["--workers", "1"],
    "train": [
        "name=walk",
        "logger=csv",
        "trainer.accelerator=cpu",
        "optimizer.max_epochs=1",
        "size.phonon.num_features=2",
        "size.phonon.l_max=1",
        "size.phonon.radial_widths=[4]",
        "size.electron.channels=[4,2]",
        "size.electron.pseudo_channels=[0,2]",
        "size.electron.num_radial=4",
        "size.electron.radial_hidden=[4]",
        "size.electron.num_layers=1",
    ],
    "infer": [
        "stage.bands.spacing=0.4",
        "stage.phonon.dos_mesh=[4,4,1]",
        "stage.phonon.n_points=5",
    ],
}
"""Command → what keeps it short; all else is as on the page."""


def read_commands() -> list[list[str]]:
    """Return the words of the commands of the page's first block."""
    block = re.search(r"## Your material in six steps.*?```bash\n(.*?)```", PAGE.read_text(), re.S)
    return [shlex.split(line)[1:] for line in block[1].splitlines()]


def run(command: str, *words: str) -> None:
    """Run a command in this process; those with keys are composed as the scripts do."""
    short = SMALL[command]
    if command in ("inspect", "convert"):
        assert main([command, *words, *short]) == 0
        return
    if command == "train":
        (folder,) = (Path(w.split("=")[1]) for w in words if w.startswith("folder="))
        short = [word for word in short if "electron" not in word or "electron" in words[0]]
        folder.mkdir(parents=True)
        train(compose_config(PROJECT_FOLDER / "conf", "train", [*words, *short]), folder)
        return
    config = compose_config(PROJECT_FOLDER / "conf", "infer", [*words, *short])
    infer(config, Path(config.folder), all_stages())
    write_report(Path(config.folder), all_stages())


def test_the_page_has_six_commands_without_a_plus():
    commands = read_commands()
    assert [words[0] for words in commands] == [
        "inspect", "convert", "convert", "train", "train", "infer"
    ]  # fmt: skip
    assert not [word for words in commands for word in words if re.match(r"[+~]", word)]


def test_molybdenum_disulphide_in_six_steps(tmp_path, monkeypatch, capsys):
    write_mos2(tmp_path, STRUCTURES)
    shutil.copy(tmp_path / "forces" / f"{STRUCTURES[0]}.extxyz", tmp_path / "monolayer.extxyz")
    monkeypatch.chdir(tmp_path)
    for words in read_commands():
        run(*words)
    said = capsys.readouterr().out
    assert "26.00 per MoS2 below the Fermi energy: {S: 6, Mo: 14}" in said
    stamp, _ = load_checkpoint("runs/hamiltonian/checkpoints/best.ckpt")
    basis = stamp["basis"]
    assert {int(z): n for z, n in basis["valence_electrons"].items()} == ELECTRONS
    assert {int(z): shells for z, shells in basis["shells"].items()} == SHELLS
    backbone = stamp["model"]["network"]["backbone"]
    assert (backbone["channels"], backbone["pseudo_channels"]) == ([4, 2, 2, 2, 2], [0, 2, 2, 2])
    assert "overlap_table" in stamp
    store = ResultsStore("runs/monolayer")
    bands = store.read("sparse_bands", SparseBandsRecord)
    assert bands.labels == ("Γ", "M", "K", "Γ")
    assert bands.n_electrons == 26.0
    assert np.isfinite(bands.energies).all()
    assert store.read("phonon", PhononRecord).band_frequencies.shape[1] == 9
    assert "sparse_bands" in Path("runs/monolayer/report.html").read_text(encoding="utf-8")


def test_a_copper_slab_has_forces_alone(tmp_path, monkeypatch):
    write_copper(tmp_path / "copper.extxyz", 10)
    monkeypatch.chdir(tmp_path)
    run("train", "model=mace", "data=copper.extxyz", "folder=runs/forces")
    network = "phonon=runs/forces/checkpoints/best.ckpt"
    shown = ["structure=copper.extxyz", network, "stage=phonon", "supercell=[1,1,1]"]
    run("infer", *shown, "stage.phonon.symmetrize=false", "folder=runs/slab")
    record = ResultsStore("runs/slab").read("phonon", PhononRecord)
    assert record.band_frequencies.shape[1] == 36
    assert "phonon" in Path("runs/slab/report.html").read_text(encoding="utf-8")


def test_many_vasp_folders_are_one_data_set(tmp_path, monkeypatch, capsys):
    """Each file has the same name; the structures have names of their own, and one split."""
    write_copper(tmp_path / "copper.extxyz", 10)
    frames = read(tmp_path / "copper.extxyz", ":")
    for k in range(5):
        write_vasp_run(tmp_path / "vasp" / f"run{k}", frames[2 * k : 2 * k + 2])
    monkeypatch.chdir(tmp_path)
    run("convert", *(f"vasp/run{k}" for k in range(5)), "--out", "forces.extxyz")
    assert "forces.extxyz: 10 structures" in capsys.readouterr().out
    structures = read_forces_dataset(Path("forces.extxyz"))
    assert len({structure.name for structure in structures}) == 10
    energies = [structure.energy for structure in structures]
    np.testing.assert_allclose(energies, [atoms.get_potential_energy() for atoms in frames])
    split, _ = split_structures(structures, (0.8, 0.1, 0.1))
    assert [len(names) for names in split.values()] == [8, 1, 1]


def test_a_folder_is_no_data_set(tmp_path, monkeypatch):
    (tmp_path / "vasp").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"data\.path: got the folder vasp/; .*mlepi convert vasp/"):
        run("train", "model=mace", "data=vasp/", "folder=runs/forces")
