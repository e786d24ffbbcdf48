"""The words of ``mlepi study``: those of its own, and those of the commands of its steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlepi.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mlepi.pipeline import Run
    from mlepi.study import StudySettings
    from mlepi.study.steps import Step

DRY = "--dry-run"
OF_STEPS = re.compile(
    r"(?P<step>design|label|train|infer)\.(?:(?P<part>both|electron|phonon|warm)\.)?(?P<word>.+=.*)"
)
"""A word of the command line for the commands of the steps."""


def name_structure(arguments: Sequence[str]) -> list[str]:
    """Write a file that stands for itself as ``structure=FILE``.

    Args:
        arguments: of the command line.
    """
    return [
        word if "=" in word or word.startswith(("-", "~")) else f"structure={word}"
        for word in arguments
    ]


def join_words(arguments: Sequence[str]) -> list[str]:
    """Put words for the commands of the steps into the lists of the config that hold them.

    ``design.max_atoms=64`` is ``max_atoms=64`` for ``mlepi design``, ``train.KEY=VALUE`` for all
    trainings, ``train.electron.KEY=VALUE`` for those of one kind. A word replaces the one in the
    list that has its key.

    Args:
        arguments: of the command line.
    """
    from omegaconf import OmegaConf

    from mlepi.study.settings import write_word

    found = [(word, OF_STEPS.match(word)) for word in arguments]
    rest = [word for word, match in found if match is None]
    if len(rest) == len(found):
        return rest
    config = compose("study", [word for word in rest if word != DRY])
    lists: dict[str, dict[str, str]] = {}
    for match in (match for _, match in found if match is not None):
        key = match["step"] + ("" if match["step"] != "train" else f".{match['part'] or 'both'}")
        if key not in lists:
            lists[key] = {}
            for word in OmegaConf.select(config, key):
                lists[key][str(word).partition("=")[0]] = str(word)
        lists[key][match["word"].partition("=")[0]] = match["word"]
    return [*rest, *(write_word(key, list(words.values())) for key, words in lists.items())]


def check_steps(settings: StudySettings) -> None:
    """Compose the commands of all steps, so that a mistake in their words is told at once.

    Raises:
        ConfigError: a word that its command does not understand.
    """
    from mlepi.commands import design, label
    from mlepi.study import settings as steps

    if not settings.candidates:
        design.check_config(compose(*split_words(steps.build_design(settings, 0))))
    label.check_config(compose(*split_words(steps.build_label(settings, 0))))
    for step in steps.build_trainings(settings, 1):
        if step.name.endswith("_1"):  # members differ in seeds and folders
            compose(*split_words(step))
    compose(*split_words(steps.build_infer(settings, 0, list_stages(settings))))


def open_run(words: Sequence[str]) -> Run:
    """Return the run of the folder of an inference.

    Args:
        words: of ``mlepi infer``.
    """
    from mlepi.observables import all_stages
    from mlepi.pipeline.configuration import check_config as check_inference

    config = compose("infer", words)
    return check_inference(config, all_stages()).build_run(Path(config.folder))


def compose(name: str, words: Sequence[str]) -> DictConfig:
    """Compose the config of a command.

    Args:
        name: of the command.
        words: of it.

    Raises:
        ConfigError: a word that it does not understand.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from mlepi.command_line import compose_config
    from mlepi.command_line.mistakes import explain_config_error
    from mlepi.project_files import CONFIG_FOLDER

    try:
        return compose_config(CONFIG_FOLDER, name, words)
    except (HydraException, OmegaConfBaseException) as error:
        explained = explain_config_error(error, CONFIG_FOLDER, name, list(words))
        raise ConfigError(f"mlepi {name}: {explained}") from error


def split_words(step: Step) -> tuple[str, list[str]]:
    """Return the command of a step, and its words."""
    name, *words = step.words
    return name, words


def list_stages(settings: StudySettings) -> list[str]:
    """Return the stages that know the targets of a study."""
    from mlepi.observables import all_stages
    from mlepi.study import find_stage

    return list(dict.fromkeys(find_stage(target, all_stages()) for target in settings.targets))
