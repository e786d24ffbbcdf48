import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from mlepi.checkpoint import load_model
from mlepi.command_line import (
    compose_config,
    count_epochs,
    count_samples,
    explain_config_error,
    register_stages,
    translate_arguments,
)
from mlepi.default_folder import name_settings
from mlepi.errors import ConfigError
from mlepi.observables import all_stages
from mlepi.pipeline import inference
from mlepi.pipeline.configuration import check_config
from mlepi.pipeline.sources import Source, load_electron
from mlepi.pipeline.valence import list_missing_electrons
from mlepi.project_files import PROJECT_FOLDER

CONF = Path(__file__).parents[3] / "conf"
ELECTRON = str(CONF.parent / "data/checkpoints/hedgenet_electron.ckpt")
TOYS = [
    "phonon={_target_: toy_models.HoneycombSprings}",
    "electron={_target_: toy_models.ToyElectron}",
]


def compose_infer(*arguments):
    given = {argument.split("=")[0] for argument in arguments}
    toys = [toy for toy in TOYS if toy.split("=")[0] not in given]
    return compose_config(CONF, "infer", [*toys, *arguments])


def plan_of(*arguments):
    return check_config(compose_infer(*arguments), all_stages())


def infer(config, folder):
    return inference.infer(config, folder, all_stages())


def test_run_is_what_the_config_says(tmp_path):
    arguments = ["temperature=300", "supercell=[3,3,1]", "stage.sampling.imaginary=freeze"]
    run = plan_of(*arguments).build_run(tmp_path)
    settings = run.settings
    assert settings.temperatures == (300.0,)
    assert settings.supercell == (3, 3, 1)
    assert run.stages["sampling"].imaginary == "freeze"
    assert {"structure", "phonon", "fermi_velocity", "sparse_bands"} <= set(run.stages)
    assert settings.config["temperature"] == 300
    own = [settings.batch_size, settings.prefetch, settings.compiled, settings.tf32]
    own.append(settings.radial_tables)
    assert [*own, settings.reuse] == [None, None, False, False, True, "auto"]
    gpu = plan_of("device=cuda").build_run(tmp_path, local_rank=1).settings
    assert gpu.device == "cuda:1"
    chosen = ["batch_size=3", "prefetch=true", "compile=true", "tf32=true", "reuse=never"]
    chosen.append("radial_tables=false")
    settings = plan_of(*chosen).build_run(tmp_path).settings
    own = [settings.batch_size, settings.prefetch, settings.compiled, settings.tf32]
    own.append(settings.radial_tables)
    assert [*own, settings.reuse] == [3, True, True, True, False, "never"]


PREPARATION = ["structure", "phonon", "sampling", "hamiltonian"]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("stage=hamiltonian", ["structure", "hamiltonian"]),
        ("stage=phonon", ["structure", "phonon"]),
        ("stage=all", [*PREPARATION, "fermi_velocity", "domain"]),
        ("seed=0", [*PREPARATION, "fermi_velocity", "domain"]),
        ("stage=observables", [*PREPARATION, "fermi_velocity"]),
        ("stage=bands", ["structure", "hamiltonian", "sparse_bands"]),
        ("stage=[gap,linear_response,dos]", [*PREPARATION, "gap", "dos", "linear_response"]),
        ("stage.run=[structure,phonon]", ["structure", "phonon"]),
        (
            "stage=control",
            [*PREPARATION, "tight_binding", "fermi_velocity", "control_variate"],
        ),
    ],
)
def test_stages_are_chosen_by_name_and_bring_what_they_require(choice, names):
    assert plan_of(choice).names == names


def test_the_full_list_is_every_stage_that_looks_at_samples_and_perturbation_theory():
    names = plan_of("stage=full").names
    listed = {name for name, stage in all_stages().items() if "full" in stage.lists}
    assert set(names) == {*PREPARATION, *listed} - {"committee"}  # which needs several networks
    assert names[-1] == "linear_response"  # behind the samples, which share one pass
    assert {"fermi_velocity", "self_energy", "gap", "dos", "domain"} < set(names)


def test_a_series_of_sizes_adds_the_cell_part_of_the_errors(tmp_path):
    """Whatever stages are chosen; without one the stage is in no list."""
    assert "cell_error" not in plan_of("stage=full").names
    (tmp_path / "results.h5").touch()
    names = plan_of("stage=gap", f"cell_series={tmp_path}").names
    assert names == [*PREPARATION, "gap", "cell_error"]
    with pytest.raises(ConfigError, match=r"cell_series: got 'nowhere'; expected null, or the fol"):
        plan_of("cell_series=nowhere")


