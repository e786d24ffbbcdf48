"""What the figures of the fermi_velocity stage draw of a record."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from velocity_records import MAP, TEMPERATURES, fermi_velocity_record, velocity_record

from mlepi.observables.fermi_velocity.figure import (
    PRESENTATION,
    list_facts,
    plot_bands,
    plot_convergence,
    plot_fermi_velocity,
    plot_low_bands,
    plot_spectral_functions,
    width_section,
)
from mlepi.observables.fermi_velocity.record import PeakWidthRecord
from mlepi.observables.near_k.velocity_tables import velocity_section


@pytest.fixture
def record():
    """A record whose estimators, temperatures and sample sizes all differ."""
    rising = np.array([0.0, 0.1e5, 0.3e5])
    energies = np.linspace(-0.5, 0.5, 24).reshape(3, 4, 2)

    def moved(v, errors):
        one = velocity_record(v)
        return replace(
            one,
            slopes=one.slopes + rising,
            slope_errors=errors * np.array([1.0, 2.0, 3.0]),
            energies=energies * v / 8e5,
            convergence_slopes=one.convergence_slopes + np.array([[0.0], [0.2e5]]),
        )

    return replace(
        fermi_velocity_record(),
        spectral=moved(8.2e5, 0.02e5),
        sorted_average=moved(6.1e5, 0.05e5),
        velocity_operator=moved(7.4e5, 0.03e5),
    )


def bars(container):
    """Return the half lengths of the error bars of a container of matplotlib."""
    return np.array([0.5 * np.ptp(part[:, 1]) for part in container.lines[2][0].get_segments()])


def test_bands_are_drawn_from_the_fermi_energy(record):
    bands, dos = plot_bands(record).axes
    drawn = [line.get_ydata() for line in bands.lines[:8]]
    np.testing.assert_allclose(np.transpose(drawn), record.bands + 3.6)
    np.testing.assert_array_equal(bands.lines[0].get_xdata(), record.band_distances)
    assert [label.get_text() for label in bands.get_xticklabels()] == ["Γ", "K", "M", "Γ"]
    assert bands.get_ylabel() == "E − E$_F$ (eV)"
    assert bands.get_ylim() == (-10.0, 6.0)
    np.testing.assert_array_equal(
        dos.lines[0].get_xydata(), np.column_stack([record.dos, record.dos_energies])
    )
    assert dos.get_xlabel() == "DOS (1/eV per spin)"


def test_spectral_functions_share_one_scale(record):
    figure = plot_spectral_functions(record)
    panels, scale = figure.axes[:4], figure.axes[4]
    titles = [axes.get_title() for axes in panels]
    assert titles == ["equilibrium", "0 K", "150 K", "300 K"]
    spectra = [record.equilibrium_spectral_function, *record.spectral_functions]
    for axes, spectrum in zip(panels, spectra, strict=True):
        (mesh,) = axes.collections
        np.testing.assert_allclose(np.ravel(mesh.get_array()), spectrum.T.ravel())
        assert mesh.get_clim() == (0.0, record.spectral_functions.max())
        # every point of the map in the middle of its column
        edges = mesh.get_coordinates()[0, :, 0]
        np.testing.assert_allclose(edges, [-0.1, -0.05, 0.0, 0.05, 0.1])
    ticks = [label.get_text() for label in panels[0].get_xticklabels()]
    assert ticks == ["M ←", "K", "→ Γ"]
    assert scale.get_ylabel() == "A (1/eV per spin)"
    assert panels[0].get_ylabel() == "E − E$_D$ (eV)"


def test_crosses_mark_the_peaks_at_the_fitted_points(record):
    np.testing.assert_array_equal(record.fitted, [True, True, False, True, True])
    panels = plot_spectral_functions(record).axes
    assert not panels[0].lines
    for axes, energies in zip(panels[1:4], record.spectral.energies, strict=True):
        for line, band in zip(axes.lines, energies.T, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), MAP[record.fitted])
            np.testing.assert_array_equal(line.get_ydata(), band)


def test_many_temperatures_fill_two_rows(record):
    five = {
        "temperatures": np.arange(5.0),
        "spectral_functions": record.spectral_functions[[0, 1, 2, 0, 1]],
        "spectral": replace(record.spectral, energies=record.spectral.energies[[0, 1, 2, 0, 1]]),
    }
    figure = plot_spectral_functions(replace(record, **five))
    assert len(figure.axes) == 7
    four = {
        "temperatures": np.arange(4.0),
        "spectral_functions": record.spectral_functions[[0, 1, 2, 0]],
    }
    assert sum(axes.axison for axes in plot_spectral_functions(replace(record, **four)).axes) == 6


def test_velocities_have_the_error_bars_of_the_record(record):
    axes, pinned = plot_fermi_velocity(record).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 7.6)
    np.testing.assert_allclose(pinned.lines[0].get_ydata(), 8.75)
    estimates = record.spectral, record.sorted_average, record.velocity_operator
    for container, estimate in zip(axes.containers, estimates, strict=True):
        np.testing.assert_array_equal(container.lines[0].get_xdata(), TEMPERATURES)
        np.testing.assert_allclose(container.lines[0].get_ydata(), 1e-5 * estimate.slopes)
        np.testing.assert_allclose(bars(container), 1e-5 * estimate.slope_errors)
    for container, estimate in zip(pinned.containers, estimates, strict=True):
        np.testing.assert_allclose(
            container.lines[0].get_ydata(), 1e-5 * estimate.pinned.velocities
        )
        np.testing.assert_allclose(bars(container), 1e-5 * estimate.pinned.velocity_errors)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["undisplaced", "spectral peak", "sorted average", "velocity operator"]
    assert axes.get_xlabel() == "temperature (K)"
    assert axes.get_ylabel() == "mean slope (10⁵ m/s)"
    assert pinned.get_ylabel() == "v with γ₁ pinned (10⁵ m/s)"
    (alone,) = plot_fermi_velocity(
        replace(record, spectral=replace(record.spectral, pinned=None))
    ).axes
    assert len(alone.containers) == 3
    assert axes.get_title() == "6×6 cell, 30 samples, |k−K| 0.04–0.1 Å⁻¹"


def test_low_bands_at_the_first_and_the_last_temperature(record):
    panels = plot_low_bands(record).axes
    assert [axes.get_title() for axes in panels] == ["spectral peak", "sorted average"]
    assert panels[0].get_ylabel() == "E − E$_D$ (eV)"
    for axes, estimate in zip(panels, (record.spectral, record.sorted_average), strict=True):
        assert axes.get_xlabel() == "M ←  k − K (Å⁻¹)  → Γ"
        drawn = [container.lines[0].get_ydata() for container in axes.containers]
        expected = [estimate.energies[index, :, band] for index in (0, 2) for band in (0, 1)]
        np.testing.assert_array_equal(drawn, expected)
        np.testing.assert_allclose(bars(axes.containers[0]), 0.01)
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), [-0.3] * 4)
    labels = [text.get_text() for text in panels[1].get_legend().get_texts()]
    assert labels == ["undisplaced", "0 K", "300 K"]


def test_convergence_has_a_line_per_temperature(record):
    panels = plot_convergence(record).axes
    assert [axes.get_title() for axes in panels] == [
        "spectral peak",
        "sorted average",
        "velocity operator",
    ]
    estimates = record.spectral, record.sorted_average, record.velocity_operator
    for axes, estimate in zip(panels, estimates, strict=True):
        assert axes.get_xlabel() == "samples"
        assert len(axes.containers) == 3
        for index, container in enumerate(axes.containers):
            np.testing.assert_array_equal(container.lines[0].get_xdata(), [2, 30])
            np.testing.assert_allclose(
                container.lines[0].get_ydata(), 1e-5 * estimate.convergence_slopes[:, index]
            )
            np.testing.assert_allclose(bars(container), 0.02)
    assert panels[0].get_ylabel() == "mean slope (10⁵ m/s)"
    without = replace(record.spectral, convergence_slopes=np.empty((0, 0)))
    panels = plot_convergence(replace(record, spectral=without)).axes  # of an older file
    assert panels[0].get_ylabel() == "v$_F$, free fit (10⁵ m/s)"


def test_facts_and_sections(record):
    assert list_facts(record) == [
        ("Fermi energy, undisplaced", "-3.6000 eV at 300 K smearing"),
        ("Dirac energy, undisplaced", "-3.6100 eV"),
        ("weight of low bands inside the energy window", "97.0 % at least"),
    ]
    assert PRESENTATION.facts is list_facts
    assert PRESENTATION.sections == (velocity_section, width_section)
    names = [drawing.name for drawing in PRESENTATION.drawings]
    assert names == ["bands", "spectral_function", "fermi_velocity", "low_bands", "convergence"]


def test_drawing_leaves_the_settings_of_matplotlib_alone(record):
    before = dict(mpl.rcParams)
    for drawing in PRESENTATION.drawings:
        drawing.plot(record)
    assert dict(mpl.rcParams) == before


def test_widths_of_the_lines_are_tabulated(record):
    assert width_section({"fermi_velocity": record}) is None  # an older file
    ratios, errors = np.tile([[0.94], [0.95], [0.96]], 3), np.full((3, 3), 0.002)
    unknown = np.full((3, 3), np.nan)
    widths = PeakWidthRecord(np.array([0.07, 0.1, 0.14]), ratios, errors, errors, unknown, unknown)
    text, table = width_section({"fermi_velocity": replace(record, peak_widths=widths)}).blocks
    assert "convolved once more" in text.text
    assert table.header[1:3] == ["slope / undisplaced, 70 meV", "slope / undisplaced, 100 meV"]
    assert table.rows[2] == ["300", *(f"0.9{n}0 ± 0.002" for n in (4, 5, 6)), *["—"] * 3]
