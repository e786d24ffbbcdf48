"""The runner: records, skipping, resuming, growing, and what the stages up to H and S write."""

import re

import h5py
import numpy as np
import pytest
from toy_models import BatchedToy, FailingToy, HoneycombSprings, ToyElectron, build_honeycomb
from toy_pipelines import ALL, PREPARATION, execute, make_run, seen, toy_source

from mlepi.errors import DataError, PhysicsError
from mlepi.physics.vibrations.thermal import sample_displacements
from mlepi.pipeline import SampleKey, fingerprints
from mlepi.pipeline.stages.structure import relaxation
from mlepi.pipeline.stages.structure import stage as structure_stage
from mlepi.results import ResultsStore, read_hamiltonian
from mlepi.structures import read_deeph


def test_all_stages_write_their_records(tmp_path):
    run = make_run(tmp_path)
    text = execute(run)
    assert [line.split()[0] for line in text.splitlines()] == list(ALL)
    assert "smallest eigenvalue of S 7.0e-01" in text
    record = run.read("levels")
    assert record.n_results == 6
    phonon = run.read("phonon")
    assert phonon.lowest_frequency > 0
    assert phonon.sum_rule_residual < 1e-9
    sampling = run.read("sampling")
    samples = sample_displacements(phonon.build_force_constants(), (0.0, 300.0), 3, seed=0)
    np.testing.assert_allclose(
        sampling.sampled_mean_square_displacements,
        (samples**2).reshape(2, 3, 9, 2, 3).mean(axis=(1, 2)),
        rtol=1e-10,
    )
    atoms = run.ensemble().displaced(SampleKey(2, 300.0))
    ideal = run.read("structure").atoms.repeat((3, 3, 1))
    np.testing.assert_allclose(atoms.positions - ideal.positions, samples[1, 2], atol=1e-12)
    np.testing.assert_array_equal(atoms.arrays["layer"], np.zeros(18))
    provenance = run.store.provenance("levels")
    assert provenance["inputs"]["records"]["phonon"] == run.store.content("phonon")
    assert len(provenance["inputs"]["settings"]) == 1


def test_unchanged_stages_are_skipped_and_changed_ones_are_not(tmp_path):
    execute(make_run(tmp_path))
    assert execute(make_run(tmp_path)).count("unchanged") == 5
    text = execute(make_run(tmp_path, seed=1)).splitlines()
    assert ["unchanged" in line for line in text] == [True, True, False, True, False]
    # a relaxation that does not change the structure does not disturb what rests on it, but is
    # recorded
    text = execute(make_run(tmp_path, seed=1, supercell=(2, 2, 1))).splitlines()
    assert ["unchanged" in line for line in text] == [True, False, False, True, False]


def test_growing_an_ensemble_repeats_no_sample(tmp_path):
    execute(make_run(tmp_path))
    run = make_run(tmp_path, n_samples=5, temperatures=(300.0, 100.0, 0.0))
    execute(run)
    new = seen()
    assert set(new) == {SampleKey(i, t) for i in range(5) for t in (0.0, 100.0, 300.0)} - {
        SampleKey(i, t) for i in range(3) for t in (0.0, 300.0)
    }
    fresh = make_run(tmp_path / "fresh", n_samples=5, temperatures=(300.0, 100.0, 0.0))
    execute(fresh)
    np.testing.assert_array_equal(run.read("levels").mean, fresh.read("levels").mean)


def test_a_failure_keeps_the_finished_samples(tmp_path):
    run = make_run(tmp_path, levels_settings={"fail_at": 1})
    with pytest.raises(PhysicsError, match=r"a failure on purpose"):
        execute(run)
    assert "levels" not in run.store.stages()
    again = make_run(tmp_path)
    execute(again)
    assert [key.sample for key in seen()] == [1, 1, 2, 2]
    reference = make_run(tmp_path / "reference")
    execute(reference)
    np.testing.assert_array_equal(again.read("levels").mean, reference.read("levels").mean)


def test_a_new_structure_drops_what_rested_on_the_old_one(tmp_path):
    execute(make_run(tmp_path))
    other = toy_source("structure", "build_honeycomb", a=2.5)
    execute(make_run(tmp_path, structure=other), ["structure", "hamiltonian"])
    assert set(ResultsStore(tmp_path).stages()) == {"structure", "hamiltonian"}
    with pytest.raises(
        DataError, match=r"got no record 'phonon'; expected the record of an earlier stage"
    ):
        execute(make_run(tmp_path, structure=other), ["levels"])


