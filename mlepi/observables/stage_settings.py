"""Settings that several observables share, as they come from a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def read_electrons(given: Mapping[Any, float]) -> dict[int, float]:
    """Return atomic number → valence electrons of its pseudopotential, whatever kind of number."""
    return {int(number): float(electrons) for number, electrons in given.items()}


def describe_electrons(electrons: Mapping[int, float]) -> dict[str, float]:
    """Return the same as JSON-able data, for what decides a result."""
    return {str(number): float(count) for number, count in electrons.items()}
