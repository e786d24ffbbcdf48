"""A network that is shipped, and those that were shipped before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from run_folder import portable

from mlepi.checkpoint import load_model
from mlepi.errors import DataError, message

NO_PART_OF_A_RECIPE = ("seed", "name", "ckpt_path", "trainer", "logger", "callbacks")
"""Keys of a config in which the members of a committee may differ."""


@dataclass(frozen=True)
class Member:
    """A network that is shipped, alone or in a committee.

    Attributes:
        checkpoint: its file.
        numbers: what NAME.json tells of it: "accuracy", "training" (``read_history``), "command",
            "covered" (``describe_structures``) and, where they were measured, "phonons".
    """

    checkpoint: Path
    numbers: dict[str, Any]


def recall(name: str, output: Path) -> list[Member]:
    """Return the networks that are shipped under a name, as NAME.json tells of them.

    Raises:
        DataError: there are none, or they were shipped before their commands were stored.
    """
    path = output / f"{name}.json"
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    records = known.get("members", {name: known} if known else {})
    if not records or not all("command" in numbers for numbers in records.values()):
        reason = "no commands of trainings" if records else "no such file"
        raise DataError(message(str(path), reason, "shipped networks", "Ship all runs again."))
    return [Member(output / f"{member}.ckpt", numbers) for member, numbers in records.items()]


def require_one_recipe(members: Sequence[Member]) -> None:
    """Raise ``DataError`` where networks differ in more than the seed of their trainings."""
    recipes = [
        {
            key: value
            for key, value in portable(load_model(member.checkpoint).metadata["config"]).items()
            if key not in NO_PART_OF_A_RECIPE
        }
        for member in members
    ]
    for member, recipe in zip(members[1:], recipes[1:], strict=True):
        changed = sorted(
            key
            for key in recipe.keys() | recipes[0].keys()
            if recipe.get(key) != recipes[0].get(key)
        )
        if changed:
            got = f"another {', '.join(changed)} than {members[0].checkpoint.name}"
            fix = "Train it with the same command and another seed."
            raise DataError(message(member.checkpoint.name, got, "one recipe", fix))
