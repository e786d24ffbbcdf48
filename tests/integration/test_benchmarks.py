"""The speed benchmark.

Its peer is right, its rows have the promised form, both sides run in turn, mistakes are named.
"""

import importlib.util
import io
import itertools
import json
import re
from pathlib import Path

import ghosts
import kernel_floors
import label_seconds
import numpy as np
import processes
import pytest
import speed
import speed_figures
import speed_results
import speed_settings
import torch
from e3nn import o3
from e3nn_oracle import double_precision, wigner_d
from electron_models import build_config, build_model
from workers.client import Worker, WorkerError, measure_in_turn
from workers.protocol import Job, Measurement

from mlepi.errors import ConfigError, DataError
from mlepi.pipeline.progress import ProgressReport
from mlepi.structures.basis import OrbitalBasis

ROOT = Path(__file__).parents[2]


def load_script(path):
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peer = load_script(ROOT / "benchmarks" / "path_network.py")
oracle = load_script(ROOT / "tests" / "references" / "path_network.py")

ELECTRON = {
    "channels": [4, 3, 2],
    "pseudo_channels": [0, 2],
    "l_max": 2,
    "num_radial": 8,
    "radial_hidden": [8],
    "num_layers": 1,
}
PHONON = {"num_features": 4, "l_max": 2, "l_max_hidden": 1, "radial_widths": [8]}
SIZES = {
    "published": {"electron": ELECTRON, "phonon": PHONON},
    "small": {"electron": ELECTRON, "phonon": PHONON},
}
CHANNELS = [4, 3, 2, 2, 2]


def build_peer(**changes):
    torch.manual_seed(3)
    sizes = {
        "n_elements": 1,
        "shells": (0, 0, 1, 1),
        "channels": CHANNELS,
        "embedding_channels": 4,
        "l_max": 4,
    }
    sizes |= {"num_layers": 2, "num_radial": 8, "radial_hidden": [8], "cutoff": 4.2}
    with double_precision():
        return peer.PathNetwork(**{**sizes, **changes})


def some_edges():
    """All pairs of four points, and every point with itself.

    Species, source, target, vectors (Å).
    """
    positions = torch.randn(4, 3, dtype=torch.float64)
    pairs = [(i, j) for i, j in itertools.product(range(4), repeat=2) if i != j] + [
        (i, i) for i in range(4)
    ]
    target, source = torch.tensor(pairs).T
    return torch.zeros(4, dtype=torch.long), source, target, positions[source] - positions[target]


@pytest.mark.parametrize("determinant", [1, -1])
def test_blocks_of_the_peer_turn_with_the_structure(determinant):
    network, (species, source, target, vectors) = build_peer(), some_edges()
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    rotation *= determinant * np.sign(np.linalg.det(rotation))
    turned = vectors @ torch.tensor(rotation.T)
    scalar, vector = np.eye(1), wigner_d(1, rotation)
    orbitals = np.zeros((8, 8))
    for start, part in ((0, scalar), (1, scalar), (2, vector), (5, vector)):
        orbitals[start : start + len(part), start : start + len(part)] = part
    with torch.no_grad():
        before = network(species, source, target, vectors).numpy()
        after = network(species, source, target, turned).numpy()
    np.testing.assert_allclose(after, orbitals @ before @ orbitals.T, rtol=0, atol=1e-11)
    assert np.abs(before).max() > 0.1
    assert np.abs(before - after).max() > 0.1


