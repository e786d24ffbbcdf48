"""What figures and facts show of a record of the band geometry."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_data import error_bars, legend, levels
from spectra_records import geometry_record

from mlepi.observables.band_geometry.figure import (
    PRESENTATION,
    list_facts,
    plot_band_geometry,
    plot_geometry_convergence,
    plot_geometry_maps,
)


def test_trace_of_the_metric_along_the_line():
    record = geometry_record()
    axes = plot_band_geometry(record).axes[0]
    assert axes.get_xlabel() == "M ←  k − K (Å⁻¹)  → Γ"
    assert axes.get_ylabel() == "tr g (Å²)"
    assert axes.get_yscale() == "log"
    assert legend(axes) == ["undisplaced", "0 K", "150 K", "300 K"]
    np.testing.assert_allclose(axes.lines[0].get_data(), [record.distances, [2.0] * 5])
    series = error_bars(axes)
    for points, trace in zip(series, (2.0, 2.3, 2.6), strict=True):
        np.testing.assert_allclose(points.x, record.distances)
        np.testing.assert_allclose(points.y, trace)
        np.testing.assert_allclose(points.errors, 0.1 * trace)


def test_curvature_along_the_line():
    record = geometry_record()
    slope = 10.0 * record.distances
    record = replace(
        record, equilibrium_curvatures=slope, curvatures=slope * np.array([[1.0], [1.1], [1.2]])
    )
    axes = plot_band_geometry(record).axes[1]
    assert axes.get_ylabel() == "Ω$_z$ (Å²)"
    np.testing.assert_allclose(axes.lines[0].get_ydata(), slope)
    for points, curvatures in zip(error_bars(axes), record.curvatures, strict=True):
        np.testing.assert_allclose(points.y, curvatures)
        np.testing.assert_allclose(points.errors, 0.1)


def test_maps_share_one_scale_and_lie_with_x_to_the_right():
    record = geometry_record()
    record = replace(record, maps=record.maps * np.arange(1.0, 6.0)[:, None])  # grows along x
    figure = plot_geometry_maps(record)
    *maps, bar = figure.axes
    assert [axes.get_title() for axes in maps] == ["undisplaced", "0 K", "150 K", "300 K"]
    assert bar.get_ylabel() == "tr g (Å²)"
    assert maps[0].get_xlabel() == "k$_x$ − K$_x$ (Å⁻¹)"
    assert maps[0].get_ylabel() == "k$_y$ − K$_y$ (Å⁻¹)"
    images = [axes.collections[0] for axes in maps]
    rows = np.asarray(images[1].get_array()).reshape(5, 5)
    np.testing.assert_allclose(rows, np.tile(np.arange(1.0, 6.0), (5, 1)))
    assert len({id(image.norm) for image in images}) == 1
    assert (images[0].norm.vmin, images[0].norm.vmax) == pytest.approx((1.0, 5.0))


def test_maps_of_many_temperatures_fill_rows_and_leave_the_rest_empty():
    record = geometry_record()
    many = replace(record, temperatures=np.arange(5) * 100.0, maps=record.maps[[0, 1, 2, 0, 1]])
    *maps, _ = plot_geometry_maps(many).axes
    assert [axes.axison for axes in maps] == [True] * 6 + [False] * 2


def test_points_without_a_metric_stay_out_of_the_colour_scale():
    record = geometry_record()
    rest = record.equilibrium_maps.copy()
    rest[1, 2, 2] = np.nan
    image = plot_geometry_maps(replace(record, equilibrium_maps=rest)).axes[0].collections[0]
    assert np.isfinite([image.norm.vmin, image.norm.vmax]).all()


def test_convergence_with_the_number_of_samples():
    record = geometry_record()
    (axes,) = plot_geometry_convergence(record).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("samples", "mean of |k − K|² tr g")
    assert levels(axes) == [pytest.approx(2.0 * np.mean(record.distances**2))]
    series = error_bars(axes)
    assert [points.label for points in series] == ["0 K", "150 K", "300 K"]
    np.testing.assert_allclose(series[0].x, [2, 30])
    np.testing.assert_allclose(series[2].y, record.convergence_traces[:, 2])
    np.testing.assert_allclose(series[2].errors, 0.02)


def test_facts_give_berry_phases_in_units_of_pi():
    record = replace(geometry_record(), berry_phases=np.array([0.0, 0.5, -1.0]) * np.pi)
    facts = list_facts(record)
    assert facts[0] == ("Berry phase of |k − K| = 0.06 Å⁻¹, undisplaced", "0.000 π")
    assert facts[2] == ("Berry phase of |k − K| = 0.06 Å⁻¹, 150 K", "0.500 ± 0.003 π")
    assert facts[3][1] == "-1.000 ± 0.003 π"


def test_presentation_names_the_files_of_the_figures():
    names = [drawing.name for drawing in PRESENTATION.drawings]
    assert names == ["band_geometry", "geometry_maps", "geometry_convergence"]
    assert PRESENTATION.facts is list_facts
