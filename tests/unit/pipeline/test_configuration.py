from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mlepi.checkpoint import load_model
from mlepi.errors import ConfigError
from mlepi.pipeline import inference
from mlepi.pipeline.configuration import build_run, check_config
from mlepi.pipeline.inference import infer
from mlepi.pipeline.sources import Source, load_electron

CONF = Path(__file__).parents[3] / "conf"
ELECTRON = str(CONF.parent / "data/checkpoints/hedgenet_electron.ckpt")
TOYS = [
    "phonon={_target_: toy_models.HoneycombSprings}",
    "electron={_target_: toy_models.ToyElectron}",
]


def compose_infer(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("infer", overrides=[*TOYS, *overrides])


def test_run_is_what_the_config_says(tmp_path):
    config = compose_infer(
        "temperature=300", "supercell=[3,3,1]", "stage.sampling.imaginary=freeze"
    )
    run = build_run(config, tmp_path)
    assert run.temperatures == (300.0,)
    assert run.supercell == (3, 3, 1)
    assert run.stages["sampling"].imaginary == "freeze"
    assert {"structure", "phonon", "sampling", "hamiltonian", "observables", "bands"} <= set(
        run.stages
    )
    assert run.config["temperature"] == 300
    assert build_run(compose_infer("device=cuda"), tmp_path, local_rank=1).device == "cuda:1"
    assert (run.batch_size, run.prefetch, run.compiled, run.tf32) == (None, None, False, False)
    run = build_run(
        compose_infer("batch_size=3", "prefetch=true", "compile=true", "tf32=true"), tmp_path
    )
    assert (run.batch_size, run.prefetch, run.compiled, run.tf32) == (3, True, True, True)


@pytest.mark.parametrize(
    ("choice", "names"),
    [("hamiltonian", ["structure", "hamiltonian"]), ("phonon", ["structure", "phonon"])],
)
def test_stage_is_chosen_by_name(choice, names):
    assert check_config(compose_infer(f"stage={choice}"))["stage"]["run"] == names


def test_a_single_hamiltonian_has_a_folder_of_its_own():
    assert [compose_infer(f"stage={name}").folder for name in ("all", "phonon", "hamiltonian")] == [
        "outputs/infer",
        "outputs/infer",
        "outputs/hamiltonian",
    ]
    assert compose_infer("folder=here").folder == "here"


def test_structure_may_be_a_file(tmp_path):
    path = tmp_path / "POSCAR"
    path.write_text("x")
    assert check_config(compose_infer(f"structure={path}"))["structure"] == str(path)


def test_every_mistake_is_reported_at_once(tmp_path):
    config = compose_infer(
        "+temprature=3",
        "temperature=[0,-5]",
        "n_samples=0",
        "seed=1.5",
        "supercell=[6,6]",
        "dtype=float16",
        "device=tpu",
        "structure=nowhere.vasp",
        "+stage.phonon.displacment=0.1",
        "+structure.stackin=AA",
        "trainer.devices=0",
        "+trainer.acelerator=gpu",
        "+stage.observable=1",
        "electron=null",
        "batch_size=0",
        "prefetch=2",
        "compile=1",
        "tf32=null",
    )
    OmegaConf.update(config, "phonon", "missing.ckpt")
    with pytest.raises(ConfigError) as caught:
        check_config(config)
    text = str(caught.value)
    for expected in (
        "temprature: got an unknown key; expected a key of conf/infer.yaml. Did you mean "
        "'temperature'?",
        "temperature: got [0, -5]; expected a number of kelvin ≥ 0, or a list of different ones",
        "n_samples: got 0; expected a positive integer",
        "seed: got 1.5; expected an integer ≥ 0",
        "supercell: got [6, 6]; expected three positive integers such as [6,6,1]",
        "dtype: got 'float16'; expected float32 or float64",
        "device: got 'tpu'; expected cpu, cuda or cuda:N",
        "stage.phonon.displacment: got an unknown key; expected a key of stage.phonon. Did you "
        "mean 'displacement'?",
        "trainer.devices: got 0; expected a positive integer",
        "trainer.acelerator: got an unknown key; expected a key of trainer. Known: devices, "
        "num_nodes.",
        "stage.observable: got an unknown key; expected a key of stage. Did you mean "
        "'observables'?",
        "electron: got nothing; expected a path, toy, or {_target_: …}. This stage needs it.",
        "phonon: got 'missing.ckpt'; expected an existing file",
        "batch_size: got 0; expected null or a positive integer",
        "prefetch: got 2; expected null, true or false",
        "compile: got 1; expected true or false",
        "tf32: got None; expected true or false",
    ):
        assert expected in text
    assert len(text.splitlines()) == 18


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["overlap=[none.pao]"],
            "overlap: got ['none.pao']; expected null, an existing table, or existing .pao files",
        ),
        (["~seed"], "seed: got no such key; expected a value. Take it over from conf/infer.yaml."),
        (["~trainer.devices"], "trainer.devices: got no such key; expected a value."),
        (
            ["structure=nowhere.vasp"],
            "structure: got 'nowhere.vasp'; expected an existing file. Correct the path.",
        ),
        (
            ["+structure.stackin=AA"],
            "structure.stackin: got an unknown key; expected a key of structure. Did you mean "
            "'stacking'?",
        ),
        (["temperature=[0,0.0]"], "temperature: got [0, 0.0]; expected a number of kelvin"),
        (["temperature=???"], "temperature: got no value (???); expected a value"),
        (
            ["structure._target_=mlepi.structures.build_graphite"],
            "structure._target_: got 'mlepi.structures.build_graphite' (",
        ),
        (
            ["structure._target_=mlepi.structures.build_twisted_bilayer", "~structure.stacking"],
            "structure.m: got nothing",
        ),
        (
            ["stage.structure.relax=all"],
            "stage.structure.relax: got 'all'; expected one of ['none', 'positions', "
            "'positions_and_cell']",
        ),
        (
            ["stage.run=[phonons]"],
            "stage.run: got ['phonons']; expected a list of names among structure, phonon",
        ),
        (["stage.phonon=null"], "stage.phonon: got None; expected {_target_: …}. Name a class."),
        (["structure=toy"], "structure: got 'toy'; expected an existing file. Correct the path."),
        (
            ["electron=tooy"],
            "electron: got 'tooy'; expected an existing file or toy. Correct the path.",
        ),
        (["phonon=3"], "phonon: got 3; expected a path, toy, or {_target_: …}"),
        (
            ["valence_electrons={6:-1}"],
            "valence_electrons: got {6: -1}; expected a number > 0 per atomic number",
        ),
    ],
)
def test_mistakes(tmp_path, overrides, expected):
    config = compose_infer(*overrides)
    with pytest.raises(ConfigError) as caught:
        build_run(config, tmp_path)
    assert expected in str(caught.value)