def copy_weights(weights, network, config):
    """Give the peer the weights of an ``ElectronNetwork`` of one element.

    Only normalisation constants differ.
    """
    backbone, readout = (
        oracle.select(weights, f"{part}.all.") for part in ("network.backbones", "readouts")
    )
    scale = np.sqrt(config["num_radial"] / np.sqrt(np.pi))  # of the length expansion

    def flat(table, prefix):
        return torch.cat([weight[0].flatten() for weight in oracle.sequence(table, prefix)])

    def copy_update(update, table, node, edge, pseudo):
        convolution = oracle.select(table, "convolution.")
        exact = oracle.Convolution(
            convolution, node, edge, config["channels"], pseudo, config["l_max"]
        )
        update.convolution.product.weight.copy_(exact.weights)
        for k, layer in enumerate(update.convolution.radial_network):
            layer.weight.copy_(
                convolution[f"radial_network.layers.{k}.weight"].T * (scale if k == 0 else 1.0)
            )
        extra = torch.eye(pseudo[1] if pseudo else 0, dtype=torch.float64).flatten()
        for name in ("before", "after", "self_connection", "skip"):
            module = getattr(update, name)
            if module is not None:
                weights = [weight[0] for weight in oracle.sequence(table, f"{name}.weights.")]
                # the identity, as a map
                weights = weights or [torch.eye(n, dtype=torch.float64) * np.sqrt(n) for n in edge]
                linear = torch.cat([weight.flatten() for weight in weights])
                module.weight.copy_(
                    torch.cat([linear, extra * np.sqrt(len(extra)) ** 0.5])
                    if name == "after"
                    else linear
                )
        for name in ("before", "after"):
            getattr(update, name).bias.copy_(table[f"{name}.bias"][0])
        for own, weight in zip(
            update.norm.weights, oracle.sequence(table, "norm.weights."), strict=False
        ):
            own.copy_(weight)
        update.norm.biases[0].copy_(table["norm.bias"])

    with torch.no_grad():
        network.node_embedding.weight.copy_(backbone["node_embedding.weight"].T)
        network.edge_embedding.weight.copy_(backbone["edge_embedding.weight"] * scale)
        network.edge_embedding.bias.copy_(backbone["edge_embedding.bias"])
        node = edge = [config["embedding_channels"]]
        for layer in range(config["num_layers"]):
            last = layer + 1 == config["num_layers"]
            copy_update(
                network.node_updates[layer],
                oracle.select(backbone, f"node_updates.{layer}."),
                node,
                edge,
                [],
            )
            node = config["channels"]
            table = (
                oracle.select(readout, "update.")
                if last
                else oracle.select(backbone, f"edge_updates.{layer}.")
            )
            copy_update(
                network.edge_updates[layer],
                table,
                node,
                edge,
                config["pseudo_channels"] if last else [],
            )
            edge = config["channels"]
        network.readout.weight.copy_(
            torch.cat([flat(readout, "natural.weights."), flat(readout, "pseudo.weights.")])
        )
        network.readout.bias.copy_(readout["natural.bias"][0])


def test_peer_computes_the_published_equations():
    """Equal to the oracle of the package's own network but for the unnatural part of p–p blocks.

    There the publication has a linear map and a norm more.
    """
    options = {"basis": OrbitalBasis({6: (0, 0, 1, 1)}, {6: 2.1}, {6: "C-s2p2"}), "pseudo": "[0,2]"}
    config = build_config("deeph_e3_exact", **options)
    model = build_model("deeph_e3_exact", **options)
    sizes = config["network"]["backbone"]
    last = peer.natural_irreps(CHANNELS) + o3.Irreps("2x1e")
    network = build_peer(num_layers=sizes["num_layers"], last_irreps=last)
    copy_weights(model.state_dict(), network, sizes)
    with torch.no_grad():
        edges = some_edges()
        expected = oracle.PathNetwork(model.state_dict(), config)(*edges).numpy()
        found = network(*edges).numpy()
    np.testing.assert_allclose(found[:, :2], expected[:, :2], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found[:, :, :2], expected[:, :, :2], rtol=0, atol=1e-10)
    for a, b in itertools.product((slice(2, 5), slice(5, 8)), repeat=2):
        symmetric = [
            block[:, a, b] + block[:, a, b].transpose(0, 2, 1) for block in (found, expected)
        ]
        np.testing.assert_allclose(*symmetric, rtol=0, atol=1e-10)
    assert np.abs(expected).max() > 0.1


@pytest.fixture
def settings(tmp_path):
    def make(**changes):
        options = {
            "sizes": SIZES,
            "peers_python": tmp_path / "absent",
            "folder": tmp_path / "results",
            "rounds": 1,
        }
        return speed_settings.Settings(
            **{**options, "works": ("electron_train_step",), "atoms": (4,), **changes}
        )

    return make


@pytest.mark.slow
def test_both_sides_run_in_turn_and_write_what_was_promised(settings, tmp_path):
    chosen = settings()
    details = speed.Benchmark(chosen, "python speed.py").run()
    latest = json.loads((chosen.folder / "latest.json").read_text())
    assert [tuple(entry) for entry in latest] == [speed_results.KEYS]
    (entry,) = latest
    assert entry["work"] == "electron_train_step"
    assert (entry["n_atoms"], entry["dtype"], entry["threads"]) == (4, "float32", 1)
    assert entry["peer"].startswith("path by path, e3nn")
    # one round
    assert entry["ratio"] == pytest.approx(entry["peer_seconds"] / entry["ours_seconds"])
    assert min(entry["ours_peak_mb"], entry["peer_peak_mb"], entry["ratio"]) > 0.0
    (row,) = json.loads((chosen.folder / "details.json").read_text())["rows"]
    # an edge from every atom to itself
    assert row["sides"]["peer"]["n_edges"] == row["sides"]["ours"]["n_edges"] + 4
    assert details["notes"] == []
    tables = (chosen.folder / "latest.md").read_text()
    assert "| training step, electrons | 4 | 1 |" in tables
    assert not [path for path in chosen.folder.iterdir() if path.suffix == ".part"]
    again = speed.Benchmark(
        chosen, "python speed.py", speed_results.read_details(chosen.folder / "details.json")
    ).run()
    assert again["rows"] == details["rows"]  # nothing is measured twice


