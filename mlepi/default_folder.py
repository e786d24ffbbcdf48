"""The name of a run folder that the user has not named: a digest of the settings.

Two scans with different settings then never share a folder, and one that is only larger (more
samples, other temperatures) continues in that of the smaller one. What decides how a run is
computed but not what comes out has no part in the digest, nor has what is asked of the samples
(``stage.run``). Settings of a stage count where they differ from its file, so that a new stage, or
a package that brings one, renames nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import Container, DictConfig, OmegaConf

GROWING = ("n_samples", "temperature", "cell_series", "target_error", "relative_error")
"""Keys by which a run grows."""
HOW = (
    "folder", "hydra", "report", "reuse", "device", "batch_size", "prefetch", "compile", "trainer",
    "engine", "check_units", "threads", "logger",
)  # fmt: skip
"""Keys that decide how a run is computed."""
CHOICES = ("run", "folder")
"""Keys of ``stage`` that are no stages."""
STOPPING = {"sampling": ("target", "target_error", "relative_error")}
"""Stage → settings by which a run grows."""
FORMER = {"valence_electrons": {6: 4}}
"""Key → what it held where a config left it out, when folders were first named: a network carries
its own now, and runs of the shipped ones go on in their folders."""
LENGTH = 8
"""Hexadecimal digits of the digest."""


def name_settings(config: DictConfig, defaults: Mapping[str, Path]) -> str:
    """Digest the settings of an inference.

    Args:
        config: composed from ``conf/infer.yaml``.
        defaults: stage → file of its settings.
    """
    settings: dict[str, Any] = {
        str(key): _plain(config, key)
        for key in config
        if key not in (*GROWING, *HOW, "stage", "experiment")
    }
    for key, value in FORMER.items():
        given = settings.get(key)
        merged = {**value, **given} if isinstance(given, dict) else given or value
        settings[key] = (  # elements are numbers or symbols, which JSON cannot sort together
            {str(name): part for name, part in merged.items()}
            if isinstance(merged, dict)
            else merged
        )
    stages = config.get("stage", {})
    settings["stage"] = {
        str(name): changed
        for name in stages
        if name not in CHOICES and (changed := _list_changed(stages, str(name), defaults))
    }
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def build_resolver(defaults: Mapping[str, Path]) -> Callable[..., str]:
    """Return the function behind ``${digest_of_settings:}`` in a config.

    Args:
        defaults: stage → file of its settings.
    """

    def resolve(*, _root_: DictConfig) -> str:
        return name_settings(_root_, defaults)

    return resolve


def _list_changed(stages: DictConfig, name: str, defaults: Mapping[str, Path]) -> dict[str, Any]:
    """Return the settings of a stage that are not those of its file."""
    node = stages[name]
    if not isinstance(node, DictConfig):
        return {"": node}
    before = _read(defaults[name]) if name in defaults else {}
    now = OmegaConf.to_container(node, resolve=False)
    return {
        str(key): _plain(node, key)
        for key, value in now.items()  # type: ignore[union-attr]
        if key not in STOPPING.get(name, ()) and (key not in before or before[key] != value)
    }


@cache
def _read(path: Path) -> dict[Any, Any]:
    """Read the settings of a stage as they stand in its file."""
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return content if isinstance(content, dict) else {}


def _plain(node: DictConfig, key: Any) -> Any:
    """Return a value as plain data with what it refers to filled in."""
    if OmegaConf.is_missing(node, key):
        return "???"
    value = node[key]
    return OmegaConf.to_container(value, resolve=True) if isinstance(value, Container) else value
