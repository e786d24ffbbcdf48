"""Second order gives averages over samples the parts of their errors that it knows."""

from dataclasses import replace

import numpy as np
from plain_records import linear_response_record
from velocity_records import fermi_velocity_record, self_energy_record

from mlepi.observables.linear_response.error_parts import second_order_parts
from mlepi.physics.averages.error_budget import CELL, STATIC
from mlepi.report.error_budgets import collect_budgets


def records(**changes):
    return {
        "fermi_velocity": fermi_velocity_record(),
        "self_energy": self_energy_record(),
        "linear_response": replace(linear_response_record(), **changes),
    }


def budget(some, stage, path):
    found = collect_budgets(some, second_order_parts(some))[stage]
    return next(each for quantity, each in found if quantity.path == path)


def test_parts_of_averages_over_samples():
    some = records()
    record = some["linear_response"]
    mesh, cell = record.interpolated, record.in_supercell
    spectral = budget(some, "fermi_velocity", "spectral/slopes")
    np.testing.assert_allclose(
        spectral.part(STATIC), np.abs(mesh.dynamic_slopes - mesh.static_slopes)
    )
    np.testing.assert_allclose(spectral.part(CELL), np.abs(mesh.static_slopes - cell.static_slopes))
    ratios = budget(some, "self_energy", "velocity/slope_ratios")
    slope = some["self_energy"].velocity.equilibrium_slope
    np.testing.assert_allclose(ratios.part(STATIC) * slope, spectral.part(STATIC))
    changes = budget(some, "fermi_velocity", "spectral/changes")
    assert changes.part(STATIC)[0] == 0.0


def test_its_own_static_velocities_have_no_samples():
    own = budget(records(), "linear_response", "in_supercell/static_slopes")
    assert np.isfinite(own.part(STATIC)).all()
    assert own.missing((0,)) == ("statistical", "network", "estimator")


def test_without_a_denser_mesh_the_cell_is_not_measured():
    spectral = budget(records(interpolated=None), "fermi_velocity", "spectral/slopes")
    assert CELL in spectral.missing((0,))
    assert STATIC not in spectral.missing((0,))


def test_another_cell_is_not_comparable():
    spectral = budget(records(supercell=(5, 5, 1)), "fermi_velocity", "spectral/slopes")
    assert set(spectral.missing((0,))) >= {CELL, STATIC}


def test_without_second_order_nothing_is_said():
    assert list(second_order_parts({"fermi_velocity": fermi_velocity_record()})) == []
