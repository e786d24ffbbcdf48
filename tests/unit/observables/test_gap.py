"""The gap and effective_mass stages on a honeycomb with different sublattices.

E(k) = ±√(Δ² + |f(k)|²), f ≈ ħvk near K.
"""

import numpy as np
import pytest
from toy_runs import ToyRun
from toys import HOPPING, VELOCITY

from mlepi.errors import ConfigError, PhysicsError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.observables import EffectiveMassStage, GapStage
from mlepi.observables.near_k.peaks import mean_potential
from mlepi.pipeline.stage import SampleKey
from mlepi.units import HBAR2_PER_ELECTRON_MASS

DELTA = 0.25
SETTINGS = {
    "valence_electrons": {6: 1},
    "energy_window": 1.2,
    "energy_step": 0.01,
    "peak_width": 0.05,
    "n_resamples": 20,
}
GAP = {**SETTINGS, "kpoints": None, "mesh": [6, 6, 1], "align": "none"}
MASS = {**SETTINGS, "kpoint": "K", "toward": "Γ", "distances": [0.0, 0.01, 0.02, 0.03], "order": 4}


class GappedRun(ToyRun):
    def __init__(self, amplitude, shifts=(), **options):
        super().__init__(amplitude, bilayer=False, overlap=0.0, stagger=DELTA, **options)
        self.shifts = shifts

    def compute(self, stage):
        """As a run does, with rigid shifts H + μS of the samples."""
        stage.begin(self)
        results = []
        for key in self.sample_keys():
            h, s = self.matrices(self.displaced(key))
            shift = self.shifts[key.sample] if self.shifts else 0.0
            sites = (h.edge_index[0] == h.edge_index[1]) & ~np.any(h.edge_cell_shift, axis=1)
            shifted = BlockMatrix(
                h.numbers,
                h.basis,
                h.edge_index,
                h.edge_cell_shift,
                h.blocks + shift * sites[:, None, None],
            )
            results.append((key, stage.evaluate(key, shifted, s)))
        return stage.finish(self, results)


def test_undisplaced_gap_is_twice_the_stagger():
    record = GappedRun(amplitude=0.0).compute(GapStage(**GAP))
    np.testing.assert_allclose(np.abs(record.kpoints), [[1 / 3, 1 / 3, 0]], atol=1e-12)
    assert record.equilibrium_gap == pytest.approx(2 * DELTA, abs=1e-9)
    assert record.reference == pytest.approx(
        0.2, abs=1e-9
    )  # both sites of the toy lie at 0.2 eV on average
    np.testing.assert_allclose(record.gaps, 2 * DELTA, atol=1e-3)
    np.testing.assert_allclose(record.band_energies[:, 0], [[-DELTA, DELTA]] * 2, atol=1e-3)
    np.testing.assert_allclose(record.supercell_edges, [[-DELTA, DELTA, 2 * DELTA]] * 2, atol=1e-9)
    np.testing.assert_allclose(record.gap_errors, 0.0, atol=1e-9)
    assert "gap 500 → 500±0 meV at 300 K" in GapStage(**GAP).summarize(record)
    assert set(GapStage(**GAP).error_bars(record)) == set(GapStage.targets)


def test_a_wide_gap_gets_a_window_around_either_edge():
    """Γ of the toy has ±√(Δ² + 9t²) and M ±√(Δ² + t²): too far apart for one window."""
    wide = {**GAP, "kpoints": ["Γ", [0.5, 0.0, 0.0]], "energy_window": 0.9, "mesh": [1, 1, 1]}
    run = GappedRun(amplitude=0.0, supercell=(2, 2, 1), temperatures=(0.0,))
    stage = GapStage(**{**wide, "kpoints": [[0.5, 0.0, 0.0], "M"]})
    record = run.compute(stage)
    edge = np.hypot(DELTA, HOPPING)
    np.testing.assert_allclose(record.centres, [-edge, edge], atol=1e-9)
    assert record.gaps[0] == pytest.approx(2 * edge, abs=1e-3)
    assert record.supercell_edges[0, 2] == pytest.approx(2 * edge, abs=1e-9)
    with pytest.raises(PhysicsError, match="100 % of an edge band outside the energy window"):
        run.compute(GapStage(**wide))  # Γ lies outside the windows around the edges at M