class FakeWorker:
    """Answers at once; "ours" cannot prepare HedgeNet."""

    def __init__(self, name, threads, python):
        self.name = name

    def ask(self, command, **request):
        if command == "prepare":
            if request["model"] == "hedgenet_electron" and self.name == "ours":
                raise WorkerError("at least one layer")
            return {"n_edges": 8, "warmup_seconds": [0.1, 0.1], "name": "a peer"}
        return {
            "run": {"wall": 2.0, "cpu": 1.0},
            "memory": {"peak_mb": 5.0, "run_mb": 4.0},
            "check": {},
        }[command]

    def close(self):
        pass


def test_a_side_that_fails_is_left_out_with_its_reason(settings, monkeypatch):
    monkeypatch.setattr(speed, "Worker", FakeWorker)
    chosen = settings(atoms=(16, 4), hedgenet_atoms=(4, 16), compiled_atoms=(16,), rounds=2)
    details = speed.Benchmark(chosen, "python speed.py").run()
    found = [
        (row["comparison"], row["n_atoms"], tuple(sorted(row["sides"]))) for row in details["rows"]
    ]
    expected = [("peer", 4, ("ours", "peer")), ("peer", 16, ("compiled", "ours", "peer"))]
    assert found == [*expected, ("hedgenet", 4, ("backbone",)), ("hedgenet", 16, ("backbone",))]
    assert details["notes"] == [
        "training step, electrons, HedgeNet against its backbone, 4 atoms, 1 thread: hedgenet "
        "left out from here on. "
        "at least one layer"
    ]
    assert len(json.loads((chosen.folder / "latest.json").read_text())) == 2


def test_a_side_too_large_or_too_slow_is_left_out_beforehand(settings):
    benchmark = speed.Benchmark(settings(patience=10.0, memory_mb=100.0), "")
    key = {"work": "hamiltonian", "comparison": "peer", "threads": 1, "n_atoms": 128}
    sides = {
        "peer": speed.Side("path_peer", {}, history=[(64, 1.0, 40.0)]),
        "ours": speed.Side("ours", {}, history=[(64, 1.0, 20.0)]),
    }
    assert benchmark._affordable(key, sides) == ["ours"]
    sides["peer"].history = [(64, 1.0, 25.0)]
    assert benchmark._affordable(key, sides) == ["ours", "peer"]
    sides["peer"].history = [(64, 6.0, 1.0)]
    assert benchmark._affordable(key, sides) == ["ours"]
    assert "peer left out, about 12.0 s and 2.00 MB expected" in benchmark.details["notes"][-1]


def test_mistakes_on_the_command_line_are_named(settings):
    with pytest.raises(ConfigError, match=r"--works: got bands; expected some of energy_forces"):
        speed.Benchmark(settings(works=("bands",)), "")
    with pytest.raises(
        ConfigError, match=r"--peers: got no interpreter .*absent; .* `make bench` makes it"
    ):
        speed.Benchmark(settings(works=("energy_forces",)), "")
    with pytest.raises(ConfigError, match=r"--atoms: got 65; expected 4n²"):
        speed_settings.build_structure(65)
    with pytest.raises(DataError, match="the details of an earlier run"):
        speed_results.read_details(Path("nowhere.json"))
    with pytest.raises(DataError, match=r"got no \.npz files"):
        label_seconds.collect_seconds(ROOT / "tests" / "integration")
    with pytest.raises(WorkerError, match="no interpreter nowhere"):
        Worker("mace_peer", 1, "nowhere")
    with (
        Worker("absent", 1) as worker,
        pytest.raises(WorkerError, match=r"status 1: .*No module named workers\.absent"),
    ):
        worker.ask("run")
    with (
        Worker("machine", 1) as worker,
        pytest.raises(WorkerError, match="worker machine, dance: got KeyError: 'dance'"),
    ):
        worker.ask("dance")


