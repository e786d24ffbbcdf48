"""The parts of a self-contained HTML page: nothing in it refers to another file."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mlepi.figures import Paragraph, Section

CSS = """
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#1a202c}
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em;border-bottom:1px solid #cbd5e0}
table{border-collapse:collapse;margin:1em 0}
td,th{padding:.25em .8em;border-bottom:1px solid #e2e8f0;text-align:right}
th:first-child,td:first-child{text-align:left}
figure{margin:1.5em 0}img{max-width:100%}figcaption{color:#4a5568;font-size:.9em}
.warning{background:#fffaf0;border-left:4px solid #dd6b20;padding:.5em 1em;margin:.5em 0}
pre{overflow-x:auto;font-size:.8em;background:#f7fafc;padding:1em}
"""


def build_page(title: str, body: Iterable[str]) -> str:
    """Return a whole page.

    Args:
        title: of the window.
        body: parts in HTML.
    """
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{CSS}</style>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>'
    return page + "\n".join(body) + "</body></html>\n"


def escape(words: str) -> str:
    """Return text as HTML."""
    return html.escape(words)


def format_warning(text: str) -> str:
    """Return a doubt in a box."""
    return f'<div class="warning">{escape(text)}</div>'


def format_section(section: Section) -> Iterator[str]:
    """Yield a heading and what stands under it."""
    yield f"<h2>{escape(section.title)}</h2>"
    for block in section.blocks:
        if isinstance(block, Paragraph):
            if block.heading:
                yield f"<h3>{escape(block.heading)}</h3>"
            yield f"<p>{escape(block.text)}</p>"
        else:
            yield format_table(block.header, block.rows)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def format_image(png: bytes, name: str, caption: str) -> str:
    """Return a figure with the image inside.

    Args:
        png: content of the file.
        name: said in its place.
        caption: plain text.
    """
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(name)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def format_details(summary: str, content: Mapping[str, Any]) -> str:
    """Return plain data that open on a click."""
    details = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True)
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(details)}</pre></details>"
