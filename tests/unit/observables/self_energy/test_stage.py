"""The self_energy stage on tight-binding supercells whose answers are known."""

import h5py
import numpy as np
import pytest
from stored_records import read_record
from toy_ensembles import compute, toy_ensemble, toy_settings
from toys import GAMMA_1, VELOCITY

from mlepi.errors import ConfigError, StructureError
from mlepi.observables.self_energy.stage import SelfEnergyStage
from mlepi.physics.bands import unfolding
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.pipeline import Sample, SampleKey
from mlepi.results.hdf5 import write_record
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND

SETTINGS = {
    "valence_electrons": {6: 1},
    "distances": [0.05, 0.075, 0.1],
    "energy_window": 1.2,
    "energy_step": 0.01,
    "broadening": 0.05,
    "tolerance": 1e-5,
    "velocity_window": [0.04, 0.1],
    "windows": [[0.05, 0.1]],
    "dispersion": "hyperbola",
    "split_off_bands": False,
    "n_resamples": 20,
    "n_counts": 2,
}


def test_undisplaced_samples_have_no_self_energy(tmp_path):
    record = compute(SelfEnergyStage(**SETTINGS), toy_ensemble(0.0, overlap=0.0))
    np.testing.assert_allclose(
        record.self_energies, 0.0, atol=2e-5
    )  # averages are kept in single precision
    np.testing.assert_allclose(
        record.quasiparticle_energies, np.stack([record.bare_energies] * 2), atol=1e-5
    )
    np.testing.assert_allclose(record.weights, 1.0, atol=1e-4)
    np.testing.assert_allclose(record.widths, 0.0, atol=1e-4)
    for shifts in (record.first_order_shifts, record.second_moments):
        np.testing.assert_allclose(shifts, 0.0, atol=1e-9)
    assert record.velocity.equilibrium_velocity == pytest.approx(
        VELOCITY * EV_ANGSTROM_TO_METRE_PER_SECOND, rel=0.01
    )
    np.testing.assert_allclose(record.velocity.ratios, 1.0, atol=1e-4)
    assert SelfEnergyStage.doubts(record) == []
    assert "(quasiparticles), Z 1.00–1.00" in SelfEnergyStage(**SETTINGS).summarize(record)
    with h5py.File(tmp_path / "record.h5", "w") as file:
        write_record(file.create_group("record"), record)
        again = read_record(file["record"], type(record))
        assert file["record/self_energies"].attrs["unit"] == "eV"
    np.testing.assert_array_equal(again.self_energies, record.self_energies)


def test_displaced_samples_agree_with_full_diagonalisation():
    """The Ritz levels of a sample give Green's functions and moments of all states, also at −k."""
    ensemble = toy_ensemble(0.03, supercell=(6, 6, 1))
    stage = SelfEnergyStage(**{**SETTINGS, "split_off_bands": True})
    reference = stage.prepare(ensemble)
    (sample,) = ensemble.predict([SampleKey(0, 300.0)])
    h, s = sample.hamiltonian, sample.overlap
    found = stage.evaluate(reference, sample)
    assert reference.reversed_.any()
    z = stage.energies + 1j * stage.broadening
    for point, kpoint in enumerate(reference.kpoints):
        solved = reference.atom_map.fold(kpoint)
        values, vectors = solve_bands(h.dense(solved), s.dense(solved), vectors=True)
        components = unfolding.unfold_states(
            vectors, s.dense(solved), reference.atom_map, reference.counts, kpoint
        )
        weights = np.abs(reference.projectors[point] @ components) ** 2
        expected = weights @ (1.0 / (z - (values - reference.centre)[:, None]))
        levels = np.nan_to_num(found["levels"][reference.index[point]])
        mine = found["weights"][point]
        np.testing.assert_allclose(
            1.0 / (mine @ (1.0 / (z - levels[:, None]))), 1.0 / expected, atol=3e-5
        )
        np.testing.assert_allclose(mine @ levels, weights @ (values - reference.centre), atol=1e-8)
        np.testing.assert_allclose(
            mine @ levels**2, weights @ (values - reference.centre) ** 2, atol=1e-6
        )


def test_scattering_shifts_broadens_and_weakens():
    ensemble = toy_ensemble(0.02, n_samples=6, temperatures=(0.0, 900.0))
    record = compute(SelfEnergyStage(**{**SETTINGS, "split_off_bands": True}), ensemble)
    assert record.self_energies.shape == (2, 6, 4, 241)
    assert record.velocity.energies.shape == (2, 6, 4)
    assert np.all(record.self_energies.imag <= 1e-6)  # causality
    step = record.energies[1] - record.energies[0]
    assert np.all(record.spectral_functions.sum(axis=-1) * step <= 1.0)
    assert np.all(record.second_moments[1] > record.second_moments[0])
    assert np.all(record.quasiparticle_errors > 0)
    assert np.all(record.widths > 0)
    assert record.velocity.convergence_counts.tolist() == [2, 6]
    np.testing.assert_allclose(
        record.windows.velocities[0], record.velocity.velocities
    )  # the same points
    np.testing.assert_allclose(record.velocity.gamma_1[0], GAMMA_1, rtol=0.15)
    assert set(SelfEnergyStage(**SETTINGS).error_bars(record)) == set(SelfEnergyStage.targets)


def test_weak_quasiparticles_are_told():
    ensemble = toy_ensemble(0.06, n_samples=2, temperatures=(300.0,))
    record = compute(SelfEnergyStage(**SETTINGS), ensemble)
    assert record.weights.min() < 0.5
    assert any("has several peaks" in text for text in SelfEnergyStage.doubts(record))


def test_bad_settings_and_samples_are_refused():
    with pytest.raises(ConfigError, match="a step of at most half the broadening"):
        SelfEnergyStage(**{**SETTINGS, "energy_step": 0.04})
    with pytest.raises(
        ConfigError, match=r"stage\.self_energy\.dispersion: got 'cubic'; expected one of"
    ):
        SelfEnergyStage(**{**SETTINGS, "dispersion": "cubic"})
    with pytest.raises(ConfigError, match=r"stage\.self_energy\.distances"):
        SelfEnergyStage(**{**SETTINGS, "distances": [-0.1, 0.1]})
    ensemble, stage = toy_ensemble(0.0), SelfEnergyStage(**SETTINGS)
    with pytest.raises(StructureError, match=r"in the order of Atoms\.repeat"):
        stage.evaluate(stage.prepare(ensemble), Sample(SampleKey(0, 0.0), *ensemble.equilibrium))


def test_what_decides_a_result_is_named():
    """As in the files of earlier versions, whose digests must agree."""
    stage, settings = SelfEnergyStage(**SETTINGS), toy_settings()
    of_sample = {
        "distances": [0.05, 0.075, 0.1],
        "resolvent": [1.2, 0.05, 1e-5],
        "valence_electrons": {"6": 1.0},
        "split_off_bands": False,
        "supercell": [3, 3, 1],
    }
    assert stage.sample_inputs(settings) == of_sample
    assert stage.inputs(settings) == {
        **of_sample,
        "energies": [-1.2, 241],
        "windows": [[0.05, 0.1]],
        "fit": [0.04, 0.1, "hyperbola", 20, 0, 2],
    }
    finer = SelfEnergyStage(**{**SETTINGS, "energy_step": 0.005})
    assert stage.sample_inputs(settings) == finer.sample_inputs(settings)
    assert stage.inputs(settings) != finer.inputs(settings)