def test_rigid_shifts_are_removed_by_the_mean_potential():
    shifts = (-0.1, 0.02, 0.14)
    run = GappedRun(amplitude=0.0, shifts=shifts, temperatures=(0.0,))
    kept, aligned = (
        run.compute(GapStage(**{**GAP, "align": align})) for align in ("none", "mean_potential")
    )
    assert kept.supercell_edges[0, 0] == pytest.approx(-DELTA + np.mean(shifts), abs=1e-9)
    np.testing.assert_allclose(aligned.supercell_edges[0], [-DELTA, DELTA, 2 * DELTA], atol=1e-9)
    np.testing.assert_allclose(aligned.band_energies[0, 0], [-DELTA, DELTA], atol=1e-3)
    assert aligned.band_errors.max() < 1e-9 < kept.band_errors.min()
    h, s = run.matrices(run.atoms)
    raised = BlockMatrix(
        h.numbers, h.basis, h.edge_index, h.edge_cell_shift, h.blocks + 0.3 * s.blocks
    )
    assert mean_potential(raised, s) - mean_potential(h, s) == pytest.approx(0.3)


def test_displaced_honeycombs_have_levels_in_pairs():
    """H = [[Δ, F], [F†, −Δ]] has E = ±√(Δ² + s²), s the singular values of F, however displaced."""
    run = GappedRun(amplitude=0.03, n_samples=4)
    record = run.compute(GapStage(**GAP))
    kpoint = 3.0 * record.kpoints[0]  # that of the supercell
    for row, temperature in enumerate(run.temperatures):
        edges = []
        for sample in range(4):
            h = run.matrices(run.displaced(SampleKey(sample, temperature)))[0].dense(kpoint)
            edges.append(np.hypot(DELTA, np.linalg.svd(h[::2, 1::2], compute_uv=False)[-1]))
        expected = np.mean(edges) * np.array([-1.0, 1.0, 2.0])
        np.testing.assert_allclose(record.supercell_edges[row], expected, atol=1e-6)
        np.testing.assert_allclose(
            record.supercell_edge_errors[row, 2], np.std(edges, ddof=1), atol=1e-6
        )  # 2/√4 of it
    assert record.gap_changes[0] == record.gap_change_errors[0] == 0.0
    assert np.all(record.gap_errors > 0)


def test_mass_of_massive_dirac_electrons():
    """m* = ±Δ/v² from E = ±√(Δ² + ħ²v²k²)."""
    record = GappedRun(amplitude=0.0).compute(EffectiveMassStage(**MASS))
    expected = HBAR2_PER_ELECTRON_MASS * DELTA / VELOCITY**2
    np.testing.assert_allclose(record.equilibrium_masses, [-expected, expected], rtol=0.01)
    np.testing.assert_allclose(
        record.masses, [record.equilibrium_masses] * 2, rtol=0.03
    )  # peaks on a grid of 10 meV
    assert record.distances.tolist() == [-0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03]
    assert f"conduction {record.equilibrium_masses[1]:.4f} →" in EffectiveMassStage(
        **MASS
    ).summarize(record)


def test_displacements_give_masses_with_error_bars():
    record = GappedRun(amplitude=0.02, n_samples=4).compute(
        EffectiveMassStage(**{**MASS, "order": 2})
    )
    assert np.all(record.mass_errors > 0)
    np.testing.assert_array_equal(record.mass_changes[0], 0.0)
    assert np.all(record.masses[:, 1] > 0)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"stage\.gap: got energy_step 0\.04"):
        GapStage(**{**GAP, "energy_step": 0.04})
    with pytest.raises(ConfigError, match=r"stage\.gap\.align: got 'vacuum'; expected one of"):
        GapStage(**{**GAP, "align": "vacuum"})
    with pytest.raises(ConfigError, match=r"stage\.gap\.kpoints: got 'X'"):
        GapStage(**{**GAP, "kpoints": ["X"]}).begin(GappedRun(amplitude=0.0))
    with pytest.raises(ConfigError, match="order 4 with at least three different distances"):
        EffectiveMassStage(**{**MASS, "distances": [0.0, 0.01]})
    for stage, name in ((GapStage(**GAP), "gap"), (EffectiveMassStage(**MASS), "effective_mass")):
        with pytest.raises(PhysicsError, match=rf"{name} stage: got a sample before begin\(\)"):
            stage.evaluate(SampleKey(0, 0.0), None, None)
        with pytest.raises(ConfigError, match="n_samples: got 1; expected at least 2"):
            stage.begin(GappedRun(amplitude=0.0, n_samples=1))


def test_inputs_of_a_sample_do_not_depend_on_the_ensemble():
    few, many = GappedRun(amplitude=0.0), GappedRun(amplitude=0.0, n_samples=9)
    for kind, settings in ((GapStage, GAP), (EffectiveMassStage, MASS)):
        stage, finer = kind(**settings), kind(**{**settings, "energy_step": 0.005})
        assert stage.sample_inputs(few) == stage.sample_inputs(many) == finer.sample_inputs(few)
        assert stage.inputs(few) != finer.inputs(few)
