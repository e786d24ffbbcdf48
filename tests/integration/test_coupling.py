"""Derivatives of the shipped network against differences of DFT Hamiltonians, and the tables."""

import json
from pathlib import Path

import coupling
import numpy as np
import pytest
from shipped_data import shipped_labels

from mlepi.checkpoint import load_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def predictor():
    return load_model(ROOT / "data" / "checkpoints" / "hedgenet_electron.ckpt", kind="electron")


@pytest.fixture(scope="module")
def data(predictor):
    return coupling.read_slides(predictor)


def test_pairs_differ_by_a_rigid_displacement(data):
    pairs = coupling.find_pairs(data)
    kinds = [kind for _, _, kind in pairs]
    # 6 stackings × 3 intervals; 3 neighbours × 4 spacings
    assert (kinds.count("spacing"), kinds.count("slide")) == (18, 12)
    for first, second, kind in pairs:
        step = coupling.displacement(first.atoms, second.atoms)
        assert 0.05 < np.linalg.norm(step) < 0.5
        assert (abs(step[2]) > 0.05) == (kind == "spacing")
    random = shipped_labels("random3_0000", "random3_0001")
    assert np.isnan(coupling.displacement(random[0].atoms, random[1].atoms)).all()


def test_the_derivative_between_layers_is_that_of_dft(data, predictor):
    """AB at 3.10 and 3.25 Å, neither of which the network was trained on.

    The mean derivative over the interval is a difference of Hamiltonians, so its error is at most
    the sum of their two errors over the displacement: known from the blocks themselves. A network
    whose derivatives were noise would not stay below a tenth of the derivative of DFT.
    """
    named = {labels.name: labels for labels in data}
    first, second = (named[f"slide_+0.000_+0.000_{d}"] for d in ("3.10", "3.25"))
    pair, elements = coupling.compare_pair(predictor, first, second, "spacing", 0)
    assert pair.length == pytest.approx(0.15)
    inter = pair.parts["inter"]
    assert inter["dft"] > 0.1  # eV/Å: not a small quantity
    assert inter["gauge_free_error"] < 0.1 * inter["dft"]
    assert inter["correlation"] > 0.99
    errors = []
    for labels in (first, second):
        matrix, _ = coupling.block_matrices(labels)
        predicted = predictor.hamiltonian(labels.atoms, dtype="float64")
        edges, (difference, _) = coupling.combine(
            [(1.0, predicted), (-1.0, matrix)], [(1.0, matrix)]
        )
        layer = labels.atoms.arrays["layer"]
        errors.append(np.linalg.norm(difference[layer[edges[:, 0]] != layer[edges[:, 1]]]))
    n_elements = elements["inter"].shape[1]
    bound = sum(errors) / pair.length / np.sqrt(n_elements)
    # 1 %: the error of the quadrature, and blocks beyond one of the two edge lists
    assert inter["error"] <= 1.01 * bound


def test_tables_hold_the_numbers_of_the_results():
    results = json.loads(
        (ROOT / "benchmarks" / "results" / "coupling.json").read_text(encoding="utf-8")
    )
    text = (ROOT / "benchmarks" / "results" / "coupling.md").read_text(encoding="utf-8")
    assert coupling.write_markdown(results) == text
    pairs = [coupling.Pair(**pair) for pair in results["pairs"]]
    found = coupling.summarise(pairs)
    assert found.keys() == results["summary"].keys()
    for name, summary in found.items():
        assert summary == pytest.approx(results["summary"][name], rel=1e-9)
