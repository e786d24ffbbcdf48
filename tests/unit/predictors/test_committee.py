"""Committees of tiny networks: what they average, and what they refuse."""

import numpy as np
import pytest
import torch
from tiny_networks import (
    BASIS,
    CUTOFFS,
    build_network,
    corrugated_bilayer,
    gaussian_overlap_table,
)

from mlepi.errors import DataError
from mlepi.physics.averages.calibration import Agreement
from mlepi.predictors import DifferentiableModel, ElectronPredictor, PhononPredictor
from mlepi.predictors.calibration import Calibration, find_calibration
from mlepi.predictors.committee import (
    PhononCommittee,
    average_matrices,
    build_electron_committee,
    digest_weights,
)
from mlepi.reference_systems import HoneycombSprings, TightBinding
from mlepi.structures import build_graphene
from mlepi.structures.basis import OrbitalBasis


def networks(kind, n=3):
    """Networks whose random weights differ."""
    found = []
    for number in range(n):
        network = build_network(kind)
        torch.manual_seed(number)
        with torch.no_grad():
            for value in network.parameters():
                value.add_(0.05 * torch.randn_like(value))
        found.append(network)
    return found


def electrons(n=3, **changes):
    given = {"basis": BASIS, "cutoffs": CUTOFFS, "overlap_table": gaussian_overlap_table()}
    return [ElectronPredictor(net, **{**given, **changes}) for net in networks("electron", n)]


def phonons(n=3):
    return [PhononPredictor(net, elements=[6, 7], cutoffs=CUTOFFS) for net in networks("phonon", n)]


def test_the_mean_of_hamiltonians_and_their_overlap():
    members, atoms = electrons(), corrugated_bilayer()
    committee = build_electron_committee(members)
    found = committee.hamiltonian(atoms, dtype="float64")
    each = [member.hamiltonian(atoms, dtype="float64") for member in members]
    np.testing.assert_allclose(found.blocks, np.mean([m.blocks for m in each], 0), atol=1e-14)
    assert np.ptp([m.blocks for m in each], axis=0).max() > 1e-3
    several = committee.hamiltonians([atoms, atoms], dtype="float64")
    np.testing.assert_allclose(several[1].blocks, found.blocks, atol=1e-10)
    np.testing.assert_array_equal(committee.overlap(atoms).blocks, members[0].overlap(atoms).blocks)
    np.testing.assert_array_equal(
        committee.overlaps([atoms])[0].blocks, members[0].overlap(atoms).blocks
    )
    k = np.array([0.1, 0.2, 0.0])
    np.testing.assert_allclose(found.dense(k), found.dense(k).conj().T, atol=1e-12)
    np.testing.assert_allclose(
        found.dense(k), np.mean([m.dense(k) for m in each], axis=0), atol=1e-12
    )


def test_derivatives_of_the_mean_are_the_mean_of_derivatives():
    members, atoms = electrons(2), corrugated_bilayer()
    committee = build_electron_committee(members)
    assert isinstance(committee, DifferentiableModel)
    direction = np.zeros((1, len(atoms), 3))
    direction[0, 3, 2] = 1.0
    found = committee.derivatives(atoms, direction)
    step = 2e-5
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * step * direction[0]
        ends.append(committee.hamiltonian(moved, dtype="float64").blocks)
    slope = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(found.hamiltonian.values[0], slope, atol=1e-6)
    second = committee.second_derivatives(atoms, direction, direction)
    plain = [m.second_derivatives(atoms, direction, direction) for m in members]
    np.testing.assert_allclose(
        second.hamiltonian.values, np.mean([p.hamiltonian.values for p in plain], 0), atol=1e-12
    )


def test_models_without_derivatives_and_with_other_edges():
    atoms = build_graphene(stacking="AB")
    models = [
        TightBinding(orbitals="s", interlayer={"sss": [strength, 7.43]}) for strength in (0.3, 0.5)
    ]
    mean = build_electron_committee(models).hamiltonian(atoms)
    middle = TightBinding(orbitals="s", interlayer={"sss": [0.4, 7.43]}).hamiltonian(atoms)
    k = np.array([0.3, 0.1, 0.0])
    np.testing.assert_allclose(mean.dense(k), middle.dense(k), atol=1e-12)
    full = models[0].hamiltonian(atoms)
    kept = full.edge_cell_shift[:, 0] <= 0
    part = type(full)(
        full.numbers,
        full.basis,
        full.edge_index[:, kept],
        full.edge_cell_shift[kept],
        full.blocks[kept],
    )
    both = average_matrices([full, part]).dense(k)
    np.testing.assert_allclose(both, 0.5 * (full.dense(k) + part.dense(k)), atol=1e-12)


