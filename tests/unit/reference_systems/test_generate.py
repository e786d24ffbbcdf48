"""Data sets of the reference systems.

What is written is what the models say, and it is read by the trainings' readers.
"""

import numpy as np
import pytest

from mlepi.errors import ConfigError
from mlepi.graphs.block_matrix import block_matrices
from mlepi.physics.overlaps import read_overlap_table
from mlepi.reference_systems import HoneycombSprings, TightBinding
from mlepi.reference_systems.generate import DataSettings, displace_structures, generate, main
from mlepi.structures import HamiltonianDataset, read_forces_dataset, read_split

SETTINGS = DataSettings(stacking="AB", supercell=(2, 2, 1), n_structures=10, orbitals="sp")


def test_data_set_round_trip(tmp_path):
    written = generate(tmp_path, SETTINGS)
    dataset = HamiltonianDataset(tmp_path / "hamiltonians.h5")
    forces = read_forces_dataset(tmp_path / "forces.extxyz")
    assert (
        dataset.names
        == tuple(structure.name for structure in forces)
        == tuple(s.name for s in written)
    )
    assert (
        sum(len(names) for names in read_split(tmp_path / "split.json", dataset.names).values())
        == 10
    )
    assert dataset.provenance["orbitals"] == "sp"
    model, springs = TightBinding(orbitals="sp", orthogonal=False), HoneycombSprings()
    labels = dataset[3]
    hamiltonian, overlap = block_matrices(labels)
    k = [0.1, 0.3, 0.0]
    # float32 on disk
    np.testing.assert_allclose(
        hamiltonian.dense(k), model.hamiltonian(labels.atoms).dense(k), atol=2e-5
    )
    np.testing.assert_allclose(overlap.dense(k), model.overlap(labels.atoms).dense(k), atol=1e-6)
    np.testing.assert_allclose(labels.forces, springs.get_forces(labels.atoms), atol=1e-12)
    assert forces[3].energy == pytest.approx(springs.get_potential_energy(labels.atoms), abs=1e-6)
    np.testing.assert_allclose(forces[3].forces, labels.forces, atol=1e-7)
    assert read_overlap_table(tmp_path / "overlap.h5").shells == {6: (0, 1)}


def test_a_structure_depends_on_seed_and_number_alone():
    def positions(n, seed):
        return [
            a.positions
            for a in displace_structures(
                DataSettings(n_structures=n, seed=seed, supercell=(2, 2, 1))
            )
        ]

    few, more, other = positions(2, 0), positions(3, 0), positions(2, 1)
    np.testing.assert_array_equal(few[1], more[1])
    assert np.abs(few[1] - other[1]).max() > 1e-3


def test_command_line(tmp_path, capsys):
    main(
        [str(tmp_path / "data"), "--structures", "10", "--supercell", "2", "2", "1", "--orthogonal"]
    )
    assert "10 structures of 8 atoms" in capsys.readouterr().out
    assert len(HamiltonianDataset(tmp_path / "data" / "hamiltonians.h5")) == 10


def test_too_few_structures_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="n_structures: got 9; expected at least 10"):
        generate(tmp_path, DataSettings(n_structures=9))
