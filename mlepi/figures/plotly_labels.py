"""Labels of matplotlib as the markup of plotly."""

from __future__ import annotations

import re
from typing import Any


def read_label(artist: Any) -> str:
    """Return the label that names an artist in a legend, for plotly; empty where it has none."""
    label = str(artist.get_label())
    return "" if label.startswith("_") else plain_label(label)


def plain_label(text: str) -> str:
    """Turn a label with simple mathtext into the markup of plotly: E$_F$ → E<sub>F</sub>."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    def convert(found: re.Match[str]) -> str:
        inner = re.sub(r"\\(?:mathrm|rm|text)\{([^}]*)\}", r"\1", found[1])
        inner = re.sub(r"_(?:\{([^}]*)\}|(\S))", lambda m: f"<sub>{m[1] or m[2]}</sub>", inner)
        inner = re.sub(r"\^(?:\{([^}]*)\}|(\S))", lambda m: f"<sup>{m[1] or m[2]}</sup>", inner)
        return inner.replace("\\", "")

    return re.sub(r"\$([^$]*)\$", convert, escaped).replace("\n", "<br>")
