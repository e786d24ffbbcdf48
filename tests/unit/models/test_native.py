"""Energies and forces by the kernels in C++ are those of torch; what they cannot do, torch does."""

from __future__ import annotations

import copy
import logging
import pickle
import shutil

import numpy as np
import pytest
import torch
from ase import Atoms
from e3nn import o3
from hydra.utils import instantiate
from tiny_networks import CUTOFFS, PHONON, corrugated_bilayer

from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.graphs.neighbours import MINIMUM_DISTANCE
from mlepi.kernels import library
from mlepi.models.compilation import first_derivatives_alone
from mlepi.models.native.network import NativeLayers
from mlepi.models.native.sums import NeighbourSums, harmonic_recursion
from mlepi.predictors import PhononPredictor

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler"
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Build into a folder of the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        library.load_library.cache_clear()
        yield folder
        library.load_library.cache_clear()


@pytest.fixture
def calls(monkeypatch):
    """Count the sums over neighbours in C++."""
    found = []
    summed = NeighbourSums.__call__

    def counted(self, *arguments):
        found.append(self)
        return summed(self, *arguments)

    monkeypatch.setattr(NeighbourSums, "__call__", counted)
    return found


def build(relations=None, fusion="late", **changes):
    """Return a network by torch and the same by C++, both with tables, in double precision."""
    config = copy.deepcopy(PHONON)
    config["network"]["fusion"] = fusion
    if relations is not None:
        config["network"]["relations"] = relations
    config["network"]["backbone"] |= changes
    torch.manual_seed(1)
    plain = instantiate(config, _convert_="all").double().eval().requires_grad_(False)
    plain.tabulate_radial()
    native = copy.deepcopy(plain)
    for backbone in native.network.backbones.values():
        backbone.native = NativeLayers(asked=True)  # without torch's compiler for the rest
    return plain, native


def graph_of(atoms, dtype=torch.float64):
    return build_graph(atoms, CUTOFFS, dtype=dtype)


def assert_alike(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance * scale)


VARIANTS = {
    "hedgenet": {"fusion": "per_layer"},
    "hedgenet, summed at the end": {},
    "one network": {"relations": {"all": ["intra", "inter"]}, "relation_feature": True},
    "published": {"num_features": 17, "l_max": 3, "correlation": 3},
    "deep": {"num_layers": 3, "l_max_hidden": 2, "first_self_connection": "message"},
}


@needs_compiler
@pytest.mark.parametrize("name", VARIANTS)
def test_energies_forces_and_stress(name, calls):
    plain, native = build(**VARIANTS[name])
    graph = graph_of(corrugated_bilayer())
    expected = plain(graph, compute_stress=True)
    assert not calls
    assert_alike(native(graph, compute_stress=True), expected, 1e-12)
    assert calls
    with torch.no_grad():
        energy = native(graph, compute_forces=False)["energy"]
    torch.testing.assert_close(energy, expected["energy"], rtol=1e-13, atol=0)


@needs_compiler
def test_float32_threads_and_changed_weights(calls):
    graphs = [graph_of(corrugated_bilayer(), dtype) for dtype in (torch.float64, torch.float32)]
    plain, native = build(**VARIANTS["published"])
    exact = plain(graphs[0])
    single = copy.deepcopy(native).float()
    first = single(graphs[1])
    assert_alike({name: value.double() for name, value in first.items()}, exact, 1e-5)
    torch.set_num_threads(3)
    try:
        assert_alike(native(graphs[0]), exact, 1e-12)
    finally:
        torch.set_num_threads(1)
    assert len({sums.dtype for sums in calls}) == 2
    for network in (plain, native):
        with torch.no_grad():
            for backbone in network.network.backbones.values():
                for weight in backbone.contractions[0].weights.values():
                    weight.mul_(1.5)
                backbone.linears[0].weight.mul_(0.7)
                backbone.interactions[1].mixing[1].mul_(1.2)
    changed = plain(graphs[0])
    assert not torch.allclose(changed["forces"], exact["forces"], rtol=1e-2)
    assert_alike(native(graphs[0]), changed, 1e-12)


