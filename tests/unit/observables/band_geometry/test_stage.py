"""The band_geometry stage.

Averages of blocks, known geometry at rest, and what averaging does to a gapped cone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
from toy_ensembles import ToyElectron, compute, matrices, toy_ensemble, toy_settings
from toys import VELOCITY

from mlepi.errors import ConfigError
from mlepi.graphs.block_pairs import list_edges, restore_directions, spread_blocks
from mlepi.observables.band_geometry.stage import BandGeometryStage
from mlepi.physics.bands.unfolding import cell_major_map
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.pipeline import SampleKey

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
def test_sheets_at_rest_have_the_geometry_of_the_primitive_cell(overlap):
    """A massive cone of gap 2m has tr g = |Ω| = v²/2m² at K, without overlap exactly."""
    stage = build_stage()
    record = compute(stage, toy_ensemble(0.0, bilayer=False, stagger=MASS, overlap=overlap))
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
        at_corner = pytest.approx(VELOCITY**2 / (2 * MASS**2), rel=1e-6)
        assert abs(record.equilibrium_curvatures[1]) == at_corner
        assert record.equilibrium_traces[1] == at_corner
        assert record.equilibrium_gaps[1] == pytest.approx(2 * MASS)
    assert np.all(record.equilibrium_traces >= np.abs(record.equilibrium_curvatures) - 1e-9)
    assert stage.doubts(record) == []
    assert "Å² at k − K = 0 Å⁻¹ and 300 K, Berry phase around K" in stage.summarize(record)


def test_averaged_blocks_are_the_first_moment_of_the_unfolded_bands():
    """Σ_n E_n S c_n c_n†S = H projected on Bloch sums, B†HB, and Σ_n S c_n c_n†S gives B†SB.

    Moments of the spectral function.
    """
    stage, ensemble = build_stage(), toy_ensemble(0.04, overlap=0.1)
    prepared = stage.prepare(ensemble)
    sample = ensemble.predict([SampleKey(0, 300.0)])[0]
    h, s = sample.hamiltonian, sample.overlap
    result = stage.evaluate(prepared, sample)
    pairs = result["pairs"].astype(np.int64)
    rest = [spread_blocks(pairs, prepared.pairs, blocks) for blocks in prepared.blocks]
    kpoint = np.array([1 / 3, 2 / 3, 0.0])
    atom_map = cell_major_map(4, ensemble.supercell)
    basis = atom_map.bloch_basis(kpoint, np.ones(4, dtype=int)).toarray()
    folded = atom_map.fold(kpoint)
    values, vectors = solve_bands(h.dense(folded), s.dense(folded), vectors=True)
    components = basis.conj().T @ s.dense(folded) @ vectors
    for which, factor in ((0, values), (1, np.ones_like(values))):
        rows, [blocks] = restore_directions(pairs, rest[which] + result["changes"][which])
        found = bloch_sum(blocks, *list_edges(rows), prepared.offsets, [kpoint])[0]
        np.testing.assert_allclose(found, (components * factor) @ components.conj().T, atol=2e-6)


def bloch_moments(ensemble, kpoint, temperature):
    """B†HB and B†SB of every sample, from dense matrices: (n_samples, n, n) each."""
    basis = ensemble.atom_map.bloch_basis(kpoint, np.ones(4, dtype=int)).toarray()
    folded = ensemble.atom_map.fold(kpoint)
    keys = [SampleKey(n, temperature) for n in range(ensemble.n_samples)]
    samples = ensemble.predict(keys)
    return tuple(
        np.array([basis.conj().T @ x.dense(folded) @ basis for x in matrices])
        for matrices in ([s.hamiltonian for s in samples], [s.overlap for s in samples])
    )


@pytest.mark.parametrize("overlap", [0.0, 0.1])
def test_averages_over_samples_are_those_of_their_first_moments(overlap):
    """The gap of the record is that of ⟨S^{-1/2}HS^{-1/2}⟩; without overlap that of ⟨B†HB⟩."""
    ensemble = toy_ensemble(0.03, stagger=MASS, overlap=overlap, n_samples=5)
    stage = build_stage()
    record, prepared = compute(stage, ensemble), stage.prepare(ensemble)
    for point in range(3):
        for index, temperature in enumerate(ensemble.temperatures):
            h, s = bloch_moments(ensemble, prepared.line[point], temperature)
            if overlap == 0.0:
                values = solve_bands(h.mean(axis=0))
            else:
                roots = [scipy.linalg.sqrtm(np.linalg.inv(one)) for one in s]
                values = solve_bands(
                    np.mean([root @ one @ root for root, one in zip(roots, h, strict=True)], axis=0)
                )
            assert record.gaps[index, point] == pytest.approx(values[2] - values[1], abs=1e-5)


class ShiftedElectron(ToyElectron):
    """The toy with a multiple of S added to H, another one for every structure."""

    def __init__(self, scale, **electrons):
        super().__init__(**electrons)
        self.scale = scale

    def zero(self, atoms):
        """eV; none of the crystal at rest."""
        fractional = atoms.get_scaled_positions(wrap=False)
        return self.scale * np.sin(1e3 * np.sum(fractional * fractional)) if len(atoms) > 4 else 0.0

    def hamiltonian(self, atoms, *, device="cpu", dtype="float64"):
        h, s = matrices(atoms, **self.electrons)
        return replace(h, blocks=h.blocks + self.zero(atoms) * s.blocks)


@pytest.mark.parametrize("overlap", [0.0, 0.1])
def test_energy_zeros_of_the_samples_change_nothing(overlap):
    """H_s + μ_s S_s for random μ_s: only the zeros that were taken out know of it."""
    electrons = {"stagger": MASS, "overlap": overlap}
    plain, shifted = (
        compute(
            build_stage(),
            toy_ensemble(0.03, n_samples=4, electron=ShiftedElectron(scale, **electrons)),
        )
        for scale in (0.0, 2.0)
    )
    for name in ("gaps", "metrics", "metric_errors", "curvatures", "berry_phases", "maps"):
        expected = getattr(plain, name)
        scale = np.nanmax(np.abs(expected))
        np.testing.assert_allclose(
            getattr(shifted, name), expected, atol=1e-5 * scale, err_msg=name
        )
    assert shifted.zero_shift_spreads.min() > 0.3
    assert plain.zero_shift_spreads.max() < 0.1


def test_chosen_bands():
    ensemble = toy_ensemble(0.0, stagger=MASS)
    top = compute(build_stage(bands=[-1]), ensemble)
    assert top.bands == (-1,)
    occupied = compute(build_stage(), ensemble)
    assert occupied.bands == (-2, -1)
    assert np.all(top.equilibrium_gaps <= occupied.equilibrium_gaps + 1e-9)
    for bands in ([-3], [2], [-2, -1, 0, 1]):
        with pytest.raises(
            ConfigError, match=r"stage\.band_geometry\.bands: .* expected some, not all, of -2 … 1"
        ):
            build_stage(bands=bands).begin(ensemble)


def test_touching_bands_are_told():
    stage = build_stage()
    record = compute(stage, toy_ensemble(0.0, bilayer=False))
    assert np.isnan(record.equilibrium_curvatures[1])
    assert stage.doubts(record)[0].startswith(
        "at k − K = 0 Å⁻¹ the chosen bands come within 0.0 meV of others"
    )
    assert abs(record.equilibrium_berry_phase) == pytest.approx(np.pi, abs=1e-6)
    assert np.all(np.isfinite(record.convergence_traces))
    # ¼ on a cone of one layer, the rest from warping of relative order (ka)² = 0.015
    np.testing.assert_allclose(record.convergence_traces, 0.25 * 2 / 2, rtol=0.05)
    assert record.equilibrium_mean_trace == pytest.approx(0.25 * 2 / 2, rel=0.05)
    wide = replace(record, gaps=record.gaps + 1, equilibrium_gaps=record.equilibrium_gaps + 1)
    assert stage.doubts(wide) == []


def test_bad_settings_are_refused():
    with pytest.raises(
        ConfigError, match=r"stage\.band_geometry\.bands: got 'all'; expected occupied or a list"
    ):
        build_stage(bands="all")
    with pytest.raises(ConfigError, match=r"stage\.band_geometry\.distances: got \[0\.1, 0\.1\]"):
        build_stage(distances=[0.1, 0.1])
    with pytest.raises(ConfigError, match="at least 3 points on the circle"):
        build_stage(n_loop=2)
    with pytest.raises(ConfigError, match="radii > 0 in 1/Å"):
        build_stage(map_radius=0.0)


def test_inputs_of_a_sample_are_nothing_but_its_cell():
    settings, stage, top = toy_settings(), build_stage(), build_stage(bands=[-1, -1])
    assert stage.sample_inputs(settings) == top.sample_inputs(settings) == {"supercell": [3, 3, 1]}
    assert stage.inputs(settings) != top.inputs(settings)
    assert top.inputs(settings)["bands"] == [-1]
