"""The tight_binding stage: what it refuses, and a fit to itself."""

import numpy as np
import pytest
import toy_pipelines
from toy_pipelines import PREPARATION, execute

from mlepi.errors import ConfigError, PhysicsError
from mlepi.observables.tight_binding.stage import TightBindingStage, measure_bond
from mlepi.pipeline.sources import Source
from mlepi.structures import build_graphene


def make_run(folder, supercell=(3, 3, 1), **settings):
    own = {"valence_electrons": {6: 1}, "n_structures": 1, "distances": [0.1], "n_levels": 2}
    structure = {"_target_": "mlepi.structures.build_graphene", "stacking": "monolayer"}
    network = {"_target_": "mlepi.reference_systems.TightBinding", "orbitals": "s"}
    return toy_pipelines.make_run(
        folder,
        stages={"tight_binding": TightBindingStage(**{**own, **settings})},
        phonon_settings={"dos_mesh": (3, 3, 1), "n_points": 8},
        n_samples=2,
        supercell=supercell,
        structure=Source("structure", structure),
        phonon=Source("phonon", {"_target_": "mlepi.reference_systems.HoneycombSprings"}),
        electron=Source("electron", {**network, "orthogonal": True}),
        dtype="float64",
    )


def test_one_orbital_is_fitted_by_one_orbital(tmp_path):
    run = make_run(tmp_path, distances=[0.0, 0.1])
    execute(run, [*PREPARATION, "tight_binding"])
    record, model = run.read("tight_binding"), run.networks.electron
    assert record.rms < 1e-6
    assert record.fermi_velocity == pytest.approx(model.fermi_velocity, rel=1e-5)
    assert record.bond == pytest.approx(2.46 / np.sqrt(3.0), abs=1e-6)
    # three points on a line; both cones fold onto Γ of a 3×3 cell, with two levels each
    assert record.levels.shape == record.fitted_levels.shape == (1, 3, 4)
    assert "t -" in run.stages["tight_binding"].summarize(record)


def test_where_one_cone_folds_there_are_half_as_many_levels(tmp_path):
    run = make_run(tmp_path, supercell=(2, 2, 1), n_levels=4)
    execute(run, [*PREPARATION, "tight_binding"])
    assert run.read("tight_binding").levels.shape == (1, 2, 4)


def test_wrong_number_of_electrons_is_told(tmp_path):
    run = make_run(tmp_path, valence_electrons={6: 4})
    execute(run, PREPARATION)
    with pytest.raises(PhysicsError, match="4 levels around state 36 of 18"):
        execute(run, ["tight_binding"])


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"stage\.tight_binding: got n_structures 0"):
        TightBindingStage(valence_electrons={6: 4}, n_structures=0, distances=[0.1], n_levels=4)
    with pytest.raises(ConfigError, match=r"n_levels 3; expected at least one structure, an even"):
        TightBindingStage(valence_electrons={6: 4}, n_structures=1, distances=[0.1], n_levels=3)
    atoms = build_graphene(stacking="monolayer", lattice_constant=4.0)
    atoms.arrays["layer"] = np.zeros(2, dtype=int)
    with pytest.raises(PhysicsError, match="no bond shorter than 2 Å"):
        measure_bond(atoms)
