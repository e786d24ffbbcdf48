"""The gap stage on a honeycomb with different sublattices: E(k) = ±√(Δ² + |f(k)|²)."""

import dataclasses

import numpy as np
import pytest
from shifted_samples import compute_shifted
from toy_ensembles import compute, toy_ensemble, toy_settings
from toys import HOPPING

from mlepi.errors import ConfigError, PhysicsError
from mlepi.observables.gap.figure import PRESENTATION
from mlepi.observables.gap.stage import GapStage
from mlepi.observables.near_k.peaks import smallest_direct_distance
from mlepi.pipeline import SampleKey

DELTA = 0.25
SETTINGS = {
    "valence_electrons": {6: 1},
    "kpoints": None,
    "mesh": [6, 6, 1],
    "energy_window": 1.2,
    "energy_step": 0.01,
    "peak_width": 0.05,
    "align": "none",
    "n_resamples": 20,
}


def build_stage(**settings):
    return GapStage(**{**SETTINGS, **settings})


def gapped_ensemble(amplitude, **options):
    return toy_ensemble(amplitude, bilayer=False, overlap=0.0, stagger=DELTA, **options)


def test_undisplaced_gap_is_twice_the_stagger():
    stage = build_stage()
    record = compute(stage, gapped_ensemble(0.0))
    np.testing.assert_allclose(np.abs(record.kpoints), [[1 / 3, 1 / 3, 0]], atol=1e-12)
    assert record.equilibrium_gap == pytest.approx(2 * DELTA, abs=1e-9)
    # both sites of the toy lie at 0.2 eV on average
    assert record.reference == pytest.approx(0.2, abs=1e-9)
    np.testing.assert_allclose(record.gaps, 2 * DELTA, atol=1e-3)
    np.testing.assert_allclose(record.band_energies[:, 0], [[-DELTA, DELTA]] * 2, atol=1e-3)
    np.testing.assert_allclose(record.supercell_edges, [[-DELTA, DELTA, 2 * DELTA]] * 2, atol=1e-9)
    np.testing.assert_allclose(record.gap_errors, 0.0, atol=1e-9)
    assert "gap 500 → 500±0 meV at 300 K" in stage.summarize(record)


def test_the_direct_gap_is_that_of_one_point():
    bands = np.array([[0.0, 2.9], [-0.4, 1.3], [-0.6, 1.4]])  # a bilayer of MoS2 at Γ, K and Q
    assert smallest_direct_distance(bands) == pytest.approx(1.7)
    stage = build_stage(kpoints=["K", [0.5, 0.0, 0.0]], energy_window=3.0)
    record = compute(stage, gapped_ensemble(0.0, temperatures=(0.0, 300.0)))
    np.testing.assert_allclose(record.direct_gaps, 2 * DELTA, atol=1e-3)
    np.testing.assert_allclose(record.direct_gap_errors, 0.0, atol=1e-9)
    assert "direct 500 → 500±0 meV, 2 k-points" in stage.summarize(record)
    assert [line.at_rest(record) for line in PRESENTATION.headlines] == pytest.approx([0.5, 0.5])
    alone = compute(build_stage(kpoints=["K"]), gapped_ensemble(0.0, temperatures=(0.0,)))
    assert alone.direct_gaps.size == alone.direct_gap_errors.size == 0
    assert "direct" not in stage.summarize(alone)


def test_a_wide_gap_gets_a_window_around_either_edge():
    """Γ of the toy has ±√(Δ² + 9t²) and M ±√(Δ² + t²): too far apart for one window."""
    wide = {"energy_window": 0.9, "mesh": [1, 1, 1]}
    ensemble = gapped_ensemble(0.0, supercell=(2, 2, 1), temperatures=(0.0,))
    record = compute(build_stage(**wide, kpoints=[[0.5, 0.0, 0.0], "M"]), ensemble)
    edge = np.hypot(DELTA, HOPPING)
    np.testing.assert_allclose(record.centres, [-edge, edge], atol=1e-9)
    assert record.gaps[0] == pytest.approx(2 * edge, abs=1e-3)
    assert record.supercell_edges[0, 2] == pytest.approx(2 * edge, abs=1e-9)
    with pytest.raises(PhysicsError, match="100 % of an edge band outside the energy window"):
        # Γ lies outside the windows around the edges at M
        compute(build_stage(**wide, kpoints=["Γ", [0.5, 0.0, 0.0]]), ensemble)


