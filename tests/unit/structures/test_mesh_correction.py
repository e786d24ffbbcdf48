"""Corrections of the shipped labels, k-mesh and grid: what they are, and that they are in them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shipped_data import open_shipped, shipped_labels

from mlepi.checkpoint import load_model
from mlepi.errors import DataError
from mlepi.graphs.band_sums import sum_bands
from mlepi.graphs.block_matrix import block_matrices
from mlepi.predictors.band_forces import change_mesh
from mlepi.project_files import find_file
from mlepi.structures import build_graphene
from mlepi.structures.openmx_labels import read_label_file
from mlepi.units import FORCE_CONSTANT_TO_THZ, HARTREE, THZ_TO_INVERSE_CM

FOLDER = Path(__file__).parents[3] / "data" / "blg_openmx"
LABELS = Path(__file__).parents[4] / "shared" / "data" / "openmx-blg"
FLAT = "slide_-0.333_-0.333_3.10"


@pytest.fixture(scope="module")
def make():
    sys.path.insert(0, str(FOLDER))  # a script imports its neighbours
    spec = importlib.util.spec_from_file_location("make_blg_openmx", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    sys.path.remove(str(FOLDER))
    return module


@pytest.fixture(scope="module")
def corrections(make):
    return make.read_corrections()


def test_every_structure_has_one_that_pulls_on_nothing_as_a_whole(corrections):
    assert sorted(corrections) == list(open_shipped().names)
    for one in corrections.values():
        np.testing.assert_allclose(one.forces.sum(axis=0), 0.0, atol=1e-5)
        assert abs(one.energy) / len(one.forces) < 2e-3


def test_energies_are_those_of_the_labels_own_bands(corrections):
    """AA stacking, whose bands cross at the Fermi level all around K."""
    (labels,) = shipped_labels(FLAT)
    pair, electrons = block_matrices(labels), 4.0 * len(labels.atoms)
    mesh = labels.provenance["kgrid"]
    coarse, fine = (
        sum_bands(*pair, [n * factor if n > 1 else 1 for n in mesh], electrons, 300.0).energy
        for factor in (1, 3)
    )
    # H is rounded in the shipped file
    assert fine - coarse == pytest.approx(corrections[FLAT].energy, abs=2e-6 * len(labels.atoms))


@pytest.mark.skipif(not LABELS.is_dir(), reason="labels as the code gave them are not here")
@pytest.mark.parametrize("name", [FLAT, "shape_003"])
def test_shipped_labels_are_those_of_the_code_and_the_correction(make, corrections, name):
    given = read_label_file(LABELS / f"{name}.npz", make.BASIS)
    shipped = open_shipped()[name]
    corrected = make.correct_labels(given, corrections, make.fit_law())
    # rounded to 1e-6 eV, of a fit whose last digits are the processor's
    assert shipped.energy == pytest.approx(corrected.energy, rel=0, abs=1.5e-6)
    added = [shipped.provenance[key] for key in ("mesh_energy", "grid_energy")]
    assert shipped.energy - sum(added) == pytest.approx(given.energy, abs=1e-9)
    np.testing.assert_allclose(shipped.forces, corrected.forces, rtol=0, atol=1e-12)


@pytest.mark.parametrize("change", ["moved", "unknown"])
def test_the_correction_of_another_structure_is_refused(make, corrections, change):
    (labels,) = shipped_labels(FLAT)
    if change == "unknown":
        labels, said = replace(labels, name="shape_999"), "no correction of its k-mesh"
    else:
        atoms = labels.atoms.copy()
        atoms.positions[0, 2] += 1e-3
        labels, said = replace(labels, atoms=atoms), "that of other positions"
    with pytest.raises(DataError, match=f"structure '{labels.name}'.*{said}.*make_mesh_corr"):
        make.correct_labels(labels, corrections, make.fit_law())


@pytest.mark.usefixtures("make")  # imports grid_energy
def test_the_grid_is_the_one_that_openmx_reports():
    """Its own words for these cells, "Num. of grids of a-, b-, and c-axes"."""
    count = sys.modules["grid_energy"].count_points
    for name, points in (
        ("thermal3_0058", (56, 54, 150)),
        ("shape_007", (36, 112, 150)),
        ("shape_104", (64, 63, 150)),
        ("twist13_00", (80, 80, 150)),
    ):
        assert count(open_shipped()[name].atoms.cell.array) == points


def test_the_law_of_the_grid_describes_what_was_measured(make):
    law = make.fit_law()
    assert law.deviation < 0.1  # meV/atom, of differences up to 8
    assert law.slope > 0.0
    cell = np.diag([2.46, 2.46, 18.0])
    cell[1, :2] = 1.23, 2.46 * np.sqrt(0.75)
    assert law.energy(cell) == 0.0
    # same points per cell: a larger cell has a coarser grid
    assert law.energy(1.005 * cell) > 0.0


def test_grids_leave_no_trace_in_the_spread_of_a_cell_s_energies(make):
    """Energies of one cell move together; the correction is the same for all of them."""
    dataset = open_shipped()
    same = ["shape_015", "shape_132", "shape_153"]
    grids = {dataset[name].provenance["grid_energy"] for name in same}
    assert len(grids) == 1


def test_what_is_predicted_is_what_dft_gives_with_a_doubled_mesh(corrections):
    """A structure that was computed again; nothing in the prediction is fitted to it."""
    name = "shape_003"
    again = json.loads((FOLDER / "dense_mesh.json").read_text(encoding="utf-8"))
    dense = next(one for one in again["structures"] if one["name"] == name)
    (labels,) = shipped_labels(name)
    model = load_model(find_file("checkpoint", "data/checkpoints/hedgenet_electron.ckpt"))
    change = change_mesh(
        model,
        labels.atoms,
        labels.provenance["kgrid"],
        2,
        300.0,
        valence={6: 4.0},
        labelled=block_matrices(labels),
    )
    as_given = labels.forces - corrections[name].forces
    measured = np.array(dense["forces"]) - as_given
    size = np.sqrt(np.mean(measured**2))
    assert 0.010 < size < 0.015  # eV/Å
    assert np.sqrt(np.mean((change.forces - measured) ** 2)) < 0.1 * size
    added = [labels.provenance[key] for key in ("mesh_energy", "grid_energy")]
    again_less_given = dense["energy"] - (labels.energy - sum(added))
    assert change.energy == pytest.approx(again_less_given, abs=5e-6 * len(labels.atoms))


@pytest.fixture(scope="module")
def rigid_layers():
    """Total energies by DFT of AB cells whose upper layer is displaced, on two meshes."""
    return json.loads((FOLDER / "rigid_layers.json").read_text(encoding="utf-8"))


def test_the_mesh_changes_the_energy_of_sliding_layers_as_dft_says(rigid_layers):
    """4 atoms, 18×18 and 54×54: by 2.0 meV at rest, 0.15 meV less where a layer has slid by 0.1 Å.

    This is what makes the shear mode soft on the labels' mesh. DFT's energies have seven digits.
    """
    model = load_model(find_file("checkpoint", "data/checkpoints/hedgenet_electron.ckpt"))
    energies = {
        (row["displacement"], row["divisions"]): row["energy"] * HARTREE
        for row in rigid_layers["energies"]
        if row["direction"] in ("", "x")
    }
    changes = []
    for slide in (0.0, 0.1):
        atoms = build_graphene("AB", lattice_constant=2.46, spacing=3.35)
        atoms.positions[atoms.arrays["layer"] == 1, 0] += slide
        change = change_mesh(model, atoms, (18, 18, 1), 3, 300.0, valence={6: 4.0})
        changes.append((change.energy, energies[slide, 54] - energies[slide, 18]))
    (at_rest, at_rest_dft), (slid, slid_dft) = changes
    assert at_rest == pytest.approx(at_rest_dft, rel=0.01)
    assert slid - at_rest == pytest.approx(slid_dft - at_rest_dft, rel=0.1)


def test_frequencies_of_rigid_layers_follow_from_the_energies(rigid_layers, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    script = importlib.import_module("rigid_layers")
    assert script.list_frequencies(rigid_layers["energies"]) == rigid_layers["modes"]
    step, frequency = 0.1, 30.0
    mass = 12.011  # half of the two atoms of a layer
    stiffness = mass * (frequency / (FORCE_CONSTANT_TO_THZ * THZ_TO_INVERSE_CM)) ** 2
    lifted = 0.5 * stiffness * step**2
    assert script.compute_frequency((lifted, 0.0, lifted), step) == pytest.approx(30.0, rel=1e-6)
    assert script.compute_frequency((-lifted, 0.0, -lifted), step) == pytest.approx(-30.0, rel=1e-6)
