"""The phonon network with compiled kernels gives the same numbers.

Energies, forces and gradients of a training loss.
"""

from __future__ import annotations

import copy

import pytest
import torch
from hydra.utils import instantiate
from tiny_networks import CUTOFFS, build_config, corrugated_bilayer

from mlepi.graphs.build import build_graph


def evaluate(network, graph):
    """Return predictions, and the gradient of a loss on them in the parameters, flattened."""
    predicted = network.eval()(graph)
    network.train().zero_grad()
    trained = network(graph)
    (trained["energy"].square().sum() * 1e-6 + trained["forces"].square().sum()).backward()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.numel()])
    return [predicted["energy"], predicted["forces"].detach(), gradient]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["MACE", "DeepHE3"])
def test_compiled_kernels_change_no_result(backbone):
    config = build_config("phonon")
    config["network"]["relations"] = {"all": ["intra", "inter"]}
    if backbone == "DeepHE3":
        other = build_config("electron")["network"]["backbone"]
        other |= {"channels": [3, 2], "pseudo_channels": [], "l_max_out": 0, "norm": "none"}
        config["network"]["backbone"] = other
    config["network"]["backbone"]["l_max"] = 1
    torch.manual_seed(4)
    plain = instantiate(config, _convert_="all").double()
    compiled = copy.deepcopy(plain)
    compiled.compile_kernels(backend="eager")
    assert list(compiled.state_dict()) == list(plain.state_dict())
    graph = build_graph(corrugated_bilayer(), CUTOFFS, dtype=torch.float64)
    expected = evaluate(plain, graph)
    for network in (compiled, copy.deepcopy(compiled)):
        for found, reference in zip(evaluate(network, graph), expected, strict=True):
            torch.testing.assert_close(
                found, reference, rtol=0, atol=1e-12 * float(reference.abs().max())
            )
