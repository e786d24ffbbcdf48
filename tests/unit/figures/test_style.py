"""The one style: figures that leave the caller's settings alone, files for screen and paper."""

import matplotlib as mpl
import numpy as np
import pytest

from mlepi.figures import (
    COLUMN,
    house_style,
    label_path,
    new_figure,
    save_figure,
    temperature_colours,
)


def test_the_callers_settings_stay():
    before = dict(mpl.rcParams)
    with house_style():
        assert mpl.rcParams["font.size"] == 8.0
        assert not mpl.rcParams["axes.spines.top"]
    assert dict(mpl.rcParams) == before


def test_a_figure_has_the_size_of_the_journal(tmp_path):
    figure = new_figure(COLUMN, 2.0)
    assert tuple(figure.get_size_inches()) == (3.4, 2.0)
    figure.subplots().plot([0, 1], [0, 1])
    path = save_figure(figure, tmp_path / "new" / "folder", "line")
    assert path == tmp_path / "new" / "folder" / "line.png"
    assert path.read_bytes()[:4] == b"\x89PNG"
    pdf = path.with_suffix(".pdf").read_bytes()
    assert pdf[:4] == b"%PDF"
    assert b"CreationDate" not in pdf  # the same figure gives the same file
    assert b"/TrueType" in pdf or b"/Type0" in pdf  # text stays text


def test_the_same_figure_gives_the_same_file(tmp_path):
    files = []
    for name in "ab":
        figure = new_figure(1.0, 1.0)
        figure.subplots().plot([0, 1], [1, 0])
        files.append(save_figure(figure, tmp_path / name, "x").with_suffix(".pdf").read_bytes())
    assert files[0] == files[1]


def test_colours_go_from_cold_to_hot():
    cold, _, hot = temperature_colours(np.array([0.0, 150.0, 300.0]))
    assert cold[2] > cold[0]  # blue
    assert hot[0] > hot[2]  # red
    assert len(temperature_colours(np.array([5.0]))) == 1


def test_special_points_are_named_in_greek():
    axes = new_figure(1.0, 1.0).subplots()
    label_path(axes, np.array([0.0, 1.0, 2.5]), ("G", "K", "GAMMA"))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["Γ", "K", "Γ"]
    assert axes.get_xlim() == pytest.approx((0.0, 2.5))
    assert [line.get_xdata()[0] for line in axes.lines] == [1.0]  # a line at inner points only
