import pytest
import torch

from mlepi.errors import ConfigError
from mlepi.training.losses import (
    BlockErrors,
    ElectronLoss,
    PhononLoss,
    compute_relative_layer_forces,
    elementwise_loss,
    global_loss,
    least_squares_shift,
)
from mlepi.training.metrics import (
    StructureSums,
    least_absolute_shift,
    mean_error,
    sum_by_structure,
)


def random_errors(n_graphs=2):
    generator = torch.Generator().manual_seed(1)
    sizes = {"onsite": 4, "intra": 10, "inter": 6}
    exists = torch.tensor([True, True, False])
    errors = BlockErrors({}, {}, {}, {}, n_graphs)
    for name, size in sizes.items():
        mask = (exists[:, None] & exists[None, :]).expand(size, 3, 3)
        errors.mask[name] = mask
        errors.difference[name] = (
            torch.randn(size, 3, 3, generator=generator, dtype=torch.float64) * mask
        )
        errors.overlap[name] = (
            torch.randn(size, 3, 3, generator=generator, dtype=torch.float64) * mask
        )
        errors.graph[name] = torch.arange(size) % n_graphs
    return errors


def total_absolute(errors, structure):
    return sum(
        errors.difference[name][errors.graph[name] == structure].abs().sum()
        for name in errors.difference
    )


@pytest.mark.parametrize(
    ("kind", "expected"), [("mse", 4.0), ("mae", 2.0), ("huber", 1.5), ("l1_mse", 6.0)]
)
def test_elementwise_loss_values(kind, expected):
    assert elementwise_loss(kind)(torch.tensor(-2.0)).item() == pytest.approx(expected)


def test_unknown_loss_is_refused():
    with pytest.raises(ConfigError, match=r"task\.loss\.kind: got 'l3'; expected one of \['huber'"):
        elementwise_loss("l3")


def test_phonon_loss_is_the_weighted_sum_of_means():
    loss = PhononLoss(energy_weight=2.0, forces_weight=3.0, kind="mse", forces_unit=0.5)
    energy, forces = torch.tensor([1.0, 3.0]), torch.full((4, 3), 0.5)
    layer, structure = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    terms = loss(energy, forces, layer, structure)
    assert len(terms) == loss.num_terms == 2
    assert global_loss(terms).item() == pytest.approx(2.0 * 5.0 + 3.0 * 1.0)


def test_layer_forces_are_relative_means():
    """A bilayer of 2 + 1 atoms, a monolayer (left out) and a trilayer, in any order of atoms."""
    layer = torch.tensor([0, 0, 1, 0, 0, 2, 0, 1])
    structure = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    forces = torch.zeros(8, 3, dtype=torch.float64)
    forces[:, 2] = torch.tensor([1.0, 3.0, 5.0, 7.0, 9.0, 6.0, 1.0, 2.0])
    forces[:, 0] = 0.25
    found, of_structure = compute_relative_layer_forces(forces, layer, structure)
    assert of_structure.tolist() == [0, 0, 2, 2, 2]
    expected = torch.tensor([2.0 - 3.0, 5.0 - 3.0, 1.0 - 3.0, 2.0 - 3.0, 6.0 - 3.0])
    torch.testing.assert_close(found[:, 2], expected.double())
    torch.testing.assert_close(found[:, 0], torch.zeros(5).double())


def test_layer_forces_see_only_what_moves_layers():
    """Net forces of structures and forces inside layers, as noise of labels, do not count."""
    generator = torch.Generator().manual_seed(3)
    layer = torch.tensor([0, 0, 0, 1, 1, 1] * 2)
    structure = torch.arange(2).repeat_interleave(6)
    inside = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    inside = (inside - inside.mean(1, keepdim=True)).reshape(12, 3)
    net = torch.randn(2, 3, generator=generator, dtype=torch.float64)[structure]
    found, _ = compute_relative_layer_forces(inside + net, layer, structure)
    torch.testing.assert_close(found, torch.zeros(4, 3).double(), rtol=0, atol=1e-14)


def test_layer_term_of_the_phonon_loss():
    settings = {"energy_weight": 0.0, "forces_weight": 0.0, "kind": "mse"}
    loss = PhononLoss(**settings, layers_weight=4.0, layers_unit=0.1)
    layer, structure = torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.long)
    forces = torch.zeros(4, 3, dtype=torch.float64)
    forces[2:, 1] = 0.4  # relative forces of −0.2 and 0.2, two units each
    forces.requires_grad_(True)
    terms = loss(torch.zeros(1), forces, layer, structure)
    assert len(terms) == loss.num_terms == 3
    value = global_loss(terms)
    assert value.item() == pytest.approx(4.0 * (4.0 + 4.0) / 6.0)
    (gradient,) = torch.autograd.grad(value, forces)
    expected = torch.zeros(4, 3, dtype=torch.float64)
    # d/df of w/6 Σ (x/u)² with x = ∓(f_2 + f_3 − f_0 − f_1)/4
    expected[:2, 1], expected[2:, 1] = -1.0, 1.0
    expected *= 4.0 / 6.0 * 2 * 2 * 0.2 / 0.1**2 / 4.0
    torch.testing.assert_close(gradient, expected)


