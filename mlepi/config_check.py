"""Unknown keys, missing values and classes that do not exist in a composed configuration.

Nothing is read or built; whoever asks collects the texts and raises them in one error.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import logging
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from mlepi.errors import message
from mlepi.setting_types import describe_type, is_of_type, list_wrong_types

SETTINGS_OF = "settings_of"
"""Attribute of a class: its arguments that are settings of another → that other one."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a hint with the closest known word, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."


def list_missing_values(config: DictConfig) -> list[str]:
    """Return one text per value that is still ``???``, or of one that comes from a key without."""
    try:
        missing = sorted(OmegaConf.missing_keys(config))
    except InterpolationResolutionError as error:
        got = f"a value from elsewhere, which is not there ({str(error).splitlines()[0]})"
        fix = "Look for a misspelt name of that key, or give the value itself."
        return [message(str(error.full_key), got, "a value", fix)]
    return [
        message(
            str(key),
            "no value (???)",
            "a value",
            f"Give it, for example {key}=… on the command line.",
        )
        for key in missing
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


def read_typed(
    config: DictConfig, types: Mapping[str, Any], file: str, groups: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Return a config as plain data, and what is missing, unknown or of a wrong type in it.

    Args:
        config: composed.
        types: key → annotation of what it may be.
        file: that has all keys, for messages.
        groups: further keys, which are judged by the caller.
    """
    problems = list_missing_values(config)
    missing = {text.split(":")[0] for text in problems}
    plain: Any = OmegaConf.to_container(config, resolve=not problems)
    problems += list_unknown_keys("", plain, (*types, *groups), file)
    problems += [
        message(key, repr(plain.get(key)), describe_type(kind), "See docs/config.md.")
        for key, kind in types.items()
        if key not in missing and not is_of_type(plain.get(key), kind)
    ]
    return dict(plain), problems


def check_target(
    path: str,
    node: Mapping[str, Any],
    *,
    supplied: Iterable[str] = (),
    complete: bool = False,
    settled: Collection[str] = (),
) -> list[str]:
    """Compare the keys of a node with the arguments of what its ``_target_`` names.

    Args:
        path: dotted path of the node.
        node: plain data with ``_target_``.
        supplied: arguments that the program supplies itself; they are no suggestions for a misspelt
            key.
        complete: tell arguments without default that the node does not give; otherwise null stands
            for what is filled in later.
        settled: arguments that are worked out of what the node gives, whatever type that has.

    Returns:
        One text per mistake.
    """
    target = str(node["_target_"])
    try:
        with _without_log("hydra.utils"):
            function = get_object(target)
    except Exception as error:  # get_object raises whatever the import of the module raises
        return [message(f"{path}._target_", *_explain_target(target, error))]
    problems = check_arguments(path, function, node, supplied=supplied, complete=complete)
    given = {k: x for k, x in node.items() if k not in settled and (complete or x is not None)}
    problems += list_wrong_types(path, function, given)
    return problems + _check_inner(path, getattr(function, SETTINGS_OF, {}), node)


def _check_inner(path: str, owners: Mapping[str, Any], node: Mapping[str, Any]) -> list[str]:
    """Compare settings inside of an argument with the constructors that they are for.

    Args:
        path: dotted path of the node.
        owners: argument, or dotted place inside of one → constructor of the settings there.
        node: plain data.
    """
    problems = []
    for place, owner in owners.items():
        found: Any = node
        for name in place.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            where = f"{path}.{place}"
            own = {key: x for key, x in found.items() if f"{place}.{key}" not in owners}
            problems += check_arguments(where, owner, own, complete=True)
            problems += list_wrong_types(where, owner, own)
        elif found is not None:
            expected, fix = f"settings of {owner.__name__}", "See docs/config.md."
            problems.append(message(f"{path}.{place}", repr(found)[:200], expected, fix))
    return problems


def _explain_target(target: str, error: Exception) -> tuple[str, str, str]:
    """Return what is wrong with a name that cannot be imported, what is expected, and a hint."""
    module_name, _, name = target.rpartition(".")
    try:
        module = import_module(module_name)
    except Exception:  # whatever its code raises
        reason = " ".join(str(error).split())
        hint = "Name a public class such as mlepi.models.MACE."
        return f"{target!r} ({reason})", "an importable name", hint
    classes = [word for word, value in vars(module).items() if inspect.isclass(value)]
    return repr(target), f"a class or function of {module_name}", suggest(name, classes)


@contextmanager
def _without_log(name: str) -> Iterator[None]:
    """Keep a logger quiet inside a ``with`` block."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


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
    arguments, closed = _list_arguments(function)
    given = {str(key) for key in node if not str(key).startswith("_")}
    supplied = set(supplied)
    unknown, known = sorted(given - set(arguments)), set(arguments) - supplied
    if not closed:
        known |= set(_list_parameters(function))
        unknown = [key for key in unknown if key not in known and _resembles(key, known)]
    problems = list_unknown_keys(path, unknown, known)
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


MISSPELT = 0.8
"""Similarity (difflib) from which a key that an open signature would swallow is a known one
misspelt."""


def _resembles(word: str, known: Iterable[str]) -> bool:
    return bool(difflib.get_close_matches(word, list(known), n=1, cutoff=MISSPELT))


def _list_parameters(function: Any) -> list[str]:
    """Return the parameters that an ASE calculator declares beside its signature."""
    declared = getattr(function, "default_parameters", None)
    return [str(name) for name in declared] if isinstance(declared, Mapping) else []


def _list_arguments(function: Any) -> tuple[dict[str, bool], bool]:
    """Return argument → whether it must be given, and whether there are no others.

    ``**arguments`` are followed to the base class to which a constructor hands them on, if that is
    all that it does with them; otherwise they may be anything.
    """
    try:
        named, keywords = _read_signature(function)
    except ValueError:  # compiled without a signature
        return {}, False
    if keywords is None or not inspect.isclass(function):
        return named, keywords is None
    arguments = named
    owners: Sequence[type] = [one for one in function.__mro__ if "__init__" in vars(one)]
    fixed: set[str] = set()
    while keywords is not None:
        handed = _find_hand_over(vars(owners[0])["__init__"], keywords, owners[1:])
        if handed is None:
            return arguments, False
        owners, given, n_positional = handed
        named, keywords = _read_signature(vars(owners[0])["__init__"])
        fixed |= given | set(list(named)[:n_positional])
        inherited = {name: required for name, required in named.items() if name not in fixed}
        arguments = inherited | arguments
    return arguments, True


def _read_signature(function: Any) -> tuple[dict[str, bool], str | None]:
    """Return argument → whether it must be given, and the name of its ``**arguments``, if any."""
    parameters = inspect.signature(function).parameters.values()
    named = {
        p.name: p.default is p.empty
        for p in parameters
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name != "self"
    }
    return named, next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)


def _find_hand_over(
    constructor: Any, keywords: str, bases: Sequence[type]
) -> tuple[Sequence[type], set[str], int] | None:
    """Find where a constructor hands its ``**arguments`` on.

    Args:
        constructor: an ``__init__``.
        keywords: name of its ``**arguments``.
        bases: classes behind its own that have an ``__init__``, in the order of resolution.

    Returns:
        The base class and those behind it, names of arguments that the constructor gives to it
        itself, and how many it gives by position; None if ``**arguments`` are used in any other
        way, or the source cannot be read.
    """
    try:
        source = ast.parse(textwrap.dedent(inspect.getsource(constructor)))
    except (OSError, TypeError, SyntaxError):
        return None
    uses = [n for n in ast.walk(source) if isinstance(n, ast.Name) and n.id == keywords]
    calls = [
        call
        for call in ast.walk(source)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "__init__"
        and any(k.arg is None and k.value in uses for k in call.keywords)
    ]
    if len(uses) != 1 or len(calls) != 1 or not isinstance(calls[0].func, ast.Attribute):
        return None
    given = {keyword.arg for keyword in calls[0].keywords if keyword.arg is not None}
    owner = calls[0].func.value
    n_positional = len(calls[0].args)
    if isinstance(owner, ast.Call):  # super()
        return (bases, given, n_positional) if bases else None
    word = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    places = [place for place, base in enumerate(bases) if base.__name__ == word]
    return (bases[places[0] :], given, n_positional - 1) if places else None  # less self
