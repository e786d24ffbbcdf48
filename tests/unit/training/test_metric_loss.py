"""The loss in the metric of S against dense linear algebra, on real labels and on random errors."""

import numpy as np
import pytest
import scipy.linalg
import torch
from shipped_data import shipped_labels
from small_run import TINY_ELECTRON, run_training
from torch_geometric.data import Batch

from mlepi.errors import ConfigError, DataError
from mlepi.graphs import fields
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices
from mlepi.graphs.build import build_graph
from mlepi.training.bloch_sums import bloch_sums
from mlepi.training.losses import compute_block_errors, global_loss
from mlepi.training.metric_loss import MetricLoss, draw_kpoints, split_error

SETTINGS = {
    "weight": 1.0,
    "low": 1.0,
    "high": 1.0,
    "mixed": 1.0,
    "boundary": 5.0,
    "damping": None,
    "kpoints": 2,
    "form": "mse",
    "unit": 0.01,
    "start": 0.0,
    "ramp": 0.0,
    "seed": 3,
}
NAMES = ("slide_+0.000_+0.000_3.00", "slide_-0.333_-0.333_3.25")


@pytest.fixture(scope="module")
def structures():
    return shipped_labels(*NAMES)


def graph_of(structure, number):
    reach = 2.0 * structure.basis.max_radius
    graph = build_graph(structure.atoms, {"intra": reach, "inter": reach}, structure, torch.float64)
    graph[fields.STRUCTURE] = torch.tensor([number])
    return graph


def label_blocks(graph, key):
    return {
        "onsite": graph[fields.ATOM][key],
        **{name: graph[fields.edge_type(name)][key] for name in fields.RELATIONS},
    }


def hermitian_noise(graph, size, seed=0):
    """Random errors of the blocks with M_ij(R) = M_ji(−R)ᵀ."""
    generator = torch.Generator().manual_seed(seed)
    noise = {
        name: size * torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for name, value in label_blocks(graph, fields.HAMILTONIAN_BLOCKS).items()
    }
    for name in fields.RELATIONS:
        reverse = graph[fields.edge_type(name)][fields.REVERSE_EDGE]
        noise[name] = 0.5 * (noise[name] + noise[name][reverse].transpose(1, 2))
    noise["onsite"] = 0.5 * (noise["onsite"] + noise["onsite"].transpose(1, 2))
    return noise


def errors_of(graph, noise):
    labels = label_blocks(graph, fields.HAMILTONIAN_BLOCKS)
    prediction = {
        "onsite_blocks": labels["onsite"] + noise["onsite"],
        "edge_blocks": {name: labels[name] + noise[name] for name in fields.RELATIONS},
    }
    exists = torch.zeros(7, 8, dtype=torch.bool)
    exists[6] = True
    return compute_block_errors(prediction, graph, exists)


def dense(structure, graph, blocks, kpoint):
    """The Bloch sum by the package's numpy code, from another edge list order."""
    source, target, shift, parts = [], [], [], []
    for name, part in blocks.items():
        if name == "onsite":
            edges = np.tile(np.arange(len(structure.atoms)), (2, 1))
            shifts = np.zeros((len(structure.atoms), 3), dtype=int)
        else:
            store = graph[fields.edge_type(name)]
            edges, shifts = store[fields.EDGE_INDEX].numpy(), store[fields.EDGE_CELL_SHIFT].numpy()
        source.append(edges[0])
        target.append(edges[1])
        shift.append(shifts)
        parts.append(part.detach().numpy())
    index = np.stack([np.concatenate(source), np.concatenate(target)])
    matrix = BlockMatrix(
        structure.atoms.numbers,
        structure.basis,
        index,
        np.concatenate(shift),
        np.concatenate(parts),
    )
    return matrix.dense(kpoint)


