"""The dos stage on tight-binding supercells."""

import numpy as np
import pytest
from toy_runs import ToyRun

from mlepi.errors import ConfigError, PhysicsError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.observables import DosStage
from mlepi.pipeline.stage import SampleKey

SETTINGS = {
    "valence_electrons": {6: 1},
    "mesh": [2, 2, 1],
    "window": [-14.0, 14.0],
    "energy_step": 0.05,
    "width": 0.15,
    "align": "none",
}


def test_an_undisplaced_supercell_has_the_density_of_the_primitive_cell():
    run = ToyRun(amplitude=0.0, overlap=0.1)
    record = run.compute(DosStage(**SETTINGS))
    np.testing.assert_allclose(record.dos, [record.equilibrium] * 2, atol=1e-9)
    np.testing.assert_allclose(record.projections, [record.equilibrium_projections] * 2, atol=1e-9)
    np.testing.assert_allclose(record.fermi_shifts, 0.0, atol=0.02)
    assert record.channels == ("C s", "layer 0", "layer 1")
    assert record.reference == pytest.approx(0.2, abs=0.1)
    assert "states" not in DosStage(**SETTINGS).summarize(record)
    assert "2×2×1 k-points of 3×3×1 cells" in DosStage(**SETTINGS).summarize(record)


@pytest.mark.parametrize("amplitude", [0.0, 0.03])
def test_densities_count_orbitals_and_electrons(amplitude):
    record = ToyRun(amplitude=amplitude, overlap=0.1).compute(DosStage(**SETTINGS))
    step = record.energies[1] - record.energies[0]
    np.testing.assert_allclose(record.dos.sum(axis=1) * step, record.n_orbitals, rtol=1e-6)
    np.testing.assert_allclose(record.integrated[:, -1], record.n_orbitals, rtol=1e-6)
    np.testing.assert_allclose(
        record.projections[:, 1:].sum(axis=1), record.dos, atol=1e-9
    )  # the layers make up the whole
    np.testing.assert_allclose(
        record.projections[:, 1:].sum(axis=2) * step, 2.0, rtol=1e-6
    )  # two orbitals each
    at_fermi = [
        np.interp(record.fermi_shifts[i], record.energies, record.integrated[i]) for i in range(2)
    ]
    np.testing.assert_allclose(at_fermi, record.n_electrons / 2, rtol=1e-3)
    assert np.all(record.dos_errors >= 0)
    assert (record.dos_errors.max() > 1e-9) == (amplitude > 0)


def test_rigid_shifts_are_removed_by_the_mean_potential():
    run = ToyRun(amplitude=0.0, overlap=0.1, n_samples=2, temperatures=(0.0,))
    records = {}
    for align in ("none", "mean_potential"):
        stage = DosStage(**{**SETTINGS, "align": align})
        stage.begin(run)
        results = []
        for sample, shift in enumerate((-0.3, 0.3)):
            h, s = run.matrices(run.displaced(SampleKey(sample, 0.0)))
            raised = BlockMatrix(
                h.numbers, h.basis, h.edge_index, h.edge_cell_shift, h.blocks + shift * s.blocks
            )
            results.append(
                (SampleKey(sample, 0.0), stage.evaluate(SampleKey(sample, 0.0), raised, s))
            )
        records[align] = stage.finish(run, results)
    np.testing.assert_allclose(
        records["mean_potential"].dos[0], records["mean_potential"].equilibrium, atol=1e-9
    )
    assert np.abs(records["none"].dos[0] - records["none"].equilibrium).max() > 0.1


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"stage\.dos: got energy_step 0\.1, width 0\.15"):
        DosStage(**{**SETTINGS, "energy_step": 0.1})
    with pytest.raises(ConfigError, match=r"stage\.dos\.align: got 'vacuum'"):
        DosStage(**{**SETTINGS, "align": "vacuum"})
    with pytest.raises(PhysicsError, match=r"dos stage: got a sample before begin\(\)"):
        DosStage(**SETTINGS).evaluate(SampleKey(0, 0.0), None, None)
    with pytest.raises(ConfigError, match="n_samples: got 1; expected at least 2"):
        DosStage(**SETTINGS).begin(ToyRun(amplitude=0.0, n_samples=1))
