"""The band_geometry stage.

Averages of blocks, known geometry at rest, and what averaging does to a gapped cone.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from toy_runs import ToyRun
from toys import VELOCITY

from mlepi.errors import ConfigError, PhysicsError
from mlepi.graphs.block_pairs import list_edges, restore_directions, spread_blocks
from mlepi.observables.band_geometry import BandGeometryStage
from mlepi.physics.bands.unfolding import cell_major_map
from mlepi.physics.eigenstates.bloch import bloch_sum, solve_bands
from mlepi.pipeline.stage import SampleKey
from mlepi.plots.band_geometry import (
    list_geometry_facts,
    plot_band_geometry,
    plot_geometry_convergence,
    plot_geometry_maps,
)
from mlepi.results.hdf5 import read_record, write_record

MASS = 0.3
SETTINGS = {
    "valence_electrons": {6: 1},
    "bands": "occupied",
    "distances": [0.0, 0.05],
    "loop_radius": 0.05,
    "n_loop": 12,
    "map_radius": 0.05,
    "n_map": 4,
    "n_counts": 2,
}


def build_stage(**settings):
    return BandGeometryStage(**{**SETTINGS, **settings})


@pytest.mark.parametrize("overlap", [0.0, 0.1])
def test_sheets_at_rest_have_the_geometry_of_the_primitive_cell(overlap, tmp_path):
    """With a gap 2m at K the massive cone gives tr g = |Ω| = v²/2m², exact without overlap."""
    run = ToyRun(0.0, bilayer=False, stagger=MASS, overlap=overlap)
    stage = build_stage()
    record = run.compute(stage)
    assert record.bands == (-1,)
    np.testing.assert_allclose(record.distances, [-0.05, 0.0, 0.05])
    np.testing.assert_allclose(
        record.metrics, [record.equilibrium_metrics] * 2, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(record.curvatures, [record.equilibrium_curvatures] * 2, rtol=1e-4)
    np.testing.assert_allclose(record.maps, [record.equilibrium_maps] * 2, rtol=1e-4)
    np.testing.assert_allclose(record.berry_phases, record.equilibrium_berry_phase, atol=1e-4)
    np.testing.assert_array_less(record.curvature_errors, 1e-3)
    if overlap == 0.0:
        assert abs(record.equilibrium_curvatures[1]) == pytest.approx(
            VELOCITY**2 / (2 * MASS**2), rel=1e-6
        )
        assert np.trace(record.equilibrium_metrics[1]) == pytest.approx(
            VELOCITY**2 / (2 * MASS**2), rel=1e-6
        )
        assert record.equilibrium_gaps[1] == pytest.approx(2 * MASS)
    traces = np.trace(record.equilibrium_metrics, axis1=1, axis2=2)
    assert np.all(traces >= np.abs(record.equilibrium_curvatures) - 1e-9)
    assert record.doubts() == []
    assert "Å² at k − K = 0 Å⁻¹ and 300 K, Berry phase around K" in stage.summarize(record)
    with h5py.File(tmp_path / "record.h5", "w") as file:
        write_record(file.create_group("record"), record)
        again = read_record(file["record"], type(record))
        assert file["record/metrics"].attrs["unit"] == "Å²"
    np.testing.assert_array_equal(again.metrics, record.metrics)
    assert plot_band_geometry(record).axes[1].get_ylabel() == "Ω$_z$ (Å²)"
    assert len(plot_geometry_maps(record).axes) == 4
    assert plot_geometry_convergence(record).axes[0].get_xlabel() == "samples"
    assert list_geometry_facts(record)[-1][0] == "Berry phase of |k − K| = 0.05 Å⁻¹, 300 K"


def test_averaged_blocks_are_the_first_moment_of_the_unfolded_bands():
    """Σ_n E_n S c_n c_n†S = H projected on Bloch sums, B†HB, and Σ_n S c_n c_n†S gives B†SB.

    Moments of the spectral function.
    """
    run = ToyRun(0.04, overlap=0.1)
    stage = build_stage()
    stage.begin(run)
    key = SampleKey(0, 300.0)
    h, s = run.matrices(run.displaced(key))
    result = stage.evaluate(key, h, s)
    shared = stage._shared
    pairs = result["pairs"].astype(np.int64)
    rest = [spread_blocks(pairs, shared.pairs, blocks) for blocks in shared.blocks]
    kpoint = np.array([1 / 3, 2 / 3, 0.0])
    atom_map = cell_major_map(4, run.supercell)
    basis = atom_map.bloch_basis(kpoint, np.ones(4, dtype=int)).toarray()
    folded = atom_map.fold(kpoint)
    values, vectors = solve_bands(h.dense(folded), s.dense(folded), vectors=True)
    components = basis.conj().T @ s.dense(folded) @ vectors
    for which, factor in ((0, values), (1, np.ones_like(values))):
        rows, [blocks] = restore_directions(pairs, rest[which] + result["changes"][which])
        found = bloch_sum(blocks, *list_edges(rows), shared.offsets, [kpoint])[0]
        np.testing.assert_allclose(found, (components * factor) @ components.conj().T, atol=2e-6)


def test_averages_over_samples_are_those_of_the_bloch_matrices():
    """The gap at k is that of the mean of B†HB with the mean of B†SB, from dense matrices."""
    run = ToyRun(0.03, stagger=MASS, overlap=0.1, n_samples=5)
    stage = build_stage()
    record = run.compute(stage)
    for point in range(3):
        kpoint = stage._shared.line[point]
        basis = stage._shared.atom_map.bloch_basis(kpoint, np.ones(4, dtype=int)).toarray()
        folded = stage._shared.atom_map.fold(kpoint)
        for index, temperature in enumerate(run.temperatures):
            samples = [run.matrices(run.displaced(SampleKey(n, temperature))) for n in range(5)]
            h, s = (
                np.mean([basis.conj().T @ x[i].dense(folded) @ basis for x in samples], axis=0)
                for i in (0, 1)
            )
            values = solve_bands(h, s)
            assert record.gaps[index, point] == pytest.approx(values[2] - values[1], abs=1e-5)


def test_chosen_bands():
    run = ToyRun(0.0, stagger=MASS)
    top = run.compute(build_stage(bands=[-1]))
    assert top.bands == (-1,)
    occupied = run.compute(build_stage())
    assert occupied.bands == (-2, -1)
    assert np.all(top.equilibrium_gaps <= occupied.equilibrium_gaps + 1e-9)
    for bands in ([-3], [2], [-2, -1, 0, 1]):
        with pytest.raises(
            ConfigError, match=r"stage\.band_geometry\.bands: .* expected some, not all, of -2 … 1"
        ):
            build_stage(bands=bands).begin(run)


def test_touching_bands_are_told():
    record = ToyRun(0.0, bilayer=False).compute(build_stage())
    assert np.isnan(record.equilibrium_curvatures[1])
    assert "at k − K = 0 Å⁻¹ the chosen bands come within 0.0 meV of others" in record.doubts()[0]
    assert abs(record.equilibrium_berry_phase) == pytest.approx(np.pi, abs=1e-6)
    assert np.all(np.isfinite(record.convergence_traces))
    # ¼ on a cone of one layer, the rest from warping of relative order (ka)² = 0.015
    np.testing.assert_allclose(record.convergence_traces, 0.25 * 2 / 2, rtol=0.05)
    assert (
        replace(record, gaps=record.gaps + 1, equilibrium_gaps=record.equilibrium_gaps + 1).doubts()
        == []
    )


def test_bad_settings_and_samples_are_refused():
    with pytest.raises(
        ConfigError, match=r"stage\.band_geometry\.bands: got 'all'; expected occupied or a list"
    ):
        build_stage(bands="all")
    with pytest.raises(ConfigError, match=r"stage\.band_geometry\.distances: got \[0\.1, 0\.1\]"):
        build_stage(distances=[0.1, 0.1])
    with pytest.raises(ConfigError, match="at least 3 points on the circle"):
        build_stage(n_loop=2)
    run = ToyRun(0.0)
    with pytest.raises(PhysicsError, match=r"a sample before begin\(\)"):
        build_stage().evaluate(SampleKey(0, 0.0), *run.matrices(run.atoms))


def test_inputs_of_a_sample_are_nothing_but_its_cell():
    few, many = (
        SimpleNamespace(supercell=(3, 3, 1), n_samples=2),
        SimpleNamespace(supercell=(3, 3, 1), n_samples=9),
    )
    assert build_stage().sample_inputs(few) == build_stage(bands=[-1]).sample_inputs(many)
    assert build_stage().inputs(few) != build_stage(bands=[-1]).inputs(few)
