"""The table of a verification: on the screen, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mlepi.verification.check import Check

FILE_WIDTH = 150
"""Characters of a line where the output is no terminal."""
COLUMNS = ("check", "expected", "got", "tolerance", "σ", "pass")


def print_table(checks: Sequence[Check], console: Console | None = None) -> None:
    """Print all checks.

    Args:
        checks: in the order of the table.
        console: where; None for standard output.
    """
    table = Table(title="Verification", show_lines=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "check" else "right", overflow="fold")
    for check in checks:
        *cells, passed = _cells(check)
        table.add_row(*cells, f"[green]{passed}[/]" if check.passed else f"[bold red]{passed}[/]")
    console = console or Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    console.print(table)


def write_table(checks: Sequence[Check], folder: Path) -> tuple[Path, Path]:
    """Write ``verification.json`` and ``verification.md`` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data, text = folder / "verification.json", folder / "verification.md"
    data.write_text(
        json.dumps([asdict(check) for check in checks], indent=1, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *(_cells(check) for check in checks)]
    text.write_text("\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n", encoding="utf-8")
    return data, text


def _cells(check: Check) -> tuple[str, ...]:
    expected = (
        f"{check.kind if check.kind != '=' else ''} {check.expected:.6g} {check.unit}".strip()
    )
    sigma = "" if check.sigma is None else f"{check.sigma:.2g}"
    tolerance = f"{check.tolerance:.2g}" if check.kind == "=" else ""
    return (
        check.name,
        expected,
        f"{check.got:.6g}",
        tolerance,
        sigma,
        "yes" if check.passed else "NO",
    )
