"""``mlepi split``: both kinds of data, a file that is never overwritten, and its use."""

import json
import shutil

import pytest

from mlepi.commands.main import main
from mlepi.project_files import PROJECT_FOLDER
from mlepi.structures import (
    HamiltonianDataset,
    read_forces_dataset,
    read_split,
    split_structures,
    write_extxyz,
)

DATA = PROJECT_FOLDER / "data" / "blg_openmx"


def test_forces_are_split_beside_the_data(tmp_path, capsys):
    data = shutil.copy(DATA / "forces.extxyz", tmp_path / "forces.extxyz")
    assert main(["split", str(data), "--fractions", "0.6", "0.2", "0.2", "--seed", "3"]) == 0
    file = tmp_path / "forces.split.json"
    content = json.loads(file.read_text())
    sizes = {subset: len(names) for subset, names in content["split"].items()}
    n_structures = sum(sizes.values())
    assert sizes["train"] == pytest.approx(0.6 * n_structures, abs=1)
    assert content["provenance"]["seed"] == 3
    shown = capsys.readouterr().out
    assert f"train {sizes['train']}, val {sizes['val']}, test {sizes['test']}" in shown
    assert f"data.split={file}" in shown


def test_without_options_it_is_what_a_training_makes(tmp_path):
    data = shutil.copy(DATA / "forces.extxyz", tmp_path / "forces.extxyz")
    assert main(["split", str(data)]) == 0
    structures = read_forces_dataset(data)
    split = read_split(tmp_path / "forces.split.json", [s.name for s in structures])
    assert split == split_structures(structures)[0]


def test_names_tell_the_kind_where_labels_do_not(tmp_path):
    structures = read_forces_dataset(DATA / "forces.extxyz")[:40]
    for structure in structures:
        structure.provenance.clear()
    write_extxyz(tmp_path / "x.extxyz", structures)
    file = tmp_path / "split.json"
    for options, n_kinds in (
        ([], 1),
        (["--by-name"], len({s.name.split("_")[0] for s in structures})),
    ):
        assert main(["split", str(tmp_path / "x.extxyz"), *options, "--output", str(file)]) == 0
        assert len(json.loads(file.read_text())["provenance"]["strata"]) == n_kinds
        file.unlink()


def test_every_kind_of_hamiltonians_is_in_every_subset(tmp_path):
    data, file = DATA / "hamiltonians.h5", tmp_path / "split.json"
    assert main(["split", str(data), "--output", str(file)]) == 0
    names = HamiltonianDataset(data).names
    split = read_split(file, names)
    kinds = {name.split("_")[0] for name in names}
    frequent = {kind for kind in kinds if sum(name.startswith(kind) for name in names) > 15}
    assert frequent
    for subset in ("train", "val", "test"):
        assert frequent <= {name.split("_")[0] for name in split[subset]}


def test_a_split_is_never_overwritten(tmp_path, capsys):
    file = tmp_path / "split.json"
    file.write_text("of a model in use")
    assert main(["split", str(DATA / "forces.extxyz"), "--output", str(file)]) == 1
    assert file.read_text() == "of a model in use"
    assert f"got {file}, which exists; expected a new file." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "options", "text"),
    [
        ("nowhere.extxyz", [], "nowhere.extxyz"),
        ("nowhere.h5", [], "nowhere.h5"),
        (
            DATA / "forces.extxyz",
            ["--fractions", "0.8", "0.1", "0.2"],
            "split: got [0.8, 0.1, 0.2]",
        ),
    ],
)
def test_mistakes_are_told(data, options, text, tmp_path, capsys):
    output = tmp_path / "split.json"
    assert main(["split", str(data), *options, "--output", str(output)]) == 1
    assert text in capsys.readouterr().err
    assert not output.exists()
