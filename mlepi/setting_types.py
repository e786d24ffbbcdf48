"""Whether settings have the types that the constructors of this package ask for.

The typed signature is the schema of a config: a word where a number belongs, a number that is none
or a list where there is one value are found before anything is built.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from mlepi.errors import message

TYPED = ("mlepi", "lightning")
"""Packages whose annotations say what a setting may be; others are left to themselves."""


def list_wrong_types(path: str, function: Any, node: Mapping[str, Any]) -> list[str]:
    """Return one text per setting whose value its annotation does not allow.

    Args:
        path: dotted path of the node.
        function: class or function that gets the settings.
        node: plain data; nodes with a ``_target_`` inside of it are looked at by themselves.
    """
    if str(getattr(function, "__module__", "")).split(".")[0] not in TYPED:
        return []
    hints, defaults = _find_hints(function), _find_defaults(function)
    return [
        message(
            f"{path}.{name}",
            repr(value)[:200],
            describe_type(hints[name]),
            "See docs/config.md.",
        )
        for name, value in node.items()
        if name in hints and not is_of_type(value, hints[name])
        if value != "" or defaults.get(name) != ""  # texts that are empty unless they are given
    ]


def is_of_type(value: Any, annotation: Any) -> bool:
    """Tell whether plain data may stand for an annotation; what is not known here may be anything.

    Numbers must be finite, texts not empty; lists stand for sequences and tuples, texts for paths.

    Args:
        value: plain data.
        annotation: as ``typing.get_type_hints`` gives it.
    """
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    if (isinstance(value, float) and not math.isfinite(value)) or is_empty_text(value):
        return False
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):  # a class among others is not what plain data stand for
        return any(is_of_type(value, each) for each in arguments if not _is_foreign(each))
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in arguments)
    if annotation in (None, type(None)):
        return value is None
    if annotation in (bool, str):
        return isinstance(value, annotation)
    if annotation in (int, float):
        kinds = (int,) if annotation is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    if annotation is Path:
        return isinstance(value, str)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            is_of_type(each, arguments[-1]) for each in value.values()
        )
    if inspect.isclass(origin) and issubclass(origin, Collection):
        return isinstance(value, list | tuple) and _are_of_types(value, origin, arguments)
    return True


def is_empty_text(value: Any) -> bool:
    """Tell whether a value is a text without a word, which stands for nothing."""
    return isinstance(value, str) and not value.strip()


def describe_type(annotation: Any) -> str:
    """Say in words what an annotation allows."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    words = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "a text",
    }
    if annotation in words:
        return words[annotation]
    if annotation in (None, type(None)):
        return "null"
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(each) for each in arguments)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "a mapping"
    if inspect.isclass(origin) and issubclass(origin, Collection):
        inner = dict.fromkeys(describe_type(each) for each in arguments if each is not Ellipsis)
        return f"a list of {', '.join(inner)}" if inner else "a list"
    return getattr(annotation, "__name__", str(annotation))


def _is_foreign(annotation: Any) -> bool:
    """Tell whether an annotation is a class that no plain value is an instance of."""
    plain = (bool, int, float, str, type(None), Path, dict, list, tuple)
    return (
        inspect.isclass(annotation) and get_origin(annotation) is None and annotation not in plain
    )


def _are_of_types(value: Collection[Any], origin: type, arguments: tuple[Any, ...]) -> bool:
    if origin is tuple and Ellipsis not in arguments:
        return len(value) == len(arguments) and all(
            is_of_type(each, kind) for each, kind in zip(value, arguments, strict=True)
        )
    return all(is_of_type(each, arguments[0]) for each in value)


def _find_defaults(function: Any) -> dict[str, Any]:
    """Return name → default of the arguments that have one."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return {}
    return {one.name: one.default for one in arguments if one.default is not one.empty}


def _find_hints(function: Any) -> dict[str, Any]:
    """Return name → annotation of the arguments; none where they cannot be evaluated."""
    owners: list[Any] = [function]
    if inspect.isclass(function):  # arguments may be handed on to the bases
        bases = [vars(one)["__init__"] for one in function.__mro__ if "__init__" in vars(one)]
        owners = [function, *reversed(bases)]
    found: dict[str, Any] = {}
    for owner in owners:
        try:
            found |= typing.get_type_hints(owner)
        except (NameError, TypeError, AttributeError):
            continue
    return found