def explicit(structure, graph, noise, kpoint, weights, damping=None, boundary=5.0):
    """The weighted error at the best shift, found numerically."""
    hamiltonian, overlap = (m.dense(kpoint) for m in block_matrices(structure))
    levels, columns = scipy.linalg.eigh(hamiltonian, overlap)
    error = dense(structure, graph, noise, kpoint)
    n_low = int((levels <= structure.fermi_energy + boundary).sum())

    height = np.maximum(levels - structure.fermi_energy - boundary, 0.0)
    columns = columns / np.sqrt(np.ones_like(height) if damping is None else 1 + height / damping)

    def value(mu):
        matrix = columns.conj().T @ (error - mu * overlap) @ columns
        squares = np.abs(matrix) ** 2
        parts = (
            squares[:n_low, :n_low].sum(),
            squares[n_low:, n_low:].sum(),
            2.0 * squares[:n_low, n_low:].sum(),
        )
        return np.dot(weights, parts) / len(levels) ** 2

    return scipy.optimize.minimize_scalar(value, tol=1e-12).fun


def test_bloch_sums_are_those_of_block_matrices(structures):
    graphs = [graph_of(structure, i) for i, structure in enumerate(structures)]
    batch = Batch.from_data_list(graphs)
    exists = torch.ones(8, 8, dtype=torch.bool)
    exists[:4, 5:] = False  # fewer orbitals on the atoms of the first structure
    blocks = label_blocks(batch, fields.HAMILTONIAN_BLOCKS)
    kpoints = torch.tensor([[0.1, 0.2, 0.3], [0.4, -0.1, 0.0]], dtype=torch.float64)
    first, second = bloch_sums(blocks, batch, exists, kpoints)
    expected = [block_matrices(s)[0].dense(k) for s, k in zip(structures, kpoints, strict=True)]
    rows = np.flatnonzero(exists[:4].numpy())
    np.testing.assert_allclose(first, expected[0][np.ix_(rows, rows)], atol=1e-12)
    np.testing.assert_allclose(second, expected[1], atol=1e-12)


def test_equal_weights_give_the_trace_of_the_squared_error(structures):
    """Tr[(S⁻¹(ΔH − μS))²]/N² with μ = Tr(S⁻¹ΔH)/N, by a linear solve."""
    [structure, _] = structures
    graph = graph_of(structure, 0)
    noise = hermitian_noise(graph, 1e-3)
    loss = MetricLoss(**SETTINGS)
    for turn in (0, 1, 2):
        kpoint = draw_kpoints(0, 2, seed=3)[turn % 2].numpy()
        overlap = block_matrices(structure)[1].dense(kpoint)
        error = dense(structure, graph, noise, kpoint)
        ratio = np.linalg.solve(overlap, error)
        n = len(ratio)
        ratio -= np.trace(ratio) / n * np.eye(n)
        expected = np.trace(ratio @ ratio).real / n**2 / 0.01**2
        term = loss(errors_of(graph, noise), graph, turn)["metric"]
        assert term.total.item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("damping", [None, 5.0])
@pytest.mark.parametrize("weights", [(2.0, 1.0, 1.5), (1.0, 0.0, 0.0), (0.5, 2.0, 0.0)])
def test_parts_have_their_weights_and_the_shift_is_the_best(structures, weights, damping):
    structure = structures[0]
    graph = graph_of(structure, 0)
    noise = hermitian_noise(graph, 1e-3)
    settings = dict(zip(("low", "high", "mixed"), weights, strict=True))
    loss = MetricLoss(**{**SETTINGS, **settings, "damping": damping})
    kpoint = draw_kpoints(0, 2, seed=3)[0].numpy()
    expected = explicit(structure, graph, noise, kpoint, weights, damping) / 0.01**2
    term = loss(errors_of(graph, noise), graph, 0)["metric"]
    assert term.total.item() == pytest.approx(expected, rel=1e-8)


def test_parts_sum_to_the_whole():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(7, 7, dtype=torch.complex128, generator=generator)
    for n_low in (0, 3, 7):
        parts = split_error(matrix, n_low)
        assert sum(parts).item() == pytest.approx(matrix.abs().square().sum().item(), rel=1e-12)


@pytest.mark.parametrize("split", [{}, {"low": 2.0}, {"damping": 3.0}])
def test_shifts_of_the_energy_zero_cost_nothing(structures, split):
    """H + μS of every structure of a batch gives the same value, and μS alone nothing."""
    graphs = [graph_of(structure, i) for i, structure in enumerate(structures)]
    batch = Batch.from_data_list(graphs)
    loss = MetricLoss(**{**SETTINGS, **split})
    errors = errors_of(batch, hermitian_noise(batch, 1e-3))
    mu = torch.tensor([0.8, -0.3], dtype=torch.float64)
    value, shifted = (
        loss(chosen, batch, 0)["metric"].total.item() for chosen in (errors, errors.shifted(mu))
    )
    assert shifted == pytest.approx(value, rel=1e-8)
    nothing = errors_of(batch, {k: torch.zeros_like(v) for k, v in errors.difference.items()})
    assert loss(nothing.shifted(mu), batch, 0)["metric"].total.item() < 1e-9 * value


