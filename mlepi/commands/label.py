"""Structures to a labelled set by DFT: ``mlepi label structures=hbn.extxyz dft=cp2k``.

All keys: ``conf/label.yaml``, ``conf/dft`` and ``docs/config.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlepi.command_line import run_script
from mlepi.errors import ConfigError, DataError, message

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mlepi.labelling import Summary

log = logging.getLogger(__name__)

TYPES: Mapping[str, Any] = {
    "folder": str,
    "structures": str | Sequence[str] | None,
    "jobs": int,
    "threads": int | None,
    "retry_failed": bool,
    "measure_noise": bool,
    "keep": str,
}
"""Key of ``conf/label.yaml`` → what it may be."""

GROUPS: Mapping[str, tuple[str, str]] = {
    "dft": ("a code with its settings", "cp2k"),
    "engine": ("where calculations run", "local"),
}
"""Group of ``conf/label.yaml`` → what it is, and a choice."""


def main(arguments: Sequence[str]) -> int:
    """Label structures, or do what else Hydra is asked for; errors end the process."""
    run_script(_run, config_name="label", arguments=arguments, announce=_announce)
    return 0


def _run(config: DictConfig, folder: Path) -> None:
    """Import what labels only when there is something to label, so that ``--help`` is quick."""
    from hydra.utils import instantiate

    from mlepi.labelling import label_structures, read_structures
    from mlepi.pipeline.progress import ProgressReport

    plain = check_config(config)
    given = plain["structures"]
    paths = [] if given is None else [given] if isinstance(given, str) else given
    structures = read_structures(paths)
    code = instantiate(plain["dft"], _convert_="all")
    engine = instantiate(plain["engine"], _convert_="all")
    _announce(f"labelled set     {folder}")
    with closing(engine), ProgressReport().stage("label") as line:
        summary = label_structures(
            folder,
            structures,
            code,
            line,
            engine=engine,
            jobs=plain["jobs"],
            threads=plain["threads"],
            retry_failed=plain["retry_failed"],
            measure_noise=plain["measure_noise"],
            keep=plain["keep"],
        )
        line.note = f"{len(summary.written.names)} labelled, {len(summary.written.failed)} failed"
    for text in conclude(folder, summary):
        _announce(text)


def check_config(config: DictConfig) -> dict[str, Any]:
    """Look for every mistake in the config before anything is started.

    Args:
        config: composed from ``conf/label.yaml``.

    Returns:
        The config as plain data.

    Raises:
        ConfigError: one text, a line per mistake.
    """
    from mlepi.config_check import check_target, read_typed

    plain, problems = read_typed(config, TYPES, "conf/label.yaml", GROUPS)
    for group, (what, example) in GROUPS.items():
        node = plain.get(group)
        if isinstance(node, dict) and "_target_" in node:
            problems += check_target(group, node, complete=True)
        else:
            problems.append(message(group, repr(node), what, f"Choose one: {group}={example}."))
    if problems:
        raise ConfigError("\n".join(problems))
    return plain


def conclude(folder: Path, summary: Summary) -> list[str]:
    """Return the lines that end a run.

    Args:
        folder: of the set.
        summary: what became of its structures.

    Raises:
        DataError: nothing is labelled, and nobody is at work on it.
    """
    written = summary.written
    if not written.names and not summary.elsewhere:
        reasons = "; ".join(list(written.failed.values())[:3]) or "no structures"
        fix = "Give structures=FILE; retry_failed=true tries those again that were given up."
        raise DataError(message(str(folder), reasons, "a structure that can be labelled", fix))
    lines = [f"{name} failed: {reason}" for name, reason in list(written.failed.items())[:10]]
    if len(written.failed) > 10:
        lines.append(f"… {len(written.failed)} in all: {folder / 'failed.tsv'}")
    if summary.elsewhere:
        lines.append(f"{len(summary.elsewhere)} structures are those of another process")
    if written.overlaps is not None:
        lines.append(written.overlaps.describe())
    return [*lines, f"card             {folder / 'README.md'}"] if written.names else lines


def _announce(line: str) -> None:
    """Write one line on the screen and in the log."""
    print(line, flush=True)
    log.info(line)
