"""The bands stage on a twisted bilayer of the toy model.

Records, resumption, continuum model, figure.
"""

import io
import json
import math

import numpy as np
import pytest
import scipy.linalg
from ase.neighborlist import neighbor_list
from toy_models import BASIS, ToyElectron

from mlepi.errors import ConfigError, StructureError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.observables import BandsStage, bands
from mlepi.observables.moire import compare_with_continuum, measure_lattice, measure_stackings
from mlepi.physics.bands import lattice
from mlepi.pipeline import HamiltonianStage, Run, StructureStage
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import ProgressReport
from mlepi.pipeline.runner import run_stages
from mlepi.pipeline.sources import Source
from mlepi.plots import plot_run, write_report
from mlepi.results import ResultsStore
from mlepi.structures import build_graphene, build_twisted_bilayer

STAGES = ("structure", "hamiltonian", "bands")
GIVEN = {"continuum_velocity": 5.8, "continuum_w_aa": 0.1, "continuum_w_ab": 0.1}


class TwistedElectron(ToyElectron):
    """The toy with hopping between the layers, 0.3 exp(3.35 − d)."""

    def _matrix(self, atoms, strength, onsite):
        i, j, shifts, vectors = neighbor_list("ijSD", atoms, 4.2)
        lengths = np.linalg.norm(vectors, axis=1)
        between = np.abs(vectors[:, 2]) > 1.0
        kept = between | (lengths < 2.0)
        scale = np.where(
            between,
            -0.11 * strength * np.exp(3.0 * (3.35 - lengths)),
            strength * np.exp(1.42 - lengths),
        )[kept]
        n = len(atoms)
        index = np.concatenate([np.tile(np.arange(n), (2, 1)), np.stack([j, i])[:, kept]], axis=1)
        shift = np.concatenate([np.zeros((n, 3), dtype=np.int64), shifts[kept].astype(np.int64)])
        blocks = np.concatenate([np.full(n, onsite), scale])[:, None, None]
        return BlockMatrix(np.asarray(atoms.numbers, dtype=np.int64), BASIS, index, shift, blocks)


def make_run(folder, structure=None, **settings):
    stage = BandsStage(
        **{
            "valence_electrons": {6: 1},
            "n_states": 8,
            "spacing": 0.25,
            "backend": "superlu",
            **settings,
        }
    )
    return Run(
        store=ResultsStore(folder),
        stages={"structure": StructureStage(), "hamiltonian": HamiltonianStage(), "bands": stage},
        temperatures=(0.0,),
        n_samples=1,
        seed=0,
        supercell=(1, 1, 1),
        structure=Source(
            "structure",
            structure or {"_target_": "mlepi.structures.build_twisted_bilayer", "m": 3, "r": 1},
        ),
        phonon=Source("phonon", None),
        electron=Source("electron", {"_target_": "test_bands.TwistedElectron"}),
    )


def execute(run):
    stream = io.StringIO()
    run_stages(run, STAGES, Processes(), ProgressReport(stream=stream))
    return stream.getvalue()


def test_states_along_the_path(tmp_path):
    run = make_run(tmp_path, proof="all")
    text = execute(run)
    record = run.read("bands")
    assert record.labels == ("K", "Γ", "M", "K'")
    _, hamiltonian, overlap = run.equilibrium()
    for kpoint, energies in zip(record.kpoints, record.energies, strict=True):
        exact = scipy.linalg.eigh(
            hamiltonian.dense(kpoint), overlap.dense(kpoint), eigvals_only=True
        )
        np.testing.assert_allclose(
            energies, exact[record.first_state : record.first_state + 8], atol=1e-10
        )
    assert record.first_state == 148 // 2 - 4
    assert record.proven == len(record.kpoints)
    assert record.error_bound < 1e-6
    assert record.energies[:, 3].min() < record.fermi_energy < record.energies[:, 4].max()
    np.testing.assert_allclose(record.energies[0], record.energies[-1], atol=1e-12)
    assert record.continuum is None
    assert "about 0.0 min left" in text
    assert f"8 states at {len(record.kpoints)} k-points" in text
    assert set(plot_run(tmp_path)) == {"moire_bands"}


