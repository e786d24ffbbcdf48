"""The fermi_velocity stage on tight-binding bilayers whose answers are known."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from stored_records import read_record
from toy_ensembles import compute, evaluate, matrices, toy_ensemble, toy_settings
from toys import GAMMA_1, VELOCITY

from mlepi.errors import ConfigError, PhysicsError, StructureError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.observables.fermi_velocity.stage import FermiVelocityStage
from mlepi.observables.near_k.reference_bands import build_near_k
from mlepi.observables.near_k.unfold_sample import unfold_sample
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.pipeline import Sample, SampleKey
from mlepi.results.hdf5 import write_record
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND

SUPERCELL = (3, 3, 1)
FEW = ["only 3 samples per temperature."]
SETTINGS = {
    "valence_electrons": {6: 1},
    "electronic_temperature": 300.0,
    "band_spacing": 0.1,
    "dos_mesh": [6, 6, 1],
    "dos_width": 0.1,
    "dos_window": [-12.0, 12.0],
    "distances": [0.0, 0.05, 0.075, 0.1],
    "energy_window": 1.2,
    "energy_step": 0.01,
    "line_shape": "gaussian",
    "line_width": 0.05,
    "peak_width": 0.05,
    "velocity_window": [0.04, 0.1],
    "windows": [[0.05, 0.1], [0.09, 0.1]],
    "dispersion": "hyperbola",
    "split_off_bands": False,
    "n_resamples": 20,
    "n_counts": 2,
}


def run(ensemble, **settings):
    """Return the record and the doubts of a toy."""
    record = compute(FermiVelocityStage(**{**SETTINGS, **settings}), ensemble)
    return record, FermiVelocityStage.doubts(record)


def test_undisplaced_samples_return_the_equilibrium(tmp_path):
    record, doubts = run(toy_ensemble(0.0, overlap=0.0))
    for estimate in (record.spectral, record.sorted_average, record.velocity_operator):
        np.testing.assert_allclose(
            estimate.energies, np.stack([estimate.equilibrium_energies] * 2), atol=3e-3
        )
        np.testing.assert_allclose(estimate.ratios, 1.0, atol=0.01)
        np.testing.assert_allclose(estimate.velocity_errors, 0.0, atol=1.0)
        assert estimate.equilibrium_velocity == pytest.approx(
            VELOCITY * EV_ANGSTROM_TO_METRE_PER_SECOND, rel=0.01
        )
        assert estimate.equilibrium_gamma_1 == pytest.approx(GAMMA_1, rel=0.04)
    np.testing.assert_allclose(record.captured_weights, 1.0, atol=1e-9)
    inside = (
        np.abs(record.energies) < 0.9
    )  # bands beyond the window are in the equilibrium map alone
    np.testing.assert_allclose(
        record.spectral_functions[0][:, inside],
        record.equilibrium_spectral_function[:, inside],
        atol=1e-6,
    )
    assert record.dirac_energy == pytest.approx(0.2, abs=1e-9)
    assert record.fermi_energy == pytest.approx(0.2, abs=1e-3)
    assert np.trapezoid(record.dos, record.dos_energies) == pytest.approx(4.0, abs=1e-6)
    assert record.band_labels == ("Γ", "K", "M", "Γ")
    np.testing.assert_array_equal(record.miscounted_shares, 0.0)
    assert [doubt.seen for doubt in doubts] == FEW
    assert "at 300 K (spectral peak; sorted average" in FermiVelocityStage(**SETTINGS).summarize(
        record
    )
    with h5py.File(tmp_path / "record.h5", "w") as file:
        write_record(file.create_group("record"), record)
        again = read_record(file["record"], type(record))
        assert file["record/spectral/velocities"].attrs["unit"] == "m/s"
    np.testing.assert_array_equal(again.spectral.velocities, record.spectral.velocities)
    assert again.band_labels == record.band_labels


def test_split_off_bands_can_take_part_in_the_fit():
    record, _ = run(toy_ensemble(0.01, overlap=0.0), split_off_bands=True)
    assert record.split_off_bands
    assert record.spectral.energies.shape == (2, 6, 4)
    assert record.sorted_average.energies.shape == (2, 6, 4)
    assert record.band_slopes.shape == (2, 6, 4)
    for estimate in (record.sorted_average, record.velocity_operator):
        assert estimate.equilibrium_gamma_1 == pytest.approx(GAMMA_1, rel=0.05)
    np.testing.assert_allclose(record.spectral.gamma_1, GAMMA_1, rtol=0.05)
    low, _ = run(toy_ensemble(0.01, overlap=0.0))
    np.testing.assert_allclose(record.spectral.slopes, low.spectral.slopes)
    np.testing.assert_allclose(record.spectral.energies[:, :, 1:3], low.spectral.energies)


def test_the_split_off_bands_at_k_pin_the_coupling():
    """Without their taking part in the free fit; at rest exactly, in samples by their peaks."""
    record, _ = run(toy_ensemble(0.0, overlap=0.0), windows=[[0.0, 0.06]])
    for estimate in (record.spectral, record.sorted_average, record.velocity_operator):
        pinned = estimate.pinned
        assert pinned.distance == 0.0
        assert pinned.equilibrium_gamma_1 == pytest.approx(GAMMA_1, rel=1e-9)
        assert pinned.equilibrium_velocity == pytest.approx(
            VELOCITY * EV_ANGSTROM_TO_METRE_PER_SECOND, rel=0.01
        )
        np.testing.assert_allclose(pinned.gamma_1, GAMMA_1, atol=2e-3)
        np.testing.assert_allclose(pinned.ratios, 1.0, atol=0.01)
    windows = record.spectral_windows
    assert np.isnan(windows.velocities).all()  # two distances, one of them K
    np.testing.assert_allclose(windows.slopes[0] / windows.equilibrium_slopes[0], 1.0, atol=0.02)
    np.testing.assert_allclose(windows.pinned[0] / windows.equilibrium_pinned[0], 1.0, atol=0.02)
    assert np.isfinite(record.operator_windows.slopes).all()  # K has no slope and is left out
    np.testing.assert_allclose(record.peak_widths.widths, 0.05 * np.array([1, 2**0.5, 2]))
    np.testing.assert_allclose(record.peak_widths.slope_ratios, 1.0, atol=0.02)
    np.testing.assert_allclose(
        record.peak_widths.slope_ratios[0], record.spectral.slope_ratios, atol=1e-6
    )
    np.testing.assert_allclose(
        record.peak_widths.pinned_ratios[0], record.spectral.pinned.ratios, atol=1e-6
    )


def test_without_k_the_nearest_point_pins_the_coupling():
    record, _ = run(toy_ensemble(0.0, overlap=0.0), distances=[0.05, 0.075, 0.1], windows=[])
    assert record.spectral.pinned.distance == 0.05
    assert record.spectral.pinned.equilibrium_gamma_1 == pytest.approx(GAMMA_1, rel=0.02)
    assert record.folded_difference is None


def test_a_monolayer_has_nothing_that_pins():
    ensemble = toy_ensemble(0.01, bilayer=False, overlap=0.0)
    for dispersion in ("linear", "hyperbola"):
        record, _ = run(ensemble, dispersion=dispersion)
        assert record.spectral.pinned is None
        assert record.sorted_average.pinned is None
        assert np.isnan(record.spectral_windows.pinned).all()
        assert np.isfinite(record.spectral.slopes).all()
        assert np.isnan(record.peak_widths.pinned_ratios).all()


def test_sorting_opens_k_where_it_folds():
    """3×3: K and K′ fold onto Γ and open; 4×4: K is alone, and only its own cone is moved."""
    openings, ratios = {}, {}
    for n in (3, 4):
        ensemble = toy_ensemble(0.01, supercell=(n, n, 1), n_samples=6, overlap=0.0)
        rest = toy_ensemble(0.0, supercell=(n, n, 1), overlap=0.0)
        still = run(rest, distances=[0.0, 0.02, 0.05, 0.075, 0.1])[0].folded_difference
        found = run(ensemble, distances=[0.0, 0.02, 0.05, 0.075, 0.1])[0].folded_difference
        assert found.folded == (n == 3)
        assert found.step == 0.02
        np.testing.assert_allclose(still.ratios, 1.0, atol=1e-6)
        np.testing.assert_allclose(still.openings, 0.0, atol=1e-9)
        # ½[√(γ₁² + 4ħ²v²k²) − γ₁]/k of the hyperbola, trigonal warping apart
        slope = (np.hypot(GAMMA_1, 2 * VELOCITY * 0.02) - GAMMA_1) / 0.04
        assert still.equilibrium == pytest.approx(slope * EV_ANGSTROM_TO_METRE_PER_SECOND, rel=0.03)
        openings[n], ratios[n] = found.openings, found.ratios
        assert np.all(found.errors > 0)
    assert np.all(openings[3] > 1.5 * np.abs(openings[4]))
    assert np.all(ratios[3] < 1.0)


def test_displaced_samples_agree_with_full_diagonalisation():
    ensemble = toy_ensemble(0.03)
    atoms = ensemble.displaced(SampleKey(0, 300.0))
    h, s = matrices(atoms)
    reference = build_near_k(*ensemble.equilibrium, SUPERCELL, (0.0, 0.05), {6: 1})
    assert reference.n_cones == 2
    assert len(reference.solved) == 2  # K, and one point for both directions
    result = unfold_sample(reference, h, s, 1.2)
    for number, kpoint in enumerate(reference.solved):
        values = solve_bands(h.dense(kpoint), s.dense(kpoint)) - reference.centre
        first, levels = int(result["first"][number]), result["levels"][number]
        levels = levels[np.isfinite(levels)]
        np.testing.assert_allclose(levels, values[first : first + len(levels)], atol=1e-9)
        assert first == np.count_nonzero(values < levels[0] - 1e-9)
    record, _ = run(ensemble)
    assert np.all(record.spectral.velocity_errors > 0)
    assert record.spectral.changes[0] == 0.0
    assert record.spectral.change_errors[0] == 0.0
    assert record.n_samples == 3
    assert 0.5 < record.captured_weights.min() < 1.0
    # averaging sorted levels must round the cone more than the spectral peak moves
    assert np.all(record.sorted_average.energies[1, :, 1] > 0)


def test_lost_weight_is_told():
    record, doubts = run(toy_ensemble(0.08, n_samples=2), dos_mesh=[2, 2, 1])
    assert record.captured_weights.min() < 0.75
    assert any("of a low band lies within" in text for text in doubts)


def test_miscounted_states_are_told():
    ensemble = toy_ensemble(0.0, temperatures=(0.0,), n_samples=2)
    stage = FermiVelocityStage(**{**SETTINGS, "dos_mesh": [2, 2, 1]})
    prepared = stage.prepare(ensemble)
    sample = ensemble.predict([SampleKey(0, 0.0)])[0]
    atoms, h, s = sample.atoms, sample.hamiltonian, sample.overlap
    shifted = BlockMatrix(
        h.numbers, h.basis, h.edge_index, h.edge_cell_shift, h.blocks + 0.3 * s.blocks
    )
    part = stage.evaluate(prepared, Sample(SampleKey(0, 0.0), atoms, shifted, s))
    record = stage.finish(prepared, ensemble, [(SampleKey(n, 0.0), part) for n in range(2)])
    assert record.miscounted_shares[0] > 0.3
    assert any("do not trust the sorted average" in text for text in stage.doubts(record))
    # a rigid shift of H moves every peak and no velocity
    np.testing.assert_allclose(record.spectral.ratios, 1.0, atol=0.02)


def test_ghost_states_cost_the_sorted_average_and_nothing_else():
    ensemble = toy_ensemble(0.01)
    stage = FermiVelocityStage(**{**SETTINGS, "dos_mesh": [2, 2, 1]})
    prepared = stage.prepare(ensemble)
    results = dict(evaluate(stage, ensemble, prepared))
    sound = stage.finish(prepared, ensemble, results.items())
    ghost = SampleKey(1, 300.0)
    results[ghost] = {
        **results[ghost],
        "first": results[ghost]["first"] + 30,
    }  # as if 30 states had sunk to the bottom
    record = stage.finish(prepared, ensemble, results.items())
    assert np.isfinite(record.sorted_average.velocities).tolist() == [True, False]
    assert np.isfinite(record.sorted_average.velocity_errors).tolist() == [True, False]
    np.testing.assert_array_equal(record.spectral.velocities, sound.spectral.velocities)
    assert any("no sorted average at 300 K" in text for text in stage.doubts(record))
    assert "sorted average not available" in stage.summarize(record)


def test_bad_settings_and_samples_are_refused():
    with pytest.raises(ConfigError, match="a step of at most half of either width"):
        FermiVelocityStage(**{**SETTINGS, "energy_step": 0.1})
    for key in ("dispersion", "line_shape"):
        with pytest.raises(
            ConfigError, match=rf"stage\.fermi_velocity\.{key}: got 'quadratic'; expected one of"
        ):
            FermiVelocityStage(**{**SETTINGS, key: "quadratic"})
    with pytest.raises(ConfigError, match=r"stage\.fermi_velocity\.distances"):
        FermiVelocityStage(**{**SETTINGS, "distances": [0.1, 0.1]})
    ensemble = toy_ensemble(0.0)
    stage = FermiVelocityStage(**SETTINGS)
    with pytest.raises(StructureError, match=r"in the order of Atoms\.repeat"):
        stage.evaluate(stage.prepare(ensemble), Sample(SampleKey(0, 0.0), *ensemble.equilibrium))
    with pytest.raises(PhysicsError, match="an even number"):
        build_near_k(*ensemble.equilibrium, SUPERCELL, (0.0, 0.1), {6: 0.25})


def test_what_decides_a_result_is_named():
    """As in the files of earlier versions, whose digests must agree."""
    stage, settings = FermiVelocityStage(**SETTINGS), toy_settings()
    of_sample = {
        "distances": [0.0, 0.05, 0.075, 0.1],
        "window": 1.2,
        "velocity_windows": [[0.04, 0.1], [0.05, 0.1], [0.09, 0.1]],
        "valence_electrons": {"6": 1.0},
        "supercell": [3, 3, 1],
    }
    assert stage.sample_inputs(settings) == of_sample
    assert stage.inputs(settings) == {
        **of_sample,
        "electronic_temperature": 300.0,
        "band_spacing": 0.1,
        "dos": [6, 6, 1, 0.1, -12.0, 12.0],
        "energies": [-1.2, 241],
        "line": ["gaussian", 0.05, 0.05],
        "fit": [0.04, 0.1, "hyperbola", 20, 0, 2],
        "split_off_bands": False,
    }
    wider = FermiVelocityStage(**{**SETTINGS, "line_width": 0.08})
    assert stage.sample_inputs(settings) == wider.sample_inputs(settings)
    assert stage.inputs(settings) != wider.inputs(settings)


def test_operator_velocities_come_from_the_states_inside_the_peak():
    """Two displaced samples by hand.

    Slopes of all states near the peak, weighted with their share of the line.
    """
    ensemble = toy_ensemble(0.03, temperatures=(300.0,), n_samples=2)
    record, _ = run(ensemble)
    reference = build_near_k(*ensemble.equilibrium, SUPERCELL, SETTINGS["distances"], {6: 1})
    point = int(np.flatnonzero(np.isclose(reference.distances, 0.075))[0])
    peak = record.velocity_operator.energies[0, 4, 1]
    np.testing.assert_array_equal(record.velocity_operator.energies, record.spectral.energies)
    shares, slopes = [], []
    for sample in range(2):
        result = unfold_sample(
            reference, *matrices(ensemble.displaced(SampleKey(sample, 300.0))), 1.2, moving=[point]
        )
        levels = result["levels"][reference.index[point]]
        line = np.where(
            np.isfinite(levels),
            np.exp(-0.5 * ((np.nan_to_num(levels) - peak) / SETTINGS["peak_width"]) ** 2),
            0.0,
        )
        shares.append(line @ result["weights"][point, 2])
        slopes.append(line @ result["slopes"][0, 2])
    assert record.band_slopes[0, 4, 1] == pytest.approx(sum(slopes) / sum(shares), rel=2e-3)


def test_windows_show_what_the_choice_of_one_does():
    record, _ = run(toy_ensemble(0.02), dispersion="linear")
    for windows, estimate in (
        (record.spectral_windows, record.spectral),
        (record.sorted_windows, record.sorted_average),
        (record.operator_windows, record.velocity_operator),
    ):
        np.testing.assert_array_equal(windows.windows, SETTINGS["windows"])
        # the first holds the same points as the window of the fit, the second too few of them
        np.testing.assert_allclose(windows.velocities[0], estimate.velocities, rtol=1e-12)
        np.testing.assert_allclose(windows.slopes[0], estimate.slopes, rtol=1e-12)
        np.testing.assert_allclose(
            windows.equilibrium_velocities[0], estimate.equilibrium_velocity, rtol=1e-12
        )
        assert np.all(windows.velocity_errors[0] > 0)
        assert np.all(np.isnan(windows.velocities[1]))
