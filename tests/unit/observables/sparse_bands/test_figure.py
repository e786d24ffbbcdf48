"""What is shown of a large cell: states, the continuum model behind them, widths and gaps."""

import math
from dataclasses import replace

import numpy as np
import pytest
from plain_records import sparse_bands_record

from mlepi.observables.sparse_bands.figure import PRESENTATION, list_band_facts, plot_moire_bands


def test_states_are_drawn_from_the_fermi_energy():
    record = sparse_bands_record()
    [axes] = plot_moire_bands(record).axes
    points = [line for line in axes.lines if line.get_marker() == "o"]
    drawn = np.array([line.get_ydata() for line in points]).T
    np.testing.assert_allclose(drawn, 1e3 * (record.energies - record.fermi_energy))
    np.testing.assert_array_equal(points[0].get_xdata(), record.distances)
    assert axes.get_ylabel() == "E − E$_F$ (meV)"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["K", "Γ", "M"]
    np.testing.assert_array_equal(axes.get_xticks(), record.label_distances)
    assert axes.get_ylim() == pytest.approx((-230.0, 230.0))  # 15 % beyond the narrowest ends


def test_the_continuum_model_is_aligned_at_the_dirac_point():
    record = sparse_bands_record()
    [axes] = plot_moire_bands(record).axes
    lines = [line for line in axes.lines if line.get_color() == "#718096"]
    drawn = np.array([line.get_ydata() for line in lines]).T
    offset = 1e3 * np.mean([-0.001, 0.0, 0.001, 0.003])  # the four states around neutrality at K
    np.testing.assert_allclose(drawn, 1e3 * record.continuum.energies + offset, atol=1e-9)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["continuum model, 1.08°", "network"]


def test_without_k_the_mean_over_the_path_aligns():
    record = sparse_bands_record()
    assert record.dirac_energy() == pytest.approx(-4.0 + 0.00075)
    other = replace(record, labels=("X", "Γ", "M"))
    assert other.dirac_energy() == pytest.approx(-4.0 + 0.00075 * (1.0 + 1.2 + 1.5) / 3)


def test_without_a_continuum_model_there_are_states_alone():
    record = replace(sparse_bands_record(), continuum=None)
    [axes] = plot_moire_bands(record).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["network"]
    assert len(list_band_facts(record)) == 5


def test_facts_are_widths_gaps_and_what_they_cost():
    facts = dict(list_band_facts(sparse_bands_record()))
    assert facts["Fermi energy of the large cell"] == "-4.0000 eV with 44656 electrons"
    assert facts["width of the four bands around neutrality"] == "6.00 meV"
    assert facts["gaps below and above them"] == "48.50 and 55.50 meV"
    assert facts["bound of the errors of these energies"] == "3.0e-07 eV (pardiso)"
    assert facts["CPU time per k-point"] == "290, 100, 99 s"
    assert facts["continuum model"] == (
        "1.080°, ħv 5.700 eV·Å, w_AA 114.0 meV, w_AB 113.0 meV (network)"
    )
    assert facts["its flat bands and magic angle"] == "4.40 meV wide, 1.097°"


def test_an_angle_that_is_not_found_is_none():
    record = sparse_bands_record()
    unknown = replace(record, continuum=replace(record.continuum, magic_angle=math.nan))
    assert dict(list_band_facts(unknown))["its flat bands and magic angle"].endswith("wide, none")
    assert [drawing.name for drawing in PRESENTATION.drawings] == ["moire_bands"]
