"""The mean slope with and without the control variate, its error bars, and what it took off."""

import numpy as np
from plain_records import TEMPERATURES, control_variate_record

from mlepi.observables.control_variate.figure import (
    PRESENTATION,
    list_control_facts,
    plot_control,
)


def test_both_averages_have_error_bars():
    record = control_variate_record()
    [axes] = plot_control(record).axes
    for container, velocity, error in zip(axes.containers, (8.2, 8.15), (0.03, 0.01), strict=True):
        points, _, (bars,) = container.lines
        np.testing.assert_array_equal(points.get_xdata(), TEMPERATURES)
        np.testing.assert_allclose(points.get_ydata(), velocity)  # 10⁵ m/s
        heights = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
        np.testing.assert_allclose(heights, 2 * error)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["30 samples", "with 1000 cheap ones"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("temperature (K)", "mean slope (10⁵ m/s)")


def test_facts_are_told_for_every_temperature():
    facts = list_control_facts(control_variate_record())
    assert [name for name, _ in facts] == [
        f"mean slope at {t:g} K with control variate" for t in TEMPERATURES
    ]
    assert {value for _, value in facts} == {
        "(8.150 ± 0.010) 10⁵ m/s, variance divided by 9.0 (correlation 0.970)"
    }
    assert [drawing.name for drawing in PRESENTATION.drawings] == ["control"]
