"""Check a composed configuration before anything is read or built: unknown keys, missing values, all in one error."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from mlepi.errors import ConfigError, message


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a hint with the closest known word, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."


def check_config(config: DictConfig, known: Iterable[str], supplied: Mapping[str, set[str]]) -> None:
    """Raise one ``ConfigError`` that lists every unknown key, every missing value and every class that does not exist.

    Args:
        config: composed configuration.
        known: keys of the top level.
        supplied: dotted path of a node → arguments of its class that the program supplies itself.
    """
    known = set(known)
    problems = [
        message(str(key), "an unknown key", "a key of conf/train.yaml", suggest(str(key), known))
        for key in config
        if key not in known
    ]
    problems += [
        message(str(key), "no value (???)", "a value", f"Give it, e.g. {key}=… on the command line.")
        for key in sorted(OmegaConf.missing_keys(config))
    ]
    if not problems:
        plain = OmegaConf.to_container(config, resolve=True)
        for path, node in _targets(plain, ""):
            problems += _check_target(path, node, supplied.get(path, set()))
    if problems:
        raise ConfigError("\n".join(problems))


def _targets(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from _targets(value, f"{path}[{position}]")


def _check_target(path: str, node: Mapping[str, Any], supplied: set[str]) -> list[str]:
    target = str(node["_target_"])
    try:
        function = get_object(target)
    except Exception as error:  # get_object raises whatever the import of the module raises
        reason = " ".join(str(error).split())
        return [message(f"{path}._target_", f"{target!r} ({reason})", "an importable class", "Correct the name.")]
    accepted = _keywords(function)
    if accepted is None:
        return []
    given = {key for key in node if not str(key).startswith("_")}
    return [
        message(f"{path}.{key}", "an unknown key", f"an argument of {target}", suggest(key, accepted - supplied))
        for key in sorted(given - accepted)
    ]


def _keywords(function: Any) -> set[str] | None:
    """Return the names of the arguments, following ``**arguments`` to base classes; None when they are open."""
    if not inspect.isclass(function):
        parameters = inspect.signature(function).parameters.values()
        return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else {p.name for p in parameters}
    names: set[str] = set()
    for ancestor in function.__mro__:
        if "__init__" not in vars(ancestor):
            continue
        arguments = list(inspect.signature(vars(ancestor)["__init__"]).parameters.values())[1:]
        names |= {p.name for p in arguments if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if not any(p.kind is p.VAR_KEYWORD for p in arguments):
            return names
    return None