def test_rigid_shifts_are_removed_by_the_mean_potential():
    shifts = (-0.1, 0.02, 0.14)
    ensemble = gapped_ensemble(0.0, temperatures=(0.0,))
    kept, aligned = (
        compute_shifted(build_stage(align=align), ensemble, shifts)
        for align in ("none", "mean_potential")
    )
    assert kept.supercell_edges[0, 0] == pytest.approx(-DELTA + np.mean(shifts), abs=1e-9)
    np.testing.assert_allclose(aligned.supercell_edges[0], [-DELTA, DELTA, 2 * DELTA], atol=1e-9)
    np.testing.assert_allclose(aligned.band_energies[0, 0], [-DELTA, DELTA], atol=1e-3)
    assert aligned.band_errors.max() < 1e-9 < kept.band_errors.min()


def test_displaced_honeycombs_have_levels_in_pairs():
    """H = [[Δ, F], [F†, −Δ]] has E = ±√(Δ² + s²) with the singular values s of any F."""
    ensemble = gapped_ensemble(0.03, n_samples=4)
    record = compute(build_stage(), ensemble)
    kpoint = 3.0 * record.kpoints[0]  # that of the supercell
    for row, temperature in enumerate(ensemble.temperatures):
        samples = ensemble.predict([SampleKey(n, temperature) for n in range(4)])
        matrices = [sample.hamiltonian.dense(kpoint) for sample in samples]
        smallest = [np.linalg.svd(h[::2, 1::2], compute_uv=False)[-1] for h in matrices]
        edges = np.hypot(DELTA, smallest)
        expected = np.mean(edges) * np.array([-1.0, 1.0, 2.0])
        np.testing.assert_allclose(record.supercell_edges[row], expected, atol=1e-6)
        np.testing.assert_allclose(
            record.supercell_edge_errors[row, 2], np.std(edges, ddof=1), atol=1e-6
        )  # 2/√4 of it
    assert record.gap_changes[0] == record.gap_change_errors[0] == 0.0
    assert np.all(record.gap_errors > 0)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"stage\.gap: got energy_step 0\.04"):
        build_stage(energy_step=0.04)
    with pytest.raises(ConfigError, match=r"stage\.gap\.align: got 'vacuum'; expected one of"):
        build_stage(align="vacuum")
    with pytest.raises(ConfigError, match=r"stage\.gap\.kpoints: got 'X'"):
        build_stage(kpoints=["X"]).begin(gapped_ensemble(0.0))
    with pytest.raises(ConfigError, match=r"stage\.gap\.kpoints: got \[0\.5, 0\.0\]"):
        build_stage(kpoints=[[0.5, 0.0]]).begin(gapped_ensemble(0.0))


def test_lines_decide_the_record_but_not_what_is_found_in_a_sample():
    settings, stage, finer = toy_settings(), build_stage(), build_stage(energy_step=0.005)
    assert stage.sample_inputs(settings) == finer.sample_inputs(settings)
    assert stage.inputs(settings) != finer.inputs(settings)
    assert stage.sample_inputs(settings)["kpoints"] == [6, 6, 1]
    assert build_stage(kpoints=["K", (0, 0, 0)]).inputs(settings)["kpoints"] == ["K", [0, 0, 0]]


def test_a_material_without_a_gap_says_so():
    """The honeycomb with equal sublattices: its bands touch at K."""
    stage = build_stage()
    record = compute(stage, toy_ensemble(0.0, bilayer=False, overlap=0.0))
    assert stage.summarize(record).startswith("no gap: valence and conduction band of the undis")
    assert "meV" not in stage.summarize(record)
    [text] = stage.doubts(record)
    assert text.startswith("This material has no gap: its valence and conduction band touch.")
    overlapping = dataclasses.replace(record, equilibrium_gap=-1.098)
    assert "overlap by 1098 meV" in stage.summarize(overlapping)
    gapped = compute(stage, gapped_ensemble(0.0))
    assert stage.doubts(gapped) == []
    closed = dataclasses.replace(gapped, gaps=np.array([0.1, -0.01]))
    assert stage.doubts(closed) == ["the gap has closed at 300 K."]
