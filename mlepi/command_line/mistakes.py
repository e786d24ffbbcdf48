"""Errors as one text: what Hydra found wrong with a configuration, and how a process ends."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlepi.command_line.composition import compose_config
from mlepi.config_check import suggest
from mlepi.errors import ConfigError, MlepiError, message
from mlepi.plugins import find_config_folders


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


def fail(error: Exception) -> NoReturn:
    """Print an error and end the process with exit status 1."""
    print(describe(error), file=sys.stderr)
    sys.exit(1)


def describe(error: Exception) -> str:
    """Return what is printed of an error."""
    kind = (
        "error"
        if isinstance(error, MlepiError)
        else f"unexpected error, please report it with `mlepi --version`: {type(error).__name__}"
    )
    return "\n".join([f"{kind}: {error}", *getattr(error, "__notes__", [])])
