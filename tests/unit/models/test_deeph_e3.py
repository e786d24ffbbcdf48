"""The published DeepH-E3 network in SO(2) form against the same network path by path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from electron_models import bilayer, build_config, build_model, directed_edges, predict
from hydra.utils import instantiate
from path_network import PathNetwork

from mlepi.errors import ConfigError


@pytest.mark.parametrize("seed", [1, 2])
def test_network_equals_the_path_by_path_network(seed):
    model, atoms = build_model("deeph_e3_exact", seed=seed), bilayer(seed)
    source, target, shift, vectors = directed_edges(atoms)
    reference = PathNetwork(model.state_dict(), build_config("deeph_e3_exact"))
    with torch.no_grad():
        species = torch.tensor([model.network.elements.index(z) for z in atoms.numbers])
        blocks = reference(
            species, torch.tensor(source), torch.tensor(target), torch.tensor(vectors)
        ).numpy()
    keys = [(int(i), int(j), *map(int, r)) for i, j, r in zip(target, source, shift, strict=True)]
    raw = dict(zip(keys, blocks, strict=True))
    ours = predict(model, atoms)
    assert set(ours) == set(raw)
    for (i, j, *r), block in ours.items():
        expected = 0.5 * (raw[i, j, *r] + raw[j, i, *(-np.array(r)).tolist()].T)
        np.testing.assert_allclose(block, expected, rtol=0, atol=1e-10)
    assert max(np.abs(block).max() for block in ours.values()) > 0.1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_layers": 0}, "num_layers 0"),
        ({"channels": [4]}, r"channels \[4\]"),
        ({"pseudo_channels": [0] * 6}, "pseudo_channels"),
        ({"l_max_out": 5}, "l_max_out 5"),
        ({"norm": "batch"}, "model.norm: got 'batch'"),
    ],
)
def test_impossible_settings_are_refused(changes, text):
    config = build_config("deeph_e3")
    config["network"]["backbone"].update(changes)
    with pytest.raises(Exception, match=text) as error:
        instantiate(config, _convert_="all")
    assert isinstance(error.value.__cause__ or error.value, ConfigError)


def test_a_training_set_without_interlayer_edges_is_no_obstacle():
    """Nothing divides by the mean number of neighbours of a relation that has none."""
    config = build_config("hedgenet_late")
    config["network"]["backbone"]["mean_neighbours"] = {"intra": 3.0, "inter": 0.0}
    blocks = predict(instantiate(config, _convert_="all").double(), bilayer()[:2])
    assert all(np.isfinite(block).all() for block in blocks.values())


def test_messages_decay_with_distance():
    """With a very short decay no message arrives: an on-site block does not see its neighbours."""
    models = {}
    for decay in (None, 1e-3):
        config = build_config("hedgenet_late")
        config["baseline"], config["network"]["backbone"]["message_decay"] = "none", decay
        torch.manual_seed(1)
        models[decay] = instantiate(config, _convert_="all").double()
    moved = bilayer()
    moved.positions[1] += 0.3
    change = {
        decay: np.abs(
            predict(model, moved)[0, 0, 0, 0, 0] - predict(model, bilayer())[0, 0, 0, 0, 0]
        ).max()
        for decay, model in models.items()
    }
    assert change[None] > 1e-3
    assert change[1e-3] < 1e-12
