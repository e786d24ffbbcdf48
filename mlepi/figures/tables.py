"""Tables as lines of Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence


def tabulate(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def format_csv(header: Sequence[str], rows: Sequence[Sequence[float | str | None]]) -> str:
    """Write a table as CSV; what is None stays empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    return text.getvalue()
