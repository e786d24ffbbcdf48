"""What the figures of the self_energy stage draw of a record."""

from dataclasses import replace

import numpy as np
import pytest
from velocity_records import MAP, self_energy_record

from mlepi.observables.near_k.velocity_tables import velocity_section
from mlepi.observables.self_energy.figure import (
    PRESENTATION,
    plot_quasiparticles,
    plot_self_energies,
)


@pytest.fixture
def record():
    """A record whose temperatures, points and bands all differ."""
    given = self_energy_record()
    some = np.linspace(0.5, 1.0, 30).reshape(3, 5, 2)
    return replace(
        given,
        weights=some,
        weight_errors=0.1 * some,
        widths=0.2 * some,
        width_errors=0.02 * some,
        quasiparticle_errors=0.01 * some,
    )


def test_self_energies_of_the_hottest_samples_furthest_towards_gamma(record):
    panels = np.reshape(plot_self_energies(record).axes, (2, 2))
    for band, name in enumerate(("valence", "conduction")):
        spectrum, sigma = panels[:, band]
        assert spectrum.get_title() == f"{name}, 300 K"
        lines = [line.get_ydata() for line in spectrum.lines[:1]]
        np.testing.assert_array_equal(lines, [record.spectral_functions[2, -1, band]])
        bare, energy = record.bare_energies[-1, band], record.quasiparticle_energies[2, -1, band]
        assert spectrum.lines[1].get_xdata()[0] == bare
        assert spectrum.lines[2].get_xdata()[0] == energy
        values = record.self_energies[2, -1, band]
        for line, expected in zip(
            sigma.lines, (values.real, -values.imag, record.energies - bare), strict=False
        ):
            np.testing.assert_array_equal(line.get_xdata(), record.energies)
            np.testing.assert_array_equal(line.get_ydata(), expected)
        np.testing.assert_array_equal(sigma.lines[3].get_xydata(), [[energy, energy - bare]])
        assert sigma.get_xlabel() == "ω − E$_D$ (eV)"
        # the panels of a row share their axis
        assert sigma.get_ylim()[1] == pytest.approx(1.1 * np.abs(values).max(), rel=1e-6)
    assert panels[0, 0].get_ylabel() == "A at K + 0.1 Å⁻¹ (1/eV)"
    assert panels[1, 0].get_ylabel() == "Σ (eV)"
    labels = [text.get_text() for text in panels[1, 1].get_legend().get_texts()]
    assert labels == ["Re Σ", "−Im Σ", "ω − ε"]


def test_split_off_bands_get_panels_of_their_own(record):
    outer = {
        name: np.concatenate([getattr(record, name)] * 2, axis=axis)
        for name, axis in {
            "bare_energies": 1,
            "spectral_functions": 2,
            "self_energies": 2,
            "quasiparticle_energies": 2,
            "quasiparticle_errors": 2,
            "weights": 2,
            "weight_errors": 2,
            "widths": 2,
            "width_errors": 2,
        }.items()
    }
    four = replace(record, **outer)
    titles = [axes.get_title() for axes in plot_self_energies(four).axes[:4]]
    assert titles[0] == "split-off valence, 300 K"
    assert titles[3] == "split-off conduction, 300 K"
    # the low bands are the middle ones
    weights = plot_quasiparticles(four).axes[1].containers[0].lines[0].get_ydata()
    np.testing.assert_array_equal(weights, four.weights[0, :, 1])


def test_quasiparticles_along_the_line(record):
    panels = np.reshape(plot_quasiparticles(record).axes, (2, 3))
    columns = (
        ("E$_{QP}$ − ε (meV)", 1e3 * record.quasiparticle_shifts, record.quasiparticle_errors),
        ("Z", record.weights, record.weight_errors),
        ("full width (meV)", 1e3 * record.widths, record.width_errors),
    )
    np.testing.assert_array_equal(
        record.quasiparticle_shifts, record.quasiparticle_energies - record.bare_energies
    )
    for band, name in enumerate(("valence", "conduction")):
        for axes, (label, values, errors) in zip(panels[band], columns, strict=True):
            assert axes.get_ylabel() == label
            assert axes.get_title() == name
            assert len(axes.containers) == 3
            for index, container in enumerate(axes.containers):
                np.testing.assert_array_equal(container.lines[0].get_xdata(), MAP)
                np.testing.assert_allclose(container.lines[0].get_ydata(), values[index, :, band])
                segments = container.lines[2][0].get_segments()
                found = [0.5 * np.ptp(segment[:, 1]) for segment in segments]
                unit = 1e3 if "meV" in label else 1.0
                np.testing.assert_allclose(found, unit * errors[index, :, band])
    assert {axes.get_xlabel() for axes in panels[1]} == {"M ←  k − K (Å⁻¹)  → Γ"}
    labels = [text.get_text() for text in panels[0, 2].get_legend().get_texts()]
    assert labels == ["0 K", "150 K", "300 K"]


def test_presentation_names_the_tables_of_velocities():
    names = [drawing.name for drawing in PRESENTATION.drawings]
    assert names == ["self_energies", "quasiparticles"]
    assert PRESENTATION.sections == (velocity_section,)
    assert PRESENTATION.facts is None
