"""Weights of elements and of pairs of elements that a checkpoint knows."""

import pytest
import torch
from torch import nn

from mlepi.errors import ConfigError
from mlepi.training.initial_weights import _add_element, _copy, freeze_parts


def test_values_of_known_elements_are_taken_over():
    source, target = torch.arange(6.0).reshape(3, 2), -torch.ones(2, 2)
    assert _copy(source, target, (3, 2), [1, 6, 8], [6, 7])
    torch.testing.assert_close(target, torch.tensor([[2.0, 3.0], [-1.0, -1.0]]))


def test_values_of_known_pairs_are_taken_over():
    """The pair (i, j) stands at i·n + j, on whichever axis pairs are."""
    source = torch.arange(4.0).reshape(1, 4)  # pairs of 5 and 7
    target = -torch.ones(1, 9)
    assert _copy(source, target, (1, 16), [5, 7], [5, 6, 7])
    assert target[0].tolist() == [0.0, -1.0, 1.0, -1.0, -1.0, -1.0, 2.0, -1.0, 3.0]
    one = -torch.ones(1, 3)
    assert _copy(torch.ones(4, 3), one, (4, 3), [6, 8], [6])
    assert one.tolist() == [[1.0, 1.0, 1.0]]


def test_what_knows_no_elements_is_copied_if_its_shape_is_right():
    target = torch.zeros(2, 3)
    assert _copy(torch.ones(2, 3), target, (2, 3), [6], [29])
    assert target.min() == 1.0
    assert not _copy(torch.ones(2, 4), target, (2, 3), [6], [6])
    assert not _copy(torch.ones(1, 4), torch.zeros(2, 3), (3, 3), [6], [6, 7])


def test_the_probe_knows_one_element_more():
    config = {"network": {"elements": [1, 6]}, "atomic_energies": [-1.0, -2.0]}
    longer = _add_element(config, [1, 6])
    assert longer == {"network": {"elements": [1, 6, 2]}, "atomic_energies": [-1.0, -2.0, -2.0]}
    basis = {"basis": {"shells": {"6": [0, 1]}, "radii": {"6": 3.0}, "names": {"6": "C"}}}
    assert _add_element(basis, [6])["basis"]["shells"] == {"6": [0, 1], "1": [0, 1]}


def test_parts_are_frozen_by_name_and_pattern():
    network = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    freeze_parts(network, ["body", "*.bias"])
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained == ["head.weight"]
    with pytest.raises(ConfigError, match=r"freeze: got 'boddy'; expected a part .*'body'"):
        freeze_parts(network, ["boddy"])
    with pytest.raises(ConfigError, match="which is everything"):
        freeze_parts(network, ["head"])
