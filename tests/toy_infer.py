"""``infer.py`` with two stages of another package beside its own."""

from pathlib import Path

from toy_models import LevelsStage, OtherLevelsStage

from mlepi.command_line import run_script

ROOT = Path(__file__).parents[1]


def run(config, folder):
    from mlepi.observables import all_stages
    from mlepi.pipeline import infer

    toys = {stage.name: stage for stage in (LevelsStage, OtherLevelsStage)}
    infer(config, folder, {**all_stages(), **toys})


if __name__ == "__main__":
    run_script(run, config_folder=ROOT / "conf", config_name="infer")
