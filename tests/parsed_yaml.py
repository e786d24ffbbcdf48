"""Every text in YAML is parsed once per process: composing a config reads some thirty files.

What ``OmegaConf.load`` returns is new each time; only the parser, which is slow, is not asked
again.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

_load = OmegaConf.load


@cache
def _parse(text: str) -> Any:
    return yaml.load(text, Loader=get_yaml_loader())  # noqa: S506 (a safe loader of OmegaConf's)


def _load_remembered(file: Any) -> Any:
    is_stream = hasattr(file, "read")
    start = file.tell() if is_stream else 0
    text = file.read() if is_stream else Path(file).read_text("utf-8")
    try:
        content = _parse(text)
    except yaml.YAMLError:
        content = text
    if not isinstance(content, dict | list):  # empty ones, and errors with the name of the file
        if is_stream:
            file.seek(start)
        return _load(file)
    return OmegaConf.create(content)


def remember_parsed_yaml() -> None:
    """From now on, in this process."""
    OmegaConf.load = staticmethod(_load_remembered)