def test_command_line_knows_the_quick_run():
    quick, resume = speed_settings.parse(["--quick"])
    assert (quick.atoms, quick.threads, quick.works) == ((64,), (1,), tuple(speed_results.LABELS))
    assert not any([quick.large, quick.floors, quick.hedgenet_atoms, quick.compiled_atoms, resume])
    full, resume = speed_settings.parse(["--resume", "--memory", "2"])
    assert (full.atoms, full.threads, full.memory_mb) == (speed_settings.ATOMS, (1, 2), 2048.0)
    assert full.large
    assert full.floors
    assert resume
    assert quick.sizes["published"]["electron"]["channels"] == [64, 32, 16, 8, 8]


def test_rows_that_are_not_measured_again_stay():
    quick, _ = speed_settings.parse(["--quick", "--works", "hamiltonian"])
    row = {"work": "hamiltonian", "threads": 1, "n_atoms": 64}
    assert quick.covers(row)
    for change in ({"work": "energy_forces"}, {"threads": 2}, {"n_atoms": 11164}):
        assert not quick.covers({**row, **change})
    full, _ = speed_settings.parse([])
    assert full.covers({**row, "n_atoms": 11164})


@pytest.mark.parametrize("n_atoms", [16, 64, 28, 11164])
def test_structures_have_the_size_asked_for(n_atoms):
    atoms = speed_settings.build_structure(n_atoms)
    assert len(atoms) == n_atoms
    np.testing.assert_array_equal(
        atoms.positions, speed_settings.build_structure(n_atoms).positions
    )
    assert set(atoms.arrays["layer"]) == {0, 1}


class Sleeper(Job):
    def prepare(self, request):
        return {"n_edges": 0}

    def run(self):
        self.kept = np.ones(8 * 2**20)


def test_measurement_counts_runs_and_memory():
    measurement = Measurement(Sleeper())
    facts = measurement.prepare({"warmup": 3})
    assert len(facts["warmup_seconds"]) == 3
    assert set(measurement.run()) == {"wall", "cpu"}
    memory = measurement.memory()
    if memory["peak_mb"] is not None:
        assert 60.0 < memory["peak_mb"] < 400.0  # 64 MB, twice while the old one is replaced


def test_rounds_alternate():
    class Recorder:
        def __init__(self, name):
            self.name = name

        def ask(self, command):
            calls.append((self.name, command))
            return (
                {"wall": 1.0, "cpu": 1.0} if command == "run" else {"peak_mb": 1.0, "run_mb": 1.0}
            )

    calls = []
    measure_in_turn({"a": Recorder("a"), "b": Recorder("b")}, 2)
    assert calls == [*[("a", "run"), ("b", "run")] * 2, ("a", "memory"), ("b", "memory")]


def make_row(n_atoms, **changes):
    sides = {
        "ours": {"seconds": 1e-3 * n_atoms, "peak_mb": 2.0 * n_atoms**1.5},
        "peer": {"seconds": 4e-3 * n_atoms**1.2, "peak_mb": 5.0 * n_atoms},
    }
    row = {
        "work": "hamiltonian",
        "comparison": "peer",
        "size": "published",
        "dtype": "float32",
        "threads": 1,
        "n_atoms": n_atoms,
    }
    return {
        **row,
        "peer": "path by path",
        "sides": sides,
        "ratios": {"ours": 4.0},
        "commit": "abc",
        **changes,
    }


def test_ratio_is_the_median_of_the_rounds():
    samples = {
        "ours": {"wall": [1.0, 2.0, 3.0], "cpu": [1.0, 1.0, 1.0], "peak_mb": 1.0, "run_mb": 1.0},
        "peer": {"wall": [3.0, 8.0, 6.0], "cpu": [2.0, 2.0, 5.0], "peak_mb": 2.0, "run_mb": 1.0},
    }
    sides, ratios = speed_results.summarise_sides(samples, "wall", "peer")
    assert ratios == {"ours": 3.0}
    assert (sides["ours"]["seconds"], sides["peer"]["seconds"], sides["peer"]["cpu_seconds"]) == (
        2.0,
        6.0,
        2.0,
    )
    assert speed_results.choose_clock(1, "cpu") == "cpu"
    assert speed_results.choose_clock(2, "cpu") == speed_results.choose_clock(1, "cuda") == "wall"


def test_growth_is_fitted_between_the_stated_sizes():
    rows = [make_row(n) for n in (16, 64, 256, 1024)]
    rows[0]["sides"]["ours"]["seconds"] = 1e3  # too small a structure to count
    ours, other = speed_results.fit_growth(rows)
    assert ours["seconds"] == pytest.approx(1.0)
    assert ours["peak_mb"] == pytest.approx(1.5)
    assert other["seconds"] == pytest.approx(1.2)
    assert ours["n_atoms"] == [64, 256, 1024]
    assert speed_results.fit_growth(rows[:3]) == []