def test_relaxation_finds_the_rest_length_and_is_recorded(tmp_path):
    run = make_run(
        tmp_path,
        structure=toy_source("structure", "build_honeycomb", a=2.52),
        structure_settings={"relax": "positions_and_cell"},
    )
    execute(run, ["structure"])
    record = run.read("structure")
    assert record.relaxation == "positions_and_cell"
    assert record.n_steps > 0
    assert record.max_force < 1e-3
    lengths = np.linalg.norm(record.atoms.cell.array[:2], axis=1)
    np.testing.assert_allclose(lengths, 1.42 * np.sqrt(3), atol=1e-3)
    assert record.atoms.cell[2, 2] == pytest.approx(12.0)
    unrelaxed = make_run(
        tmp_path, structure_settings={"relax": "positions"}, structure=run.settings.structure
    )
    execute(unrelaxed, ["structure"])
    np.testing.assert_allclose(
        unrelaxed.read("structure").atoms.cell.array, build_honeycomb(2.52).cell.array
    )


def test_large_relaxation_keeps_no_hessian_and_tells_its_progress(tmp_path, monkeypatch):
    settings = {"relax": "positions_and_cell", "max_force": 1e-4}
    source = toy_source("structure", "build_honeycomb", a=2.52)
    lengths = []
    for large in (1000, 1):
        monkeypatch.setattr(relaxation, "LARGE", large)
        monkeypatch.setattr(structure_stage, "TOLD_EVERY", -1.0)
        run = make_run(tmp_path / str(large), structure=source, structure_settings=settings)
        told = execute(run, ["structure"])
        lengths.append(np.linalg.norm(run.read("structure").atoms.cell.array[:2], axis=1))
        assert re.search(r"structure +step 1 of at most \d+, largest force \S+ of 1e-04 eV/Å", told)
    np.testing.assert_allclose(lengths[0], lengths[1], atol=1e-4)


def test_relaxation_that_does_not_converge(tmp_path):
    settings = {"relax": "positions_and_cell", "max_steps": 1, "max_force": 1e-9}
    run = make_run(
        tmp_path,
        structure=toy_source("structure", "build_honeycomb", a=2.6),
        structure_settings=settings,
    )
    with pytest.raises(
        PhysicsError, match=r"relaxation: got .* eV/Å after 1 steps; expected at most 1.0e-09 eV/Å"
    ):
        execute(run, ["structure"])


def test_hamiltonian_files_of_structure_and_samples(tmp_path):
    run = make_run(tmp_path, hamiltonian_settings={"store": True, "deeph": True}, n_samples=1)
    execute(run)
    atoms, hamiltonian, overlap = read_hamiltonian(
        tmp_path / "hamiltonians" / "sample_000000_T300.h5"
    )
    np.testing.assert_array_equal(
        atoms.positions, run.ensemble().displaced(SampleKey(0, 300.0)).positions
    )
    k = np.array([0.3, 0.1, 0.0])
    expected_h, expected_s = run.networks.predict(atoms)
    np.testing.assert_array_equal(hamiltonian.dense(k), expected_h.dense(k))
    np.testing.assert_array_equal(overlap.dense(k), expected_s.dense(k))
    labels = read_deeph(tmp_path / "deeph")
    assert labels.hamiltonian_blocks.shape == (8, 1, 1)
    np.testing.assert_allclose(np.sort(labels.overlap_blocks.ravel())[-2:], 1.0)
    assert run.equilibrium()[1].n_orbitals == 2


def test_damaged_hamiltonian_file(tmp_path):
    run = make_run(tmp_path)
    execute(run)
    path = tmp_path / "hamiltonian.h5"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"hamiltonian.h5: got no readable HDF5"):
        run.equilibrium()


def test_nearly_singular_overlap_warns_and_an_indefinite_one_raises(tmp_path):
    run = make_run(
        tmp_path / "a",
        electron=toy_source("electron", "ToyElectron", overlap=1 / 3 - 1e-6),
    )
    text = execute(run, ["structure", "hamiltonian"])
    assert "WARNING (serious): hamiltonian: S is nearly singular" in text
    run = make_run(
        tmp_path / "b",
        electron=toy_source("electron", "ToyElectron", overlap=0.4),
    )
    with pytest.raises(
        PhysicsError,
        match=r"overlap of .*: got smallest eigenvalue -2.0e-01; expected a positive definite",
    ):
        execute(run, ["structure", "hamiltonian"])


