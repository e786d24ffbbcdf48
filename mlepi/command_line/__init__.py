"""The command line of the scripts: composition with Hydra, start and end of a run."""

from mlepi.command_line.arguments import translate_arguments
from mlepi.command_line.callbacks import (
    CellSizes,
    FreeFolder,
    Inferences,
    SweepEnd,
    Trainings,
)
from mlepi.command_line.composition import PluginConfigs, compose_config
from mlepi.command_line.mistakes import explain_config_error, find_user_folders
from mlepi.command_line.resolvers import (
    count_epochs,
    count_samples,
    register_names,
    register_stages,
)
from mlepi.command_line.script import run_script

__all__ = [
    "CellSizes",
    "FreeFolder",
    "Inferences",
    "PluginConfigs",
    "SweepEnd",
    "Trainings",
    "compose_config",
    "count_epochs",
    "count_samples",
    "explain_config_error",
    "find_user_folders",
    "register_names",
    "register_stages",
    "run_script",
    "translate_arguments",
]
