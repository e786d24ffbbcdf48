"""The estimator part of a gap is what wider lines do to its peaks."""

from dataclasses import replace

import numpy as np
from spectra_records import gap_record

from mlepi.observables.gap.error_parts import width_parts
from mlepi.physics.bands.spectra import compute_spectral_function, find_peaks

ENERGIES = np.arange(-1.0, 1.0025, 0.005)


def parts_of(record):
    found = {part.quantity: part for part in width_parts({"gap": record})}
    assert set(found) == {"gap/band_energies", "gap/gaps", "gap/gap_changes"}
    assert {part.part for part in found.values()} == {"estimator"}
    return found


def record_of(side_weights, width=0.05):
    """Edges at ∓0.25 eV, with weight 0.1 eV beside the conduction band, by temperature."""
    spectra, peaks = [], []
    for weight in side_weights:
        lines = [
            compute_spectral_function(ENERGIES, np.array(levels), weights, width, "gaussian")
            for levels, weights in (
                ([-0.25, 0.0], np.array([1.0, 0.0])),
                ([0.25, 0.35], np.array([1.0 - weight, weight])),
            )
        ]
        spectra.append([lines])
        peaks.append([find_peaks(ENERGIES, np.array(lines))])
    bands = np.array(peaks)
    gaps = bands[:, 0, 1] - bands[:, 0, 0]
    return replace(
        gap_record(),
        energies=ENERGIES,
        peak_width=width,
        spectral_functions=np.array(spectra),
        band_energies=bands,
        gaps=gaps,
        gap_changes=gaps - gaps[0],
    )


def test_a_line_alone_has_the_same_peak_at_every_width():
    parts = parts_of(record_of([0.0, 0.0, 0.0]))
    np.testing.assert_allclose(parts["gap/gaps"].sizes, 0.0, atol=1e-6)
    assert parts["gap/band_energies"].sizes.shape == (3, 1, 2)


def test_weight_beside_a_line_pulls_the_peak_of_wider_ones_further():
    weights = [0.0, 0.2, 0.3]
    own, wide = record_of(weights), record_of(weights, 0.05 * np.sqrt(2.0))
    parts = parts_of(own)
    expected = 0.5 * np.abs(wide.gaps - own.gaps)
    assert expected[2] > 5e-3
    np.testing.assert_allclose(parts["gap/gaps"].sizes, expected, atol=1e-5)
    # the valence band stands alone
    np.testing.assert_allclose(parts["gap/band_energies"].sizes[:, 0, 1], expected, atol=1e-5)
    np.testing.assert_allclose(parts["gap/band_energies"].sizes[:, 0, 0], 0.0, atol=1e-5)
    changes = 0.5 * np.abs(wide.gap_changes - own.gap_changes)
    np.testing.assert_allclose(parts["gap/gap_changes"].sizes, changes, atol=1e-5)
    assert "lines of 50 and 71 meV" in parts["gap/gaps"].source


def test_the_direct_gap_of_several_points_has_a_part_of_its_own():
    one = record_of([0.0, 0.2, 0.3])
    both = replace(
        one,
        spectral_functions=np.concatenate([one.spectral_functions] * 2, axis=1),
        band_energies=np.concatenate([one.band_energies] * 2, axis=1),
        centres=np.zeros(2),
        direct_gaps=one.gaps,
    )
    parts = {part.quantity: part for part in width_parts({"gap": both})}
    np.testing.assert_allclose(parts["gap/direct_gaps"].sizes, parts["gap/gaps"].sizes)