def test_export_writes_the_supercells(tmp_path):
    from ase.io import read

    run = make_run(tmp_path, sampling_settings={"export": True})
    execute(run, PREPARATION)
    frames = read(tmp_path / "samples" / "T300.extxyz", ":")
    assert len(frames) == 3
    np.testing.assert_allclose(
        frames[1].positions, run.ensemble().displaced(SampleKey(1, 300.0)).positions, atol=1e-7
    )


def test_networks_are_loaded_from_their_sources_or_given(tmp_path):
    run = make_run(tmp_path)
    assert isinstance(run.networks.calculator, HoneycombSprings)
    assert isinstance(run.networks.electron, ToyElectron)
    own = HoneycombSprings(), BatchedToy()
    given = make_run(tmp_path, own_calculator=own[0], own_electron=own[1]).networks
    assert (given.calculator, given.electron) == own
    assert run.settings.electron.describe() == "toy_models.ToyElectron()"


@pytest.mark.parametrize("prefetch", [False, True])
def test_batches_change_no_result_and_no_order(tmp_path, prefetch):
    reference = make_run(tmp_path / "reference", n_samples=3)
    execute(reference)
    order = seen()
    BatchedToy.sizes.clear()
    settings = {"n_samples": 3, "batch_size": 4, "prefetch": prefetch}
    run = make_run(tmp_path / "batched", own_electron=BatchedToy(), **settings)
    execute(run)
    assert BatchedToy.sizes == [4, 2]
    assert seen() == order
    np.testing.assert_array_equal(run.read("levels").mean, reference.read("levels").mean)
    name = "parts/levels.0.part"
    assert (tmp_path / "batched" / name).read_bytes() == (
        tmp_path / "reference" / name
    ).read_bytes()


@pytest.mark.parametrize("prefetch", [False, True])
def test_a_failure_in_a_batch_keeps_the_samples_before_it(tmp_path, prefetch):
    run = make_run(tmp_path, levels_settings={"fail_at": 1}, batch_size=4, prefetch=prefetch)
    with pytest.raises(PhysicsError, match=r"a failure on purpose"):
        execute(run)
    again = make_run(tmp_path, prefetch=prefetch)
    execute(again)
    assert [key.sample for key in seen()] == [1, 1, 2, 2]


def test_an_error_of_the_network_ahead_of_its_use_is_told(tmp_path):
    run = make_run(tmp_path, prefetch=True, own_electron=FailingToy())
    execute(run, PREPARATION)
    with pytest.raises(PhysicsError, match="network: a failure on purpose"):
        execute(run, ["levels"])


def test_rounded_products_are_inputs_of_the_record(tmp_path):
    run = make_run(tmp_path, tf32=True)
    assert "tf32" not in run.settings.describe_electron()  # a processor does not round
    gpu = make_run(tmp_path, tf32=True, device="cuda:0")
    assert gpu.settings.describe_electron()["tf32"] is True


def test_stored_samples_serve_again_while_inputs_and_code_hold(tmp_path, monkeypatch):
    settings = {"hamiltonian_settings": {"store": True}}
    reference = make_run(tmp_path, **settings)
    execute(reference)
    later = make_run(tmp_path, own_electron=FailingToy(), **settings)
    execute(later, [*PREPARATION, "other_levels"])  # every H is read, none predicted
    np.testing.assert_array_equal(later.read("other_levels").mean, reference.read("levels").mean)
    assert len(seen("other_levels")) == 6
    other = make_run(tmp_path, own_electron=FailingToy(), seed=1, **settings)
    with pytest.raises(PhysicsError, match="network: a failure on purpose"):
        execute(other)


def test_records_of_other_code_are_computed_again_unless_they_are_to_be_kept(tmp_path, monkeypatch):
    execute(make_run(tmp_path))
    monkeypatch.setattr(fingerprints, "fingerprint_code", lambda modules, without: "other")
    kept = execute(make_run(tmp_path, reuse="always"))
    assert kept.count("unchanged, made by other code") == 5
    assert seen() == []
    text = execute(make_run(tmp_path))
    assert text.count("made by other code: computed again (reuse=always keeps it)") == 5
    assert len(seen()) == 6  # the samples were made by other code too
    assert execute(make_run(tmp_path)).count("unchanged\n") == 5
    assert "unchanged" not in execute(make_run(tmp_path, reuse="never"))
    assert len(seen()) == 6


def test_records_without_a_fingerprint_are_kept_and_told(tmp_path):
    run = make_run(tmp_path)
    execute(run)
    with h5py.File(run.store.path, "a") as file:
        for group in file.values():
            del group.attrs["code"], group.attrs["sha256"]  # neither was there then
    assert execute(run).count("unchanged, made by unknown code") == 5
