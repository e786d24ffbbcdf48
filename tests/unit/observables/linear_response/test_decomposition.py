"""The decomposition of an average over samples: its arithmetic, and when there is none."""

from dataclasses import replace

import numpy as np
import pytest
from plain_records import TEMPERATURES, linear_response_record
from velocity_records import fermi_velocity_record, self_energy_record, velocity_record

from mlepi.observables.linear_response.decomposition import decompose, decompose_averages


def averages():
    averaged, quasiparticles = fermi_velocity_record(), self_energy_record()
    return [
        ("spectral peak", averaged.spectral, averaged),
        ("self-energy", quasiparticles.velocity, quasiparticles),
        ("sorted average", averaged.sorted_average, averaged),
    ]


def test_the_parts_of_an_average_add_up():
    velocity = velocity_record(8.5e5)
    spectral = decompose(linear_response_record(), velocity, TEMPERATURES, "spectral peak")
    np.testing.assert_allclose(spectral.second_order, 0.93)
    np.testing.assert_allclose(spectral.second_order, 1.0 + spectral.fan + spectral.debye_waller)
    np.testing.assert_allclose(spectral.beyond, velocity.slope_ratios - 0.93)
    np.testing.assert_allclose(spectral.size, 0.03)
    np.testing.assert_allclose(spectral.total, velocity.slope_ratios + 0.02 + 0.03)
    np.testing.assert_array_equal(spectral.all_orders_errors, velocity.slope_ratio_errors)
    np.testing.assert_allclose(spectral.dynamic, 0.95)


def test_averages_far_from_second_order_are_not_corrected_by_it():
    """Half of the shift to second order, and two error bars on top, may lie beyond it."""
    parts = decompose(
        linear_response_record(), velocity_record(8.5e5), TEMPERATURES, "spectral peak"
    )
    shift = 1.0 - parts.second_order
    for share, known in ((0.4, True), (0.6, False)):
        errors = np.zeros_like(shift)
        moved = replace(
            parts, all_orders=parts.second_order + share * shift, all_orders_errors=errors
        )
        assert np.isfinite(moved.total).all() == known
        uncertain = replace(moved, all_orders_errors=0.06 * shift)
        assert np.isfinite(uncertain.total).all()


def test_without_a_denser_mesh_the_size_is_not_known():
    record = replace(linear_response_record(), interpolated=None)
    parts = decompose(record, velocity_record(8.5e5), TEMPERATURES, "spectral peak")
    assert np.isnan(parts.size).all()
    np.testing.assert_allclose(parts.total, parts.all_orders + 0.02)


@pytest.mark.parametrize(
    "change",
    [
        {"supercell": (3, 3, 1)},
        {"velocity_window": (0.05, 0.1)},
        {"dispersion": "linear"},
        {"temperatures": np.array([77.0])},
    ],
)
def test_averages_of_something_else_are_not_compared(change):
    record = replace(linear_response_record(), **change)
    assert decompose_averages(record, averages()) == []


def test_estimators_that_follow_other_bands_are_not_compared():
    found = decompose_averages(linear_response_record(), averages())
    assert [one.average for one in found] == ["spectral peak", "self-energy"]


def test_shared_temperatures_are_found():
    sums = linear_response_record()
    chosen = np.array([2, 0])
    short = {
        name: replace(
            part,
            **{
                field: getattr(part, field)[chosen]
                * (1.0 + 0.1 * chosen.reshape(-1, *[1] * (getattr(part, field).ndim - 1)))
                for field in (
                    "static_slopes",
                    "fan_slopes",
                    "debye_waller_slopes",
                    "nonadiabatic_slopes",
                )
            },
        )
        for name, part in (("in_supercell", sums.in_supercell), ("interpolated", sums.interpolated))
    }
    record = replace(sums, temperatures=np.array([300.0, 0.0]), **short)
    parts = decompose(record, velocity_record(8.5e5), TEMPERATURES, "spectral peak")
    np.testing.assert_array_equal(parts.temperatures, [0.0, 300.0])
    np.testing.assert_allclose(parts.second_order, [0.93, 0.93 * 1.2])