@pytest.mark.parametrize("form", ["mse", "log"])
def test_a_batch_is_the_sum_of_its_structures(structures, form):
    graphs = [graph_of(structure, i) for i, structure in enumerate(structures)]
    loss = MetricLoss(**{**SETTINGS, "low": 2.0, "form": form})
    batch = Batch.from_data_list(graphs)
    noise = hermitian_noise(batch, 1e-3)
    whole = loss(errors_of(batch, noise), batch, 1)["metric"]
    total, edge, atom = 0.0, dict.fromkeys(fields.RELATIONS, 0), 0
    for graph in graphs:
        own = {"onsite": noise["onsite"][atom : atom + 4]}
        atom += 4
        for name in fields.RELATIONS:
            count = graph[fields.edge_type(name)][fields.EDGE_INDEX].shape[1]
            own[name] = noise[name][edge[name] : edge[name] + count]
            edge[name] += count
        fresh = MetricLoss(**{**SETTINGS, "low": 2.0, "form": form})
        total += fresh(errors_of(graph, own), graph, 1)["metric"].total.item()
    assert whole.count.item() == 2
    assert whole.total.item() == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize(("low", "form"), [(1.0, "mse"), (2.0, "mse"), (2.0, "log")])
def test_gradient_is_that_of_finite_differences(structures, low, form):
    [structure, _] = structures
    graph = graph_of(structure, 0)
    loss = MetricLoss(**{**SETTINGS, "low": low, "form": form})
    noise = {k: v.requires_grad_() for k, v in hermitian_noise(graph, 1e-3).items()}
    global_loss(loss(errors_of(graph, noise), graph, 0)).backward()
    direction = hermitian_noise(graph, 1.0, seed=5)
    slope = sum((noise[name].grad * direction[name]).sum().item() for name in noise)
    step = 1e-6
    values = [
        loss(
            errors_of(graph, {k: v.detach() + s * step * direction[k] for k, v in noise.items()}),
            graph,
            0,
        )["metric"].total.item()
        for s in (1, -1)
    ]
    assert slope == pytest.approx((values[0] - values[1]) / (2.0 * step), rel=1e-6)


def test_an_error_along_the_softest_direction_weighs_by_its_overlap(structures):
    """ΔH = ε v v† at Γ, v an eigenvector of S to s: Σ|M|² = (ε/s)², less the best shift."""
    [structure, _] = structures
    graph = graph_of(structure, 0)
    overlap = block_matrices(structure)[1].dense((0.0, 0.0, 0.0)).real
    eigenvalues, vectors = np.linalg.eigh(overlap)
    loss = MetricLoss(**SETTINGS)
    n = len(overlap)
    for column in (0, -1):
        error = 1e-3 * np.outer(vectors[:, column], vectors[:, column])
        noise = {k: torch.zeros_like(v) for k, v in hermitian_noise(graph, 0.0).items()}
        # the whole of ΔH(Γ) in blocks of cell 0, which k does not touch
        for name in fields.RELATIONS:
            store = graph[fields.edge_type(name)]
            home = (store[fields.EDGE_CELL_SHIFT] == 0).all(1)
            for edge in torch.nonzero(home).flatten().tolist():
                j, i = (8 * int(atom) for atom in store[fields.EDGE_INDEX][:, edge])
                noise[name][edge] = torch.as_tensor(error[i : i + 8, j : j + 8])
        for atom in range(4):
            rows = slice(8 * atom, 8 * atom + 8)
            noise["onsite"][atom] = torch.as_tensor(error[rows, rows])
        errors = errors_of(graph, noise)
        frames = loss.build_frames(errors, graph, torch.zeros(1, 3, dtype=torch.float64))
        [matrix] = bloch_sums(errors.difference, graph, errors.exists, torch.zeros(1, 3).double())
        np.testing.assert_allclose(matrix.numpy(), error, atol=1e-15)
        transformed = frames[0].vectors.mH @ matrix @ frames[0].vectors
        strength = 1e-3 / eigenvalues[column]
        assert transformed.abs().square().sum().item() == pytest.approx(strength**2, rel=1e-8)
        assert transformed.diagonal().real.sum().item() == pytest.approx(strength, rel=1e-8)
    assert eigenvalues[-1] / eigenvalues[0] > 100.0
    assert n == 32


