"""Finding stages by their place, and the order in which they run.

Every folder with a module ``stage`` in one of the given packages is a stage: a new one costs a
folder and a file of settings, and no list to be kept.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from mlepi.config_check import suggest
from mlepi.errors import ConfigError, message
from mlepi.former_names import FORMER_STAGE_NAMES
from mlepi.pipeline.sampled_stage import SampledStage
from mlepi.pipeline.stage import Stage

Stages = Mapping[str, type[Stage]]
"""Name → class."""

DEFAULT_LIST = "all"
"""Named list that runs when nothing is chosen; its stages come first."""


def find_stages(*packages: ModuleType) -> dict[str, type[Stage]]:
    """Find the stages of packages.

    Args:
        packages: whose folders are looked at.

    Returns:
        Name → class; those of the first package first, within one those that run by default, then
        those whose error bars can be asked for, then by name.

    Raises:
        ConfigError: two stages of one name.
    """
    found: dict[str, type[Stage]] = {}
    for package in packages:
        classes = sorted(_list_classes(package), key=_precedence)
        for stage in classes:
            if stage.name in found:
                raise ConfigError(
                    message(
                        f"stage {stage.name}",
                        f"{found[stage.name].__module__} and {stage.__module__}",
                        "one stage of a name",
                        "Rename one of them.",
                    )
                )
            found[stage.name] = stage
    return found


def _precedence(stage: type[Stage]) -> tuple[bool, bool, str]:
    decides = issubclass(stage, SampledStage) and bool(stage.targets)
    return DEFAULT_LIST not in stage.lists, not decides, stage.name


def _list_classes(package: ModuleType) -> Iterable[type[Stage]]:
    for entry in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if entry.ispkg and find_spec(f"{entry.name}.stage") is not None:
            module = import_module(f"{entry.name}.stage")
            yield from (
                value
                for value in vars(module).values()
                if inspect.isclass(value)
                and issubclass(value, Stage)
                and not inspect.isabstract(value)
                and value.__module__ == module.__name__
            )


def resolve_names(chosen: str | Iterable[str], stages: Stages) -> list[str]:
    """Turn what a user asks for into the stages of a run, closed under ``requires`` and in order.

    Args:
        chosen: name of a list or of a stage, or several names; former names are understood.
        stages: all that there are.

    Returns:
        Names; what a stage requires stands before it. Stages that look at samples follow each
        other, so that they share one pass over them.

    Raises:
        ConfigError: an unknown name.
    """
    lists = sorted({name for stage in stages.values() for name in stage.lists})
    wanted: list[str] = []
    for word in [chosen] if isinstance(chosen, str) else chosen:
        name = FORMER_STAGE_NAMES.get(word, word) if isinstance(word, str) else word
        if name in stages:
            wanted.append(name)
        elif name in lists:
            wanted += [stage.name for stage in stages.values() if name in stage.lists]
        else:
            hint = suggest(str(word), [*stages, *lists])
            raise ConfigError(
                message("stage.run", repr(word), "names of stages, or of a list of them", hint)
            )
    return order_stages(wanted, stages)


def order_stages(names: Iterable[str], stages: Stages) -> list[str]:
    """Close names under ``requires`` and put every stage behind those that it requires."""
    ordered: list[str] = []

    def place(name: str) -> None:
        if name not in ordered:
            for earlier in stages[name].requires:
                place(earlier)
            ordered.append(name)

    for name in sorted(names, key=lambda name: not issubclass(stages[name], SampledStage)):
        place(name)
    return ordered


def list_dependents(name: str, stages: Stages) -> set[str]:
    """Find the stages that rest on the record of one stage, directly or not."""
    found: set[str] = set()
    for other in stages.values():
        if name in other.requires or (name in stages and other.rests_on(stages[name])):
            found |= {other.name} | list_dependents(other.name, stages)
    return found
