"""The scripts that measure and ship checkpoints.

Known errors come out as such, verdicts can fail, a card is complete.
"""

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from run_folder import measure_wall_time
from tiny_networks import (
    BASIS,
    CUTOFFS,
    build_config,
    build_network,
    corrugated_bilayer,
    gaussian_overlap_table,
)

from mlepi.checkpoint import load_checkpoint, load_model, save_checkpoint, stamp
from mlepi.checksums import compute_checksums
from mlepi.errors import CheckpointError, DataError
from mlepi.graphs.block_matrix import compute_bands
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.predictors.calibration import find_calibration
from mlepi.structures import build_graphene
from mlepi.structures.ase_files import write_extxyz
from mlepi.structures.dataset_writer import write_hamiltonian_dataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.splits import NamedSubsets, write_split
from mlepi.units import FORCE_CONSTANT_TO_THZ, THZ_TO_INVERSE_CM

ROOT = Path(__file__).parents[2]
SHIFT, NAMES = 0.05, ("a", "b", "c")
VERSIONS = {"mlepi": "0", "python": "3"}


def load_script(path):
    spec = importlib.util.spec_from_file_location(path.stem + "_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


accuracy = load_script(ROOT / "benchmarks" / "accuracy.py")
phonons = load_script(ROOT / "benchmarks" / "phonons.py")
make = load_script(ROOT / "data" / "checkpoints" / "make.py")


def write_checkpoint(path, kind, data, table=True):
    extra = (
        {"basis": BASIS, "overlap_table": gaussian_overlap_table() if table else None}
        if kind == "electron"
        else {}
    )
    metadata = {"config": {"data": data}, "seed": 1, "commit": "abc-modified", "versions": VERSIONS}
    described = stamp(kind, build_config(kind), CUTOFFS, metadata=metadata, **extra)
    save_checkpoint(path, described, build_network(kind).state_dict())


def carbon_bilayers():
    for number, name in enumerate(NAMES):
        atoms = corrugated_bilayer()
        atoms.numbers[:] = 6
        atoms.positions += np.random.default_rng(number).normal(
            scale=0.02, size=atoms.positions.shape
        )
        yield name, atoms


@pytest.fixture(scope="module")
def electron(tmp_path_factory):
    """A network and labels that are its own matrices with the energies raised by SHIFT."""
    folder = tmp_path_factory.mktemp("electron")
    data = {
        "path": str(folder / "h.h5"),
        "split": str(folder / "split.json"),
        "energy_zero": "as_computed",
    }
    write_checkpoint(folder / "e.ckpt", "electron", data)
    predictor = load_model(folder / "e.ckpt")
    labelled = []
    for name, atoms in carbon_bilayers():
        overlap = predictor.overlap(atoms).symmetrised()
        hamiltonian = predictor.hamiltonian(atoms).symmetrised()
        blocks = SHIFT * overlap.blocks
        place = {
            tuple(row): e
            for e, row in enumerate(
                np.column_stack([overlap.edge_index.T, overlap.edge_cell_shift])
            )
        }
        rows = np.column_stack([hamiltonian.edge_index.T, hamiltonian.edge_cell_shift])
        blocks[[place[tuple(row)] for row in rows]] += hamiltonian.blocks
        fermi = float(np.median(compute_bands(hamiltonian, overlap, [[0, 0, 0]])))
        labelled.append(
            LabelledStructure(
                name,
                atoms,
                BASIS,
                overlap.edge_index,
                overlap.edge_cell_shift,
                blocks,
                overlap.blocks,
                fermi_energy=fermi,
            )
        )
    write_hamiltonian_dataset(data["path"], labelled, {})
    write_split(data["split"], {"train": ["a"], "val": ["b"], "test": ["c"]}, {})
    return folder


def test_a_shift_of_all_energies_is_found_and_is_no_error_of_the_gauge_free_and_aligned_measures(
    electron,
):
    result = accuracy.measure(electron / "e.ckpt")
    metrics = result["metrics"]
    assert result["data"] == {
        "path": "h.h5",
        "split": "split.json",
        "subset": "test",
        "n_structures": 1,
    }
    for window in ("2ev", "occupied", "5ev"):
        assert metrics[f"bands_{window}_rms_mev"] == pytest.approx(1e3 * SHIFT, abs=0.5)
        assert metrics[f"bands_{window}_aligned_rms_mev"] < 0.5
    assert metrics["hamiltonian_s_metric_rms_mev"] < 0.5
    assert metrics["ghosts_per_1000_k"] == 0.0
    assert 0.0 <= metrics["form_bound_mean"] < 0.1
    assert metrics["hamiltonian_mae_mev"] > 100 * metrics["hamiltonian_gauge_free_mae_mev"]
    assert metrics["overlap_max"] < 1e-6
    assert metrics["overlap_smallest_eigenvalue"] == pytest.approx(
        metrics["overlap_smallest_eigenvalue_dft"], rel=1e-3
    )
    assert result["subsets"]["test"]["metrics"] == result["structures"]["c"]
    assert "shifted_ghosts_per_1000_k" not in metrics
    table = accuracy.format_table(result)
    assert "| H, gauge-free MAE (meV) |" in table
    assert "| sizes | structures | atoms | shortest vector (Å) |" in table


def test_levels_are_compared_once_more_with_a_level_shift(electron):
    """A shift that takes the error away leaves none, and the plain levels stay as they are."""

    def shift(atoms, overlap):
        return dataclasses.replace(overlap, blocks=SHIFT * overlap.blocks)

    found = accuracy.measure(electron / "e.ckpt", shift=shift, n_kpoints=1)
    metrics = found["metrics"]
    assert metrics["bands_2ev_rms_mev"] == pytest.approx(1e3 * SHIFT, abs=0.5)
    assert metrics["shifted_bands_2ev_rms_mev"] < 0.5
    assert metrics["shifted_ghosts_per_1000_k"] == 0.0


def test_the_level_shift_and_the_norm_of_states_are_those_of_the_checkpoint(electron):
    """An offset of −SHIFT raises levels as the labels do; every state passes a norm of nothing."""
    content, weights = load_checkpoint(electron / "e.ckpt")
    found = []
    for offset, norm in ((0.0, 1e-3), (-SHIFT, 1e3)):
        shift = {"threshold": 1e-6, "strength": 1e-6, "offset": offset}
        content["metadata"] |= {"level_shift": shift, "largest_norm": norm}
        save_checkpoint(electron / "own.ckpt", content, weights)
        found.append(accuracy.measure(electron / "own.ckpt", n_kpoints=1)["metrics"])
    assert found[0]["shifted_bands_2ev_rms_mev"] == pytest.approx(
        found[0]["bands_2ev_rms_mev"], rel=1e-3
    )
    assert found[1]["shifted_bands_2ev_rms_mev"] < 0.5
    for prefix in ("", "shifted_"):
        assert found[0][f"{prefix}soft_states_kpoints_percent"] == 100.0
        assert found[1][f"{prefix}soft_states_kpoints_percent"] == 0.0


def test_a_named_subset_can_be_measured_alone(electron, tmp_path):
    split = {"train": ["a"], "val": ["b"], "test": ["c"]}
    write_split(tmp_path / "named.json", split, {}, NamedSubsets(test={"again": ["c"]}))
    named = str(tmp_path / "named.json")
    whole, alone = (
        accuracy.measure(electron / "e.ckpt", split=named, subset=subset, n_kpoints=1)
        for subset in ("test", "again")
    )
    assert set(whole["subsets"]) == {"test", "again"}
    assert alone["metrics"] == whole["metrics"]
    assert accuracy.measure(electron / "e.ckpt", subset="val", n_kpoints=1)[
        "structures"
    ].keys() == {"b"}
    with pytest.raises(DataError, match="no subset 'nowhere'; expected one of"):
        accuracy.measure(electron / "e.ckpt", subset="nowhere")


def test_an_overlap_error_and_a_missing_block_are_seen(electron):
    predictor = load_model(electron / "e.ckpt")
    atoms = next(atoms for _, atoms in carbon_bilayers())
    overlap = predictor.overlap(atoms)
    short = type(overlap)(
        overlap.numbers,
        overlap.basis,
        overlap.edge_index[:, :-1],
        overlap.edge_cell_shift[:-1],
        overlap.blocks[:-1].copy(),
    )
    short.blocks[0, 0, 0] += 1e-3
    found = accuracy.measure_overlap(overlap, short, atoms)
    assert found["onsite"]["max"] == pytest.approx(1e-3)
    assert max(found[part]["max"] for part in ("intra", "inter")) == pytest.approx(
        np.abs(overlap.blocks[-1]).max()
    )
    assert sum(part["count"] for part in found.values()) == 16 * overlap.edge_index.shape[1]


def test_energies_and_forces_that_are_off_by_a_constant(tmp_path):
    data = {"path": str(tmp_path / "f.extxyz"), "split": str(tmp_path / "split.json")}
    write_checkpoint(tmp_path / "p.ckpt", "phonon", data)
    predictor, labelled = load_model(tmp_path / "p.ckpt"), []
    for name, atoms in carbon_bilayers():
        energies, forces = predictor.energy_and_forces([atoms])
        labelled.append(
            LabelledStructure(
                name, atoms, energy=energies[0] + 0.002 * len(atoms), forces=forces[0] - 0.03
            )
        )
    write_extxyz(data["path"], labelled)
    write_split(data["split"], {"train": ["a"], "val": ["b"], "test": ["c"]}, {})
    result = accuracy.measure(tmp_path / "p.ckpt")
    assert result["metrics"] == pytest.approx(
        {
            "energy_mae_mev_per_atom": 2.0,
            "energy_rmse_mev_per_atom": 2.0,
            "forces_mae_mev_per_angstrom": 30.0,
            "forces_rmse_mev_per_angstrom": 30.0,
        },
        rel=1e-3,
    )
    assert accuracy.format_table(result).count("**no**") == 2


def test_a_checkpoint_that_does_not_name_its_data(tmp_path):
    write_checkpoint(tmp_path / "p.ckpt", "phonon", {})
    with pytest.raises(DataError, match="no data set or split in its metadata"):
        accuracy.measure(tmp_path / "p.ckpt")


def test_gamma_modes_are_told_apart_by_their_patterns():
    atoms = build_graphene("AB")
    wanted = {"shear": 30.0, "breathing": 80.0, "ZO": 900.0, "G": 1550.0}
    layers, sublattices = np.array([1, 1, -1, -1]), np.array([1, -1, 1, -1])
    x, z = (np.eye(3)[0], np.eye(3)[1]), (np.eye(3)[2],)
    patterns = [("shear", layers, x), ("breathing", layers, z)]
    patterns += [
        (name, signs, along)
        for name, along in (("ZO", z), ("G", x))
        for signs in (sublattices, layers * sublattices)
    ]
    hessian = np.zeros((12, 12))
    for name, signs, along in patterns:
        for direction in along:
            vector = np.kron(signs / 2.0, direction)
            hessian += (
                (wanted[name] / THZ_TO_INVERSE_CM / FORCE_CONSTANT_TO_THZ) ** 2
                * 12.011
                * np.outer(vector, vector)
            )
    found = phonons.classify_gamma_modes(
        ForceConstants(atoms, (1, 1, 1), hessian.reshape(4, 3, 4, 3).transpose(0, 2, 1, 3))
    )
    assert {name: len(values) for name, values in found.items()} == phonons.GAMMA_MODES
    for name, frequency in wanted.items():
        assert found[name] == pytest.approx([frequency] * len(found[name]))
    assert np.abs(found["translation"]).max() < 1e-2


@pytest.mark.parametrize("stress", [0.0, -0.01, 0.02])
def test_bending_is_separated_from_tension(stress):
    """A membrane on a triangular lattice with Φ(q) = area·(2κ L² + σ L), L = q² + O(q⁴)."""
    kappa, n = 1.5, 9
    atoms = build_graphene("monolayer")[:1]
    area = np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1]))
    neighbours = [(1, 0), (0, 1), (-1, 0), (0, -1), (1, -1), (-1, 1)]
    laplacian = np.zeros((n, n))
    for shift in neighbours:
        laplacian[0, 0] += 1.0 / (1.5 * 2.46**2)
        laplacian[shift] -= 1.0 / (1.5 * 2.46**2)
    transform = np.fft.fft2(laplacian).real
    column = np.fft.ifft2(area * (2.0 * kappa * transform**2 + stress * transform)).real
    values = np.zeros((1, n * n, 3, 3))
    values[0, :, 2, 2] = column.ravel()
    values[0, 0, :2, :2] = 100.0 * np.eye(2)  # in-plane branches far above
    found = phonons.analyse_flexural_branch(
        ForceConstants(atoms, (n, n, 1), values),
        stress,
        0.0,
        3.35,
        phonons.special_points(atoms)["M"],
    )
    assert found["bending_exponent"] == pytest.approx(2.0, abs=0.1)
    # the lattice softens L by 1 − (qa)²/16
    assert found["bending_rigidity"] == pytest.approx(kappa, rel=0.15)
    assert (found["exponent"] < found["bending_exponent"]) == (stress > 0) or stress == 0


