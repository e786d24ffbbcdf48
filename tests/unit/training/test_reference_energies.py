"""A network of another level of theory gets the zero of energy of the data."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from ase import Atoms

from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.models import PhononNetwork
from mlepi.training.reference_energies import align_energies

FREE = {1: -3.0, 6: -150.0}
"""eV, of the other level of theory; the network has its free atoms at −1 and −2."""


class Pairs(PhononNetwork):
    """Energies of free atoms and 0.1 eV per pair of atoms of a structure."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.atomic_energies = (-1.0, -2.0)
        self.network = type("Elements", (), {"elements": [1, 6]})()

    def forward(self, graph, compute_forces=True, compute_stress=False):
        numbers = graph[fields.ATOM][fields.NUMBERS].tolist()
        free = sum(self.atomic_energies[[1, 6].index(z)] for z in numbers)
        return {"energy": torch.tensor([free + 0.05 * len(numbers) * (len(numbers) - 1)])}


def make_graphs(energies):
    graphs = []
    for symbols in ("CH4", "C2H2", "H2", "C3H4"):
        positions = np.arange(3.0 * len(Atoms(symbols))).reshape(-1, 3)
        atoms = Atoms(symbols, positions=positions, cell=[60.0] * 3)
        n, numbers = len(atoms), atoms.numbers.tolist()
        graph = build_graph(atoms, dict.fromkeys(fields.RELATIONS, 1.0))
        total = sum(energies[z] for z in numbers) + 0.05 * n * (n - 1)
        graph[fields.ENERGY] = torch.tensor([total], dtype=torch.float64)
        graphs.append(graph)
    return graphs


def test_free_atoms_get_the_zero_of_the_data(caplog):
    caplog.set_level(logging.INFO)
    network, model = Pairs(), {"atomic_energies": [-1.0, -2.0]}
    align_energies(network, make_graphs(FREE), model)
    assert network.atomic_energies == pytest.approx((-3.0, -150.0), abs=1e-4)
    assert model["atomic_energies"] == list(network.atomic_energies)
    assert "another level of theory" in caplog.text


def test_energies_of_one_level_of_theory_stay():
    network, model = Pairs(), {"atomic_energies": [-1.0, -2.0]}
    align_energies(network, make_graphs({1: -1.1, 6: -2.2}), model)
    assert network.atomic_energies == (-1.0, -2.0) == tuple(model["atomic_energies"])
    align_energies(torch.nn.Identity(), [], {})  # of Hamiltonians
