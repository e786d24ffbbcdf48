"""Figures that a browser can explore: choices, a map with a slider, vibrations that move.

A panel is plain data; ``mlepi/report/assets/report.js`` shows it. Whatever has none is shown as
matplotlib draws it (``mlepi.figures.plotly_figure``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from mlepi.figures.numbers import pack_numbers, plain_numbers
from mlepi.figures.plotly_labels import plain_label
from mlepi.figures.structure_view import ELEMENT_COLOURS, OTHER_COLOUR

Json = dict[str, Any]

MOST_MODE_NUMBERS = 300_000
"""Components of eigenvectors that a page holds; beyond, the special points alone can be shown."""


@dataclass(frozen=True)
class Panel:
    """One figure of the page.

    Attributes:
        kind: "plot" (``data``, ``layout``, ``grid``, ``choices``), "map" or "modes".
        content: of that kind, JSON.
    """

    kind: Literal["plot", "map", "modes"]
    content: Json


@dataclass(frozen=True)
class Choice:
    """One row of buttons above a plot, of which one is pressed.

    A trace with an entry of this name in ``choose`` is shown where that is the pressed one.

    Attributes:
        name: said in front of the row.
        options: on the buttons; the first is pressed at the beginning.
    """

    name: str
    options: Sequence[str]


def build_plot(
    traces: Sequence[Json],
    axes: Sequence[tuple[str, str]],
    choices: Sequence[Choice] = (),
    layout: Mapping[str, Any] | None = None,
    widths: Sequence[float] = (),
    gap: int = 74,
    note: str = "",
) -> Panel:
    """Return a plot of panels side by side.

    Args:
        traces: as plotly takes them; ``panel`` counts from 0, ``choose`` is choice → option.
        axes: horizontal and vertical label of every panel.
        choices: rows of buttons; one with a single option is left out.
        layout: further settings, of the axes or of the whole.
        widths: of the panels, in proportion; equal without.
        gap: between the panels, pixels.
        note: added to the caption; what this panel shows beyond the figure in the files.
    """
    made: Json = {"annotations": [], "shapes": []}
    cells = []
    for number, (horizontal, vertical) in enumerate(axes):
        suffix = "" if number == 0 else str(number + 1)
        made[f"xaxis{suffix}"] = {
            "anchor": f"y{suffix}",
            "title": {"text": plain_label(horizontal)},
        }
        made[f"yaxis{suffix}"] = {"anchor": f"x{suffix}", "title": {"text": plain_label(vertical)}}
        cells.append({"axes": suffix, "row": 0, "column": number, "columns": 1, "title": ""})
    for key, value in (layout or {}).items():
        made[key] = {**made.get(key, {}), **value} if isinstance(value, dict) else value
    data = []
    for trace in traces:
        suffix = "" if trace.get("panel", 0) == 0 else str(trace["panel"] + 1)
        shown = {key: value for key, value in trace.items() if key != "panel"}
        data.append({"type": "scatter", **shown, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"})
    shares = list(widths) or [1.0] * len(axes)
    grid = {"rows": 1, "columns": len(axes), "widths": shares, "cells": cells, "gap": gap}
    told = [
        {"name": choice.name, "options": list(choice.options)}
        for choice in choices
        if len(choice.options) > 1
    ]
    return Panel(
        "plot", {"data": data, "layout": made, "grid": grid, "choices": told, "note": note}
    )


def build_map(
    horizontal: NDArray[np.float64],
    vertical: NDArray[np.float64],
    frames: Mapping[str, NDArray[np.float64]],
    labels: tuple[str, str, str],
    points: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]] | None = None,
    ticks: Sequence[tuple[float, str]] = (),
) -> Panel:
    """Return a map with a slider over frames, and a cut that follows the cursor.

    Args:
        horizontal: (n_x,), ascending.
        vertical: (n_y,), ascending.
        frames: name, such as a temperature → (n_x, n_y).
        labels: of the horizontal and the vertical axis and of the values.
        points: name of a frame → horizontal (n,) and vertical (n, n_lines) places of marks.
        ticks: place and name on the horizontal axis; without any there are numbers.
    """
    marks = {
        name: {
            "x": plain_numbers(np.repeat(x, y.shape[1])),
            "y": plain_numbers(np.ravel(y)),
        }
        for name, (x, y) in (points or {}).items()
    }
    return Panel(
        "map",
        {
            "x": plain_numbers(horizontal),
            "y": plain_numbers(vertical),
            "frames": [
                {"name": name, "z": pack_numbers(values.T), "points": marks.get(name)}
                for name, values in frames.items()
            ],
            "labels": [plain_label(label) for label in labels],
            "ticks": [{"at": float(place), "name": name} for place, name in ticks],
            "top": float(max(np.nanmax(values) for values in frames.values())),
        },
    )


@dataclass(frozen=True)
class Vibrations:
    """Phonon bands with their eigenvectors.

    Attributes:
        atoms: one cell.
        distances: (n_qpoints,), along the path.
        qpoints: (n_qpoints, 3), fractional.
        frequencies: (n_qpoints, n_bands), in the unit of the figure.
        vectors: (n_qpoints, 3 n_atoms, n_bands) complex, columns are modes, with the phase of
            lattice vectors.
        ticks: special points, place and name.
        dos: frequencies and density of states, (n,) each.
        labels: of frequencies and of the density of states.
    """

    atoms: Atoms
    distances: NDArray[np.float64]
    qpoints: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    vectors: NDArray[np.complex128]
    ticks: Sequence[tuple[float, str]]
    dos: tuple[NDArray[np.float64], NDArray[np.float64]]
    labels: tuple[str, str]


def build_modes(found: Vibrations) -> Panel:
    """Return phonon bands whose modes move on a click.

    Of a large cell only the special points keep their eigenvectors.
    """
    n_qpoints, n_components, n_bands = found.vectors.shape
    kept = np.arange(n_qpoints)
    if found.vectors.size * 2 > MOST_MODE_NUMBERS:
        places = np.array([place for place, _ in found.ticks])
        kept = np.unique(np.abs(found.distances[:, None] - places).argmin(axis=0))
    atoms = found.atoms
    heavy = np.repeat(np.sqrt(atoms.get_masses()), 3)
    moves = np.moveaxis(found.vectors[kept], 1, 2) / heavy
    largest = np.abs(moves).reshape(*moves.shape[:2], -1, 3)
    moves /= np.sqrt((largest**2).sum(axis=3)).max(axis=2)[:, :, None]
    pairs = np.stack([moves.real, moves.imag], axis=-1).reshape(len(kept) * n_bands, -1)
    numbers = atoms.numbers
    return Panel(
        "modes",
        {
            "distances": plain_numbers(found.distances),
            "frequencies": [pack_numbers(band) for band in found.frequencies.T],
            "kept": kept.tolist(),
            "qpoints": plain_numbers(found.qpoints[kept]),
            "moves": pack_numbers(pairs),
            "sizes": [len(kept), n_bands, n_components // 3],
            "ticks": [{"at": float(place), "name": name} for place, name in found.ticks],
            "dos": {"x": pack_numbers(found.dos[1]), "y": pack_numbers(found.dos[0])},
            "labels": [plain_label(label) for label in found.labels],
            "cell": plain_numbers(np.asarray(atoms.cell)),
            "positions": plain_numbers(atoms.positions),
            "radii": plain_numbers(covalent_radii[numbers]),
            "colours": [ELEMENT_COLOURS.get(s, OTHER_COLOUR) for s in atoms.symbols],
        },
    )