def test_a_network_is_needed_only_by_the_stages_that_use_it():
    check_config(compose_infer("phonon=missing.ckpt", "stage=hamiltonian"))
    check_config(compose_infer("electron=missing.ckpt", "stage=sampling"))
    with pytest.raises(ConfigError, match=r"phonon: got 'missing.ckpt'"):
        check_config(
            compose_infer(
                "phonon=missing.ckpt", "stage=structure", "stage.structure.relax=positions"
            )
        )


def test_target_that_fails_says_why(tmp_path):
    run = build_run(compose_infer("structure.stacking=XY"), tmp_path)
    with pytest.raises(
        ConfigError, match=r"structure: got mlepi.structures.build_graphene\(stacking=XY, .*'XY'"
    ):
        run.structure.build()


def test_default_checkpoints_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("infer")
    run = build_run(config, tmp_path)
    assert run.phonon.path == CONF.parent / "data/checkpoints/hedgenet_phonon.ckpt"
    assert run.electron.path.is_file()
    local = tmp_path / "data/checkpoints/hedgenet_phonon.ckpt"
    local.parent.mkdir(parents=True)
    local.write_text("x")
    assert run.phonon.path == local


def test_a_device_that_is_not_there_stops_the_run_before_its_first_stage(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(
        ConfigError, match=r"device: got 'cuda:0' \(.*\); expected a device of this machine"
    ):
        infer(compose_infer("device=cuda"), tmp_path)
    assert capsys.readouterr().out == ""


def test_compiled_kernels_where_there_are_none(tmp_path, monkeypatch):
    run = build_run(compose_infer("compile=true"), tmp_path)
    assert run.calculator is not None  # a target decides for itself
    monkeypatch.delattr(type(load_model(ELECTRON)._model), "compile_kernels", raising=False)
    with pytest.raises(
        ConfigError, match=r"compile: got true for .*; expected a network with compiled kernels"
    ):
        load_electron(Source("electron", ELECTRON), compiled=True)


def test_tf32_holds_during_the_run_only_and_on_a_gpu_only(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        inference, "run_stages", lambda *_: seen.append(torch.get_float32_matmul_precision())
    )
    monkeypatch.setattr("mlepi.predictors.predictor.check_device", lambda _: None)
    before = torch.get_float32_matmul_precision()
    for overrides in (["tf32=true"], ["tf32=true", "device=cuda"], ["device=cuda"]):
        infer(compose_infer(*overrides), tmp_path)
    assert seen == ["highest", "high", "highest"]
    assert torch.get_float32_matmul_precision() == before
