"""What the configuration of a training may hold, and every mistake in it at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import Container, DictConfig, OmegaConf

from mlepi.config_check import check_target, find_targets, list_missing_values, list_unknown_keys
from mlepi.errors import ConfigError, message
from mlepi.setting_types import describe_type, is_of_type
from mlepi.tracking import list_mistakes

KNOWN_KEYS = (
    "model", "size", "task", "data", "graph", "optimizer", "trainer", "callbacks", "logger",
    "seed", "dtype", "tf32", "compile", "init_from", "freeze", "ckpt_path", "test", "name",
    "check_units", "threads", "grace", "auto_resume",
)  # fmt: skip
"""Keys of the top level of ``conf/train.yaml``."""

SUPPLIED = {
    "task": {
        "model",
        "optimizer",
        "dtype",
        "stamp",
        "n_structures",
        "subsets",
        "basis",
        "largest_norm",
    },
    "data": {"cutoffs", "partition", "shell_overlap", "dtype", "seed", "check_units"},
    "trainer": {"logger", "callbacks", "default_root_dir", "plugins"},
    "optimizer.optimizer": {"params"},
    "optimizer.schedule": {"optimizer", "total_steps"},
}  # fmt: skip
"""Node → arguments that this module supplies; they are no suggestions for a misspelt key."""
TEXTS: Mapping[str, Any] = {
    "name": str,
    "init_from": str | None,
    "ckpt_path": str | None,
    "freeze": list[str],
}
"""Key at the top → what it may be."""
SETTLED = {"task": {"level_shift"}}
"""Node → arguments that are worked out of what the config gives: a word, for example."""


def check_config(
    config: DictConfig, known: Iterable[str], supplied: Mapping[str, set[str]]
) -> None:
    """Look for every unknown key, missing value and class that does not exist.

    Args:
        config: composed configuration.
        known: keys of the top level.
        supplied: dotted path of a node → arguments of its class that the program supplies itself.
    """
    problems = list_unknown_keys("", config, known, "conf/train.yaml") + list_missing_values(config)
    if not problems:
        problems = list_logger_mistakes(config)
        for path, node in find_targets(OmegaConf.to_container(config, resolve=True)):
            problems += check_target(
                path, node, supplied=supplied.get(path, ()), settled=SETTLED.get(path, ())
            )
    if problems:
        raise ConfigError("\n".join(problems))


def list_logger_mistakes(config: DictConfig) -> list[str]:
    """Return what is wrong with the settings of services, one text per mistake."""
    if "logger" not in config:
        return []
    node = config["logger"]
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return list_mistakes(plain)


def check_values(config: DictConfig) -> None:
    """Refuse values at the top of the configuration that cannot be used.

    Raises:
        ConfigError: the first of them.
    """
    for key, annotation in TEXTS.items():
        if not is_of_type(plain := _plain(config[key]), annotation):
            expected = describe_type(annotation)
            raise ConfigError(message(key, repr(plain), expected, "Edit the config."))
    if not isinstance(config.seed, int) or isinstance(config.seed, bool):
        raise ConfigError(message("seed", repr(config.seed), "an integer", "Edit the config."))
    for key in ("tf32", "compile", "test", "check_units", "auto_resume"):
        if not isinstance(config[key], bool):
            raise ConfigError(message(key, repr(config[key]), "true or false", "Edit the config."))
    if not (config.threads is None or (isinstance(config.threads, int) and config.threads > 0)):
        expected = "null or a positive integer"
        raise ConfigError(message("threads", repr(config.threads), expected, "Edit the config."))
    if not is_of_type(config.grace, float) or config.grace < 0:
        expected = "a number of seconds ≥ 0"
        raise ConfigError(message("grace", repr(config.grace), expected, "Edit the config."))


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if isinstance(value, Container) else value
