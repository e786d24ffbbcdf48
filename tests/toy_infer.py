"""``infer.py`` with two stages of another package beside its own.

As there, what takes long to import comes after the process follows the one that started it.
"""

from pathlib import Path

from mlepi.command_line import run_script

ROOT = Path(__file__).parents[1]
MODELS = [
    "phonon={_target_:toy_models.HoneycombSprings}",
    "electron={_target_:toy_models.ToyElectron}",
]
TOY_RUN = [
    *MODELS,
    "structure._target_=toy_models.build_honeycomb",
    "~structure.stacking",
    "~structure.spacing",
    "+stage.levels={level: 0, fail_at: -1}",
    "+stage.other_levels={level: 0, fail_at: -1}",
    "stage.run=levels",
    "supercell=[3,3,1]",
    "n_samples=3",
    "temperature=[0,300]",
    "report=false",
]
"""A run of this script."""


def run(config, folder):
    from toy_models import LevelsStage, OtherLevelsStage

    from mlepi.observables import all_stages
    from mlepi.pipeline import infer

    toys = {stage.name: stage for stage in (LevelsStage, OtherLevelsStage)}
    infer(config, folder, {**all_stages(), **toys})


if __name__ == "__main__":
    run_script(run, config_folder=ROOT / "conf", config_name="infer")
