"""The conductivity stage on tight-binding sheets.

Folding, neutrality, known limits, and full diagonalisation.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from toy_runs import ToyRun
from toys import HOPPING

from mlepi.errors import ConfigError, PhysicsError
from mlepi.observables import conductivity as module
from mlepi.observables.conductivity import ConductivityStage
from mlepi.observables.optical_spectra import OpticalStates
from mlepi.physics.bands.optics import sheet_area, sheet_conductivity
from mlepi.physics.bands.velocity_matrices import (
    derivatives_at,
    lay_out_derivatives,
    velocity_matrices,
)
from mlepi.physics.eigenstates.bloch import fermi_energy_from_eigenvalues, solve_bands
from mlepi.pipeline.stage import SampleKey
from mlepi.plots.conductivity import (
    list_conductivity_facts,
    plot_conductivity,
    plot_conductivity_convergence,
)
from mlepi.results.hdf5 import read_record, write_record

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
    """A folded k mesh changes neither σ nor, by the weights of unfolding, the joint density."""
    run = ToyRun(0.0, overlap=overlap, bilayer=bilayer)
    stage = build_stage(max_energy=3.0, line_width=0.4)
    stage.begin(run)
    for sample in (0, 3):
        key = SampleKey(sample, 300.0)
        result = stage.evaluate(key, *run.matrices(run.displaced(key)))
        assert result["fermi_shift"] == pytest.approx(0.0, abs=1e-7)
        assert result["ghosts"] == 0
        for name in ("conductivity", "joint_density"):
            assert result[name].max() > 0
            np.testing.assert_allclose(
                result[name], result[f"reference_{name}"], rtol=2e-5, atol=1e-9
            )


def test_record_of_a_sheet_at_rest_has_the_universal_conductivity(tmp_path):
    """σ = 1 + (ω² + width²)/9t² in e²/4ħ, with mean ω² = 0.365 eV² on the grid of the window.

    The mesh errs by 12 exp(−2π² (width/2ħvΔk)²) = 6e-4 at most. What 300 K takes from small ω is in
    the Drude peak; lines of 0.2 eV at 0.5 eV see 1 % of either, of weight 4k_BT ln 2 / 0.2 eV =
    0.36: 4e-3, most of which cancels.
    """
    run = ToyRun(0.0, bilayer=False, overlap=0.0)
    stage = build_stage(equilibrium_mesh=[120, 120, 1], line_width=0.2, max_energy=1.2)
    record = run.compute(stage)
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
    assert record.doubts() == []
    with h5py.File(tmp_path / "record.h5", "w") as file:
        write_record(file.create_group("record"), record)
        again = read_record(file["record"], type(record))
        assert file["record/conductivities"].attrs["unit"] == "e²/4ħ"
    np.testing.assert_array_equal(again.conductivities, record.conductivities)
    figure = plot_conductivity(record)
    assert figure.axes[0].get_ylabel() == "Re σ per layer (e²/4ħ)"
    assert plot_conductivity_convergence(record).axes[0].get_xlabel() == "samples"
    assert (
        list_conductivity_facts(record)[-1][0] == "mean conductivity per layer, 0.5–0.7 eV, 300 K"
    )


@pytest.mark.parametrize("spare", [module.SPARE_STATES, 0.05])
def test_displaced_samples_agree_with_full_diagonalisation(spare, monkeypatch):
    """Too few states at first are noticed.

    Their number is doubled until those left out have no part in the spectrum.
    """
    monkeypatch.setattr(module, "SPARE_STATES", spare)
    monkeypatch.setattr(module, "MAX_GHOSTS", 2)
    run = ToyRun(0.03, supercell=(4, 4, 1))
    stage = build_stage(
        max_energy=0.6, line_width=0.1, window=[0.3, 0.5], electronic_temperature=1500.0
    )
    stage.begin(run)
    key = SampleKey(1, 0.0)
    atoms = run.displaced(key)
    h, s = run.matrices(atoms)
    result = stage.evaluate(key, h, s)
    states = []
    for kpoint in stage.offset_mesh(1):
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
    assert result["fermi_shift"] + stage._shared.fermi_energy == pytest.approx(fermi, abs=1e-5)


def test_ghost_states_hold_no_electrons():
    """One more state far below the others leaves neutrality, and the spectra, where they were."""
    levels = np.array([[-2.0, -1.0, -0.1, 0.1, 1.0, 2.0]])
    velocities = [np.ones((2, 6, 6), dtype=complex)]
    weights = [np.ones((1, 6))]
    stage = build_stage()
    plain = stage.lines.spectra(OpticalStates(4, levels, velocities, weights), 14.0, 1.0, 0.02)
    haunted = stage.lines.spectra(OpticalStates(5, levels, velocities, weights), 14.0, 1.0, 0.02)
    assert (plain["ghosts"], haunted["ghosts"]) == (0, 1)
    assert haunted["fermi_energy"] == pytest.approx(plain["fermi_energy"])
    np.testing.assert_allclose(haunted["conductivity"], plain["conductivity"])


def test_offsets_cover_the_zone_and_are_known_beforehand():
    """The mean over the offsets is the integral over the zone: an unbiased control variate."""
    stage = build_stage(mesh=[2, 2, 1], electronic_temperature=2000.0, line_width=0.4)
    np.testing.assert_array_equal(stage.offset_mesh(7), stage.offset_mesh(7))
    offsets = np.array([stage.offset_mesh(n)[0, :2] for n in range(256)])
    for turns in ([2, 0], [0, 2], [2, 2], [4, -2]):
        assert abs(np.exp(2j * np.pi * offsets @ turns).mean()) < 0.02
    run = ToyRun(0.0, bilayer=False)
    stage.begin(run)
    shared = stage._shared
    sampled = [
        shared.response(np.concatenate([shared.unfold(k) for k in stage.offset_mesh(n)]))[
            "conductivity"
        ]
        for n in range(40)
    ]
    grid = np.stack(np.meshgrid(np.arange(80), np.arange(80), [0], indexing="ij"), axis=-1).reshape(
        -1, 3
    ) / [80, 80, 1]
    error = np.std(sampled, axis=0) / np.sqrt(len(sampled))
    difference = np.mean(sampled, axis=0) - shared.response(grid)["conductivity"]
    assert np.all(np.abs(difference) < 4.0 * error + 1e-3)


def test_doubts_are_told():
    record = ToyRun(0.0, bilayer=False).compute(build_stage(equilibrium_mesh=[8, 8, 1]))
    doubtful = replace(record, fermi_shifts=np.array([0.0, -0.3]), ghosts=np.array([0.0, 0.25]))
    texts = doubtful.doubts()
    assert "move the Fermi energy by -0.30 eV" in texts[0]
    assert "0.25 ghost states per supercell" in texts[1]


def test_bad_settings_and_samples_are_refused():
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
    run = ToyRun(0.0)
    with pytest.raises(PhysicsError, match=r"a sample before begin\(\)"):
        build_stage().evaluate(SampleKey(0, 0.0), *run.matrices(run.atoms))


def test_inputs_of_a_sample_do_not_depend_on_the_ensemble():
    few, many = (
        SimpleNamespace(supercell=(3, 3, 1), n_samples=2),
        SimpleNamespace(supercell=(3, 3, 1), n_samples=9),
    )
    assert build_stage().sample_inputs(few) == build_stage().sample_inputs(many)
    assert build_stage().sample_inputs(few) == build_stage(window=[0.1, 0.2]).sample_inputs(few)
    assert build_stage().sample_inputs(few) != build_stage(line_width=0.2).sample_inputs(few)
