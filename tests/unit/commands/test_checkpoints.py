"""``mlepi checkpoints``: the list, model cards and paths of the networks that come along."""

from pathlib import Path

import pytest

from mlepi.commands import checkpoints
from mlepi.commands.main import main
from mlepi.project_files import PROJECT_FOLDER

FILES = sorted((PROJECT_FOLDER / "data" / "checkpoints").glob("*.ckpt"))


@pytest.mark.parametrize("arguments", [[], ["list"]])
def test_the_list_has_a_line_each(arguments, capsys):
    assert main(["checkpoints", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [file.stem for file in FILES]
    assert all(" MB  " in line for line in lines)
    assert any("forces" in line for line in lines)


@pytest.mark.parametrize("name", ["hedgenet_phonon", "hedgenet_phonon.ckpt"])
def test_path_and_card(name, capsys):
    assert main(["checkpoints", "path", name]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path in FILES
    assert main(["checkpoints", "card", name]) == 0
    assert capsys.readouterr().out == path.with_suffix(".md").read_text("utf-8") + "\n"


def test_mistakes_are_told(tmp_path, monkeypatch, capsys):
    assert main(["checkpoints", "card", "hedgnet_phonon"]) == 1
    assert "Did you mean 'hedgenet_phonon'?" in capsys.readouterr().err
    (tmp_path / "bare.ckpt").write_bytes(b"0")
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    assert main(["checkpoints"]) == 0
    assert capsys.readouterr().out.split(maxsplit=1)[1].strip() == "0.0 MB  no card"
    assert main(["checkpoints", "card", "bare"]) == 1
    assert "expected a model card" in capsys.readouterr().err


def test_members_of_a_committee_share_a_card(tmp_path, monkeypatch, capsys):
    for name in ("net.ckpt", "net_2.ckpt"):
        (tmp_path / name).write_bytes(b"0")
    (tmp_path / "net.md").write_text("# net\n\nForces of both.\n")
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    assert main(["checkpoints"]) == 0
    assert capsys.readouterr().out.count("Forces of both") == 2
    assert main(["checkpoints", "card", "net_2"]) == 0
    assert capsys.readouterr().out.startswith("# net\n")
