"""``mlepi design``: from a file to a folder, and what is wrong with a config."""

import pytest

from mlepi.command_line.composition import compose_config
from mlepi.commands.design import build_settings, check_config, find_cost, main
from mlepi.errors import ConfigError
from mlepi.labelling import read_structures
from mlepi.project_files import CONFIG_FOLDER
from mlepi.structures import build_graphene

SMALL = ["n_structures=2", "pool=1", "max_atoms=16", "min_atoms=4", "supercell=[2,2,1]"]


@pytest.fixture
def structure(tmp_path):
    path = tmp_path / "graphene.xyz"
    build_graphene("monolayer").write(path, format="extxyz")
    return path


def check(*overrides):
    return check_config(compose_config(CONFIG_FOLDER, "design", ["structure=x.cif", *overrides]))


def test_the_command_proposes_structures(structure, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = [f"structure={structure}", "folder=d", "estimate=[2,0.1]", *SMALL]
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert "material         C2, a slab" in shown
    assert "2 of 2 cells are narrower than the receptive field, 10 Å" in shown
    assert "this material has no kind slide, spacing, twist" in shown
    assert "labels cost about" in shown
    structures = read_structures([tmp_path / "d" / "structures.extxyz"])
    assert [one.notes["kind"] for one in structures] == ["thermal", "strain"]
    assert main(given) == 0


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["n_structures=many"], "n_structures: got 'many'; expected an integer"),
        (["n_structures=0"], "n_structures: got 0; expected 1 or more"),
        (["slide=2"], "slide: got 2; expected 0 or more, 1 at most"),
        (["temperature=[300,-1]"], r"temperature: got \[300, -1\]; expected 0 or more"),
        (["temperature=[]"], "temperature: got \\[\\]; expected one at least"),
        (["+shares.twits=1"], r"shares.twits: got an unknown key.*'twist'"),
        (["shares={thermal: 0}", *(f"shares.{k}=0" for k in ("slide", "spacing"))], "shares"),
        (["+sede=2"], r"sede: got an unknown key.*'seed'"),
        (["min_atoms=200"], "min_atoms: got 200; expected max_atoms=128 at most"),
        (["cpu_hours=3"], "cpu_hours: got 3; expected what a label costs"),
        (["estimate=[2,1]", "measured=x"], "estimate: got one, beside measured"),
        (["estimate=[2]"], r"estimate: got \[2\]"),
        (["supercell=[2,2]"], r"supercell: got \[2, 2\]"),
        (["phonon={_target_: no.such.Thing}"], r"phonon._target_: got 'no.such.Thing'"),
    ],
)
def test_mistakes_in_the_config_are_told(overrides, match):
    if match == "shares":
        overrides += ["shares.strain=0", "shares.twist=0"]
    with pytest.raises(ConfigError, match=match) as caught:
        check(*overrides)
    assert len(str(caught.value).splitlines()) == 1


def test_several_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        check_config(compose_config(CONFIG_FOLDER, "design", ["pool=0.5", "seed=-1"]))
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["structure", "pool", "seed"]


def test_a_file_that_is_not_there_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["structure=none.cif", "folder=d"])
    assert "none.cif" in capsys.readouterr().err


def test_a_builder_may_stand_in_the_place_of_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    builder = ["structure._target_=mlepi.structures.build_graphene", "structure.stacking=monolayer"]
    assert main([*builder, "folder=d", "shares={thermal:1}", "phonon=toy", *SMALL]) == 0
    assert "2 structures" in capsys.readouterr().out


def test_settings_are_those_of_the_config():
    plain = check("temperature=300", "estimate=[10,2]", "power=1")
    settings = build_settings(plain)
    assert settings.ranges.temperatures == (300.0,)
    assert (settings.reach, settings.supercell) == (10.0, None)
    assert find_cost(plain).estimate(20) == pytest.approx(4.0)
    assert find_cost(check()) is None


def test_checkpoints_tell_their_reach():
    plain = check("reach=data/checkpoints/hedgenet_phonon.ckpt")
    assert build_settings(plain).reach == pytest.approx(12.0)
