"""What every network must satisfy, whatever it predicts; a kind of network says how that turns."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation
from torch import Tensor, nn
from torch_geometric.data import Batch

from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.graphs.partitions import LAYERS, Partition

OPERATIONS = {
    "rotation": Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix(),
    "inversion": -np.eye(3),
    "mirror": np.diag([1.0, -1.0, 1.0]),
}

Prediction = dict[Any, np.ndarray]
"""Name or edge → array."""


class ModelContract:
    """Subclass for a kind of network, and that once per model with its ``name``."""

    name: str
    cutoffs: Mapping[str, float]
    partition: Partition = LAYERS
    learns = True
    visible = 1e-3
    """A change that cannot be rounding, eV and Å."""

    # What a kind of network says of itself.

    @staticmethod
    def build(name: str, seed: int = 1) -> nn.Module:
        raise NotImplementedError

    @staticmethod
    def bilayer(seed: int = 0) -> Atoms:
        """Four atoms, two per layer; the first two are of different elements."""
        raise NotImplementedError

    def outputs(self, model: nn.Module, graph: Any) -> dict[str, Tensor]:
        """What the network gives, along the structures, atoms or edges of a batch."""
        raise NotImplementedError

    def predict(self, model: nn.Module, atoms: Atoms) -> Prediction:
        raise NotImplementedError

    def turned(self, prediction: Prediction, atoms: Atoms, matrix: np.ndarray) -> Prediction:
        raise NotImplementedError

    def permuted(self, prediction: Prediction, order: np.ndarray) -> Prediction:
        raise NotImplementedError

    def renamed(self, prediction: Prediction, atom: int, move: np.ndarray) -> Prediction:
        """Of the same crystal, with one atom given in another cell."""
        raise NotImplementedError

    def repeated(self, prediction: Prediction, n_atoms: int, repeats: np.ndarray) -> Prediction:
        raise NotImplementedError

    def joined(self, lower: Prediction, upper: Prediction, n_lower: int) -> Prediction:
        """Of two structures in one cell that do not see each other."""
        raise NotImplementedError

    def single_tolerance(self, name: str, double: dict[str, Tensor]) -> float:
        raise NotImplementedError

    def loss(self, outputs: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError

    # What follows for all of them.

    def graph(self, atoms: Atoms, dtype: torch.dtype = torch.float64) -> Any:
        return build_graph(atoms, self.cutoffs, dtype=dtype, partition=self.partition)

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls):
        return cls.build(cls.name)

    @staticmethod
    def assert_same(found: Prediction, expected: Prediction) -> None:
        assert set(found) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-9, err_msg=str(key))

    @staticmethod
    def difference(first: Prediction, second: Prediction) -> float:
        assert set(first) == set(second)
        return max(float(np.abs(first[key] - second[key]).max()) for key in first)

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_predictions_turn_with_the_structure(self, model, operation):
        matrix, atoms = OPERATIONS[operation], self.bilayer()
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ matrix.T)
        turned.positions = atoms.positions @ matrix.T
        self.assert_same(
            self.predict(model, turned), self.turned(self.predict(model, atoms), atoms, matrix)
        )

    def test_translation(self, model):
        moved = self.bilayer()
        moved.positions += [3.3, -7.1, 1.9]
        self.assert_same(self.predict(model, moved), self.predict(model, self.bilayer()))

    def test_choice_of_the_cell(self, model):
        """Moving one atom by lattice vectors only renames its images."""
        moved, move = self.bilayer(), np.array([1, -2, 0])
        moved.positions[2] += move @ moved.cell.array
        expected = self.renamed(self.predict(model, self.bilayer()), 2, move)
        self.assert_same(self.predict(model, moved), expected)

    def test_permutation(self, model):
        order = np.array([2, 0, 3, 1])
        self.assert_same(
            self.predict(model, self.bilayer()[order]),
            self.permuted(self.predict(model, self.bilayer()), order),
        )

    def test_supercell_equals_repeated_cell(self, model):
        atoms, repeats = self.bilayer(), np.array([3, 2, 1])
        self.assert_same(
            self.predict(model, atoms.repeat(tuple(repeats))),
            self.repeated(self.predict(model, atoms), len(atoms), repeats),
        )

    def test_distant_layers_are_two_monolayers(self, model):
        atoms = self.bilayer()
        atoms.positions[2:, 2] += 2.0
        upper = atoms[2:]
        upper.arrays["layer"][:] = 0
        expected = self.joined(self.predict(model, atoms[:2]), self.predict(model, upper), 2)
        self.assert_same(self.predict(model, atoms), expected)

    def test_batch_equals_single(self, model):
        structures = [
            self.bilayer(seed=1),
            self.bilayer(seed=2)[:2],
            self.bilayer(seed=3).repeat((2, 1, 1)),
        ]
        graphs = [self.graph(atoms) for atoms in structures]
        together = self.outputs(model, Batch.from_data_list(graphs))
        alone = [self.outputs(model, graph) for graph in graphs]
        for name, joint in together.items():
            parts = torch.cat([outputs[name] for outputs in alone])
            torch.testing.assert_close(joint, parts, rtol=0, atol=1e-9)

    def test_elements_differ(self, model):
        swapped = self.bilayer()
        swapped.numbers[[0, 1]] = swapped.numbers[[1, 0]]
        before, after = self.predict(model, self.bilayer()), self.predict(model, swapped)
        assert self.difference(before, after) > self.visible

    def test_single_and_double_precision_agree(self, model):
        graphs = [self.graph(self.bilayer(), dtype) for dtype in (torch.float32, torch.float64)]
        single = self.outputs(copy.deepcopy(model).to(torch.float32), graphs[0])
        double = self.outputs(model, graphs[1])
        assert any(value.dtype == torch.float32 for value in single.values())
        for name, value in double.items():
            atol = self.single_tolerance(name, double)
            torch.testing.assert_close(single[name].double(), value, rtol=0, atol=atol)

    def test_save_and_load(self, model):
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        buffer.seek(0)
        other, expected = self.build(self.name, seed=2), self.predict(model, self.bilayer())
        assert self.difference(self.predict(other, self.bilayer()), expected) > self.visible
        other.load_state_dict(torch.load(buffer, weights_only=True))
        assert self.difference(self.predict(other, self.bilayer()), expected) == 0.0

    def test_input_is_not_mutated(self, model):
        graph = self.graph(self.bilayer())
        before = copy.deepcopy(graph.to_dict())
        self.outputs(model, graph)
        after = graph.to_dict()
        assert not graph[fields.ATOM][fields.POSITIONS].requires_grad
        assert set(after) == set(before)
        for key, store in before.items():
            for name, value in store.items() if isinstance(store, dict) else [(None, store)]:
                found = after[key] if name is None else after[key][name]
                assert torch.equal(found, value) if torch.is_tensor(value) else found == value

    def test_every_parameter_learns(self):
        if not self.learns:
            return
        model = self.build(self.name).train()
        graph = self.graph(self.bilayer())
        self.loss(self.outputs(model, graph)).backward()
        untouched = [
            name
            for name, p in model.named_parameters()
            if p.numel() and (p.grad is None or not torch.any(p.grad != 0))
        ]
        assert untouched == []
