"""Samples with ghost states: counted in every run, left out of averages, and told."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from toy_ensembles import toy_ensemble
from toy_models import LevelsStage, ToyElectron
from toy_pipelines import ALL, execute, make_run

from mlepi.errors import ConfigError, PhysicsError
from mlepi.figures import Presentation
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.pipeline import samples
from mlepi.pipeline.config_values import list_wrong_values, read_level_shift
from mlepi.pipeline.engines import Local, engine
from mlepi.pipeline.ensemble import SampleKey
from mlepi.pipeline.ghosts import (
    KEY,
    KPOINTS,
    GhostSummary,
    RenumberedResults,
    _count_below,
    count_ghosts,
    summarize_ghosts,
)
from mlepi.pipeline.stages.hamiltonian.stage import HamiltonianStage
from mlepi.report.page import write_report
from mlepi.report.run_records import list_doubts
from mlepi.results import read_hamiltonian
from mlepi.structures.basis import OrbitalBasis


class HauntedToy(ToyElectron):
    """The toy with a level 30 eV down in the supercells whose numbers are given, in turn."""

    haunted: ClassVar = ()
    seen: ClassVar = []

    def hamiltonian(self, atoms, *, device="cpu", dtype="float64"):
        found = super().hamiltonian(atoms)
        if len(atoms) > 2:
            self.seen.append(len(self.seen))
            if self.seen[-1] in self.haunted:
                found.blocks[0] -= 30.0
        return found


class SoftToy:
    """Two nearly equal orbitals per atom, and an error of H along their difference."""

    basis = OrbitalBasis({6: (0, 0)}, {6: 1.5}, {6: "soft"})
    level_shift = LevelShift(0.01, 0.5)

    def __init__(self, error=-0.05):
        self.error = error

    def hamiltonian(self, atoms, *, device="cpu", dtype="float64"):
        whole, n = ToyElectron().hamiltonian(atoms), len(atoms)
        blocks = np.repeat(np.repeat(whole.blocks, 2, axis=1), 2, axis=2) * 0.5
        soft = 0.5 * np.array([[1.0, -1.0], [-1.0, 1.0]])
        blocks[:n] += (self.error if n > 2 else 0.05) * soft
        return BlockMatrix(
            whole.numbers, self.basis, whole.edge_index, whole.edge_cell_shift, blocks
        )

    def overlap(self, atoms):
        whole, n = ToyElectron().overlap(atoms), len(atoms)
        blocks = np.repeat(np.repeat(whole.blocks, 2, axis=1), 2, axis=2) * 0.5
        blocks[:n] = [[0.501, 0.499], [0.499, 0.501]]
        return BlockMatrix(
            whole.numbers, self.basis, whole.edge_index, whole.edge_cell_shift, blocks
        )


@pytest.fixture
def haunted(monkeypatch):
    def choose(*numbers):
        monkeypatch.setattr(HauntedToy, "haunted", numbers)
        monkeypatch.setattr(HauntedToy, "seen", [])
        return HauntedToy()

    return choose


def test_a_snapshot_with_a_ghost_is_left_out_and_told(tmp_path, haunted, monkeypatch):
    monkeypatch.setattr(LevelsStage, "presentation", classmethod(lambda cls: Presentation()))
    clean = make_run(tmp_path / "clean")
    execute(clean)
    run = make_run(tmp_path / "haunted", own_electron=haunted(3))  # snapshot 1 at 300 K
    text = execute(run)
    assert "1 of 3 snapshots have ghost states" in " ".join(text.split())
    record = run.read("levels")
    assert record.n_results == 4
    parts = {key: part["levels"][0] for key, part in samples.SampleResults(**_where(clean))}
    for column, temperature in enumerate((0.0, 300.0)):
        kept = [parts[SampleKey(n, temperature)] for n in (0, 2)]
        assert record.mean[column] == pytest.approx(np.mean(kept), abs=1e-12)
    found = GhostSummary.from_provenance(run.store.provenance("levels"))
    assert (found.left_out, found.plain, found.shifted, found.n_counted) == (
        (1,),
        (0, 1),
        (0, 1),
        6,
    )
    assert found.describe() == "1 of 6 samples (no level shift)"
    stages = {name: type(stage) for name, stage in run.stages.items()}
    doubts = list_doubts({"levels": record}, stages, run.store)
    assert len(doubts) == 1
    assert doubts[0].startswith("levels: 1 of 3 snapshots have ghost states")
    assert doubts[0].seen.endswith("at all temperatures: 1.")
    page = write_report(run.store.folder, stages).read_text()
    assert "1 of 3 snapshots have ghost states" in page
    assert "<td>ghost states: levels</td><td>1 of 6 samples (no level shift)</td>" in page
    assert execute(run).count("WARNING") == 0  # nothing is done again


@pytest.mark.parametrize("phase", [1.0, 1.0j])
def test_a_ghost_is_counted_at_its_energy_and_not_within_the_margin_above(phase):
    """The states found near −20 eV are those of softest S, where single precision is worst."""
    rng = np.random.default_rng(0)
    n = 200
    turn = np.linalg.qr(rng.normal(size=(n, n)) + (phase - 1.0) * rng.normal(size=(n, n)))[0]
    soft = np.concatenate([[2e-5, 1e-4, 1e-3], rng.uniform(0.01, 4.0, n - 3)])
    overlap = (turn * soft) @ turn.conj().T
    for ghost, expected in ((-20.01, 1), (-19.9, 0), (-19.0, 0)):
        for place in range(3):
            levels = np.linspace(-15.0, 30.0, n)
            levels[place] = ghost
            hamiltonian = (turn * (soft * levels)) @ turn.conj().T
            assert _count_below(hamiltonian, overlap, -20.0) == expected


def _where(run):
    found = samples.find_results(run, run.stages["levels"], run.ensemble())
    return vars(found)


def test_a_run_without_ghosts_says_so(tmp_path):
    run = make_run(tmp_path)
    assert "ghost states in 0 of 6 samples (no level shift)" in execute(run)
    assert "ghost states in 0 of 6 samples" in execute(
        make_run(tmp_path / "two"), (*ALL, "other_levels")
    )
    found = GhostSummary.from_provenance(run.store.provenance("levels"))
    assert found.describe() == "0 of 6 samples (no level shift)"
    assert found.doubts() == []


def test_low_levels_of_an_orthogonal_basis_are_no_ghosts(tmp_path, haunted):
    toy = haunted(3)
    toy.strength = 0.0  # S = 1
    run = make_run(tmp_path, own_electron=toy)
    assert "ghost states in 0 of 6 samples (no level shift)" in execute(run)
    assert run.read("levels").mean.min() < -20.0 / 3.0  # averaged with the others


def test_nothing_is_left_when_all_snapshots_are_haunted(tmp_path, haunted):
    run = make_run(tmp_path, own_electron=haunted(*range(6)))
    with pytest.raises(PhysicsError, match=r"ghost states in all 3 snapshots"):
        execute(run)


def test_too_few_snapshots_without_ghosts_are_refused(tmp_path, haunted, monkeypatch):
    monkeypatch.setattr(LevelsStage, "least_samples", 2)
    run = make_run(tmp_path, own_electron=haunted(0, 3))
    with pytest.raises(PhysicsError, match=r"got 1 of 3 snapshots without ghost states"):
        execute(run)


def test_the_level_shift_of_the_model_removes_its_ghosts(tmp_path):
    run = make_run(tmp_path / "auto", own_electron=SoftToy())
    execute(run)
    found = GhostSummary.from_provenance(run.store.provenance("levels"))
    assert found.describe() == "0 of 6 samples with the level shift, 6 without"
    assert found.level_shift == {"threshold": 0.01, "strength": 0.5, "offset": 0.0}
    plain = run.networks.predict(run.read("structure").atoms)[0]
    assert not np.allclose(run.equilibrium().hamiltonian.blocks, plain.blocks)
    without = make_run(tmp_path / "off", own_electron=SoftToy(), level_shift="off")
    with pytest.raises(PhysicsError, match="ghost states in all 3 snapshots"):
        execute(without)


def test_matrices_in_files_are_those_without_the_shift(tmp_path):
    run = make_run(tmp_path, own_electron=SoftToy(), hamiltonian_settings={"store": True})
    execute(run)
    atoms, stored, _ = read_hamiltonian(tmp_path / "hamiltonian.h5")
    np.testing.assert_array_equal(stored.blocks, SoftToy().hamiltonian(atoms).blocks)
    path = sorted((tmp_path / "hamiltonians").glob("*.h5"))[0]
    atoms, stored, _ = read_hamiltonian(path)
    np.testing.assert_allclose(stored.blocks, SoftToy().hamiltonian(atoms).blocks, atol=1e-12)


def test_another_shift_makes_another_result(tmp_path):
    run = make_run(tmp_path, own_electron=SoftToy())
    execute(run)
    other = make_run(tmp_path, own_electron=SoftToy(), level_shift=LevelShift(0.01, 0.6))
    text = execute(other, ("levels",))
    assert "3 results" not in text
    assert "6 results" in text


def test_old_parts_without_counts_are_averaged_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr("mlepi.pipeline.engines.engine.KEY", "unknown")
    run = make_run(tmp_path)
    execute(run)
    monkeypatch.undo()
    levels = run.stages["levels"]
    found = samples.Pass(run, [levels], run.ensemble(), {}, Local()).find_ghosts(levels, 3)
    assert (found.unknown, found.left_out) == (6, ())
    assert found.describe().endswith("; 6 not counted")


def test_counts_are_those_of_the_inertia():
    ensemble = toy_ensemble(0.02)
    sample = ensemble.predict([SampleKey(0, 0.0)])[0]
    assert count_ghosts(sample, ensemble.ghost_energy).tolist() == [0, 0]
    blocks = sample.hamiltonian.blocks.copy()
    blocks[(sample.hamiltonian.edge_index[0] == 0) & (sample.hamiltonian.edge_index[1] == 0)] -= 40
    low = replace(sample.hamiltonian, blocks=blocks)
    assert count_ghosts(replace(sample, plain=low), ensemble.ghost_energy).tolist() == [1, 0]
    assert count_ghosts(replace(sample, hamiltonian=low), ensemble.ghost_energy).tolist() == [1, 1]


def test_samples_are_counted_once_for_all_stages(tmp_path, monkeypatch):
    seen = []

    def evaluate(self, prepared, sample):
        seen.append(sample.ghosts)
        return original(self, prepared, sample)

    original = LevelsStage.evaluate
    monkeypatch.setattr(LevelsStage, "evaluate", evaluate)
    monkeypatch.setattr(engine, "count_ghosts", lambda sample, energy: np.array([7, 0]))
    execute(make_run(tmp_path))
    assert {tuple(counts) for counts in seen} == {(7, 0)}
    ensemble = toy_ensemble(0.02)
    counted = replace(ensemble.predict([SampleKey(0, 0.0)])[0], ghosts=np.array([7, 0]))
    assert count_ghosts(counted, ensemble.ghost_energy).tolist() == [7, 0]


def test_a_ghost_away_from_the_centre_of_the_zone_is_counted():
    """A hop of an atom onto its own image, t(e^{2πik·R} + c.c.), is high at Γ and low elsewhere."""
    ensemble = toy_ensemble(0.02)
    sample = ensemble.predict([SampleKey(0, 0.0)])[0]
    h = sample.hamiltonian
    hops = np.full((2, *h.blocks.shape[1:]), 100.0)
    low = BlockMatrix(
        h.numbers,
        h.basis,
        np.append(h.edge_index, [[0, 0], [0, 0]], axis=1),
        np.append(h.edge_cell_shift, [[0, 1, 0], [0, -1, 0]], axis=0),
        np.append(h.blocks, hops, axis=0),
    )
    levels = [solve_bands(low.dense(k), sample.overlap.dense(k))[0] for k in KPOINTS]
    assert levels[0] > ensemble.ghost_energy > levels[1]
    haunted = replace(sample, hamiltonian=low, plain=h)
    assert count_ghosts(haunted, ensemble.ghost_energy).tolist() == [0, 1]


def test_an_ensemble_without_some_snapshots_is_numbered_without_gaps():
    whole = toy_ensemble(0.02, n_samples=5)
    kept = whole.without((1, 3))
    assert kept.n_samples == 3
    assert kept.design.n_samples == kept.design.n_groups == 3
    assert [kept.snapshot(n) for n in range(5)] == [0, 2, 4, 5, 6]
    np.testing.assert_array_equal(
        kept.displacements(300.0, [0, 1, 2]), whole.displacements(300.0, [0, 2, 4])
    )
    assert whole.without(()) is whole
    keys = [(SampleKey(n, 0.0), {"x": np.array(n), KEY: np.array([0, 0])}) for n in range(5)]
    found = list(RenumberedResults(keys, (1, 3)))
    assert [(key.sample, int(part["x"]), KEY in part) for key, part in found] == [
        (0, 0, False),
        (1, 2, False),
        (2, 4, False),
    ]


def test_snapshots_can_be_left_out_for_other_reasons():
    counts = [(SampleKey(n, t), np.array([1, 0])) for n in range(3) for t in (0.0, 300.0)]
    found = summarize_ghosts(counts, (0.0, 300.0), {"threshold": 0.01}, left_out=[2, 9])
    assert (found.left_out, found.plain, found.shifted) == ((2,), (3, 3), (0, 0))
    again = GhostSummary.from_provenance({"ghosts": {**found.to_dict(), "plain": [3, 3]}})
    assert again.plain == (3, 3)
    assert GhostSummary.from_provenance({}) is None


def test_margin_must_be_positive():
    with pytest.raises(ConfigError, match=r"stage\.hamiltonian\.ghost_margin: got 0\.0 eV"):
        HamiltonianStage(ghost_margin=0.0)


def test_margin_decides_results_only_where_it_is_not_the_default(tmp_path):
    run = make_run(tmp_path)
    execute(run, ALL[:-1])
    stage = run.stages["levels"]
    assert "ghost_margin" not in samples.describe_sample_inputs(run, stage)
    other = make_run(tmp_path, hamiltonian_settings={"ghost_margin": 2.0})
    assert samples.describe_sample_inputs(other, stage)["ghost_margin"] == 2.0


@pytest.mark.parametrize("value", ["auto", "off", False, {"threshold": 0.01, "strength": 1}])
def test_level_shifts_that_can_be_given(value):
    assert list_wrong_values({"level_shift": value}) == []
    expected = LevelShift(0.01, 1.0) if isinstance(value, dict) else value or "off"
    assert read_level_shift(value) == expected


@pytest.mark.parametrize(
    "value", ["on", None, 0.3, {"threshold": 0.01}, {"threshold": 2.0, "strength": 1.0}]
)
def test_level_shifts_that_cannot_be_given(value):
    problems = list_wrong_values({"level_shift": value})
    assert len(problems) == 1
    assert problems[0].startswith("level_shift: got")