def test_networks_that_do_not_belong_together_are_refused():
    with pytest.raises(DataError, match=r"committee of networks: got 1 network; expected at least"):
        build_electron_committee(electrons(1))
    first = electrons(1)[0]
    other = OrbitalBasis(BASIS.shells, {6: 2.1, 7: 2.0}, BASIS.names)
    for changes, name in (
        ({"basis": other, "overlap_table": None}, "basis"),
        ({"overlap_table": None}, "overlap_table"),
        ({"cutoffs": {"intra": 3.0, "inter": 4.0}}, "cutoffs"),
    ):
        with pytest.raises(DataError, match=rf"got network 2 with another {name} than the first"):
            build_electron_committee([first, *electrons(1, **changes)])
    overlapping = [TightBinding(orbitals="s", orthogonal=flag) for flag in (True, False)]
    with pytest.raises(DataError, match=r"got different overlaps of one structure"):
        build_electron_committee(overlapping).overlap(build_graphene(stacking="AB"))
    known, unknown = phonons(1)[0].calculator(), HoneycombSprings()
    with pytest.raises(DataError, match=r"network 2 of the elements None, the first of \(6, 7\)"):
        PhononCommittee([known, unknown])


def test_the_mean_of_energy_surfaces():
    members, atoms = [p.calculator() for p in phonons()], corrugated_bilayer()
    committee = PhononCommittee(members)
    atoms.calc = committee
    forces, energy, stress = atoms.get_forces(), atoms.get_potential_energy(), atoms.get_stress()
    each = [(m.get_forces(atoms), m.get_potential_energy(atoms)) for m in members]
    np.testing.assert_allclose(forces, np.mean([f for f, _ in each], axis=0), atol=1e-12)
    np.testing.assert_allclose(energy, np.mean([e for _, e in each]), atol=1e-12)
    np.testing.assert_allclose(stress, np.mean([m.get_stress(atoms) for m in members], 0))
    assert isinstance(energy, float)
    step, moved = 1e-4, []
    for sign in (1, -1):
        atoms.positions[2, 0] += sign * step
        moved.append(atoms.get_potential_energy())
        atoms.positions[2, 0] -= sign * step
    assert forces[2, 0] == pytest.approx(-(moved[0] - moved[1]) / (2 * step), abs=1e-5)
    rows = committee.hessian_rows(atoms, [1])
    np.testing.assert_allclose(rows, np.mean([m.hessian_rows(atoms, [1]) for m in members], 0))
    springs = PhononCommittee([HoneycombSprings(), HoneycombSprings(bond=20.0)])
    assert springs.implemented_properties == ["energy", "forces", "stress"]
    assert not hasattr(springs, "hessian_rows")


def test_the_layers_of_the_atoms_count():
    """Another layer of an atom changes the energy of every member, and so of the committee."""
    atoms = corrugated_bilayer()
    committee = PhononCommittee([p.calculator() for p in phonons(2)])
    atoms.calc = committee
    before = atoms.get_potential_energy()
    atoms.arrays["layer"] = np.zeros(len(atoms), dtype=int)
    assert abs(atoms.get_potential_energy() - before) > 1e-6


def test_a_calibration_belongs_to_one_set_of_networks():
    members = electrons()
    digests = [digest_weights(member) for member in members]
    assert len(set(digests)) == 3
    assert find_calibration(members) is None
    found = Calibration(
        tuple(digests), {"bands": Agreement(9, 2.0, 3.0, 4.0)}, {"path": "x"}, {"test": {}}
    )
    for member in members:
        member.metadata["calibration"] = found.to_dict()
    assert find_calibration(members) == found
    assert find_calibration(members[::-1]) == found
    assert find_calibration(members[:2]) is None
    assert find_calibration([TightBinding(), TightBinding()]) is None
    assert (found.factor("bands", "mean"), found.factor("bands", "first")) == (1.5, 2.0)
    with pytest.raises(DataError, match=r"got \['bands'\]; expected 'forces' too"):
        found.factor("forces", "mean")
    members[0].metadata["calibration"] = {"members": []}
    with pytest.raises(DataError, match=r"calibration in the metadata of a checkpoint"):
        find_calibration(members)
