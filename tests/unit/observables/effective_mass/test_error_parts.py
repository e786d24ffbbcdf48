"""The estimator part of a mass is what order and window of the fit do to its change."""

from dataclasses import replace

import numpy as np
from spectra_records import effective_mass_record

from mlepi.observables.effective_mass.error_parts import fit_parts, list_fits
from mlepi.physics.bands.velocities import effective_masses

K = np.linspace(-0.03, 0.03, 7)
SIGNS = np.array([-1.0, 1.0])


def record_of(quadratic, quartic, order=4, distances=K):
    """Bands ±(a k² + b k⁴), a and b by temperature, at rest those of the first."""
    bands = np.array(
        [
            SIGNS * (a * distances**2 + b * distances**4)[:, None]
            for a, b in zip(quadratic, quartic, strict=True)
        ]
    )
    masses = effective_masses(distances, bands, order)
    return replace(
        effective_mass_record(),
        distances=distances,
        order=order,
        equilibrium=bands[0],
        band_energies=bands,
        equilibrium_masses=masses[0],
        masses=masses,
        mass_changes=masses - masses[0],
    )


def sizes_of(record):
    parts = {part.quantity: part for part in fit_parts({"effective_mass": record})}
    assert set(parts) == {"effective_mass/masses", "effective_mass/mass_changes"}
    return parts["effective_mass/masses"].sizes, parts["effective_mass/mass_changes"].sizes


def test_bands_that_only_scale_change_alike_in_every_fit():
    masses, changes = sizes_of(record_of([60.0, 66.0, 72.0], [1e4, 1.1e4, 1.2e4]))
    assert masses.shape == (3, 2)
    np.testing.assert_allclose(masses, 0.0, atol=1e-12)
    np.testing.assert_allclose(changes, 0.0, atol=1e-12)


def test_bands_that_change_their_shape_are_seen_differently_by_every_fit():
    record = record_of([60.0, 60.0, 60.0], [1e4, 1.5e4, 2e4])
    masses, changes = sizes_of(record)
    np.testing.assert_allclose(masses[0], 0.0, atol=1e-12)
    # order 4 sees no change of the mass at all; order 2 over all points sees most
    ratio = effective_masses(K, record.band_energies[2], 2) / effective_masses(
        K, record.equilibrium, 2
    )
    expected = 0.5 * np.abs(ratio - 1.0) * np.abs(record.equilibrium_masses)
    assert np.all(expected > 1e-4)
    np.testing.assert_allclose(masses[2], expected)
    np.testing.assert_allclose(changes[2], expected)


def test_fits_are_those_that_the_distances_allow():
    orders = [(int(inside.sum()), order) for inside, order in list_fits(record_of([60.0], [1e4]))]
    assert orders == [(7, 4), (7, 2), (5, 4)]
    few = np.array([-0.01, 0.0, 0.01])
    lone = record_of([60.0, 60.0, 60.0], [1e4] * 3, order=2, distances=few)
    assert [(int(inside.sum()), order) for inside, order in list_fits(lone)] == [(3, 2)]
    assert np.all(np.isnan(sizes_of(lone)[0]))  # one fit: not measured
