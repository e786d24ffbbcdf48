"""Exceptions for everything that a user can cause, and the form of their messages.

Every message says where (config key, file, structure), what was found, what was expected and how to
fix it.
"""

from __future__ import annotations


class MlepiError(Exception):
    """Base of all errors that mlepi raises on purpose; scripts print its text and exit with 1."""


class ConfigError(MlepiError):
    """A configuration key is missing, unknown or holds a value that cannot be used."""


class DataError(MlepiError):
    """A file or data set is missing, damaged, or inconsistent with what it claims to hold."""


class NoLabelsError(DataError):
    """Structures without the energies and forces that were looked for."""


class NotConvergedError(DataError):
    """A calculation whose self-consistency was not reached: its numbers are no labels."""


class StructureError(MlepiError):
    """An atomic structure cannot be used: unknown element, atoms too close, wrong periodicity."""


class CheckpointError(MlepiError):
    """A checkpoint is missing, damaged, of the wrong kind, or from an unknown version."""


class PhysicsError(MlepiError):
    """A physical requirement is violated, as by imaginary modes or an indefinite overlap."""


class UnusualDataWarning(UserWarning):
    """Data can be right but are unlike those of most codes: how much, and what follows."""


def message(where: str, got: str, expected: str, fix: str) -> str:
    """Format one error text in the house form ``where: got …; expected …. Fix: …``.

    Args:
        where: config key, file or structure in which the problem was found.
        got: what was found there.
        expected: what would have been right.
        fix: what the user can do now.

    Returns:
        The message, one or two sentences.
    """
    return f"{where}: got {got}; expected {expected}. {fix}"