@pytest.mark.parametrize("relax", ["none", "positions_and_cell"])
def test_folders_of_the_headline_tell_their_choices(relax):
    chosen = ["experiment=headline", "supercell=[7,7,1]", f"stage.structure.relax={relax}"]
    chosen.append("stage.sampling.project_out=interlayer_gamma")
    config = compose_with_hydra(*chosen)
    assert config.hydra.sweep.subdir == f"7x7_relax-{relax}_without-interlayer_gamma"
    assert config.stage.structure.hold_layers  # relaxed at the spacing as built


def compose_with_hydra(*overrides):
    """Compose with Hydra's own node, as a sweep does for each of its jobs."""
    register_stages(PROJECT_FOLDER / "conf")
    GlobalHydra.instance().clear()
    folder = str((PROJECT_FOLDER / "conf").resolve())
    with initialize_config_dir(version_base="1.3", config_dir=folder):
        return compose("infer", overrides=list(overrides), return_hydra_config=True)


def test_former_names_of_experiments_are_understood():
    assert translate_arguments(["experiment=cell_sizes", "+experiment=cell_sizes"]) == [
        "experiment=headline",
        "+experiment=headline",
    ]
    assert translate_arguments(["experiment=demo"]) == ["experiment=demo"]


@pytest.mark.parametrize(("n", "expected"), [(3, 192), (6, 48), (9, 21), (12, 12), (20, 8)])
def test_samples_are_counted_by_the_size_of_the_cell(n, expected):
    chosen = ["experiment=headline", f"supercell=[{n},{n},1]"]
    assert compose_config(PROJECT_FOLDER / "conf", "infer", chosen).n_samples == expected
    assert count_samples((n, n, 1), 1728) == expected


@pytest.mark.parametrize(
    ("n_train", "batch_size", "every", "epochs"),
    [(5, 1, 1, 600), (40, 1, 1, 75), (5, 2, 1, 1500), (3, 4, 1, 3000), (7, 1, 100, 434)],
)
def test_epochs_are_counted_by_optimizer_steps(n_train, batch_size, every, epochs):
    """What is left over in an epoch is left out, as the batches of a training do it."""
    found = count_epochs(3000, n_train, batch_size, every)
    assert found == epochs
    between = count_epochs(every, n_train, batch_size)
    assert found % between == 0
    steps = found * (n_train // min(batch_size, n_train))
    assert abs(steps - 3000) <= 0.51 * between * (n_train // min(batch_size, n_train))


def test_epochs_of_all_structures_are_not_known():
    with pytest.raises(ConfigError, match=r"data\.n_train: got null; expected a number"):
        count_epochs(3000, None, 1)


@pytest.mark.parametrize("kind", ["phonon", "electron"])
@pytest.mark.parametrize("curve", ["learning_curve", "shape_curve"])
def test_curves_have_an_equal_number_of_steps(kind, curve):
    lengths = []
    folder = PROJECT_FOLDER / "conf"
    for n_train in (5, 40, 106):
        chosen = [f"experiment={curve}_{kind}", f"data.n_train={n_train}"]
        config = compose_config(folder, "train", chosen)
        steps = config.trainer.max_epochs * (n_train // config.data.batch_size)
        lengths.append(steps)
        assert config.trainer.max_epochs % config.trainer.check_val_every_n_epoch == 0
    assert max(lengths) <= 1.03 * min(lengths)


def test_former_names_are_understood_on_the_command_line():
    assert translate_arguments(
        ["stage.observables.dispersion=linear", "~stage.bands.guess", "+stage.control.x=1"]
    ) == [
        "stage.fermi_velocity.dispersion=linear",
        "~stage.sparse_bands.guess",
        "+stage.control_variate.x=1",
    ]
    assert translate_arguments(["-m", "stage=gap,dos", "seed=1"]) == [
        "-m",
        "stage.run=gap,dos",
        "seed=1",
    ]
    config = compose_infer("stage.observables.dispersion=linear", "stage.bands.spacing=0.5")
    assert config.stage.fermi_velocity.dispersion == config.stage.self_energy.dispersion == "linear"
    assert config.stage.sparse_bands.spacing == 0.5


LENNARD_JONES = "phonon._target_=ase.calculators.lj.LennardJones"


def test_a_class_with_its_keys_takes_the_place_of_a_file():
    """In any order, and over an experiment that has a class there itself."""
    config = compose_config(CONF, "infer", ["phonon.sigma=3.4", LENNARD_JONES, "seed=1"])
    assert config.phonon == {"_target_": LENNARD_JONES.split("=")[1], "sigma": 3.4}
    model = "mlepi.reference_systems.TightBinding"
    chosen = ["experiment=toy_monolayer", f"electron._target_={model}", "electron.orbitals=sp"]
    assert compose_config(CONF, "infer", chosen).electron.orbitals == "sp"
    kept = ["experiment=toy_monolayer", "electron.orbitals=sp"]
    assert compose_config(CONF, "infer", kept).electron._target_ == model
    assert translate_arguments(["-m", "phonon._target_=a.B,c.D", "phonon.x=1,2"]) == [
        "-m",
        "phonon={_target_:a.B},{_target_:c.D}",
        "++phonon.x=1,2",
    ]


def test_electrons_of_other_elements_can_be_given():
    config = compose_config(CONF, "infer", ["valence_electrons={14: 4, 6: 1}"])
    assert config.valence_electrons == {6: 1, 14: 4}


TIGHT_BINDING = "electron._target_=mlepi.reference_systems.TightBinding"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], {6: 4}),  # by the names of the orbitals of the shipped network
        (["electron=toy"], {6: 4}),  # what the model carries
        ([TIGHT_BINDING, "electron.orbitals=s"], {6: 1}),
        (["valence_electrons={C: 6}"], {6: 6}),  # what the user says
        (["electron=toy", "valence_electrons={S: 6}"], {6: 4, 16: 6}),
    ],
)
def test_electrons_come_with_the_network(given, expected):
    plan = check_config(compose_config(CONF, "infer", ["stage=gap", *given]), all_stages())
    assert plan.plain["valence_electrons"] == expected
    assert plan.stages["gap"].valence_electrons == expected