def late_loss(**late):
    return PhononLoss(
        energy_weight=1.0,
        forces_weight=3.0,
        kind="mse",
        layers_weight=2.0,
        late=late,
    )


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, {"energy": 1.0, "forces": 3.0, "layers": 2.0}),
        (0.7499, {"energy": 1.0, "forces": 3.0, "layers": 2.0}),
        (0.75, {"energy": 40.0, "forces": 3.0, "layers": 10.0}),
        (1.0, {"energy": 40.0, "forces": 3.0, "layers": 10.0}),
    ],
)
def test_late_stage_weighs_energies_and_layers_more(progress, expected):
    loss = late_loss(start=0.75, energy_factor=40.0, layers_factor=5.0)
    layer, structure = torch.tensor([0, 1]), torch.zeros(2, dtype=torch.long)
    terms = loss(torch.ones(1), torch.ones(2, 3), layer, structure, progress)
    assert {name: term.weight for name, term in terms.items()} == expected


def test_no_late_stage_changes_nothing_at_the_end():
    layer, structure = torch.tensor([0, 1]), torch.zeros(2, dtype=torch.long)
    loss = late_loss(energy_factor=40.0)
    assert not loss.late.exists
    assert loss(torch.ones(1), torch.ones(2, 3), layer, structure)["energy"].weight == 1.0


@pytest.mark.parametrize(
    ("late", "text"),
    [
        ({"start": 1.5}, r"task\.loss\.late\.start: got 1\.5; expected a part of the training"),
        ({"start": 0.5, "energy_factor": -1.0}, r"late\.energy_factor: got -1; expected a factor"),
        ({"start": 0.5, "layers_factor": -2.0}, r"late\.layers_factor: got -2; expected a factor"),
    ],
)
def test_impossible_late_stage_is_refused(late, text):
    with pytest.raises(ConfigError, match=text):
        late_loss(**late)


def test_gauge_free_loss_ignores_an_energy_shift_of_each_structure():
    errors = random_errors()
    loss = ElectronLoss(kind="mse", gauge_free=True, unit=1.0, balanced=False)
    shifted = errors.shifted(torch.tensor([0.7, -2.3], dtype=torch.float64))
    assert global_loss(loss(shifted)).item() == pytest.approx(
        global_loss(loss(errors)).item(), rel=1e-12
    )
    plain = ElectronLoss(kind="mse", gauge_free=False, unit=1.0, balanced=False)
    assert global_loss(plain(shifted)).item() > global_loss(plain(errors)).item()


def test_balanced_loss_is_the_sum_of_the_means_of_the_block_types():
    errors = random_errors()
    loss = ElectronLoss(kind="mse", gauge_free=False, unit=1.0, balanced=True)
    expected = sum(
        value.square().sum().item() / errors.mask[name].sum().item()
        for name, value in errors.difference.items()
    )
    assert loss.num_terms == len(loss(errors)) == 3
    assert global_loss(loss(errors)).item() == pytest.approx(expected, rel=1e-12)


def test_electron_loss_counts_only_orbitals_that_exist():
    errors = random_errors()
    term = ElectronLoss(kind="mae", gauge_free=False, unit=0.5, balanced=False)(errors)[
        "hamiltonian"
    ]
    assert term.count.item() == 20 * 4
    assert term.total.item() == pytest.approx(
        sum(value.abs().sum().item() for value in errors.difference.values()) / 0.5
    )


@pytest.mark.parametrize("find_shift", [least_squares_shift, least_absolute_shift])
def test_shift_is_recovered_when_it_is_the_whole_error(find_shift):
    errors = random_errors()
    mu = torch.tensor([0.4, -1.5], dtype=torch.float64)
    zero = {name: torch.zeros_like(value) for name, value in errors.difference.items()}
    only_shift = BlockErrors(zero, errors.overlap, errors.mask, errors.graph, 2).shifted(-mu)
    torch.testing.assert_close(find_shift(only_shift), mu)


def test_least_absolute_shift_is_the_minimiser():
    errors = random_errors()
    best = least_absolute_shift(errors)
    for structure in range(2):
        lowest = total_absolute(errors.shifted(best), structure)
        for step in (-0.3, -1e-3, 1e-3, 0.3):
            assert total_absolute(errors.shifted(best + step), structure) >= lowest


def test_sums_by_structure_do_not_depend_on_the_division_into_batches():
    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(3))
    structure = torch.arange(50) % 4
    whole, parts = StructureSums(5, 2), StructureSums(5, 2)
    whole.update(1, torch.arange(4), sum_by_structure(values, structure, 4))
    for chosen in torch.arange(50).split([7, 1, 42]):
        parts.update(1, torch.arange(4), sum_by_structure(values[chosen], structure[chosen], 4))
    torch.testing.assert_close(parts.compute(), whole.compute())
    assert whole.compute()[:, 4].abs().sum() == whole.compute()[:, :, 0].abs().sum() == 0.0
    for number in range(4):
        own = values[structure == number].double()
        found = mean_error(whole.compute()[:, number, 1])
        assert found["mae"].item() == pytest.approx(1e3 * own.abs().mean().item())
        assert found["rmse"].item() == pytest.approx(1e3 * own.square().mean().sqrt().item())


def test_padding_does_not_count():
    values, structure = torch.ones(3, 4), torch.tensor([0, 1, 1])
    sums = sum_by_structure(values, structure, 2, count=torch.tensor([2, 1, 3]))
    torch.testing.assert_close(sums[2], torch.tensor([2.0, 4.0], dtype=torch.float64))


def test_a_batch_without_edges_of_a_relation_has_no_errors_of_it():
    sums = sum_by_structure(torch.zeros(0, 4, 4), torch.zeros(0, dtype=torch.long), 2)
    assert torch.equal(sums, torch.zeros(3, 2, dtype=torch.float64))
