"""DeepH against a network written edge by edge, its known flaw, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3
from electron_models import (
    BASIS,
    CUTOFFS,
    bilayer,
    build_config,
    build_model,
    cluster,
    directed_edges,
    largest_difference,
    orbital_rotation,
    predict,
)
from hydra.utils import instantiate
from scipy.spatial.transform import Rotation
from tiny_networks import build_config as build_phonon_config
from tiny_networks import corrugated_bilayer
from torch.nn.functional import silu, softplus

from mlepi.errors import ConfigError
from mlepi.graphs.build import build_graph
from mlepi.models import local_messages
from mlepi.models.wigner import order_rows


class EdgeByEdge:
    """The published network for one structure, one edge after the other, in Cartesian frames.

    Args:
        model: an ``ElectronNetwork`` with the published settings, whose weights it takes.
        species: (n_atoms,).
        edges: source, target, shift, vectors, self-loops included.
    """

    def __init__(self, model, species, edges):
        self.model, self.species = model, species
        self.source, self.target, _, self.vectors = edges
        self.lengths = np.linalg.norm(self.vectors, axis=1)
        weights = {name: value.detach() for name, value in model.state_dict().items()}
        self.weights = weights
        self.backbone = model.network.sub_networks["all"]
        self.l_max = model.readouts["all"].update.l_max

    def linear(self, name, *parts):
        name = f"{name}."
        return self.weights[name + "weight"] @ torch.cat(parts) + self.weights[name + "bias"]

    def gated(self, name, *parts):
        gate, value = self.linear(name, *parts).chunk(2)
        return torch.sigmoid(gate) * softplus(value)

    def damping(self, n):
        return float(np.exp(-(self.lengths[n] ** 2) / 18.0))

    def node_update(self, layer, nodes, features):
        name = f"network.backbones.all.node_updates.{layer}"
        total = torch.zeros_like(nodes)
        for n, (j, i) in enumerate(zip(self.source, self.target, strict=True)):
            total[i] += self.damping(n) * self.gated(
                f"{name}.linear", nodes[i], nodes[j], features[n]
            )
        total = total - total.mean()
        total = total / (total.square().mean() + 1e-5).sqrt()
        scaled = total * self.weights[f"{name}.norm.weights.0"] + self.weights[f"{name}.norm.bias"]
        return nodes + scaled

    def edge_update(self, name, nodes, features):
        rows = zip(self.target, self.source, features, strict=True)
        return torch.stack(
            [
                silu(
                    self.linear(
                        f"{name}.second", silu(self.linear(f"{name}.first", nodes[i], nodes[j], f))
                    )
                )
                for i, j, f in rows
            ]
        )

    def invariants(self):
        nodes = self.weights["network.backbones.all.embedding.weight"][self.species]
        features = self.backbone.radial_basis(torch.as_tensor(self.lengths))
        for layer in range(self.backbone.num_layers):
            if layer % 2 == 0:
                first = nodes, features
            nodes = self.node_update(layer, nodes, features)
            if layer + 1 == self.backbone.num_layers:
                last = "readouts.all.update.edge_update"
                return nodes, self.edge_update(last, nodes, features)
            update = f"network.backbones.all.edge_updates.{layer}"
            features = self.edge_update(update, nodes, features)
            if layer % 2 == 1:
                nodes, features = first[0] + nodes, first[1] + features
        raise AssertionError

    def frame(self, n):
        """Columns x, y, z: the edge is z, the nearest neighbour not collinear has y > 0."""
        own = [k for k in np.argsort(self.lengths) if self.target[k] == self.target[n]]
        bond = self.vectors[n] if self.lengths[n] > 0.0 else self.vectors[own[1]]
        second = next(
            self.vectors[k]
            for k in own[1:]
            if np.linalg.norm(np.cross(self.vectors[k], bond)) > 1e-6
        )
        z = bond / np.linalg.norm(bond)
        x = np.cross(second, z) / np.linalg.norm(np.cross(second, z))
        return np.column_stack([x, np.cross(z, x), z])

    def angular(self, vector, frame):
        local = torch.as_tensor(frame.T @ vector)[[1, 2, 0]]
        length = float(torch.linalg.norm(local))
        values = []
        for l in range(self.l_max + 1):
            y = o3.spherical_harmonics(l, local / (length or 1.0), False, "integral")
            values.append(y[order_rows(l)])
        return torch.cat(values)

    def block(self, n, nodes, features):
        frame, ends = self.frame(n), []
        for atom in (self.target[n], self.source[n]):
            total = torch.zeros_like(nodes[0])
            for k in np.flatnonzero(self.target == atom):
                angles = self.angular(self.vectors[k], frame)
                total += self.damping(k) * self.gated(
                    "readouts.all.update.linear",
                    nodes[atom],
                    nodes[self.source[k]],
                    features[k],
                    angles,
                )
            ends.append(total)
        hidden = silu(self.linear("readouts.all.update.first", *ends, features[n]))
        numbers = self.linear("readouts.all.update.second", hidden)
        i, j = self.target[n], self.source[n]
        local = self.model.targets.blocks(self.irreps(numbers, i, j)[None])
        kinds = torch.as_tensor(self.species)
        padded = self.model.targets.to_padded(local, kinds[[i]], kinds[[j]])[0].numpy()
        turn = [
            orbital_rotation(self.model.network.elements[self.species[a]], frame) for a in (i, j)
        ]
        return turn[0] @ padded @ turn[1].T

    def irreps(self, numbers, i, j):
        """Apply the last linear map of every degree, component by component."""
        pair = self.species[i] * len(self.model.network.elements) + self.species[j]
        result, begin = [], 0
        for part in ("natural", "pseudo"):
            linear = getattr(self.model.readouts["all"], part)
            channels = linear.inputs
            found = {}
            for m in range(len(channels)):
                for sign in (-1, 1) if m else (1,):
                    for l in range(m, len(channels)):
                        found[l, sign * m] = numbers[begin : begin + channels[l]]
                        begin += channels[l]
            for l, weight in enumerate(linear.weights):
                for m in range(-l, l + 1):
                    if weight.shape[1] == 0:
                        result.append(numbers.new_zeros(weight.shape[2]))
                        continue
                    value = found[l, m] @ weight.detach()[pair] / np.sqrt(weight.shape[1])
                    if l == 0 and linear.bias is not None:
                        value = value + linear.bias.detach()[pair]
                    result.append(value)
        return torch.cat(result)


def test_network_equals_the_network_edge_by_edge():
    model, atoms = build_model("deeph_exact"), bilayer(1)
    edges = directed_edges(atoms)
    species = [model.network.elements.index(z) for z in atoms.numbers]
    reference = EdgeByEdge(model, species, edges)
    source, target, shift, _ = edges
    keys = [(int(i), int(j), *map(int, r)) for i, j, r in zip(target, source, shift, strict=True)]
    ours = predict(model, atoms)
    assert set(ours) == set(keys)
    nodes, features = reference.invariants()
    # both directions of some bonds and all on-site blocks: the other edges follow the same code
    some = [n for n, key in enumerate(keys) if key[0] == key[1] or 0 in key[:2]][:24]
    wanted = {k for n in some for k in (keys[n], mirrored(keys[n]))}
    raw = {
        keys[n]: reference.block(n, nodes, features) for n in range(len(keys)) if keys[n] in wanted
    }
    for key in raw:
        expected = 0.5 * (raw[key] + raw[mirrored(key)].T)
        # elements reach 30, and the angles of the oracle lose digits near the poles
        np.testing.assert_allclose(ours[key], expected, rtol=0, atol=1e-8, err_msg=str(key))
    assert max(np.abs(block).max() for block in raw.values()) > 0.1


def mirrored(key):
    i, j, *r = key
    return (j, i, *(-x for x in r))


def crossing(y):
    """An edge from the first atom to the second; the third becomes nearer than the fourth."""
    positions = [[0, 0, 0], [1.3, 0.1, 0], [-0.2, y, 0.4], [-0.3, -1.2, -0.9]]
    return cluster(positions, [0, 0, 0, 0], [6, 1, 6, 6])


def jump(name):
    """Change of the block of that edge where the two are equally far, and next to it."""
    model = build_model(name)
    equal = float(np.sqrt(0.3**2 + 1.2**2 + 0.9**2 - 0.2**2 - 0.4**2))
    step = 2e-3

    def change(y):
        before, after = (predict(model, crossing(y + s * step)) for s in (-0.5, 0.5))
        return np.abs(before[0, 1, 0, 0, 0] - after[0, 1, 0, 0, 0]).max()

    return change(equal), change(equal + step), change(equal - step)


def test_blocks_jump_where_neighbours_change_places():
    """The known flaw of local frames: nearly the same structure, another frame, another block."""
    at, above, below = jump("deeph")
    assert at > 20.0 * max(above, below)
    assert at > 1e-2


def test_an_equivariant_network_knows_no_jump():
    at, above, below = jump("deeph_e3")
    assert at < 2.0 * max(above, below)


def test_rotated_structures_jump_as_well():
    """Between switches rotation is exact, on either side of one."""
    model = build_model("deeph")
    matrix = Rotation.from_rotvec([1.3, 0.2, -0.4]).as_matrix()
    for y in (1.3, 1.45, 1.6):
        atoms = crossing(y)
        turned = atoms.copy()
        turned.positions = atoms.positions @ matrix.T
        turned.set_cell(atoms.cell.array @ matrix.T)
        rotations = {z: orbital_rotation(z, matrix) for z in BASIS.elements}
        expected = {
            key: rotations[atoms.numbers[key[0]]] @ block @ rotations[atoms.numbers[key[1]]].T
            for key, block in predict(model, atoms).items()
        }
        assert largest_difference(predict(model, turned), expected) < 1e-9


def test_a_dimer_is_symmetric_about_its_axis():
    """Where no neighbour fixes the angle around the edge, nothing depends on it."""
    model = build_model("deeph")
    axis = np.array([0.3, -0.5, 1.1])
    for block_key in ((0, 1, 0, 0, 0), (0, 0, 0, 0, 0)):
        block = predict(model, cluster([[0, 0, 0], axis], [0, 0], [6, 1]))[block_key]
        matrix = Rotation.from_rotvec(0.7 * axis / np.linalg.norm(axis)).as_matrix()
        left, right = (orbital_rotation(6 if k == 0 else 1, matrix) for k in block_key[:2])
        np.testing.assert_allclose(left @ block @ right.T, block, rtol=0, atol=1e-9)
        assert np.abs(block).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_layers": 0}, "num_layers 0"),
        ({"edge_features": 16}, r"edge_features 16.*\(l_max \+ 1\)² = 16"),
        ({"min_sine": 0.0}, "min_sine 0.0"),
        ({"norm": "batch"}, "model.norm: got 'batch'"),
    ],
)
def test_impossible_settings_are_refused(changes, text):
    config = build_config("deeph")
    config["network"]["backbone"].update(changes)
    with pytest.raises(Exception, match=text) as error:
        instantiate(config, _convert_="all")
    assert isinstance(error.value.__cause__ or error.value, ConfigError)


def test_chunks_of_edges_and_of_self_loops_change_nothing(monkeypatch):
    model = build_model("deeph")
    whole = predict(model, bilayer())
    monkeypatch.setitem(local_messages.PAIRS_PER_CHUNK, "cpu", 64)
    assert largest_difference(predict(model, bilayer()), whole) < 1e-10


def test_energies_can_be_read_from_its_nodes_too():
    """Nodes know lengths alone: energies do not change when the structure turns."""
    config = build_phonon_config("phonon")
    backbone = build_config("deeph")["network"]["backbone"]
    config["network"]["backbone"] = {**backbone, "elements": [6, 7]}
    torch.manual_seed(1)
    model = instantiate(config, _convert_="all").double()
    atoms = corrugated_bilayer()
    turned = atoms.copy()
    matrix = Rotation.from_rotvec([0.3, 0.2, -0.4]).as_matrix() @ np.diag([1.0, -1.0, 1.0])
    turned.positions = atoms.positions @ matrix.T
    turned.set_cell(atoms.cell.array @ matrix.T)
    out = [model(build_graph(a, CUTOFFS, dtype=torch.float64)) for a in (atoms, turned)]
    torch.testing.assert_close(out[1]["energy"], out[0]["energy"], rtol=0, atol=1e-9)
    expected = out[0]["forces"].detach().numpy() @ matrix.T
    np.testing.assert_allclose(out[1]["forces"].detach().numpy(), expected, atol=1e-9)
    assert np.abs(expected).max() > 1e-3


def test_there_are_no_compiled_kernels():
    model = build_model("deeph")
    with pytest.raises(ConfigError, match=r"compile: got true for the backbone DeepH; .*false"):
        model.compile_kernels()
    with pytest.raises(ConfigError, match=r"compile: got true for local frames; .*false"):
        model.readouts["all"].update.compile_kernels()
