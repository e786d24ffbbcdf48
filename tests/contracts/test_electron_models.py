"""What every electron model must satisfy, whatever its backbone and its combination."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from electron_models import (
    BASIS,
    CUTOFFS,
    assert_same,
    bilayer,
    build_config,
    build_model,
    cluster,
    edge_keys,
    flat_blocks,
    largest_difference,
    orbital_rotation,
    predict,
)
from hydra.utils import instantiate
from model_contract import OPERATIONS, ModelContract
from scipy.spatial.transform import Rotation
from torch_geometric.data import Batch

from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.structures.basis import OrbitalBasis


class ElectronModelContract(ModelContract):
    """Subclass and set ``name``; every test is inherited. A prediction is edge → block."""

    cutoffs = CUTOFFS
    build = staticmethod(build_model)
    bilayer = staticmethod(bilayer)
    difference = staticmethod(largest_difference)

    def outputs(self, model, graph):
        out = model(graph)
        return {"onsite": out["onsite_blocks"], **out["edge_blocks"]}

    def predict(self, model, atoms):
        return predict(model, atoms)

    def turned(self, prediction, atoms, matrix):
        rotations = {number: orbital_rotation(number, matrix) for number in BASIS.elements}
        z = atoms.numbers
        return {
            key: rotations[z[key[0]]] @ b @ rotations[z[key[1]]].T for key, b in prediction.items()
        }

    def permuted(self, prediction, order):
        new = np.argsort(order)
        return {(int(new[i]), int(new[j]), *r): block for (i, j, *r), block in prediction.items()}

    def renamed(self, prediction, atom, move):
        shift = {i: move if i == atom else np.zeros(3, int) for i in range(4)}
        return {
            (i, j, *(np.array(r) + shift[i] - shift[j]).tolist()): block
            for (i, j, *r), block in prediction.items()
        }

    def repeated(self, prediction, n_atoms, repeats):
        expected = {}
        for (i, j, *r), block in prediction.items():
            for number, cell in enumerate(np.ndindex(*repeats)):
                image, place = np.divmod(np.array(cell) + r, repeats)
                other = int(np.ravel_multi_index(place, repeats))
                key = (number * n_atoms + i, other * n_atoms + j, *image.tolist())
                expected[key] = block
        return expected

    def joined(self, lower, upper, n_lower):
        moved = {(i + n_lower, j + n_lower, *r): block for (i, j, *r), block in upper.items()}
        return {**lower, **moved}

    def single_tolerance(self, name, double):
        return 1e-4 * max(float(value.detach().abs().max()) for value in double.values())

    def loss(self, outputs):
        return sum(value.square().sum() for value in outputs.values())

    def test_hermitian_exactly(self, model):
        blocks = predict(model, bilayer())
        for (i, j, *r), block in blocks.items():
            assert np.array_equal(block, blocks[j, i, *(-np.array(r)).tolist()].T)

    def test_blocks_are_padded_with_zeros_and_full_inside(self, model):
        atoms = bilayer()
        counts = BASIS.counts(atoms.numbers)
        reached = np.zeros((BASIS.max_orbitals,) * 2)
        for (i, j, *_), block in predict(model, atoms).items():
            assert block.shape == (BASIS.max_orbitals,) * 2
            assert np.isfinite(block).all()
            assert not block[counts[i] :].any()
            assert not block[:, counts[j] :].any()
            reached = np.maximum(reached, np.abs(block))
        assert reached.min() > 1e-3

    @pytest.mark.parametrize("relation", fields.RELATIONS)
    def test_smooth_at_the_cutoff(self, model, relation):
        assert self.jump_at_cutoff(model, relation) < 1e-6

    @staticmethod
    def jump_at_cutoff(model, relation) -> float:
        """Largest change of a block when the third atom leaves the reach of the first alone."""
        distance = CUTOFFS[relation]
        blocks = []
        for step in (-1e-9, 1e-9):
            last = [0.6 * (distance + step), 0.0, 0.8 * (distance + step)]
            blocks.append(
                predict(
                    model,
                    cluster(
                        [[0, 0, 0], [0.4, 0.9, 1.0], last],
                        [0, 0, 0 if relation == "intra" else 1],
                        [6, 1, 6],
                    ),
                )
            )
        assert len(blocks[0]) == len(blocks[1]) + 2
        return largest_difference(*blocks)

    def test_strictly_local(self, model):
        assert self.change_far_away(model) < 1e-12

    @staticmethod
    def change_far_away(model) -> float:
        """Largest change of the blocks at one end of a double chain when the other end moves."""
        n, spacing = 30, 1.4
        x = spacing * np.arange(n)
        positions = np.concatenate(
            [np.column_stack([x, 0.1 * np.cos(x), z + 0.1 * np.sin(x)]) for z in (1.0, 4.3)]
        )
        atoms = Atoms(
            numbers=[6] * (2 * n),
            positions=positions,
            cell=[n * spacing + 12.0, 20.0, 20.0],
            pbc=True,
        )
        atoms.arrays["layer"] = np.repeat([0, 1], n)
        moved = atoms.copy()
        moved.positions[[n - 1, 2 * n - 1]] += [0.1, 0.2, -0.1]
        near = {i for i in range(2 * n) if i % n < 3}
        before, after = (
            {key: block for key, block in predict(model, a).items() if set(key[:2]) <= near}
            for a in (atoms, moved)
        )
        assert len(before) > 20
        return largest_difference(before, after)

    def test_monolayer_and_isolated_atom(self, model):
        layer = bilayer()[:2]
        blocks = predict(model, layer)
        assert len(blocks) > 10
        assert all(np.isfinite(block).all() for block in blocks.values())
        alone = predict(model, cluster([[1.0, 2.0, 3.0]], [0]))
        assert list(alone) == [(0, 0, 0, 0, 0)]
        for l, shell in zip(
            BASIS.shells[6], BASIS.slices(6), strict=True
        ):  # a sphere: one number per shell
            block = alone[0, 0, 0, 0, 0][shell, shell]
            np.testing.assert_allclose(block, block[0, 0] * np.eye(2 * l + 1), rtol=0, atol=1e-9)

    @pytest.mark.parametrize("structure", ["bilayer", "along the axes"])
    def test_derivative_equals_finite_difference(self, model, structure):
        atoms = bilayer()
        if structure == "along the axes":
            atoms = cluster(
                [[0, 0, 0], [1.3, 0, 0], [0, 1.4, 0], [0, 0, 1.5], [0, 0, 3.2]],
                [0, 0, 0, 0, 1],
                [6, 1, 6, 6, 6],
            )
        graph = build_graph(atoms, CUTOFFS, dtype=torch.float64)
        positions = graph[fields.ATOM][fields.POSITIONS].clone()
        probes = {name: torch.randn_like(v) for name, v in self.outputs(model, graph).items()}

        def project(structures, n):
            found = self.outputs(model, structures)
            parts = [found[name].view(n, *probe.shape) * probe for name, probe in probes.items()]
            return sum(part.sum(dim=(1, 2, 3)) for part in parts)

        step, n = 1e-5, positions.numel()
        moves = step * torch.eye(n, dtype=torch.float64).view(n, *positions.shape)
        moved = Batch.from_data_list(2 * n * [graph])  # both ways along every coordinate
        moved[fields.ATOM][fields.POSITIONS] = (positions + torch.cat([moves, -moves])).flatten(
            0, 1
        )
        with torch.no_grad():
            forward, backward = project(moved, 2 * n).split(n)
        numeric = ((forward - backward) / (2 * step)).view_as(positions)
        graph[fields.ATOM][fields.POSITIONS] = positions.requires_grad_()
        (gradient,) = torch.autograd.grad(project(graph, 1), positions)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 1e-2
        torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-5)


class NotLocal(ElectronModelContract):
    """A norm over the whole structure: atoms beyond every receptive field have influence."""

    def test_strictly_local(self, model):
        assert self.change_far_away(model) > 1e-6

    @pytest.mark.parametrize("relation", fields.RELATIONS)
    def test_smooth_at_the_cutoff(self, model, relation):
        """The statistics change with the number of edges."""
        assert self.jump_at_cutoff(model, relation) > 1e-3

    def test_distant_layers_are_two_monolayers(self, model):
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            super().test_distant_layers_are_two_monolayers(model)


class TestDeepHE3(ElectronModelContract):
    name = "deeph_e3"


class TestDeepHE36Layer(ElectronModelContract):
    name = "deeph_e3_6layer"


class TestHedgeNetLate(ElectronModelContract):
    name = "hedgenet_late"


class TestHedgeNetPerLayer(ElectronModelContract):
    name = "hedgenet_per_layer"


class TestNoNorm(ElectronModelContract):
    name = "no_norm"


class TestNoBaseline(ElectronModelContract):
    name = "no_baseline"


class TestSelfLoops(ElectronModelContract):
    name = "hedgenet_self_loops"


class TestMACEHamiltonian(ElectronModelContract):
    name = "mace_hamiltonian"


class TestHedgeNetMACELate(ElectronModelContract):
    name = "hedgenet_mace_late"


class TestHedgeNetMACEPerLayer(ElectronModelContract):
    name = "hedgenet_mace_per_layer"


class TestMACEVectors(ElectronModelContract):
    """On-site irreps of l > 1 come from sums of pair features."""

    name = "mace_vectors"


class RightHanded(ElectronModelContract):
    """Local frames are right-handed: rotations are exact, what inversion does is learned."""

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_predictions_turn_with_the_structure(self, model, operation):
        if np.linalg.det(OPERATIONS[operation]) > 0.0:
            super().test_predictions_turn_with_the_structure(model, operation)
            return
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            super().test_predictions_turn_with_the_structure(model, operation)


class TestDeepH(RightHanded):
    name = "deeph"


class TestHedgeNetDeepH(RightHanded):
    name = "hedgenet_deeph"


class TestDeepHE3Wide(ElectronModelContract):
    name = "deeph_e3_wide"


class TestDeepHE3Told(ElectronModelContract):
    name = "deeph_e3_told"


class TestHedgeNetShared(ElectronModelContract):
    name = "hedgenet_shared"


class TestBaselineAlone(ElectronModelContract):
    name = "baseline_alone"
    learns = False


class TestStructureNorm(NotLocal):
    name = "structure_norm"


class TestDeepHE3Exact(NotLocal):
    name = "deeph_e3_exact"


class TestDeepHExact(RightHanded, NotLocal):
    name = "deeph_exact"

    @pytest.mark.parametrize("structure", ["bilayer", "along the axes"])
    def test_derivative_equals_finite_difference(self, model, structure):
        """Atoms in line fix no frame, but do as soon as one leaves the line: blocks jump."""
        if structure == "bilayer":
            super().test_derivative_equals_finite_difference(model, structure)
            return
        with pytest.raises(AssertionError, match="Tensor-likes are not close"):
            super().test_derivative_equals_finite_difference(model, structure)


@pytest.mark.parametrize("shells", [(0, 1), (0, 0, 1, 1)], ids=["s1p1", "s2p2"])
def test_one_element(shells):
    """The material of the paper: one element, blocks without padding."""
    basis = OrbitalBasis({6: shells}, {6: 2.1}, {6: "C"})
    model = build_model("hedgenet_late", basis=basis, channels="[4,3,2]", pseudo="[0,2]")
    atoms = bilayer()
    atoms.numbers[:] = 6
    matrix = Rotation.from_rotvec([1.3, 0.2, -0.4]).as_matrix()
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ matrix.T)
    turned.positions = atoms.positions @ matrix.T
    rotation = orbital_rotation(6, matrix, basis)
    assert_same(
        predict(model, turned),
        {key: rotation @ block @ rotation.T for key, block in predict(model, atoms).items()},
    )


def test_homogeneous_model_ignores_the_layer_and_hedgenet_does_not():
    cutoffs = {"intra": 3.0, "inter": 3.0}
    atoms = bilayer()
    atoms.positions[2:, 2] -= 0.6
    one_layer = atoms.copy()
    one_layer.arrays["layer"] = np.zeros(4, dtype=int)

    def change(name):
        config = build_config(name)
        config["baseline"] = "none"  # its tables belong to relations
        config["cutoffs"] = config["network"]["backbone"]["cutoffs"] = cutoffs
        torch.manual_seed(1)
        model = instantiate(config, _convert_="all").double()
        graphs = [build_graph(a, cutoffs, dtype=torch.float64) for a in (atoms, one_layer)]
        with torch.no_grad():
            first, second = (
                dict(zip(edge_keys(g), flat_blocks(model(g)).numpy(), strict=True)) for g in graphs
            )
        return largest_difference(first, second)

    assert change("deeph_e3") < 1e-10
    assert change("hedgenet_late") > 1e-3


def test_self_loops_off_adds_no_parameters():
    config = build_config("hedgenet_late")
    names = set(instantiate(config, _convert_="all").state_dict())
    del config["network"]["backbone"]["self_loops"]
    assert set(instantiate(config, _convert_="all").state_dict()) == names