def good_phonons():
    modes = {
        "translation": [0.0] * 3,
        "shear": [30.0] * 2,
        "breathing": [80.0],
        "ZO": [900.0] * 2,
        "G": [1580.0] * 4,
    }
    flexural = {"M": {"bending_exponent": 2.0}, "K": {"bending_exponent": 2.0}}
    return {"gamma_modes": modes, "flexural": flexural, "lowest_commensurate": [20.0]}


def test_every_phonon_verdict_can_fail():
    assert all(row["met"] for row in phonons.judge(good_phonons()))
    bad = good_phonons()
    bad["gamma_modes"] |= {
        "translation": [-3.0, 0.0, 0.0],
        "shear": [-5.0, 30.0],
        "breathing": [-1.0],
        "G": [1400.0] * 4,
    }
    bad["flexural"]["K"]["bending_exponent"] = float("nan")
    bad["lowest_commensurate"] = [-5.0]
    assert not any(row["met"] for row in phonons.judge(bad))


@pytest.fixture
def run_folder(electron, tmp_path):
    """What a training leaves behind, with the checkpoint of a tiny electron network."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / ".hydra").mkdir()
    stamped, weights = load_checkpoint(electron / "e.ckpt")
    for name, epoch in (("best", 6), ("last", 9)):
        content = {"mlepi": stamped, "state_dict": weights, "epoch": epoch}
        content["checksums"] = compute_checksums(stamped, weights)
        torch.save(content, run / "checkpoints" / f"{name}.ckpt")
    (run / "config.yaml").write_text(
        yaml.safe_dump({"name": "tiny", "data": stamped["metadata"]["config"]["data"]})
    )
    (run / ".hydra" / "overrides.yaml").write_text(
        "- model=hedgenet_electron\n- hydra.run.dir=/somewhere\n"
    )
    (run / "train.log").write_text(
        "[2026-01-01 10:00:00,000][x] a\n[2026-01-01 11:05:10,000][x] b\n"
    )
    return run


def test_a_shipped_checkpoint_and_its_card(run_folder, tmp_path):
    path = make.make(run_folder, output=tmp_path)
    predictor, card = load_model(path, kind="electron"), path.with_suffix(".md").read_text("utf-8")
    numbers = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert predictor.metadata["test_metrics"] == numbers["accuracy"]["metrics"]
    assert numbers["training"] == {"epochs": 10, "best_epoch": 7, "wall_time": "1 h 05 min"}
    for text in (
        "`python train.py model=hedgenet_electron`",
        "1 train, 1 val, 1 test",
        "with uncommitted changes",
        "1 h 05 min",
    ):
        assert text in card
    assert str(tmp_path.parent) not in card + path.with_suffix(".yaml").read_text("utf-8") + str(
        predictor.metadata
    )


def test_a_shipped_committee_and_its_card(run_folder, tmp_path):
    runs = [run_folder, tmp_path / "second"]
    shutil.copytree(*runs)
    content = torch.load(runs[1] / "checkpoints" / "best.ckpt", weights_only=True)
    for value in content["state_dict"].values():
        value += 1e-3 * torch.randn_like(value)
    content["checksums"] = compute_checksums(content["mlepi"], content["state_dict"])
    torch.save(content, runs[1] / "checkpoints" / "best.ckpt")
    (runs[1] / ".hydra" / "overrides.yaml").write_text("- experiment=x\n- seed=2\n")
    files = make.make_committee(runs, "tiny", tmp_path, "float16")
    assert [file.name for file in files] == ["tiny_1.ckpt", "tiny_2.ckpt"]
    members = [load_model(file, kind="electron") for file in files]
    calibration = find_calibration(members)
    assert calibration.data["subset"] == "val"
    assert calibration.checks.keys() == {"test"}
    learned = dict(members[0].network().named_parameters())
    stored = load_checkpoint(files[0])[1]
    assert {stored[name].dtype for name in learned} == {torch.float16}
    card = (tmp_path / "tiny.md").read_text("utf-8")
    for text in (
        "## Committee",
        "2 networks of one recipe and 2 seeds",
        "`python train.py experiment=x seed=2`",
        "[tiny_2.ckpt](tiny_2.ckpt)",
        "2 networks, calibrated on 1 structures: subset `val`",
        "![reliability](tiny_committee.png)",
        "RUN_FOLDER` of all runs",
    ):
        assert text in card
    assert (tmp_path / "tiny_committee.png").is_file()
    numbers = json.loads((tmp_path / "tiny.json").read_text("utf-8"))
    assert numbers["members"].keys() == {"tiny_1", "tiny_2"}
    assert numbers["committee"]["calibration"] == calibration.to_dict()
    own = numbers["members"]["tiny_2"]["accuracy"]["metrics"]
    assert members[1].metadata["test_metrics"] == own


def test_what_cannot_be_shipped_is_refused(run_folder, tmp_path, monkeypatch):
    (run_folder / "test_metrics.json").write_text(
        json.dumps({"metrics": {"hamiltonian_gauge_free_mae_mev": 2.0}})
    )
    with pytest.raises(CheckpointError, match="hamiltonian_gauge_free_mae_mev 2"):
        make.check_reproduced(run_folder, {"hamiltonian_gauge_free_mae_mev": 3.0})
    with pytest.raises(DataError, match=r"benchmarks/accuracy.py: got .*no such file"):
        make.run_benchmark("accuracy", tmp_path / "absent.ckpt", tmp_path)
    monkeypatch.setattr(make, "LARGEST_SIZE", 10)
    with pytest.raises(CheckpointError, match="at most 10 MB"):
        make.export(run_folder, tmp_path / "x.ckpt")
    (run_folder / "train.log").unlink()
    with pytest.raises(DataError, match=r"no train.log"):
        make.make(run_folder)


def test_wall_time_leaves_out_the_pause_before_a_run_was_resumed():
    log = (
        "[2026-01-01 10:00:00,000][x] tiny | 5 parameters | run folder runs/a\n"
        "[2026-01-01 10:30:00,000][x] epoch 1/4\n  a line without time\n"
        "[2026-01-03 08:00:00,000][x] tiny | 5 parameters | run folder runs/a\n"
        "[2026-01-03 08:12:00,000][x] epoch 2/4\n"
    )
    assert measure_wall_time(log).total_seconds() == 42 * 60
    assert measure_wall_time("").total_seconds() == 0


def test_paths_of_a_machine_are_cut():
    assert make.portable({"a": ["/x/y.h5", "data/z.h5", 1]}) == {"a": ["y.h5", "data/z.h5", 1]}
