"""What matplotlib has drawn, read back from the figure for plotly."""

import base64

import numpy as np
import pytest

from mlepi.figures import house_style, label_path, new_figure
from mlepi.figures.numbers import pack_numbers, plain_numbers
from mlepi.figures.plotly_figure import convert_figure
from mlepi.figures.plotly_labels import plain_label


def unpack(packed):
    if isinstance(packed, list):
        return np.array(packed, dtype=float)
    values = np.frombuffer(base64.b64decode(packed["bdata"]), "<f4")
    shape = tuple(int(n) for n in packed.get("shape", str(values.size)).split(","))
    return values.reshape(shape)


def convert(draw, rows=1, columns=1, **options):
    with house_style():
        figure = new_figure(3.0, 2.0)
        axes = figure.subplots(rows, columns, **options)
        draw(axes)
        return convert_figure(figure)


def test_lines_keep_their_numbers_names_and_style():
    x = np.linspace(0.0, 1.0, 100)

    def draw(axes):
        axes.plot(x, x**2, color="#2b6cb0", linestyle="--", marker="s", label="E$_F$ & <x>")
        axes.plot([0, 1], [np.nan, 2.0], drawstyle="steps-post")
        axes.set_xlabel("k (Å$^{-1}$)")
        axes.set_xlim(0.0, 2.0)

    found = convert(draw)
    line, steps = found["data"]
    np.testing.assert_allclose(unpack(line["y"]), x**2, atol=1e-7)
    assert line["name"] == line["legendgroup"] == "E<sub>F</sub> &amp; &lt;x&gt;"
    assert line["line"]["dash"] == "dash"
    assert line["line"]["color"] == line["marker"]["color"] == "#2b6cb0"
    assert line["marker"]["symbol"] == "square"
    assert steps["y"][0] is None
    assert steps["line"]["shape"] == "hv"
    assert "name" not in steps
    assert found["layout"]["xaxis"]["title"]["text"] == "k (Å<sup>-1</sup>)"
    assert found["layout"]["xaxis"]["range"] == [0.0, 2.0]


@pytest.mark.parametrize("direction", ["x", "y"])
def test_error_bars_are_attached_to_their_points(direction):
    def draw(axes):
        bars = {f"{direction}err": [[0.1, 0.2], [0.3, 0.4]]}
        axes.errorbar([1.0, 2.0], [3.0, 4.0], **bars, label="v")

    (trace,) = convert(draw)["data"]
    assert trace["name"] == "v"
    assert (trace["x"], trace["y"]) == ([1.0, 2.0], [3.0, 4.0])
    bars = trace[f"error_{direction}"]
    np.testing.assert_allclose(bars["arrayminus"], [0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(bars["array"], [0.3, 0.4], atol=1e-6)


def test_rules_spans_bands_steps_and_texts():
    def draw(axes):
        axes.axhline(2.0, label="undisplaced")
        axes.axvline(0.5)
        axes.axvspan(0.2, 0.4, alpha=0.3)
        axes.fill_between([0.0, 1.0], [1.0, 1.0], [2.0, 2.0], alpha=0.25, label="spread")
        axes.hist([0.1, 0.1, 0.9], bins=[0.0, 0.5, 1.0], histtype="step")
        axes.text(0.5, 0.9, "a", transform=axes.transAxes)
        axes.set_xlim(0.0, 1.0)

    found = convert(draw)
    band, rule, steps = found["data"]
    assert (band["name"], rule["name"]) == ("spread", "undisplaced")
    assert band["fill"] == "toself"
    assert band["fillcolor"].endswith(",0.25)")
    assert (rule["x"], rule["y"]) == ([0.0, 1.0], [2.0, 2.0])
    assert max(unpack(steps["y"])) == 2.0
    line, span = found["layout"]["shapes"]
    assert (line["x0"], line["x1"], line["yref"]) == (0.5, 0.5, "y domain")
    assert (span["x0"], span["x1"], span["y0"], span["y1"]) == pytest.approx((0.2, 0.4, 0.0, 1.0))
    (text,) = found["layout"]["annotations"]
    assert (text["text"], text["xref"]) == ("a", "x domain")


def test_maps_share_one_scale():
    values = np.arange(1.0, 13.0).reshape(3, 4)

    def draw(panels):
        for axes, factor in zip(panels, (1.0, 2.0), strict=True):
            image = axes.pcolormesh(
                np.arange(4.0),
                np.arange(3.0),
                factor * values,
                vmin=0.0,
                vmax=24.0,
                shading="gouraud",
            )
        panels[0].figure.colorbar(image, ax=panels, label="A")

    found = convert(draw, 1, 2, sharey=True)
    first, second = found["data"]
    np.testing.assert_allclose(unpack(second["z"]), 2.0 * values)
    assert first["x"] == [0.0, 1.0, 2.0, 3.0]
    assert found["layout"]["coloraxis"]["cmax"] == 24.0
    assert found["layout"]["coloraxis"]["colorbar"]["title"]["text"] == "A"
    assert found["layout"]["yaxis2"]["matches"] == "y"
    assert [cell["column"] for cell in found["grid"]["cells"]] == [0, 1]


def test_special_points_and_logarithms():
    def draw(axes):
        axes.semilogy([0.0, 1.0, 2.0], [1.0, 10.0, 100.0])
        label_path(axes, np.array([0.0, 1.5, 2.0]), ("G", "K", "M"))
        axes.set_ylim(1.0, 1000.0)

    layout = convert(draw)["layout"]
    assert layout["xaxis"]["ticktext"] == ["Γ", "K", "M"]
    assert layout["xaxis"]["tickvals"] == [0.0, 1.5, 2.0]
    assert layout["yaxis"]["type"] == "log"
    assert layout["yaxis"]["range"] == pytest.approx([0.0, 3.0])


@pytest.mark.parametrize(
    "draw",
    [
        lambda axes: axes.imshow(np.eye(2)),
        lambda axes: axes.quiver([0.0], [0.0], [1.0], [1.0]),
        lambda axes: axes.pie([1.0, 2.0]),
    ],
)
def test_what_is_not_known_stays_a_picture(draw):
    assert convert(draw) is None


def test_numbers_are_short():
    assert plain_numbers(np.array([[1.23456789, np.nan]])) == [[1.2346, None]]
    packed = pack_numbers(np.full((10, 20), np.pi))
    assert packed["shape"] == "10, 20"
    np.testing.assert_allclose(unpack(packed), np.pi, rtol=1e-6)


def test_labels():
    assert plain_label(r"$\mathrm{S}_{ij}$, 10$^5$ < b") == "S<sub>ij</sub>, 10<sup>5</sup> &lt; b"
