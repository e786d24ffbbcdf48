"""How results are shown: one style, drawings and tables with their words; nothing is computed."""

from mlepi.figures.convergence import draw_convergence
from mlepi.figures.presentation import (
    Comparison,
    Drawing,
    Fact,
    Headline,
    Paragraph,
    Presentation,
    Records,
    Section,
    Table,
)
from mlepi.figures.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    RED,
    house_style,
    label_path,
    new_figure,
    save_figure,
    temperature_colours,
)

__all__ = [
    "BLUE",
    "COLUMN",
    "GREEN",
    "GREY",
    "RED",
    "Comparison",
    "Drawing",
    "Fact",
    "Headline",
    "Paragraph",
    "Presentation",
    "Records",
    "Section",
    "Table",
    "draw_convergence",
    "house_style",
    "label_path",
    "new_figure",
    "save_figure",
    "temperature_colours",
]
