"""Names of sweeps and jobs: the same command, the same folders."""

from mlepi.sweep_names import LONGEST, is_free, name_job, name_sweep, split_override

GIVEN = ["-m", "model=mace,hedgenet_phonon", "seed=1,2", "optimizer.max_epochs=5", "logger=csv"]


def test_the_name_of_a_sweep_is_that_of_its_command():
    name = name_sweep(GIVEN)
    assert name == name_sweep(["seed=1,2", *GIVEN[:2], GIVEN[3], "hydra.verbose=true"])
    assert name == name_sweep([*GIVEN, "trainer.max_time='01:00:00'", "++logger.wandb.project=x"])
    assert name.startswith("model=mace,hedgenet_phonon_optimizer.max_epochs=5_seed=1,2_")
    others = [[*GIVEN, "dtype=float64"], [*GIVEN[:2], *GIVEN[3:]], ["-m", "seed=1,2"], ["-m"]]
    assert len({name, *map(name_sweep, others)}) == 5


def test_long_names_stay_apart():
    long = [f"model.key_{i}={i}" for i in range(40)]
    first, second = name_sweep([*long, "a=1"]), name_sweep([*long, "z=1"])
    assert first != second
    assert len(first) <= LONGEST + 9
    jobs = {name_job([*long, f"z={i}"], [], {}) for i in range(3)}
    assert len(jobs) == 3


def test_a_job_is_named_after_what_is_swept():
    overrides = ["model=mace", "seed=2", "optimizer.max_epochs=5", "logger=csv"]
    assert name_job(overrides, GIVEN, None) == "model=mace,seed=2"
    # swept by an experiment, and given on the command line: named all the same
    swept = {"model": "mace,deeph", "seed": "1,2"}
    assert name_job(["model=mace", "seed=2"], ["seed=2"], swept) == "model=mace,seed=2"
    assert (
        name_job(["model=mace", "dtype=float64"], ["model=mace"], {}) == "model=mace,dtype=float64"
    )
    assert name_job(["dtype=float64"], ["dtype=float64"], {}) == "single"
    assert name_job(["x=[1,2]"], ["x=[1,2],[3]"], None).startswith("x=_1,2_")


def test_free_keys():
    assert is_free("logger")
    assert is_free("logger.wandb.project")
    assert not is_free("loggers")
    assert split_override("++trainer.max_time='1'") == ("trainer.max_time", "'1'")
    assert split_override("data@data=toy") == ("data", "toy")
