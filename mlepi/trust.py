"""Configs from elsewhere: ``trusted=false`` on the command line lets them name only what is known.

YAML is code in Hydra: ``_target_`` calls whatever can be imported. Files that are not the user's
own may therefore name nothing but what the configs of mlepi and of installed plug-ins name
themselves, and classes below ``PREFIXES``; they may not touch Hydra's own settings, which start
launchers, callbacks and log handlers, nor read the environment. No file can say of itself that it
is trusted.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from mlepi.config_check import find_targets
from mlepi.errors import ConfigError, message
from mlepi.plugins import find_config_folders

PREFIXES = (
    "mlepi.models.",
    "mlepi.observables.",
    "mlepi.physics.vibrations.samplers.",
    "mlepi.reference_systems.",
    "torch.optim.",
)
"""Packages whose classes may be named, where they are defined in them: they compute, and neither
open files nor start programs."""
PROGRAMS = "mlepi.labelling."
"""What starts programs that its settings name is never allowed."""
KEY = "trusted"
LARGEST, MOST_EVENTS, DEEPEST = 2**20, 100_000, 64
"""Bytes, entries and levels of one file."""
FORBIDDEN = ("hydra", "oc.env")
"""Words that a file from elsewhere may not contain: settings of Hydra, and the environment."""
OTHER_FOLDERS = re.compile(r"--config-path|-cp\b|--config-name|-cn\b|\+{0,2}hydra\.searchpath=")
FIX = "Read the file; if you would run it as a program, leave trusted=false away."


def take_trust(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take ``trusted=…`` out of a command line.

    Args:
        arguments: of the command line.

    Returns:
        The others, and whether the configs are trusted, which they are unless it says otherwise.

    Raises:
        ConfigError: it has another value, or configs are found in other ways than by
            ``--config-dir``.
    """
    words = [word for word in arguments if re.match(rf"\+{{0,2}}{KEY}=", word)]
    others = [word for word in arguments if word not in words]
    values = {word.partition("=")[2].lower() for word in words}
    if values - {"true", "false"}:
        fix = "Write trusted=false for configs from elsewhere."
        raise ConfigError(message(KEY, repr(sorted(values)[0]), "true or false", fix))
    trusted = "false" not in values
    elsewhere = [word for word in others if OTHER_FOLDERS.match(word)]
    if not trusted and elsewhere:
        fix = "Put the experiment into FOLDER/experiment/NAME.yaml."
        raise ConfigError(message(KEY, elsewhere[0], "--config-dir FOLDER experiment=NAME", fix))
    return others, trusted


def check_files(folders: Iterable[Path]) -> None:
    """Refuse YAML files that do more than give values to keys of mlepi.

    Args:
        folders: of configs, searched to their ends.

    Raises:
        ConfigError: a file has an alias or a tag, is too large, or names Hydra's own settings.
        DataError: a file cannot be read.
    """
    from mlepi.untrusted import check_size, read_text  # not for --help, which reads nothing

    for path in sorted(path for folder in folders for path in folder.rglob("*.y*ml")):
        check_size(path, limit=LARGEST)
        text = read_text(path, strict=True)
        problem = _find_problem(path, text)
        if problem:
            expected = "values of keys, no aliases, no tags, nothing of Hydra or the environment"
            raise ConfigError(message(str(path), problem, expected, FIX))


def check_targets(config: DictConfig, config_folder: Path) -> None:
    """Refuse a composed config that names a ``_target_`` which is not allowed.

    Args:
        config: of one run.
        config_folder: of mlepi's own YAML files.

    Raises:
        ConfigError: it does.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    known = list_known((config_folder, *find_config_folders().values()))
    for path, node in find_targets(plain):
        target = str(node["_target_"])
        if target not in known and not _is_allowed(target):
            classes = ", ".join(f"{prefix}*" for prefix in PREFIXES)
            expected = f"what configs of mlepi name, or a class of {classes}"
            raise ConfigError(message(f"{path}._target_", repr(target), expected, FIX))


@functools.cache
def list_known(folders: tuple[Path, ...]) -> frozenset[str]:
    """Return every ``_target_`` in the YAML files of installed packages that starts no program.

    Args:
        folders: of their configs.
    """
    found: set[str] = set()
    for path in (path for folder in folders for path in folder.rglob("*.yaml")):
        words = re.findall(r"_target_: *['\"]?([\w.]+)", path.read_text(encoding="utf-8"))
        found |= set(words)
    return frozenset(target for target in found if not target.startswith(PROGRAMS))


def _is_allowed(target: str) -> bool:
    """Tell whether a name is that of a class which is defined where the name says."""
    prefix = next((prefix for prefix in PREFIXES if target.startswith(prefix)), None)
    if prefix is None:
        return False
    try:
        found = get_object(target)
    except Exception:  # whatever the import raises
        return False
    return inspect.isclass(found) and f"{found.__module__}.".startswith(prefix)


def _find_problem(path: Path, text: str) -> str:
    """Say what one file holds that it may not."""
    for header in re.findall(r"^\s*#\s*@package\s+(.*)$", text, re.MULTILINE):
        if any(word in header for word in FORBIDDEN):
            return f"the package {header.strip()!r}"
    from mlepi.untrusted import reading

    depth = 0
    with reading(str(path), "YAML"):
        for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                return f"the alias *{event.anchor}"
            tag = getattr(event, "tag", None)
            if tag is not None:
                return f"the tag {tag}"
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if count > MOST_EVENTS or depth > DEEPEST:
                return "more entries or levels than an experiment has"
            value = event.value if isinstance(event, yaml.ScalarEvent) else ""
            if any(word in value for word in FORBIDDEN):
                return repr(value[:80])
    return ""