def test_electrons_that_nobody_knows_are_asked_for_by_name():
    hidden = ["electron={_target_: toy_models.SilentToy}", "stage=gap"]
    with pytest.raises(ConfigError, match=r"valence_electrons: got none; .*\{Mo: 14, S: 6\}"):
        plan_of(*hidden)
    assert plan_of(*hidden, "valence_electrons={C: 4}").stages["gap"].valence_electrons == {6: 4}
    plan_of(hidden[0], "stage=hamiltonian")  # which counts none
    (text,) = list_missing_electrons(plan_of("stage=gap").stages.values(), (42, 6))
    assert text.startswith("valence_electrons: got none for Mo, C;")
    assert text.endswith("Give them as in 'valence_electrons={Mo: 14, C: 4}'.")


def test_folders_of_the_shipped_networks_keep_their_names():
    """Digests before the electrons came with the network: their default was {6: 4}."""
    default = compose_infer("stage=gap").folder
    assert compose_infer("stage=gap", "valence_electrons={6: 4}").folder == default
    assert compose_infer("stage=gap", "valence_electrons={6: 5}").folder != default


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data=a/b.h5"], ["data=hamiltonians", "data.path=a/b.h5"]),
        (["data=b.extxyz"], ["data=forces", "data.path=b.extxyz", "graph.cutoffs=null"]),
        (["data=b.xyz", "graph=vertices"], ["data=forces", "data.path=b.xyz", "graph=vertices"]),
        (["data=a.h5,b.h5"], ["data=hamiltonians", "data.path=a.h5,b.h5"]),
        (["data=hbn_forces"], ["data=hbn_forces"]),
        (["structure.height=20"], ["++structure.height=20"]),
        (
            ["structure._target_=ase.build.mx2", "structure.vacuum=8"],
            [
                "++structure._target_=ase.build.mx2",
                "++structure.vacuum=8",
                "~structure.stacking",
                "~structure.spacing",
            ],
        ),
    ],
)
def test_short_forms(words, expected):
    assert translate_arguments(words) == expected


def test_arguments_of_all_data_sets_need_no_plus():
    words = ["data.in_memory=false", "data.workers=2", "+data.train_order=listed"]
    data = compose_config(CONF, "train", words).data
    assert (data.in_memory, data.workers, data.train_order) == (False, 2, "listed")


def test_a_training_has_a_folder_as_an_inference_has():
    assert translate_arguments(["folder=a"]) == ["folder=a"]
    assert translate_arguments(["folder=a"], "train") == ["hydra.run.dir=a"]
    assert translate_arguments(["-m", "folder=a"], "train") == ["-m", "hydra.sweep.dir=a"]
    either = translate_arguments(["experiment=ablation_phonon", "folder=a"], "train")
    assert either[1:] == ["hydra.run.dir=a", "hydra.sweep.dir=a"]  # it brings a sweep along


