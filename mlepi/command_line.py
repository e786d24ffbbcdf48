"""How the scripts start and end: compose with Hydra, run, turn every error into one text.

The traceback goes to ``traceback.txt`` in the run folder.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlepi.config_check import suggest
from mlepi.default_folder import build_resolver
from mlepi.errors import ConfigError, MlepiError, message
from mlepi.memory import keep_freed_memory
from mlepi.plugins import find_config_folders
from mlepi.project_files import CONFIG_FOLDER
from mlepi.run_lock import is_first_process, refuse_held
from mlepi.sweep_names import name_job, name_sweep
from mlepi.typed_arguments import translate_arguments


def run_script(
    action: Callable[[DictConfig, Path], Any],
    *,
    config_name: str,
    config_folder: Path = CONFIG_FOLDER,
    arguments: Sequence[str] | None = None,
) -> None:
    """Run ``action(config, run_folder)`` once, or once per job of a multirun.

    Any error ends the process with exit status 1. In a multirun the other jobs are run first, and
    those that failed are named at the end.

    Args:
        action: what the script does.
        config_name: primary config, without extension.
        config_folder: folder of the YAML files.
        arguments: overrides and options of Hydra; those of the process by default.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on instead of printing them
    keep_freed_memory()
    register_stages(config_folder)
    Plugins.instance().register(PluginConfigs)
    failed: dict[str, str] = {}
    given = translate_arguments(sys.argv[1:] if arguments is None else arguments, config_name)
    started_by = list(sys.argv)
    register_names(given)
    sys.argv[1:] = given  # where Hydra reads them

    def explain(error: Exception) -> Exception:
        if isinstance(error, (HydraException, OmegaConfBaseException)):
            return explain_config_error(error, config_folder, config_name, given)
        return error

    def job(config: DictConfig) -> Any:
        sys.argv[:] = started_by  # with which further processes of this run are started
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            return action(config, folder)
        except Exception as error:
            (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
            explained = explain(error)
            explained.add_note(f"The traceback is in {folder / 'traceback.txt'}.")
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                failed[folder.name] = _describe(explained)
                print(failed[folder.name], file=sys.stderr, flush=True)
                return None
            # here, since Hydra adds a line of its own to an error that passes through it
            _fail(explained)

    try:
        hydra.main(
            version_base="1.3", config_path=str(config_folder.resolve()), config_name=config_name
        )(job)()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        _fail(explain(error))
    finally:
        sys.argv[:] = started_by
    if failed:
        names = "\n".join(
            f"  {name}: {text.splitlines()[0][:200]}" for name, text in failed.items()
        )
        fix = "The same command tries them again and takes what is finished from its folder."
        print(f"error: these jobs failed:\n{names}\n{fix}", file=sys.stderr)
        sys.exit(1)


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

    ``${sweep_name:}`` and ``${job_name:${hydra.overrides.task},${hydra.sweeper.params}}``.

    Args:
        arguments: of the command line.
    """
    given = list(arguments)

    def job_name(overrides: Sequence[str], swept: Mapping[str, Any] | None) -> str:
        return name_job(overrides, given, swept)

    OmegaConf.register_new_resolver("sweep_name", lambda: name_sweep(given), replace=True)
    OmegaConf.register_new_resolver("job_name", job_name, replace=True)


class PluginConfigs(SearchPathPlugin):
    """Find the configs of other packages behind those of mlepi.

    Registered for the commands of mlepi only: other programs that use Hydra do not find them.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append them."""
        for package in find_config_folders():
            search_path.append(provider="mlepi.configs", path=f"pkg://{package}")


def compose_config(
    config_folder: Path, config_name: str, arguments: Sequence[str] = ()
) -> DictConfig:
    """Compose a configuration as the scripts do, without running anything.

    Args:
        config_folder: folder of the YAML files.
        config_name: primary config, without extension.
        arguments: as on the command line.
    """
    register_stages(config_folder)
    Plugins.instance().register(PluginConfigs)
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(config_folder.resolve())):
        return hydra.compose(config_name, translate_arguments(arguments, config_name))


class FreeFolder(Callback):
    """Refuse a run folder that another run is at work in, before Hydra writes into it."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Look at the lock; the run itself takes it later."""
        if not is_first_process():
            return
        try:
            refuse_held(Path(config.hydra.run.dir))
        except MlepiError as error:  # Hydra would only warn of it
            _fail(error)


class SweepEnd(Callback, ABC):
    """Compare the runs of a sweep when all have ended, and print what was found."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the comparison into the folder of the sweep, and print it."""
        # Hydra has set all loggers to tell everything by now
        logging.getLogger("fontTools").setLevel(logging.WARNING)
        try:
            print(self.compare(Path(config.hydra.sweep.dir)))
        except MlepiError as error:  # no run has come so far
            print(f"no comparison: {error}", file=sys.stderr)

    @abstractmethod
    def compare(self, folder: Path) -> str:
        """Compare the runs below a folder; return what is printed."""


class CellSizes(SweepEnd):
    """Compare the runs of a sweep over the size of the cell (``experiment=headline``)."""

    def compare(self, folder: Path) -> str:
        """Write tables, records and figures; return the tables."""
        from mlepi.observables import all_stages
        from mlepi.report.series import finish_series

        everything, _ = finish_series(folder, all_stages())
        return everything


class Trainings(SweepEnd):
    """Compare the trainings of a sweep, ``python train.py -m``."""

    def compare(self, folder: Path) -> str:
        """Write table, numbers and figure; return the table."""
        from mlepi.report.trainings import finish_sweep

        return finish_sweep(folder)


def explain_config_error(
    error: Exception, config_folder: Path, config_name: str, arguments: Sequence[str]
) -> ConfigError:
    """Turn an error of Hydra or OmegaConf into one that says what to do.

    Args:
        error: raised while the configuration was composed.
        config_folder: folder of the YAML files.
        config_name: primary config.
        arguments: of the command line.
    """
    text = str(error)
    if unknown := re.match(r"Could not override '([^']+)'", text):
        key = unknown[1].split("@")[0].replace("/", ".")
        return _unknown_key(key, config_folder, config_name, arguments)
    if group := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        folders = [config_folder, *find_user_folders(arguments), *find_config_folders().values()]
        options = sorted(
            {path.stem for folder in folders for path in (folder / group[1]).glob("[!_]*.yaml")}
        )
        return ConfigError(
            message(group[1], repr(group[2]), f"one of {options}", suggest(group[2], options))
        )
    detail = text if error.__cause__ is None else f"{text} {error.__cause__}"
    return ConfigError(
        message(
            "command line",
            " ".join(detail.split()),
            "a valid configuration",
            "Write KEY=VALUE; docs/config.md lists the keys.",
        )
    )


def find_user_folders(arguments: Sequence[str]) -> list[Path]:
    """Return the folder of configs that the command line adds, ``--config-dir FOLDER``."""
    for word, following in pairwise([*arguments, ""]):
        if word in ("--config-dir", "-cd"):
            return [Path(following)]
        if word.startswith("--config-dir="):
            return [Path(word.partition("=")[2])]
    return []


def _unknown_key(
    key: str, config_folder: Path, config_name: str, arguments: Sequence[str]
) -> ConfigError:
    """Look for the unknown key's neighbours in the configuration that the other overrides give."""
    overrides = [
        part
        for part in arguments
        if re.match(r"[\w/]+=[\w/]+$", part) and not part.startswith(key.replace(".", "/"))
    ]
    try:
        config = compose_config(config_folder, config_name, overrides)
    except (HydraException, OmegaConfBaseException):
        config = compose_config(config_folder, config_name)
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig) and parent and parent in config:
        return ConfigError(
            message(
                key,
                f"a key of {parent}, which is {node!r}",
                f"a class at {parent}, to which its arguments belong",
                f"Give {parent}._target_=MODULE.CLASS as well.",
            )
        )
    known = (
        sorted(str(k) for k in node)
        if isinstance(node, DictConfig)
        else sorted(str(k) for k in config)
    )
    return ConfigError(
        message(
            key,
            "an unknown key",
            f"a key of {parent or config_name + '.yaml'}",
            suggest(name, known),
        )
    )


def _fail(error: Exception) -> NoReturn:
    print(_describe(error), file=sys.stderr)
    sys.exit(1)


def _describe(error: Exception) -> str:
    """Return what is printed of an error."""
    kind = (
        "error"
        if isinstance(error, MlepiError)
        else f"unexpected error, please report it with `mlepi --version`: {type(error).__name__}"
    )
    return "\n".join([f"{kind}: {error}", *getattr(error, "__notes__", [])])
