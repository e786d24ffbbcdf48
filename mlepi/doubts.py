"""Doubts about numbers: what was seen, what it means, what to do, and how much it matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

Severity = Literal["serious", "caution", "note"]

SEVERITIES: tuple[Severity, ...] = ("serious", "caution", "note")
"""From the worst: a number may be wrong; it has an error that no bar shows; it should be known."""


REMARKS = "doubts"
"""Entry of the provenance of a record: doubts that its numbers do not show, as plain data."""


class Doubt(str):
    """What was seen, what follows, and what to do; as a text, all three one after the other.

    Attributes:
        seen: one sentence.
        means: what follows for the numbers; empty where the first sentence says it.
        remedy: what to do; empty likewise.
        severity: one of ``SEVERITIES``.
    """

    __slots__ = ("means", "remedy", "seen", "severity")

    seen: str
    means: str
    remedy: str
    severity: Severity

    def __new__(
        cls, seen: str, means: str = "", remedy: str = "", severity: Severity = "caution"
    ) -> Doubt:
        """Join the sentences."""
        made = super().__new__(cls, " ".join(filter(None, (seen, means, remedy))))
        made.seen, made.means, made.remedy, made.severity = seen, means, remedy, severity
        return made

    @classmethod
    def of(cls, text: str) -> Doubt:
        """Return any text as a doubt; a plain one is a caution that says it all at once."""
        return text if isinstance(text, Doubt) else cls(text)

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any]) -> Doubt:
        """Return what ``to_dict`` has told, as far as it is there."""
        seen, means, remedy = (str(parts.get(key, "")) for key in ("seen", "means", "remedy"))
        known = [each for each in SEVERITIES if each == parts.get("severity")]
        return cls(seen, means, remedy, *known)

    def to_dict(self) -> dict[str, str]:
        """Return plain data for the provenance of a record."""
        return {key: str(getattr(self, key)) for key in ("seen", "means", "remedy", "severity")}

    def about(self, what: str) -> Doubt:
        """Return the same doubt with what it is about in front."""
        return Doubt(f"{what}: {self.seen}", self.means, self.remedy, self.severity)


def rank_doubts(doubts: Iterable[Doubt]) -> list[Doubt]:
    """Return doubts from the worst; those of one severity keep their order."""
    return sorted(doubts, key=lambda doubt: SEVERITIES.index(doubt.severity))


def join_doubts(found: Iterable[tuple[str, Doubt]]) -> list[Doubt]:
    """Say every doubt once, with all that it is about in front.

    Args:
        found: what a doubt is about, such as a stage, and the doubt.

    Returns:
        In the order in which they come first.
    """
    about: dict[tuple[Doubt, Severity], dict[str, None]] = {}
    for what, doubt in found:
        about.setdefault((doubt, doubt.severity), {})[what] = None
    return [doubt.about(", ".join(whats)) for (doubt, _), whats in about.items()]
