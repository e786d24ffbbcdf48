"""Calibration of checkpoints from the command line to the metadata.

The labels are predictions of one network. The members have its weights with a small change that all
of them share and two small ones with both signs: their mean errs as the common change does, and the
spread is what the other two make. All is linear in changes this small.
"""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_networks import (
    BASIS,
    CUTOFFS,
    build_config,
    build_network,
    corrugated_bilayer,
    gaussian_overlap_table,
)

from mlepi.checkpoint import load_checkpoint, load_model, save_checkpoint, stamp
from mlepi.errors import DataError
from mlepi.graphs.block_matrix import compute_bands
from mlepi.graphs.block_pairs import align_matrices
from mlepi.graphs.shifted_matrix import shift_hamiltonian
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.predictors.calibration import find_calibration
from mlepi.predictors.committee import average_matrices
from mlepi.structures.ase_files import write_extxyz
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dataset_writer import write_hamiltonian_dataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.splits import NamedSubsets, write_split
from mlepi.training.committee_errors import measure_electron_errors, measure_level_errors
from mlepi.training.level_errors import choose_kpoints

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "committee.py"
SPLIT = {"train": ["a"], "val": ["b", "c"], "test": ["d"]}
SIGNS = ((1, 0), (-1, 0), (0, 1), (0, -1))
CHANGE = 2e-4