@pytest.mark.parametrize("script", ["infer", "train"])
def test_further_processes_log_under_the_name_of_their_script(script):
    """Lightning calls them all after a training."""
    words = ["hydra.job.name=train_ddp_process_3", "hydra.output_subdir=null"]
    assert translate_arguments(words, script)[0] == f"hydra.job.name={script}_process_3"


def test_any_argument_of_a_builder_can_be_given():
    config = compose_infer("structure.lattice_constant=2.5", "structure.height=20")
    assert config.structure.lattice_constant == 2.5
    mx2 = ["structure._target_=ase.build.mx2", "structure.formula=MoS2", "structure.vacuum=8"]
    assert set(compose_infer(*mx2).structure) == {"_target_", "formula", "vacuum"}
    with pytest.raises(ConfigError, match=r"structure\.stackin: got an unknown key"):
        plan_of("structure.stackin=AA")


def test_a_key_without_a_class_asks_for_the_class():
    argument = "phonon.sigma=3.4"
    with pytest.raises(ConfigCompositionException) as caught:
        compose_config(CONF, "infer", [argument])
    text = str(explain_config_error(caught.value, CONF, "infer", [argument]))
    assert text.startswith("phonon.sigma: got a key of phonon, which is 'data/checkpoints/")
    assert text.endswith("Give phonon._target_=MODULE.CLASS as well.")


def test_settings_of_a_stage_that_is_only_required_can_be_given():
    plan = plan_of("stage=gap", "stage.phonon.displacement=0.02")
    assert plan.stages["phonon"].displacement == 0.02


def test_a_cell_of_its_own_has_a_folder_of_its_own():
    chosen = ("stage=phonon", "stage=hamiltonian", "stage=bands")
    folders = [compose_infer(choice).folder for choice in chosen]
    names, digests = zip(*(folder.rsplit("-", 1) for folder in folders), strict=True)
    assert names == ("outputs/infer", "outputs/hamiltonian", "outputs/bands")
    assert set(digests) == {digests[0]}
    assert compose_infer("stage=hamiltonian", "stage.folder=x").folder == f"outputs/x-{digests[0]}"
    assert compose_infer("folder=here", "stage=bands").folder == "here"


LARGER = {
    "n_samples": 7,
    "temperature": [0, 1000],
    "stage.run": ["gap", "dos"],
    "stage.sampling.target_error": 5e3,
    "target_error": 5e3,
    "relative_error": 0.005,
    "device": "cuda",
    "reuse": "always",
    "trainer.devices": 2,
    "engine": {"_target_": "mlepi.pipeline.engines.Ranks"},
}
OTHER = {
    "seed": 1,
    "supercell": [3, 3, 1],
    "structure.spacing": 3.3,
    "sampler": {"_target_": "mlepi.physics.vibrations.samplers.Sobol"},
    "electron": "toy",
    "level_shift": "off",
    "dtype": "float64",
    "stage.phonon.displacement": 0.02,
    "stage.dos.width": 0.123,
    "valence_electrons": {6: 6},
}


def test_the_default_folder_is_named_by_what_decides_the_results(tmp_path):
    default = compose_infer()
    assert re.fullmatch(r"outputs/infer-[0-9a-f]{8}", default.folder)

    def folder_with(key, value):
        config = OmegaConf.create(OmegaConf.to_container(default, resolve=False))
        OmegaConf.update(config, key, value, merge=False)
        return config.folder

    assert {folder_with(*change) for change in LARGER.items()} == {default.folder}
    others = {folder_with(*change) for change in OTHER.items()}
    assert len({default.folder} | others) == 1 + len(OTHER)
    value = default.stage.phonon.displacement
    assert folder_with("stage.phonon.displacement", value) == default.folder
    # a stage of a package that was installed meanwhile
    config = OmegaConf.create(OmegaConf.to_container(default, resolve=False))
    OmegaConf.update(config, "stage.new", {"key": 1})
    (tmp_path / "new.yaml").write_text("key: 1\n")
    files = {path.stem: path for path in (CONF / "stage").glob("*.yaml")}
    files["new"] = tmp_path / "new.yaml"
    assert default.folder == f"outputs/infer-{name_settings(config, files)}"
    config.stage.new.key = 2
    assert default.folder != f"outputs/infer-{name_settings(config, files)}"


