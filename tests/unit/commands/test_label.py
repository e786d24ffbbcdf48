"""``mlepi label``: from a file to a set with the toy code, and what is wrong with a config."""

from pathlib import Path

import pytest

from mlepi.command_line.arguments import translate_arguments
from mlepi.command_line.composition import compose_config
from mlepi.commands.label import check_config, conclude, main
from mlepi.errors import ConfigError, DataError
from mlepi.labelling import Summary
from mlepi.labelling.labelled_set import Written
from mlepi.project_files import CONFIG_FOLDER
from mlepi.structures import HamiltonianDataset, build_graphene


@pytest.fixture
def structures(tmp_path):
    path = tmp_path / "graphene.xyz"
    build_graphene("monolayer").write(path, format="extxyz")
    return path


def test_the_command_labels_a_file(structures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = [f"structures={structures}", "dft=fake", "folder=toy", "dft.orbitals=sp"]
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert "1 labelled, 0 failed" in shown
    assert f"card             {Path('toy') / 'README.md'}" in shown.replace(f"{tmp_path}/", "")
    data = HamiltonianDataset(tmp_path / "toy" / "hamiltonians.h5")
    assert list(data.names) == ["graphene"]
    assert data.basis.shells == {6: (0, 1)}
    data.close()


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["jobs=many"], "jobs: got 'many'; expected an integer"),
        (["dft.cutoff=high"], r"dft.cutoff: got 'high'; expected a number"),
        (["+dft.cutof=300"], r"dft.cutof: got an unknown key.*'cutoff'"),
        (["+job=2"], r"job: got an unknown key.*'jobs'"),
        (["~dft"], r"dft: got None"),
        (["folder=???"], r"folder: got no value"),
    ],
)
def test_mistakes_in_the_config_are_told(overrides, match):
    config = compose_config(CONFIG_FOLDER, "label", overrides)
    with pytest.raises(ConfigError, match=match):
        check_config(config)


def test_the_defaults_are_a_code_that_can_be_built():
    plain = check_config(compose_config(CONFIG_FOLDER, "label"))
    assert plain["structures"] is None
    assert plain["dft"]["_target_"] == "mlepi.labelling.Cp2k"


def test_elements_of_a_program_are_named_on_the_command_line():
    given = [
        "dft=openmx",
        "dft.bases={B:B7.0-s2p2d1,N:N6.0-s2p2d1}",
        "dft.valence_electrons={B:3,N:5}",
        "dft.keywords={scf.Mixing.StartPulay:10}",
        "engine=dask",
        "engine.job={interface:lo}",
    ]
    plain = check_config(
        compose_config(CONFIG_FOLDER, "label", translate_arguments(given, "label"))
    )
    assert plain["dft"]["bases"] == {"B": "B7.0-s2p2d1", "N": "N6.0-s2p2d1"}
    assert plain["dft"]["keywords"] == {"scf.Mixing.StartPulay": 10}
    assert plain["engine"]["job"] == {"interface": "lo"}
    wrong = translate_arguments(["dft=siesta", "dft.potential={B:B.psml}"], "label")
    with pytest.raises(ConfigError, match=r"dft.potential: got an unknown key"):
        check_config(compose_config(CONFIG_FOLDER, "label", wrong))


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIG_FOLDER / "dft").iterdir()))
def test_every_code_composes(name):
    plain = check_config(compose_config(CONFIG_FOLDER, "label", [f"dft={name}"]))
    assert plain["dft"]["_target_"].startswith("mlepi.labelling.")


def test_the_end_tells_what_failed(tmp_path):
    failed = {f"s{number}": "no convergence" for number in range(12)}
    lines = conclude(tmp_path, Summary(Written(["a"], failed, None), ["b"]))
    assert lines[0] == "s0 failed: no convergence"
    assert any("12 in all" in line for line in lines)
    assert any("1 structures are those of another process" in line for line in lines)
    with pytest.raises(DataError, match="no convergence"):
        conclude(tmp_path, Summary(Written([], failed, None), []))
    with pytest.raises(DataError, match="no structures"):
        conclude(tmp_path, Summary(Written([], {}, None), []))
