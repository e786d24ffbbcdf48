"""The dispersion term of a phonon network on structures of every kind."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from tiny_networks import CUTOFFS, build_config, corrugated_bilayer
from torch_geometric.data import Batch

from mlepi.errors import ConfigError
from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.models.dispersion import GrimmeD2
from mlepi.predictors import PhononPredictor
from mlepi.training.task import build_part


def energy_of(term: GrimmeD2, atoms: Atoms) -> float:
    graph = build_graph(atoms, CUTOFFS, dtype=torch.float64)
    return float(term(graph, graph[fields.ATOM][fields.POSITIONS])[0])


def build_network(dispersion="d2", cutoff=8.0, **backbone):
    torch.manual_seed(2)
    config = {**build_config("phonon"), "dispersion": dispersion, "dispersion_cutoff": cutoff}
    config["network"]["backbone"] |= backbone
    return build_part("model", config).double().eval()


def predictor_of(network) -> PhononPredictor:
    return PhononPredictor(network, elements=[6, 7], cutoffs=CUTOFFS)


@pytest.fixture(scope="module")
def thin() -> Atoms:
    """Cell much thinner than the cutoff, one atom far outside of it."""
    cell = [[2.5, 0.0, 0.0], [0.4, 2.3, 0.1], [0.0, 0.2, 9.0]]
    positions = [[0.1, 0.2, 1.0], [1.4, 0.3, 1.1], [7.9, -6.0, 4.4]]
    return Atoms("CCN", positions=positions, cell=cell, pbc=True)


@pytest.mark.parametrize("pbc", [True, (True, True, False)])
def test_thin_cell_is_its_supercell(thin, pbc):
    term, atoms = GrimmeD2(elements=[6, 7], cutoff=8.0), thin.copy()
    atoms.pbc = pbc
    atoms.arrays["layer"] = np.array([0, 0, 1])
    n = (4, 3, 2 if pbc is True else 1)
    assert energy_of(term, atoms.repeat(n)) == pytest.approx(
        np.prod(n) * energy_of(term, atoms), rel=1e-12
    )


def test_images_count_only_where_the_structure_repeats(thin):
    term, atoms = GrimmeD2(elements=[6, 7], cutoff=8.0), thin.copy()
    energies = {}
    for pbc in (True, (True, True, False), False):
        atoms.pbc = pbc
        energies[pbc] = energy_of(term, atoms)
    assert energies[True] < energies[(True, True, False)] < energies[False] < 0.0


def test_batch_is_its_structures(thin):
    term = GrimmeD2(elements=[6, 7], cutoff=8.0)
    structures = [thin, corrugated_bilayer(), Atoms("C", cell=[30, 30, 30], pbc=True)]
    batch = Batch.from_data_list(
        [build_graph(atoms, CUTOFFS, dtype=torch.float64) for atoms in structures]
    )
    together = term(batch, batch[fields.ATOM][fields.POSITIONS])
    assert together.tolist() == pytest.approx([energy_of(term, a) for a in structures], abs=1e-12)
    assert together[2] == 0.0


def test_network_adds_exactly_the_term():
    atoms = corrugated_bilayer()
    plain, full = build_network("none"), build_network()
    full.load_state_dict(plain.state_dict())
    assert list(full.state_dict()) == list(plain.state_dict())
    graph = build_graph(atoms, CUTOFFS, dtype=torch.float64)
    found = full(graph, compute_stress=True)["energy"] - plain(graph)["energy"]
    term = GrimmeD2(elements=[6, 7], cutoff=8.0)
    assert float(found) == pytest.approx(energy_of(term, atoms), abs=1e-10)
    single = copy.deepcopy(full).float()(build_graph(atoms, CUTOFFS, dtype=torch.float32))
    assert single["energy"].dtype == torch.float64
    assert float(single["energy"]) == pytest.approx(float(full(graph)["energy"]), abs=1e-4)


def test_forces_stress_and_second_derivatives_of_the_calculator():
    network = build_network()
    calculator, atoms = predictor_of(network).calculator(), corrugated_bilayer()
    atoms.calc = calculator
    step = 1e-4
    rows = calculator.hessian_rows(atoms, [1])
    for axis in (0, 2):
        energies, forces = [], []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[1, axis] += sign * step
            moved.calc = calculator
            energies.append(moved.get_potential_energy())
            forces.append(moved.get_forces())
        slope = (energies[0] - energies[1]) / (2 * step)
        assert atoms.get_forces()[1, axis] == pytest.approx(-slope, abs=1e-6)
        second = -(forces[0] - forces[1]) / (2 * step)
        np.testing.assert_allclose(rows[0, axis], second, rtol=0, atol=1e-5)
    strained = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array * [1 + sign * 1e-5, 1, 1], scale_atoms=True)
        moved.calc = calculator
        strained.append(moved.get_potential_energy())
    stress = (strained[0] - strained[1]) / 2e-5 / atoms.get_volume()
    assert atoms.get_stress()[0] == pytest.approx(stress, abs=1e-7)


def test_network_learns_beside_the_term_with_compiled_kernels():
    plain = build_network(l_max=1).train()  # each harmonic is more code to compile
    compiled = copy.deepcopy(plain)
    compiled.compile_kernels(backend="eager")
    graph = build_graph(corrugated_bilayer(), CUTOFFS, dtype=torch.float64)
    for name in ("energy", "forces"):
        torch.testing.assert_close(compiled(graph)[name], plain(graph)[name], rtol=0, atol=1e-9)
    compiled(graph)["forces"].square().sum().backward()
    assert all(p.grad is not None for p in compiled.parameters() if p.numel())


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match=r"d2 for atomic numbers \[79\].*model.dispersion=none"):
        GrimmeD2(elements=[6, 79], cutoff=8.0)
    with pytest.raises(ConfigError, match=r"model\.dispersion_cutoff: got 1\.0"):
        build_network(cutoff=1.0)
    with pytest.raises(ConfigError, match=r"model\.dispersion: got 'd3'"):
        build_network("d3")