def test_structure_may_be_a_file(tmp_path):
    path = tmp_path / "POSCAR"
    path.write_text("x")
    assert plan_of(f"structure={path}").plain["structure"] == str(path)


def test_every_mistake_is_reported_at_once(tmp_path):
    config = compose_infer(
        "+temprature=3",
        "temperature=[0,-5]",
        "n_samples=0",
        "relative_error=0",
        "seed=1.5",
        "supercell=[6,6]",
        "dtype=float16",
        "device=tpu",
        "structure=nowhere.vasp",
        "+stage.phonon.displacment=0.1",
        "+structure.stackin=AA",
        "trainer.devices=0",
        "+trainer.acelerator=gpu",
        "+stage.sparse_band=1",
        "electron=null",
        "batch_size=0",
        "prefetch=2",
        "compile=1",
        "radial_tables=2",
        "tf32=null",
    )
    OmegaConf.update(config, "phonon", "missing.ckpt")
    with pytest.raises(ConfigError) as caught:
        check_config(config, all_stages())
    text = str(caught.value)
    for expected in (
        "temprature: got an unknown key; expected a key of conf/infer.yaml. Did you mean "
        "'temperature'?",
        "temperature: got [0, -5]; expected a number of kelvin ≥ 0, or a list of different ones",
        "n_samples: got 0; expected a positive integer",
        "relative_error: got 0; expected null or a positive number, in parts of the target",
        "seed: got 1.5; expected an integer ≥ 0",
        "supercell: got [6, 6]; expected three positive integers such as [6,6,1]",
        "dtype: got 'float16'; expected float32 or float64",
        "device: got 'tpu'; expected cpu, cuda or cuda:N",
        "stage.phonon.displacment: got an unknown key; expected a key of stage.phonon. Did you "
        "mean 'displacement'?",
        "trainer.devices: got 0; expected a positive integer",
        "trainer.acelerator: got an unknown key; expected a key of trainer. Known: devices, "
        "num_nodes.",
        "stage.sparse_band: got an unknown key; expected a key of stage. Did you mean "
        "'sparse_bands'?",
        "electron: got nothing; expected a path, toy, or {_target_: …}, or a list of different "
        "ones. This stage needs it.",
        "phonon: got 'missing.ckpt'; expected an existing file",
        "batch_size: got 0; expected null or a positive integer",
        "prefetch: got 2; expected null, true or false",
        "compile: got 1; expected true or false",
        "radial_tables: got 2; expected true or false",
        "tf32: got None; expected true or false",
    ):
        assert expected in text
    assert len(text.splitlines()) == 20


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["overlap=[none.pao]"],
            "overlap: got ['none.pao']; expected null, an existing table, existing .pao or "
            ".ion.xml files, a folder with S of every structure, or {program: COMMAND}",
        ),
        (["overlap={program:no_such_program}"], "overlap: got {'program': 'no_such_program'}; exp"),
        (["overlap={program:[]}"], "overlap: got {'program': []}; expected null"),
        (["overlap={programme:ls}"], "overlap: got {'programme': 'ls'}; expected null"),
        (["overlap=[conf,data]"], "overlap: got ['conf', 'data']; expected null"),
        (["~seed"], "seed: got no such key; expected a value. Take it over from conf/infer.yaml."),
        (["~trainer.devices"], "trainer.devices: got no such key; expected a value."),
        (
            ["structure=nowhere.vasp"],
            "structure: got 'nowhere.vasp'; expected an existing file. Give a file relative",
        ),
        (
            ["+structure.stackin=AA"],
            "structure.stackin: got an unknown key; expected a key of structure. Did you mean "
            "'stacking'?",
        ),
        (["temperature=[0,0.0]"], "temperature: got [0, 0.0]; expected a number of kelvin"),
        (["folder=''"], "folder: got ''; expected the name of a folder. Leave it out"),
        (["temperature=???"], "temperature: got no value (???); expected a value"),
        (
            ["structure._target_=mlepi.structures.build_graphite"],
            "structure._target_: got 'mlepi.structures.build_graphite'; expected a class",
        ),
        (
            ["structure._target_=mlepi.structures.build_twisted_bilayer", "~structure.stacking"],
            "structure.m: got nothing",
        ),
        (
            ["stage.structure.relax=all"],
            "stage.structure.relax: got 'all'; expected 'none' or 'positions' or "
            "'positions_and_cell'",
        ),
        (
            ["stage.run=[phonons]"],
            "stage.run: got 'phonons'; expected names of stages, or of a list of them. Did you "
            "mean 'phonon'?",
        ),
        (["stage.phonon=null"], "stage.phonon: got None; expected the settings of the stage."),
        (["reuse=sometimes"], "reuse: got 'sometimes'; expected one of ['auto', 'always'"),
        (["stage.run=[]"], "stage.run: got []; expected a name or a list of names."),
        (["~stage.gap.mesh"], "stage.gap.mesh: got nothing; expected a value"),
        (
            ["structure=toy"],
            "structure: got 'toy'; expected an existing file. Give a file relative",
        ),
        (
            ["electron=tooy"],
            "electron: got 'tooy'; expected an existing file or toy. Give a file",
        ),
        (["phonon=3"], "phonon: got 3; expected a path, toy, or {_target_: …}"),
        (["phonon=[toy,toy]"], "phonon: got ['toy', 'toy']; expected a path, toy, or"),
        (["phonon=[]"], "phonon: got []; expected a path, toy, or {_target_: …}, or a list"),
        (["electron=[toy,tooy]"], "electron: got 'tooy'; expected an existing file or toy."),
        (["committee=median"], "committee: got 'median'; expected one of ['mean', 'first']"),
        (["stage.committee.n_samples=1"], "stage.committee.n_samples: got 1; expected at least 2"),
        (
            ["valence_electrons={6:-1}"],
            "valence_electrons: got {6: -1}; expected a number > 0 per element",
        ),
        (["logger.wandb.offline=7"], "logger.wandb.offline: got 7; expected true or false"),
        (["+logger.wandb.projct=x"], "got an unknown key; expected a key of logger.wandb"),
        (
            ["stage.domain.openmx.criterion=[]"],
            "stage.domain.openmx.criterion: got []; expected a number",
        ),
        (
            ["+stage.domain.openmx.criterio=1"],
            "stage.domain.openmx.criterio: got an unknown key",
        ),
        (["stage.domain.vasp.primitive_kgrid=[9,9]"], "vasp.primitive_kgrid: got [9, 9]; expected"),
    ],
)
def test_mistakes(tmp_path, overrides, expected):
    with pytest.raises(ConfigError) as caught:
        plan_of(*overrides)
    assert expected in str(caught.value)


