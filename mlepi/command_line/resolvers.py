"""What configs can ask for beside values: stages, counts, and names of folders."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from mlepi.default_folder import build_resolver
from mlepi.errors import ConfigError, message
from mlepi.plugins import find_config_folders
from mlepi.sweep_names import name_job, name_sweep


def register_stages(config_folder: Path) -> None:
    """Let ``stage: every`` stand for the settings of all stages, one file each in ``conf/stage``.

    Those of other packages count as well. Configs can also count samples by the size of a cell,
    ``${samples_of_cells:${supercell},1728}``, epochs by the number of optimizer steps,
    ``${epochs_of_steps:4000,${data.n_train},${data.batch_size}}``, and name a folder after the
    settings, ``${digest_of_settings:}``.

    Args:
        config_folder: folder of the YAML files.
    """
    OmegaConf.register_new_resolver("samples_of_cells", count_samples, replace=True)
    OmegaConf.register_new_resolver("epochs_of_steps", count_epochs, replace=True)
    folders = [config_folder, *find_config_folders().values()]
    files = {path.stem: path for folder in folders for path in folder.glob("stage/*.yaml")}
    names = sorted(files)
    OmegaConf.register_new_resolver("digest_of_settings", build_resolver(files), replace=True)
    ConfigStore.instance().store(
        group="stage", name="every", node={"defaults": [f"{name}@{name}" for name in names]}
    )


FEWEST_SAMPLES, MOST_SAMPLES = 8, 192


def count_samples(supercell: Sequence[int], n_cells: int) -> int:
    """Return how many samples of a supercell hold so many primitive cells together.

    Not fewer than 8, with which an error bar begins to mean something, nor more than 192.

    Args:
        supercell: cells along each lattice vector.
        n_cells: primitive cells of all samples together.
    """
    return min(max(round(n_cells / math.prod(supercell)), FEWEST_SAMPLES), MOST_SAMPLES)


def count_epochs(steps: int, n_train: int | None, batch_size: int, every: int = 1) -> int:
    """Return how many epochs make so many optimizer steps, so that trainings are equally long.

    Args:
        steps: of the optimizer, of the whole training.
        n_train: training structures.
        batch_size: structures per step; what is left over in an epoch is left out.
        every: steps between two validations, which the epochs are a multiple of.

    Raises:
        ConfigError: the number of structures is left to the data.
    """
    if n_train is None:
        raise ConfigError(
            message(
                "data.n_train",
                "null",
                "a number of training structures, by which steps are counted",
                "Set data.n_train, or the epochs themselves.",
            )
        )
    in_epoch = n_train // min(batch_size, n_train)
    between = max(1, round(every / in_epoch))
    return between * max(1, round(steps / (between * in_epoch)))


def register_names(arguments: Sequence[str]) -> None:
    """Let configs name the folders of a sweep and of its jobs.

    ``${sweep_name:}``, ``${job_name:${hydra.overrides.task},${hydra.sweeper.params}}`` and
    ``${sweep_folder:FOLDER}``; of a training that resumes by itself
    ``${training_folder:${auto_resume},FOLDER}``.

    Args:
        arguments: of the command line.
    """
    given = list(arguments)

    def job_name(overrides: Sequence[str], swept: Mapping[str, Any] | None) -> str:
        return name_job(overrides, given, swept)

    OmegaConf.register_new_resolver("sweep_name", lambda: name_sweep(given), replace=True)
    OmegaConf.register_new_resolver("job_name", job_name, replace=True)
    OmegaConf.register_new_resolver(
        "training_folder",
        lambda resumes, default: f"runs/{name_sweep(given)}" if resumes is True else default,
        replace=True,
    )
    OmegaConf.register_new_resolver(
        "sweep_folder", lambda default: find_sweep_folder(given, default), replace=True
    )


def find_sweep_folder(arguments: Sequence[str], default: str) -> str:
    """Return the folder of a sweep: the one of the command line, ``folder=X``, or the default.

    Args:
        arguments: of the command line.
        default: of sweeps that are not named.
    """
    for argument in reversed(arguments):
        if found := re.fullmatch(r"\+{0,2}folder=([^,\[{]+)", argument):
            return found[1].strip("'\"")
    return default
