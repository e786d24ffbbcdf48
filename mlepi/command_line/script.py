"""How the scripts start and end: compose with Hydra, run, turn every error into one text.

The traceback goes to ``traceback.txt`` in the run folder, and the text to its log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mlepi import stopping
from mlepi.command_line.arguments import translate_arguments
from mlepi.command_line.composition import PluginConfigs
from mlepi.command_line.mistakes import (
    describe,
    explain_config_error,
    fail,
    find_user_folders,
)
from mlepi.command_line.resolvers import register_names, register_stages
from mlepi.command_line.sweep_job import SweepJob
from mlepi.errors import MlepiError
from mlepi.faults import explain_fault
from mlepi.memory import keep_freed_memory
from mlepi.parents import PARENT, follow_parent, is_follower
from mlepi.project_files import CONFIG_FOLDER, TRACEBACK_FILE
from mlepi.run_lock import is_first_process
from mlepi.stopping import Stopped
from mlepi.threads import choose_threads
from mlepi.trust import check_files, check_targets, take_trust

log = logging.getLogger("mlepi.command_line")


def run_script(
    action: Callable[[DictConfig, Path], Any],
    *,
    config_name: str,
    config_folder: Path = CONFIG_FOLDER,
    arguments: Sequence[str] | None = None,
    announce: Callable[[str], None] = log.info,
) -> None:
    """Run ``action(config, run_folder)`` once, or once per job of a multirun.

    ``trusted=false`` bounds what configs of ``--config-dir`` may do, see ``mlepi.trust``.
    Any error ends the process with exit status 1, a signal with that of ``mlepi.stopping``. In a
    multirun the other jobs are run first, and those that failed are named at the end.

    Args:
        action: what the script does.
        config_name: primary config, without extension.
        config_folder: folder of the YAML files.
        arguments: overrides and options of Hydra; those of the process by default.
        announce: says one line about the run.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on instead of printing them
    keep_freed_memory()
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    with _leading_processes(), _keeping_arguments():
        typed, trusted = _read_arguments(arguments)
        script = _Script(action, config_name, config_folder, announce, trusted)
        script.given = translate_arguments(typed, config_name)
        script.register()
        script.run()
    if script.failed:
        fail_jobs(script.failed)


class _Script:
    """A script that runs once, or once per job of a multirun.

    Args:
        action: what it does.
        config_name: primary config.
        config_folder: folder of the YAML files.
        announce: says one line about the run.
        trusted: configs of other folders may do anything.

    Attributes:
        given: overrides and options of Hydra.
        failed: name of a job of a multirun → what is printed of its error.
    """

    def __init__(
        self,
        action: Callable[[DictConfig, Path], Any],
        config_name: str,
        config_folder: Path,
        announce: Callable[[str], None],
        trusted: bool,
    ) -> None:
        self.action, self.announce = action, announce
        self.config_name, self.config_folder = config_name, config_folder
        self.trusted = trusted
        self.given: list[str] = []
        self.failed: dict[str, str] = {}
        self._started_by = list(sys.argv)

    def register(self) -> None:
        """Make known what the composition of a config needs."""
        register_stages(self.config_folder)
        Plugins.instance().register(PluginConfigs)
        register_names(self.given)

    def run(self) -> None:
        """Compose the config, and run every job."""
        sys.argv[1:] = self.given  # where Hydra reads them
        try:
            with stopping.listen():
                hydra.main(
                    version_base="1.3",
                    config_path=str(self.config_folder.resolve()),
                    config_name=self.config_name,
                )(SweepJob(self.do_job, self.register, self.failed))()
        except Stopped as stopped:
            end_stopped(stopped)
        except KeyboardInterrupt:
            sys.exit(stopping.INTERRUPTED)
        except Exception as error:
            fail(self.explain(error, Path.cwd()))

    def do_job(self, config: DictConfig) -> Any:
        """Do one job; keep the traceback of what fails in its folder."""
        sys.argv[:] = self._started_by  # with which further processes of this run are started
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            if word := choose_threads(config):
                self.announce(word)
            if not self.trusted:
                check_targets(config, self.config_folder)
            result = self.action(config, folder)
        except Exception as error:
            explained = self.explain(error, folder)
            _keep_traceback(folder, explained)
            log.info(describe(explained))  # the screen has it from elsewhere
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                self.failed[folder.name] = describe(explained)
                print(self.failed[folder.name], file=sys.stderr, flush=True)
                return None
            # here, since Hydra adds a line of its own to an error that passes through it
            fail(explained)
        except Stopped as stopped:
            log.info("\n".join([str(stopped), *getattr(stopped, "__notes__", [])]))
            raise
        if is_first_process():
            (folder / TRACEBACK_FILE).unlink(missing_ok=True)
        return result

    def explain(self, error: Exception, folder: Path) -> Exception:
        """Return an error with a text for users, where there is one."""
        if isinstance(error, (HydraException, OmegaConfBaseException)):
            return explain_config_error(error, self.config_folder, self.config_name, self.given)
        return explain_fault(error, folder) or error


@contextlib.contextmanager
def _leading_processes() -> Iterator[None]:
    """Follow the process that has started this one for its run, and lead those that it starts."""
    followed = os.environ.get(PARENT)
    if is_follower(os.environ, os.getppid()):
        follow_parent(None if followed is None else int(followed))
    os.environ[PARENT] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(PARENT, None)
        if followed is not None:
            os.environ[PARENT] = followed


@contextlib.contextmanager
def _keeping_arguments() -> Iterator[None]:
    """Leave the arguments of the process as they are."""
    before = list(sys.argv)
    try:
        yield
    finally:
        sys.argv[:] = before


def _read_arguments(arguments: Sequence[str] | None) -> tuple[list[str], bool]:
    """Return what was typed, and whether configs of other folders are trusted."""
    try:
        typed, trusted = take_trust(sys.argv[1:] if arguments is None else arguments)
        if not trusted:
            check_files(find_user_folders(typed))
    except MlepiError as error:
        fail(error)
    return typed, trusted


def fail_jobs(failed: Mapping[str, str]) -> NoReturn:
    """Name the jobs of a multirun that failed, and end.

    Args:
        failed: name of a job → what was printed of its error.
    """
    names = "\n".join(f"  {name}: {text.splitlines()[0][:200]}" for name, text in failed.items())
    fix = "The same command tries them again and takes what is finished from its folder."
    print(f"error: these jobs failed:\n{names}\n{fix}", file=sys.stderr)
    sys.exit(1)


def end_stopped(stopped: Stopped) -> NoReturn:
    """Say what was kept and how to go on, ask for another turn where that is wanted, and end."""
    if is_first_process():
        lines = [str(stopped), *getattr(stopped, "__notes__", [])]
        if stopped.wants_requeue:
            lines.append(stopping.request_requeue())
        print("\n".join(lines), file=sys.stderr, flush=True)
    stopping.leave(stopped.status)


def _keep_traceback(folder: Path, error: Exception) -> None:
    """Write the traceback of the present error into the run folder, if it can be written to."""
    with contextlib.suppress(OSError):
        (folder / TRACEBACK_FILE).write_text(traceback.format_exc(), encoding="utf-8")
        error.add_note(f"The traceback is in {folder / TRACEBACK_FILE}.")