def test_latest_holds_only_rows_with_both_sides():
    alone = make_row(
        11164, size="small", sides={"ours": {"seconds": 1.0, "peak_mb": 1.0}}, ratios={}
    )
    backbone = make_row(64, comparison="hedgenet")
    latest = speed_results.make_latest([make_row(64), alone, backbone])
    assert [tuple(entry) for entry in latest] == [speed_results.KEYS]
    assert latest[0]["ratio"] == 4.0


def test_figures_are_drawn(tmp_path):
    rows = [make_row(n) for n in (64, 144)]
    labels = ROOT / "benchmarks" / "label_seconds.json"
    for path in (
        speed_figures.plot_growth(rows, "seconds", tmp_path),
        speed_figures.plot_growth([], "peak_mb", tmp_path),
        speed_figures.plot_labels(rows, labels, tmp_path),
    ):
        assert path.stat().st_size > 1000


def test_label_seconds_come_from_the_labels(tmp_path):
    np.savez(tmp_path / "one.npz", numbers=[6, 6], kgrid=[3, 3, 1], scf_steps=12, seconds=17.128)
    found = label_seconds.collect_seconds(tmp_path)
    assert json.loads(label_seconds.format_lines(found)) == found
    (entry,) = found["structures"]
    assert entry == {
        "name": "one",
        "n_atoms": 2,
        "kgrid": [3, 3, 1],
        "scf_steps": 12,
        "seconds": 17.13,
    }


def test_floors_count_what_the_kernels_need():
    size = speed_settings.read_sizes()["published"]
    channels = size["electron"]["channels"]
    pair, outputs = [2 * count for count in channels], [128, 32, 16, 8, 8]
    products = kernel_floors.so2_operations(pair, outputs) + kernel_floors.so2_operations(
        channels, outputs
    )
    assert products == 2 * (384 * 192 + 2 * (192 * 64 + 96 * 32 + 48 * 16 + 24 * 8))
    assert kernel_floors.rotation_operations([5, 2, 1]) == 2 * (9 * 2 + 25)
    assert kernel_floors.linear_operations([2, 3], [4, 5, 6]) == 2 * (2 * 4 + 3 * 3 * 5)
    assert kernel_floors.count_monomials(0, 0, 3) == (2, 3)  # x + x² + x³
    per_edge = [
        kernel_floors.count_electron_update(64, n, size["electron"], True).operations
        for n in (1000, 2000, 3000)
    ]
    assert per_edge[2] - per_edge[1] == per_edge[1] - per_edge[0] > products * 1000
    messages = kernel_floors.count_mace_interaction(64, 2852, size["phonon"], 1)
    found = kernel_floors.compare(
        messages, 0.5, {"gflop_per_second": 100.0, "gbyte_per_second": 10.0}
    )
    assert found["fraction"] == pytest.approx(found["floor_seconds"] / 0.5)
    assert (
        kernel_floors.compare(messages, None, {"gflop_per_second": 1.0, "gbyte_per_second": 1.0})[
            "fraction"
        ]
        is None
    )
    assert kernel_floors.Floor(2e9, 1e9).seconds(4.0, 4.0) == 0.5


def test_the_time_of_samples_is_read_from_the_log_of_a_run():
    stream = io.StringIO()
    report = ProgressReport(stream=stream)
    report.tell("samples", "workers of dask, dashboard at http://127.0.0.1:8787/status")
    with report.stage("samples"):
        pass
    begin = "[2026-01-01 00:00:00,000][mlepi.pipeline.progress][INFO] - "
    log = "".join(f"{begin}{line}\n" for line in stream.getvalue().splitlines())
    assert re.findall(processes.SAMPLES_LINE, log) == ["0.0"]


def test_counts_of_ghosts_stand_once_per_networks_and_temperature(tmp_path):
    def row(networks, temperature, plain):
        found = {"samples": 500, "plain": plain, "shifted": 0, "seconds": 1.0}
        return {"networks": networks, "temperature": temperature, **found}

    kept = ghosts.join([row("mean", 0.0, 0), row("first", 300.0, 7)], row("first", 0.0, 1))
    kept = ghosts.join(kept, row("first", 300.0, 2))
    assert [(r["networks"], r["temperature"], r["plain"]) for r in kept] == [
        ("first", 0.0, 1),
        ("first", 300.0, 2),
        ("mean", 0.0, 0),
    ]
    ghosts.write(tmp_path, kept)
    assert json.loads((tmp_path / "ghosts.json").read_text()) == kept
    assert "| first | 300.0 | 500 | 2 | 0 |" in (tmp_path / "ghosts.md").read_text()