@needs_compiler
def test_second_derivatives_and_training_are_those_of_torch(calls):
    atoms = corrugated_bilayer()
    plain, native = build()
    rows = [
        PhononPredictor(network, elements=[6, 7], cutoffs=CUTOFFS).hessian_rows(atoms, [0, 3])
        for network in (plain, native)
    ]
    np.testing.assert_allclose(*rows, rtol=0, atol=1e-10 * np.abs(rows[0]).max())
    graph = graph_of(atoms)
    energies = [network.train()(graph)["energy"].detach() for network in (plain, native)]
    torch.testing.assert_close(*energies, rtol=1e-12, atol=0)
    native.eval()(graph, compute_forces=False)  # may be differentiated twice
    assert not calls
    positions = graph[fields.ATOM][fields.POSITIONS].clone().requires_grad_(True)
    with first_derivatives_alone():
        energy = native.energy(graph, positions).sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@needs_compiler
@pytest.mark.parametrize("factor", [1.01, 0.99])
def test_shorter_distances_ask_the_network(factor, calls):
    atoms = Atoms("C3", [[0, 0, 0], [0.9, 0, 0], [2.0, 0, 0]], cell=[20.0] * 3, pbc=True)
    atoms.arrays["layer"] = np.zeros(3, dtype=int)
    graph = graph_of(atoms)
    graph[fields.ATOM][fields.POSITIONS][1, 0] = factor * MINIMUM_DISTANCE  # no structure has that
    plain, native = build()
    assert_alike(native(graph), plain(graph), 1e-12)
    assert bool(calls) is (factor > 1.0)


@needs_compiler
def test_copies_pickles_and_an_atom_alone(calls):
    _, native = build()
    graph = graph_of(corrugated_bilayer())
    expected = native(graph)
    layers = next(iter(native.network.backbones.values())).native
    copied, restored = copy.deepcopy(native), pickle.loads(pickle.dumps(layers))  # noqa: S301
    assert restored.asked
    assert not restored.sums
    del native
    assert_alike(copied(graph), expected, 0.0)
    alone = Atoms("C", cell=[20.0] * 3, pbc=True)
    alone.arrays["layer"] = np.zeros(1, dtype=int)
    assert float(copied(graph_of(alone))["energy"]) == -150.0


@needs_compiler
def test_code_is_built_once_and_said_so(caplog, cache, monkeypatch):
    monkeypatch.setattr(library, "FLAGS", ("-O0", *library.FLAGS[1:]))
    library.load_library.cache_clear()
    with caplog.at_level(logging.INFO):
        library.load_library(torch.float64)
        library.load_library.cache_clear()
        library.load_library(torch.float64)
    library.load_library.cache_clear()
    (text,) = [record.getMessage() for record in caplog.records]
    assert text.startswith("built the kernels of MACE in C++ in ")
    assert str(cache / "mlepi") in text


def test_compiling_asks_for_the_kernels():
    plain, _ = build()
    asked = []
    for backend in (None, "eager", "inductor"):
        if backend is not None:
            plain.compile_kernels(backend)
        asked.append([backbone.native.asked for backbone in plain.network.backbones.values()])
    assert asked == [[False] * 2, [False] * 2, [True] * 2]


def test_without_a_compiler_torch_runs_and_a_warning_says_why(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(NativeLayers, "reported", set())
    library.load_library.cache_clear()
    plain, native = build()
    graph = graph_of(corrugated_bilayer())
    text = (
        r"compile \(energies and forces of MACE\): got no compiled code, FileNotFoundError: no "
        r"C\+\+ compiler no-such-compiler; expected a C\+\+ compiler, .* set compile: false"
    )
    with pytest.warns(RuntimeWarning, match=text) as warned:
        found = [native(graph), native(graph)]
    assert len([entry for entry in warned if "no-such-compiler" in str(entry.message)]) == 1
    for result in found:
        assert_alike(result, plain(graph), 1e-12)


@needs_compiler
def test_errors_of_the_compiler_are_told(monkeypatch):
    monkeypatch.setattr(library, "FLAGS", ("--no-such-flag",))
    library.load_library.cache_clear()
    with pytest.raises(OSError, match="no-such-flag"):
        library.load_library(torch.float64)


@pytest.mark.parametrize("l_max", [0, 1, 4])
def test_recursion_of_the_harmonics(l_max):
    vectors = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1)
    expected = o3.spherical_harmonics(
        list(range(l_max + 1)), vectors, normalize=True, normalization="component"
    )
    found = torch.zeros_like(expected)
    found[:, 0] = 1.0
    if l_max > 0:
        found[:, 1:4] = 3**0.5 * vectors
    for (a, b, c), factor in zip(*harmonic_recursion(l_max), strict=True):
        found[:, a] += factor * found[:, b] * found[:, c]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
