"""``mlepi study`` from a structure to an observable, on the toy code: killed and gone on with.

Networks are the smallest, and the toy's H is two-centre, which their baseline knows: that all comes
together is tested here, not how well it learns.
"""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import warm_python
from ase.io import read

import mlepi.commands.study
import mlepi.study.steps
from mlepi.commands.study import main
from mlepi.structures import build_graphene
from mlepi.study.rounds import read_memory
from mlepi.study.steps import read_record

SMALL = [
    "dft=fake",
    "phonon=toy",
    "target=fermi_dos",
    "temperature=300",
    "n_first=4",
    "n_more=1",
    "n_candidates=3",
    "max_labels=5",
    "target_error=1e-12",
    "supercell=[3,3,1]",
    "n_samples=2",
    "n_compared=2",
    "design.phonon=toy",
    "design.min_atoms=2",
    "design.max_atoms=6",
    "design.pool=1",
    "design.n_shapes=2",
    "design.supercell=[2,2,1]",
    "train.optimizer.max_epochs=1",
    "train.electron.size.electron.channels=[4,2]",
    "train.electron.size.electron.pseudo_channels=[0,2]",
    "train.electron.size.electron.num_radial=4",
    "train.electron.size.electron.radial_hidden=[4]",
    "train.electron.size.electron.num_layers=1",
    "train.electron.size.electron.l_max=2",
    "infer.report=false",
    "infer.valence_electrons={6:1}",
    "infer.stage.phonon.dos_mesh=[4,4,1]",
    "infer.stage.phonon.n_points=5",
    "infer.stage.sampling.interlayer_mesh=[4,4,1]",
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a structure in it, where steps are forked and not started.

    Their words are not composed first: tests/unit/commands does that.
    """
    build_graphene("monolayer").write(tmp_path / "graphene.xyz", format="extxyz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlepi.study.steps, "Popen", fork)
    monkeypatch.setattr(mlepi.commands.study, "check_steps", lambda settings: None)
    return tmp_path


def fork(command, **files):
    """Start a step; the second round has trainings and results of the first, which cost most."""
    (folder,) = (Path(word.split("=")[1]) for word in command if word.startswith("folder="))
    first = Path("study") / "round_00" / folder.name
    if command[3] in ("train", "infer") and first.is_dir():
        shutil.copytree(first, folder)
        command = [sys.executable, "-c", "pass"]
    return warm_python.Popen(command, **files)


def start(words, **options):
    return warm_python.Popen([sys.executable, "-m", "mlepi", "study", *words], **options)


def test_from_a_structure_to_a_density_of_states(place, capsys):
    """Killed in the first step, stopped by its hours in a round, and gone on with to the end."""
    words = ["graphene.xyz", *SMALL]
    with (place / "first.log").open("wb") as said:
        process = start(words, stdout=said, stderr=said)
        end = time.monotonic() + 60.0
        while not (place / "study" / "round_00" / "steps" / "design.log").is_file():
            assert time.monotonic() < end, (place / "first.log").read_text()
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not read_record(place / "study" / "round_00", "design").done
    assert main([*words, "hours=1e-6"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"spent +.* h spent; round 0 is not finished", shown)
    assert read_record(place / "study" / "round_00", "design").done
    assert not (place / "study" / "labels").exists()
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "goes on          no round finished" in shown
    assert "design done" not in shown.split("round 1 ")[0]
    assert "chose 1 of 3 structures; they should lower the networks' error" in shown
    assert "max_labels is reached" in shown
    memory = read_memory(place / "study")
    assert memory.target == "fermi_dos"
    assert [each.n_labels for each in memory.rounds] == [4, 5]
    assert [set(each.parts) for each in memory.rounds] == [{"network", "statistical"}] * 2
    first, second = (place / "study" / f"round_{number:02d}" for number in (0, 1))
    assert [atoms.info["name"][:4] for atoms in read(second / "chosen.extxyz", ":")] == ["r01_"]
    subsets = [
        json.loads((folder / "split.json").read_text())["split"] for folder in (first, second)
    ]
    assert all(set(old) <= set(subsets[1][name]) for name, old in subsets[0].items())
    assert sum(map(len, subsets[1].values())) == 5
    assert len(read(first / "forces.extxyz", ":")) == 4  # as it was, for whoever trains again
    assert "init_from=" in (second / "steps" / "train_electron_2.sh").read_text()
    choice = json.loads((second / "choice.json").read_text())
    assert choice["variances"][1] < choice["variances"][0]
    assert "| 1 | 5 |" in (place / "study" / "README.md").read_text()
    assert main(words) == 0  # nothing is left to do
    assert "done" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*words, "n_more=2"])
    assert "a study with other settings (n_more)" in capsys.readouterr().err


def test_a_step_that_fails_is_told_with_its_own_words(place, capsys):
    with pytest.raises(SystemExit):
        main(["graphene.xyz", *SMALL, "candidates=graphene.xyz", "dft.fails=[graphene]"])
    told = capsys.readouterr().err
    assert "label: got exit status 1" in told
    assert "a calculation that was asked to fail" in told
    assert "label.sh does the step" in told
