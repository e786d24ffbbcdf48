"""Formats of checkpoints, and the steps by which older files are brought to the present one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlepi.checksums import CHECKSUMS, compute_checksums
from mlepi.errors import CheckpointError, message

KEY = "mlepi"
"""Entry of a file that holds the stamp."""
FORMAT = 3
"""That is written."""

_DEFAULTS_OF_FORMAT_1: dict[str, dict[str, Any]] = {
    "MACE": {"first_self_connection": "residual", "l_max_out": 0},
    "DeepHE3": {"self_loops": False, "l_max_out": None},
    "ElectronNetwork": {"pair_features": None},
}
"""Class → what format 1 did not say."""


def name_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """Turn format 1 into 2, where every setting of a network and the writer's version are named.

    Args:
        content: of a file; not modified.
    """

    def walk(config: Any) -> Any:
        if isinstance(config, list):
            return [walk(value) for value in config]
        if not isinstance(config, Mapping):
            return config
        name = str(config.get("_target_", "")).removeprefix("mlepi.models.")
        filled = {**_DEFAULTS_OF_FORMAT_1.get(name, {}), **config}
        return {key: walk(value) for key, value in filled.items()}

    old = content[KEY]
    named = {**old, "format": 2, "version": "0.1.0"}
    if "model" in old:
        named["model"] = walk(old["model"])
    return {**content, KEY: named}


def add_checksums(content: dict[str, Any]) -> dict[str, Any]:
    """Turn format 2 into 3, which carries checksums: from now on those of what was found.

    Args:
        content: of a file; not modified.
    """
    named = {**content[KEY], "format": 3}
    return {**content, KEY: named, CHECKSUMS: compute_checksums(named, content["state_dict"])}


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: name_defaults,
    2: add_checksums,
}
"""Format N → pure function that turns the content of a file of format N into format N + 1."""


def upgrade(
    content: dict[str, Any],
    *,
    where: str,
    upgrades: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] | None = None,
    to: int = FORMAT,
) -> dict[str, Any]:
    """Bring the content of a file to a format, one step at a time.

    Args:
        content: what the file holds; not modified by the steps, which are pure functions.
        where: name of the file, for messages.
        upgrades: format → step to the next one; ``UPGRADES`` by default.
        to: format that is wanted.

    Raises:
        CheckpointError: the format is newer, unknown, or too old to be upgraded.
    """
    steps = UPGRADES if upgrades is None else upgrades
    while (found := content[KEY].get("format")) != to:
        if not isinstance(found, int) or found > to:
            raise CheckpointError(
                message(
                    where,
                    f"format {found!r}",
                    f"format {to} or older",
                    f"Install {_writer(content[KEY])}, which wrote this checkpoint.",
                )
            )
        if found not in steps:
            raise CheckpointError(
                message(
                    where,
                    f"format {found}, which can no longer be read",
                    f"format {to}",
                    "Train it again.",
                )
            )
        content = steps[found](content)
        if content[KEY].get("format") != found + 1:
            raise CheckpointError(
                message(
                    where,
                    f"an upgrade to format {content[KEY].get('format')!r}",
                    f"format {found + 1}",
                    f"Let UPGRADES[{found}] set it.",
                )
            )
    return content


def _writer(content: Mapping[str, Any]) -> str:
    """Name the version of mlepi that wrote a stamp, as far as it says so."""
    found = content.get("version")
    return f"mlepi {found} or newer" if isinstance(found, str) else "a newer mlepi"