def test_kpoints_are_used_in_turn_and_kept(structures):
    graph = graph_of(structures[0], 0)
    loss = MetricLoss(**SETTINGS)
    errors = errors_of(graph, hermitian_noise(graph, 1e-3))
    values = [loss(errors, graph, turn)["metric"].total.item() for turn in range(4)]
    assert values[:2] == values[2:]
    assert values[0] != values[1]
    assert loss.find_frames(errors, graph, 0)[0] is loss.find_frames(errors, graph, 2)[0]
    points = draw_kpoints(0, 50, seed=1)
    assert torch.equal(points, draw_kpoints(0, 50, seed=1))
    assert not torch.equal(points, draw_kpoints(1, 50, seed=1))
    np.testing.assert_allclose(torch.exp(2j * np.pi * points).mean(0).abs(), 0.0, atol=0.05)


def test_float32_is_exact_enough(structures):
    [structure, _] = structures
    exact = graph_of(structure, 0)
    noise = hermitian_noise(exact, 1e-3)
    rounded = build_graph(structure.atoms, {"intra": 6.36, "inter": 6.36}, structure, torch.float32)
    loss = MetricLoss(**{**SETTINGS, "low": 2.0})
    expected = loss(errors_of(exact, noise), exact, 0)["metric"].total.item()
    value = loss(
        errors_of(rounded, {name: part.float() for name, part in noise.items()}), rounded, 0
    )["metric"].total
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-3)


def test_a_late_phase_needs_a_training_of_fixed_length(tmp_path):
    overrides = ["optimizer=electron_plateau", "trainer.max_epochs=-1", "data.n_train=1"]
    with pytest.raises(ConfigError, match=r"task\.loss: got a term that sets in .* fixed length"):
        run_training(tmp_path, [*TINY_ELECTRON, *overrides, "task.loss.metric.weight=1.0"])


def test_weight_sets_in_late():
    loss = MetricLoss(**{**SETTINGS, "start": 0.5, "ramp": 0.2})
    assert [loss.rise(x) for x in (0.0, 0.4, 0.6, 0.8)] == pytest.approx([0.0, 0.0, 0.5, 1.0])
    assert MetricLoss(**{**SETTINGS, "start": 0.5}).rise(0.5) == 1.0
    assert loss(None, None, 0, factor=0.0) == {}
    assert MetricLoss(**{**SETTINGS, "weight": 0.0}).num_terms == 0


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("weight", -1.0, r"task\.loss\.metric\.weight: got -1\.0; expected 0 or more"),
        ("damping", 0.0, r"task\.loss\.metric\.damping: got 0\.0; expected a positive energy"),
        ("form", "l1", r"task\.loss\.metric\.form: got l1; expected one of"),
        ("kpoints", 0, r"task\.loss\.metric\.kpoints: got 0; expected at least 1"),
        ("start", 1.5, r"task\.loss\.metric\.start: got 1\.5; expected a part of the training"),
    ],
)
def test_values_that_cannot_be_used(key, value, text):
    with pytest.raises(ConfigError, match=text):
        MetricLoss(**{**SETTINGS, key: value})


def test_labels_that_cannot_be_used(structures):
    graph = graph_of(structures[0], 0)
    errors = errors_of(graph, hermitian_noise(graph, 1e-3))
    graph[fields.FERMI_ENERGY] = torch.tensor([float("nan")])
    with pytest.raises(DataError, match="got a structure without Fermi energy"):
        MetricLoss(**{**SETTINGS, "low": 2.0})(errors, graph, 0)
    assert MetricLoss(**SETTINGS)(errors, graph, 0)
    for part in errors.overlap.values():
        part *= -1.0
    with pytest.raises(DataError, match=r"smallest eigenvalue -.*expected a positive definite"):
        MetricLoss(**SETTINGS)(errors, graph, 0)
