"""Unknown keys, missing values and classes that do not exist in a composed configuration.

Nothing is read or built; whoever asks collects the texts and raises them in one error.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from mlepi.errors import message


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a hint with the closest known word, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."


def list_missing_values(config: DictConfig) -> list[str]:
    """Return one text per value that is still ``???``."""
    return [
        message(
            str(key),
            "no value (???)",
            "a value",
            f"Give it, for example {key}=… on the command line.",
        )
        for key in sorted(OmegaConf.missing_keys(config))
    ]


def list_unknown_keys(
    path: str, found: Iterable[Any], known: Iterable[str], owner: str = ""
) -> list[str]:
    """Return one text per key that does not exist.

    Args:
        path: dotted path of the node; empty at the top.
        found: keys of the node.
        known: keys that it may have.
        owner: what the keys belong to, for the text; the path by default.
    """
    known = set(known)
    return [
        message(
            f"{path}.{key}" if path else str(key),
            "an unknown key",
            f"a key of {owner or path}",
            suggest(str(key), known),
        )
        for key in found
        if str(key) not in known
    ]


def check_target(
    path: str, node: Mapping[str, Any], *, supplied: Iterable[str] = (), complete: bool = False
) -> list[str]:
    """Compare the keys of a node with the arguments of what its ``_target_`` names.

    Args:
        path: dotted path of the node.
        node: plain data with ``_target_``.
        supplied: arguments that the program supplies itself; they are no suggestions for a misspelt
            key.
        complete: tell arguments without default that the node does not give.

    Returns:
        One text per mistake.
    """
    target = str(node["_target_"])
    try:
        function = get_object(target)
    except Exception as error:  # get_object raises whatever the import of the module raises
        reason = " ".join(str(error).split())
        return [
            message(
                f"{path}._target_",
                f"{target!r} ({reason})",
                "an importable name",
                "Name a public class such as mlepi.models.MACE.",
            )
        ]
    return check_arguments(path, function, node, supplied=supplied, complete=complete)


def check_arguments(
    path: str,
    function: Any,
    node: Mapping[str, Any],
    *,
    supplied: Iterable[str] = (),
    complete: bool = False,
) -> list[str]:
    """Compare the keys of a node with the arguments of a class or function.

    Args:
        path: dotted path of the node.
        function: that takes them.
        node: plain data; keys with a leading underscore are Hydra's own.
        supplied: arguments that the program supplies itself; they are no suggestions for a misspelt
            key.
        complete: tell arguments without default that the node does not give.

    Returns:
        One text per mistake.
    """
    arguments = _list_arguments(function)
    if arguments is None:
        return []
    given = {str(key) for key in node if not str(key).startswith("_")}
    supplied = set(supplied)
    problems = list_unknown_keys(path, sorted(given - set(arguments)), set(arguments) - supplied)
    if complete:
        problems += [
            message(f"{path}.{name}", "nothing", "a value", "Give it.")
            for name, required in arguments.items()
            if required and name not in given | supplied
        ]
    return problems


def find_targets(node: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every node with a ``_target_``, with its dotted path."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from find_targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from find_targets(value, f"{path}[{position}]")


def _list_arguments(function: Any) -> dict[str, bool] | None:
    """Return argument → whether it must be given; None when the arguments are open.

    ``**arguments`` are followed to base classes.
    """
    callables = [function]
    if inspect.isclass(function):
        callables += [
            vars(ancestor)["__init__"]
            for ancestor in function.__mro__
            if "__init__" in vars(ancestor)
        ][1:]
    try:
        signatures = [inspect.signature(one) for one in callables]
    except ValueError:  # compiled without a signature
        return None
    arguments: dict[str, bool] = {}
    for signature in signatures:
        named = [
            p
            for p in signature.parameters.values()
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name != "self"
        ]
        arguments = {p.name: p.default is p.empty for p in named} | arguments
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            return arguments
    return None