def load_script():
    spec = importlib.util.spec_from_file_location("committee_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


committee = load_script()


def bilayers():
    """Structures, and one that is distorted far more."""
    for number, name in enumerate("abcdx"):
        atoms = corrugated_bilayer()
        atoms.numbers[:] = 6
        scale = 0.12 if name == "x" else 0.02
        atoms.positions += np.random.default_rng(number).normal(scale=scale, size=(len(atoms), 3))
        yield name, atoms


def write_members(folder, kind, data):
    extra = {"basis": BASIS, "overlap_table": gaussian_overlap_table()}
    metadata = {"config": {"data": data}, "seed": 1}
    described = stamp(
        kind,
        build_config(kind),
        CUTOFFS,
        metadata=metadata,
        **(extra if kind == "electron" else {}),
    )
    changes = {"truth": (0, 0, 0), "common": (1, 0, 0)}
    changes |= {f"member_{n}": (1, *signs) for n, signs in enumerate(SIGNS)}
    files = {}
    for name, factors in changes.items():
        network = build_network(kind)
        with torch.no_grad():
            for seed, factor in enumerate(factors):
                torch.manual_seed(10 + seed)
                for value in network.parameters():
                    value.add_(factor * CHANGE * torch.randn_like(value))
        files[name] = folder / f"{kind}_{name}.ckpt"
        save_checkpoint(files[name], described, network.state_dict())
    return files


def list_members(files):
    return [file for name, file in files.items() if name.startswith("member")]


@pytest.fixture(scope="module")
def phonon(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phonon")
    data = {"path": str(folder / "f.extxyz"), "split": str(folder / "split.json"), "extra": None}
    files = write_members(folder, "phonon", data)
    names, structures = zip(*bilayers(), strict=True)
    energies, forces = load_model(files["truth"]).energy_and_forces(structures)
    labelled = [
        LabelledStructure(name, atoms, energy=float(energy), forces=force)
        for name, atoms, energy, force in zip(names, structures, energies, forces, strict=True)
    ]
    write_extxyz(data["path"], labelled)
    write_split(data["split"], SPLIT, {}, NamedSubsets(test={"distorted": ["x"]}))
    return files


@pytest.fixture(scope="module")
def electron(tmp_path_factory):
    folder = tmp_path_factory.mktemp("electron")
    data = {"path": str(folder / "h.h5"), "split": str(folder / "split.json"), "extra": None}
    files = write_members(folder, "electron", data)
    network, labelled = load_model(files["truth"]), []
    for name, atoms in bilayers():
        matrices = (network.hamiltonian(atoms).symmetrised(), network.overlap(atoms).symmetrised())
        fermi = float(np.median(compute_bands(*matrices, [[0, 0, 0]])))
        edge_index, shift, (h, s) = align_matrices(matrices)
        labelled.append(
            LabelledStructure(
                name, atoms, BASIS, edge_index, shift, h + 0.3 * s, s, fermi_energy=fermi + 0.3
            )
        )
    write_hamiltonian_dataset(data["path"], labelled, {})
    write_split(data["split"], SPLIT, {}, NamedSubsets(test={"distorted": ["x"]}))
    return files


def check_factors(found, error_of_common):
    """Four errors e₀ ± a, e₀ ± b: the mean errs by e₀, the spread is √((2a² + 2b²)/3)."""
    assert found.rms_error_of_mean == pytest.approx(error_of_common, rel=0.02)
    of_one = np.sqrt(error_of_common**2 + 0.75 * found.rms_spread**2)
    assert found.rms_error_of_one == pytest.approx(of_one, rel=0.02)


def test_factors_of_phonon_networks(phonon, tmp_path, monkeypatch, capsys):
    files = list_members(phonon)
    monkeypatch.setattr(
        sys, "argv", ["committee.py", *map(str, files), "--output", str(tmp_path), "--store"]
    )
    committee.main()
    content = json.loads((tmp_path / "committee.json").read_text("utf-8"))
    assert content["subsets"].keys() == {"val", "test", "distorted"}
    assert content["subsets"]["val"]["structures"] == ["b", "c"]
    table = capsys.readouterr().out
    assert "4 networks, calibrated on 2 structures: subset `val` of `split.json`" in table
    assert (tmp_path / "committee.md").read_text("utf-8").strip() == table.strip()
    assert (tmp_path / "committee.png").stat().st_size > 10_000
    members = [load_model(file, kind="phonon") for file in files]
    calibration = find_calibration(members)
    assert calibration.data == {
        "path": "f.extxyz",
        "split": "split.json",
        "subset": "val",
        "n_structures": 2,
    }
    structures = [atoms for name, atoms in bilayers() if name in ("b", "c")]
    predictions = [
        np.concatenate(load_model(phonon[name]).energy_and_forces(structures)[1])
        for name in ("truth", "common")
    ]
    error = np.sqrt(np.mean((predictions[1] - predictions[0]) ** 2))
    check_factors(calibration.quantities["forces"], error)
    assert calibration.checks.keys() == {"test", "distorted"}
    for name, ratios in calibration.checks.items():
        found = content["subsets"][name]["quantities"]["forces"]
        predicted = calibration.factor("forces", "mean") * found["rms_spread"]
        assert ratios["forces"] == pytest.approx(found["rms_error_of_mean"] / predicted)
    assert find_calibration(members[:3]) is None
    # nothing but the metadata has changed
    again, _ = committee.measure(files)
    assert again == calibration
    assert load_checkpoint(files[0])[0]["metadata"]["seed"] == 1


def test_factors_of_electron_networks(electron):
    """The energy zero of the labels, 0.3 eV away, is no error."""
    calibration, subsets = committee.measure(list_members(electron))
    quantities = calibration.quantities
    assert quantities.keys() == {"hamiltonian", "onsite", "intra", "inter", "bands"}
    common = [load_model(electron["common"])] * 2
    structures = {s.name: s for s in HamiltonianDataset(electron["truth"].parent / "h.h5")}
    errors = [measure_electron_errors(common, structures[name])[0] for name in ("b", "c")]
    for name, found in quantities.items():
        together = np.concatenate([each[name].together for each in errors])
        check_factors(found, np.sqrt(np.mean(together**2)))
        assert 0 < found.rms_error_of_one < 0.1
    parts = [quantities[name] for name in ("onsite", "intra", "inter")]
    assert quantities["hamiltonian"].n == sum(part.n for part in parts)
    assert len(subsets["val"].errors["onsite"]) == quantities["onsite"].n
    assert "distorted" in committee.format_tables(calibration, subsets)


def test_the_errors_of_one_network_are_those_of_the_accuracy_of_its_matrices(electron):
    """Without the energy zero: of the label itself there is nothing left."""
    truth = [load_model(electron["truth"])] * 2
    structure = HamiltonianDataset(electron["truth"].parent / "h.h5")["b"]
    found, n_haunted = measure_electron_errors(truth, structure)
    assert n_haunted == 0
    for name, errors in found.items():
        assert np.abs(errors.together).max() < (1e-4 if name == "bands" else 1e-5)


def test_a_network_with_a_ghost_takes_its_k_points_out_of_the_levels(electron):
    """The smallest eigenvector of S at Γ, 50 eV lower in one network."""
    truth = load_model(electron["truth"])
    structure = HamiltonianDataset(electron["truth"].parent / "h.h5")["b"]
    overlap = truth.overlap(structure.atoms).symmetrised()
    plain = truth.hamiltonian(structure.atoms)
    haunted = dataclasses.replace(overlap, blocks=overlap.blocks * 0.0)
    first = np.flatnonzero(
        (haunted.edge_index[0] == 0)
        & (haunted.edge_index[1] == 0)
        & ~haunted.edge_cell_shift.any(1)
    )
    haunted.blocks[first[0], 0, 0] = -500.0
    below = average_matrices([plain, plain, haunted])
    found, n_haunted = measure_level_errors([plain, below], overlap, structure)
    assert (found, n_haunted) == ({}, 3)
    found, n_haunted = measure_level_errors([plain, plain], overlap, structure)
    assert n_haunted == 0
    assert np.abs(found["bands"].each).max() < 1e-4


def test_levels_carry_the_level_shift_of_the_networks(electron):
    """The shift moves the levels of a network that is right by its own bias."""
    truth = load_model(electron["truth"])
    structure = HamiltonianDataset(electron["truth"].parent / "h.h5")["b"]
    shift = LevelShift(0.5, 1.0)
    h, s = truth.hamiltonian(structure.atoms), truth.overlap(structure.atoms)
    found, _ = measure_level_errors([h, h], s, structure, shift)
    kpoints = choose_kpoints(structure.atoms.cell.array, 3)
    raised = shift_hamiltonian(structure.atoms, h, s, shift)
    levels, exact = (compute_bands(matrix, s, kpoints) for matrix in (raised, h))
    near = np.abs(exact + 0.3 - structure.fermi_energy) <= 2.0
    change = (levels - exact)[near]
    assert np.abs(change).max() > 1e-3
    expected = change - np.median(change)
    np.testing.assert_allclose(found["bands"].together, expected, atol=1e-4)


def test_what_cannot_be_calibrated(phonon):
    with pytest.raises(DataError, match=r"got 1 network; expected at least two"):
        committee.measure(list_members(phonon)[:1])
    with pytest.raises(DataError, match=r"--subset: got 'vall'; expected one of \['distorted', "):
        committee.measure(list_members(phonon), subset="vall")
