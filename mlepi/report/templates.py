"""Filling the pages: one file each, with style, script and plot library inside.

Everything that a run says is escaped by the template engine. The library is the cartesian part of
plotly.js, compressed; the browser unpacks it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

ASSETS = Path(__file__).parent / "assets"
LIBRARY = ASSETS / "plotly-cartesian.min.js.gz"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["signs"] = write_signs
    return made


def write_signs(text: str) -> str:
    """Write the minus of numbers in a sentence as one; names and ranges keep their hyphens."""
    return re.sub(r"(?<![^\s(±≈])-(?=\d)", "−", text)


def fill_page(template: str, page: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Return a whole page.

    Args:
        template: name of a file in ``assets``.
        page: what the template shows.
        figures: name → content of a figure, plain data.
    """
    text = json.dumps(figures, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return (
        _environment()
        .get_template(template)
        .render(
            page=page,
            css=(ASSETS / "report.css").read_text(encoding="utf-8"),
            script=(ASSETS / "report.js").read_text(encoding="utf-8"),
            figures=text.replace("<", "\\u003c"),
            plotly=base64.b64encode(LIBRARY.read_bytes()).decode(),
        )
    )