def test_finished_points_are_not_solved_again(tmp_path, monkeypatch):
    execute(make_run(tmp_path))
    solved = []
    solve = bands.solve_numbered_states
    monkeypatch.setattr(
        bands, "solve_numbered_states", lambda *a, **k: solved.append(1) or solve(*a, **k)
    )
    run = make_run(tmp_path, spacing=0.2)
    execute(run)
    new = {bands._representative(k) for k in run.read("bands").kpoints}
    assert 0 < len(solved) < len(new)
    solved.clear()
    execute(make_run(tmp_path, spacing=0.2, electronic_temperature=20.0))
    assert not solved
    execute(make_run(tmp_path, spacing=0.2, proof="all"))
    assert len(solved) == len(new) - 1
    execute(make_run(tmp_path, spacing=0.2, n_states=6))
    assert len(solved) == 2 * len(new) - 1


def test_continuum_model_from_the_same_network(tmp_path):
    run = make_run(tmp_path, continuum=True, proof="none")
    text = execute(run)
    continuum = run.read("bands").continuum
    structure = run.read("structure")
    measured = measure_stackings(structure.atoms, structure.spacings, run.predict, {6: 1})
    assert measured.velocity == pytest.approx(1.5 * 2.7 * 1.42, rel=0.15)
    assert measured.w_aa > 0.0
    assert measured.w_ab > 0.0
    assert (continuum.velocity, continuum.w_aa, continuum.w_ab) == (
        measured.velocity,
        measured.w_aa,
        measured.w_ab,
    )
    assert continuum.source == "AA and AB bilayers of the same network"
    assert continuum.twist == pytest.approx(9.43, abs=0.01)
    assert continuum.distances[-1] == pytest.approx(run.read("bands").distances[-1])
    assert "continuum model at 9.430°" in text
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "width of the four bands around neutrality" in page
    assert "AA and AB bilayers of the same network" in page


def test_continuum_model_with_given_parameters(tmp_path):
    run = make_run(tmp_path, continuum=True, proof="none", guess=0.1, **GIVEN)
    execute(run)
    continuum = run.read("bands").continuum
    assert continuum.source == "config"
    assert continuum.magic_angle == pytest.approx(0.96, abs=0.05)
    assert json.dumps(run.stages["bands"].inputs(run))


def test_atomistic_and_continuum_bands_agree_at_gamma(tmp_path):
    """The gap between the low bands, at a twist where both models are nearly two cones."""
    run = make_run(tmp_path, continuum=True, proof="none")
    execute(run)
    record = run.read("bands")
    place = int(np.argmin(np.abs(record.continuum.distances - record.label_distances[1])))
    at_gamma = record.continuum.energies[place]
    middle = len(at_gamma) // 2
    atomistic = record.energies[
        int(np.argmin(np.abs(record.distances - record.label_distances[1])))
    ]
    ours = atomistic[4:6].mean() - atomistic[2:4].mean()
    assert ours == pytest.approx(
        at_gamma[middle : middle + 2].mean() - at_gamma[middle - 2 : middle].mean(), rel=0.15
    )


@pytest.mark.parametrize(
    "structure",
    [
        {"_target_": "mlepi.structures.build_graphene", "stacking": "AB"},
        {"_target_": "mlepi.structures.build_twisted_bilayer", "m": 1, "r": 2},
    ],
)
def test_no_moire_period_no_continuum_model(tmp_path, structure):
    run = make_run(tmp_path, structure)
    atoms = run.structure.build()
    path = lattice.build_k_path(
        lattice.hexagonal_points(atoms.cell.array), "KΓ", atoms.cell.array, 1.0
    )
    with pytest.raises(
        StructureError, match=r"graphene cells per layer; expected 3m² \+ 3m \+ 1 with m ≥ 1"
    ):
        compare_with_continuum(atoms, np.array([3.35]), run.predict, path, {6: 1}, (5.8, 0.1, 0.1))


def test_lattice_and_twist_of_a_cell():
    lattice_constant, twist = measure_lattice(build_twisted_bilayer(5, 1))
    assert lattice_constant == pytest.approx(2.46)
    assert math.cos(math.radians(twist)) == pytest.approx((3 * 25 + 15 + 0.5) / (3 * 25 + 15 + 1))
    with pytest.raises(
        StructureError,
        match=r"twisted bilayer: got 1 layers, 2 atoms; expected two layers of equal size",
    ):
        measure_lattice(build_graphene("monolayer"))


@pytest.mark.parametrize("changes", [{"n_states": 7}, {"n_states": 4}, {"proof": "some"}])
def test_settings_without_meaning(changes):
    with pytest.raises(
        ConfigError,
        match=r"stage.bands: got n_states \d+, proof '\w+'; expected an even number from 6 on",
    ):
        BandsStage(valence_electrons={6: 4}, **changes)
