"""The conductivity stage on tight-binding sheets.

Folding, neutrality, known limits, and full diagonalisation.
"""

from __future__ import annotations

import numpy as np
import pytest
from toy_ensembles import compute, toy_ensemble, toy_settings
from toys import HOPPING

from mlepi.errors import ConfigError
from mlepi.observables.conductivity import supercell_states
from mlepi.observables.conductivity.stage import ConductivityStage
from mlepi.physics.bands.optics import sheet_area, sheet_conductivity
from mlepi.physics.bands.velocity_matrices import (
    derivatives_at,
    lay_out_derivatives,
    velocity_matrices,
)
from mlepi.physics.eigenstates.bloch import fermi_energy_from_eigenvalues, solve_bands
from mlepi.pipeline import SampleKey

SETTINGS = {
    "valence_electrons": {6: 1},
    "electronic_temperature": 300.0,
    "mesh": [2, 1, 1],
    "equilibrium_mesh": [40, 40, 1],
    "max_energy": 1.0,
    "energy_step": 0.05,
    "line_width": 0.15,
    "window": [0.5, 0.7],
    "n_resamples": 20,
    "n_counts": 2,
}


def build_stage(**settings):
    return ConductivityStage(**{**SETTINGS, **settings})


@pytest.mark.parametrize("overlap", [0.0, 0.1])
@pytest.mark.parametrize("bilayer", [False, True])
def test_supercells_at_rest_give_the_spectra_of_the_primitive_cell(overlap, bilayer):
    """A folded k mesh changes neither σ nor, thanks to unfolding, the joint density."""
    ensemble = toy_ensemble(0.0, overlap=overlap, bilayer=bilayer)
    stage = build_stage(max_energy=3.0, line_width=0.4)
    prepared = stage.prepare(ensemble)
    for number in (0, 3):
        sample = ensemble.predict([SampleKey(number, 300.0)])[0]
        result = stage.evaluate(prepared, sample)
        assert result["fermi_shift"] == pytest.approx(0.0, abs=1e-7)
        assert result["ghosts"] == 0
        for name in ("conductivity", "joint_density"):
            assert result[name].max() > 0
            np.testing.assert_allclose(
                result[name], result[f"reference_{name}"], rtol=2e-5, atol=1e-9
            )


def test_record_of_a_sheet_at_rest_has_the_universal_conductivity():
    """σ = 1 + (ω² + width²)/9t² in e²/4ħ, with mean ω² = 0.365 eV² on the grid of the window.

    The mesh errs by 12 exp(−2π² (width/2ħvΔk)²) = 6e-4 at most. What 300 K takes from small ω is in
    the Drude peak; lines of 0.2 eV at 0.5 eV see 1 % of either, of weight 4k_BT ln 2 / 0.2 eV =
    0.36: 4e-3, most of which cancels.
    """
    stage = build_stage(equilibrium_mesh=[120, 120, 1], line_width=0.2, max_energy=1.2)
    record = compute(stage, toy_ensemble(0.0, bilayer=False, overlap=0.0))
    np.testing.assert_allclose(
        record.conductivities, [record.equilibrium_conductivity] * 2, atol=1e-6
    )
    np.testing.assert_allclose(
        record.joint_densities, [record.equilibrium_joint_density] * 2, atol=1e-8
    )
    expected = 1 + (0.365 + 0.2**2) / (9 * HOPPING**2)
    assert record.equilibrium_mean == pytest.approx(expected, abs=2e-3)
    np.testing.assert_allclose(record.means, record.equilibrium_mean, atol=1e-6)
    np.testing.assert_array_less(record.mean_errors, 1e-6)
    assert stage.error_bars(record)["optical_conductivity"].shape == (2,)
    assert (
        "e²/4ħ per layer at 300 K, mean over 0.5–0.7 eV; 3 samples of 3×3×1 cells"
        in stage.summarize(record)
    )
    assert stage.doubts(record) == []


@pytest.mark.parametrize("spare", [supercell_states.SPARE_STATES, 0.05])
def test_displaced_samples_agree_with_full_diagonalisation(spare, monkeypatch):
    """Too few states at first are noticed.

    Their number is doubled until those left out have no part in the spectrum.
    """
    monkeypatch.setattr(supercell_states, "SPARE_STATES", spare)
    monkeypatch.setattr(supercell_states, "MAX_GHOSTS", 2)
    ensemble = toy_ensemble(0.03, supercell=(4, 4, 1))
    stage = build_stage(
        max_energy=0.6, line_width=0.1, window=[0.3, 0.5], electronic_temperature=1500.0
    )
    prepared = stage.prepare(ensemble)
    sample = ensemble.predict([SampleKey(1, 0.0)])[0]
    atoms, h, s = sample.atoms, sample.hamiltonian, sample.overlap
    result = stage.evaluate(prepared, sample)
    states = []
    for kpoint in prepared.kpoints(1):
        values, vectors = solve_bands(h.dense(kpoint), s.dense(kpoint), vectors=True)
        slopes = [
            derivatives_at(
                lay_out_derivatives(
                    m.blocks,
                    m.edge_index,
                    m.edge_cell_shift,
                    m.offsets,
                    atoms.cell.array,
                    atoms.positions,
                ),
                kpoint,
            )
            for m in (h, s)
        ]
        states.append((values, velocity_matrices(values, vectors, *slopes)))
    fermi = fermi_energy_from_eigenvalues(
        np.array([e for e, _ in states]), np.ones(2), 64.0, 1500.0
    )
    area = 2 * sheet_area(atoms.cell.array)
    expected = np.mean(
        [
            sheet_conductivity(stage.energies, *x, fermi, 1500.0, 0.1, area).mean(axis=0)
            for x in states
        ],
        axis=0,
    )
    np.testing.assert_allclose(result["conductivity"], expected, rtol=1e-3, atol=1e-6)
    assert result["fermi_shift"] + prepared.sheet.fermi_energy == pytest.approx(fermi, abs=1e-5)


def test_all_temperatures_of_a_snapshot_share_the_undisplaced_spectra():
    """They are computed once for each snapshot, and those of the dense mesh once for all."""
    prepared = build_stage().begin(toy_ensemble(0.0, bilayer=False))
    assert prepared.reference(2) is prepared.reference(2)
    first = prepared.reference(2)["conductivity"]
    assert np.abs(prepared.reference(3)["conductivity"] - first).max() > 0
    np.testing.assert_array_equal(prepared.reference(2)["conductivity"], first)
    assert prepared.sheet.dense_response is prepared.sheet.dense_response


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="a step > 0 of at most half the width"):
        build_stage(energy_step=0.1)
    with pytest.raises(
        ConfigError,
        match=(
            r"stage\.conductivity\.window: got \[0\.5, 1\.5\]; expected two energies from 0 to "
            r"1\.0 eV"
        ),
    ):
        build_stage(window=[0.5, 1.5])
    with pytest.raises(
        ConfigError, match=r"stage\.conductivity\.mesh: got \[2, 2\]; expected three divisions"
    ):
        build_stage(mesh=[2, 2])


def test_window_decides_the_record_but_not_what_is_found_in_a_sample():
    settings, stage = toy_settings(), build_stage()
    narrow, wide = build_stage(window=[0.1, 0.2]), build_stage(line_width=0.2)
    assert stage.sample_inputs(settings) == narrow.sample_inputs(settings)
    assert stage.inputs(settings) != narrow.inputs(settings)
    assert stage.sample_inputs(settings) != wide.sample_inputs(settings)
