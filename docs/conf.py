"""Settings of the documentation site: ``make docs`` builds it from here into ``build/docs``.

The sources are Markdown pages and notebooks of the whole repository, so that a link such as
``../data/blg_openmx/README.md`` is right on GitHub and on the site. Folders that hold no page are
left out by name before anything is searched.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

START = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>mlepi</title>
<meta http-equiv="refresh" content="0; url=docs/index.html"></head>
<body><a href="docs/index.html">mlepi: documentation</a></body></html>
"""
"""Of the folder that is built, whose pages lie in the folders of their sources."""

BAR = re.compile(r"(``[^`]*``)|\|")
"""Code, which is left as it is, or a bar."""

ARRAY = re.compile(
    r"[~\w.]*ndarray\[[~\w.]*tuple\[[~\w.]*Any, \.\.\.\], [~\w.]*dtype\[([^\]]*)\]\]"
)
"""How NDArray[…] is written out."""

project = "mlepi"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

root_doc = "docs/index"
include_patterns = [
    "C*.md",
    "docs/**.md",
    "notebooks/*.ipynb",
    "data/*/*.md",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
]
_SOURCES = {"docs", "notebooks", "data", "benchmarks"}
_SOURCES |= {path.name for path in ROOT.glob("C*.md")}
exclude_patterns = [path.name for path in ROOT.iterdir() if path.name not in _SOURCES]

nb_execution_mode = "off"  # tests run the notebooks; the site shows what they have stored
nb_render_markdown_format = "myst"  # of outputs, which have tables
myst_heading_anchors = 4  # links such as speed.md#on-a-gpu
myst_enable_extensions = ["colon_fence"]

nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!mlepi\b).*"),  # types of other packages: no network here
    (r"py:class", r"mlepi\..*"),  # types of arguments that no page shows are text
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "mlepi"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2b6cb0", "color-brand-content": "#2b6cb0"},
    "dark_css_variables": {"color-brand-primary": "#8ab4e8", "color-brand-content": "#8ab4e8"},
}
pygments_style = "friendly"


def _give_title(app: Sphinx, name: str, source: list[str]) -> None:
    """Give tables that scripts write without a title one, so that contents can name them."""
    if name.startswith("benchmarks/results/") and not source[0].startswith("# "):
        source[0] = f"# Speed, {name.rpartition('/')[2]} table\n\n{source[0]}"


def _escape_bars(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Keep ``|k|`` of a docstring from being read as a substitution."""
    lines[:] = [BAR.sub(lambda found: found[0] if found[1] else "\\|", line) for line in lines]


def _shorten_arrays(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Write NDArray[…] in signatures, as the source does."""
    short = [text and ARRAY.sub(r"NDArray[\1]", text) for text in (signature, returned)]
    return short[0], short[1]


def _write_start(app: Sphinx, exception: Exception | None) -> None:
    """Lead from the folder that was built to its start page."""
    if exception is None and app.builder.format == "html":
        (Path(app.outdir) / "index.html").write_text(START, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect what Sphinx calls."""
    app.connect("source-read", _give_title)
    app.connect("autodoc-process-docstring", _escape_bars)
    app.connect("autodoc-process-signature", _shorten_arrays)
    app.connect("build-finished", _write_start)