def test_a_network_is_needed_only_by_the_stages_that_use_it():
    plan_of("phonon=missing.ckpt", "stage=hamiltonian")
    plan_of("electron=missing.ckpt", "stage=sampling")
    with pytest.raises(ConfigError, match=r"phonon: got 'missing.ckpt'"):
        plan_of("phonon=missing.ckpt", "stage=structure", "stage.structure.relax=positions")


def test_a_list_of_networks_brings_its_comparison(tmp_path):
    other = "{_target_:mlepi.reference_systems.TightBinding,orbitals:s}"
    plan = plan_of(f"electron=[toy,{other}]", "phonon=[toy]", "committee=first")
    assert plan.names[-1] == "committee"
    settings = plan.build_run(tmp_path).settings
    assert settings.committees == ("electron",)
    assert settings.electron.drive == "first"
    assert settings.phonon == Source("phonon", "toy", "first")
    assert "committee" not in plan_of("electron=[toy]").names
    assert plan_of("electron=[toy]", "stage=committee").names[-1] == "committee"


def test_target_that_fails_says_why(tmp_path):
    run = plan_of("structure.stacking=XY").build_run(tmp_path)
    with pytest.raises(
        ConfigError, match=r"structure: got mlepi.structures.build_graphene\(stacking=XY, .*'XY'"
    ):
        run.settings.structure.build()


def test_default_checkpoints_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = compose_config(CONF, "infer")
    settings = check_config(config, all_stages()).build_run(tmp_path).settings
    assert settings.phonon.path == CONF.parent / "data/checkpoints/hedgenet_phonon.ckpt"
    assert settings.electron.path.is_file()
    local = tmp_path / "data/checkpoints/hedgenet_phonon.ckpt"
    local.parent.mkdir(parents=True)
    local.write_text("x")
    assert settings.phonon.path == local


def test_a_device_that_is_not_there_stops_the_run_before_its_first_stage(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(
        ConfigError, match=r"device: got 'cuda:0' \(.*\); expected a device of this machine"
    ):
        infer(compose_infer("device=cuda"), tmp_path)
    assert capsys.readouterr().out == ""


def test_compiled_kernels_where_there_are_none(tmp_path, monkeypatch):
    run = plan_of("compile=true").build_run(tmp_path)
    assert run.networks.calculator is not None  # a target decides for itself
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
