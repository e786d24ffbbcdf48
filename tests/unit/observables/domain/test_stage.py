"""The domain stage: ranking and ghosts of samples, spread of networks, inputs to label them."""

from __future__ import annotations

from dataclasses import replace

import ase.io
import h5py
import numpy as np
import pytest
from stored_records import read_record
from tiny_networks import (
    BASIS,
    build_config,
    build_network,
    corrugated_bilayer,
    gaussian_overlap_table,
)
from toy_ensembles import ToyElectron, compute, toy_ensemble, toy_settings

from mlepi.checkpoint import load_model, save_checkpoint, stamp
from mlepi.errors import ConfigError, DataError
from mlepi.observables.domain.stage import DomainStage
from mlepi.observables.domain.training_domain import (
    TrainingDomain,
    describe_geometry,
    hamiltonian_spread,
)
from mlepi.pipeline import Equilibrium, Networks, SampleKey
from mlepi.pipeline.sources import Source
from mlepi.predictors import ElectronPredictor
from mlepi.project_files import PROJECT_FOLDER
from mlepi.results.hdf5 import write_record
from mlepi.structures import OpenmxSettings, VaspSettings, read_forces_dataset
from mlepi.structures.openmx_text import find_block

DATA = PROJECT_FOLDER / "data" / "blg_openmx"
OPENMX = OpenmxSettings(
    bases={6: "C6.0-s2p2"},
    pseudopotentials={6: "C_PBE19"},
    valence_electrons={6: 4},
    functional="GGA-PBE",
    grid_cutoff=200.0,
    electronic_temperature=300.0,
    criterion=1e-8,
    dispersion=True,
    primitive_kgrid=[18, 18, 1],
)
SETTINGS = {
    "data": None,
    "split": None,
    "subset": "train",
    "electron_checkpoints": [],
    "phonon_checkpoints": [],
    "n_compared": 2,
    "rank_by": "distance",
    "n_worst": 2,
    "openmx": OPENMX,
    "vasp": VaspSettings(incar={"ENCUT": 500}, primitive_kgrid=[18, 18, 1]),
}
NAMED = {
    "config": {
        "data": {
            "path": "data/blg_openmx/forces.extxyz",
            "split": "data/blg_openmx/splits/forces_81_09_10.json",
        }
    }
}


class NamingElectron(ToyElectron):
    """A toy whose checkpoint names its training structures."""

    def __init__(self, metadata=NAMED):
        super().__init__()
        self.metadata = metadata


def make_ensemble(folder, amplitude, metadata=NAMED, electron=None, **changes):
    electron = electron or NamingElectron(metadata)
    return toy_ensemble(amplitude, electron=electron, folder=folder, **changes)


def build_stage(**settings):
    return DomainStage(**{**SETTINGS, **settings})


def test_samples_are_compared_ranked_and_written(tmp_path):
    ensemble = make_ensemble(tmp_path, 0.03)
    stage = build_stage()
    record = compute(stage, ensemble)
    assert (
        record.source
        == "data/blg_openmx/forces.extxyz, train of data/blg_openmx/splits/forces_81_09_10.json"
    )
    assert (record.n_training, record.values.shape) == (36, (3, 2, 6))
    expected = describe_geometry(
        ensemble.displaced(SampleKey(1, 300.0)), ensemble.primitive.repeat((3, 3, 1)).positions
    )
    np.testing.assert_allclose(record.values[1, 1], expected)
    domain = TrainingDomain(record.training_values, "")
    np.testing.assert_allclose(record.distances, domain.distances(record.values))
    assert np.all(record.ghosts == 0)
    order = np.argsort(-record.distances, axis=None)[:2]
    np.testing.assert_array_equal(record.worst_samples, order // 2)
    np.testing.assert_array_equal(record.worst_temperatures, np.array([0.0, 300.0])[order % 2])
    worst = SampleKey(int(record.worst_samples[0]), float(record.worst_temperatures[0]))
    first, name = ensemble.displaced(worst), f"sample_{worst.sample:06d}_{worst.temperature:g}K"
    assert record.label_files[:2] == (f"label/openmx/{name}.dat", f"label/vasp/{name}")
    openmx, vasp = (tmp_path / file for file in record.label_files[:2])
    text = openmx.read_text()
    rows = [row[2:5] for row in find_block(text, "Atoms.SpeciesAndCoordinates")]
    np.testing.assert_allclose(np.array(rows, dtype=float), first.positions, atol=1e-9)
    assert "scf.Kgrid                           6 6 1" in text
    poscar = ase.io.read(vasp / "POSCAR")
    np.testing.assert_allclose(poscar.positions, first.positions, atol=1e-9)
    assert "outside the range of 36 training structures" in stage.summarize(record)
    with h5py.File(tmp_path / "record.h5", "w") as file:
        write_record(file.create_group("record"), record)
        again = read_record(file["record"], type(record))
    np.testing.assert_array_equal(again.distances, record.distances)
    assert again.label_files == record.label_files


def test_far_samples_and_ghosts_are_told(tmp_path):
    far = compute(build_stage(openmx=None, vasp=None), make_ensemble(tmp_path, 0.12, n_samples=2))
    assert np.all(far.outside_shares == 1.0)
    assert any(
        text.startswith("samples lie outside the training data: 100 % at 0 K, 100 % at 300 K, by")
        for text in DomainStage.doubts(far)
    )
    assert far.label_files == ()
    haunted = replace(far, ghosts=np.array([[0, 1], [0, 0]]))
    assert any("1 of 2 samples have ghost states" in text for text in DomainStage.doubts(haunted))
    spreads = replace(
        far,
        hamiltonian_spreads=np.full((2, 2), 0.02),
        training_hamiltonian_spreads=np.array([0.01]),
    )
    assert any(
        "the networks differ in H by up to 0.02 eV, more than on any training structure (0.01 eV)"
        in t
        for t in DomainStage.doubts(spreads)
    )


@pytest.mark.parametrize(("supercell", "unseen"), [((3, 3, 1), []), ((4, 4, 1), [3 * 2.46])])
def test_a_larger_cell_than_the_training_ones_is_told(tmp_path, supercell, unseen):
    electron = NamingElectron()
    electron.reach = 10.0
    ensemble = make_ensemble(tmp_path, 0.03, electron=electron, supercell=supercell, n_samples=2)
    record = compute(build_stage(openmx=None, vasp=None), ensemble)
    np.testing.assert_allclose(record.unseen_periods, unseen, rtol=0.02)
    told = any("every training cell repeats after 7.4 Å" in t for t in DomainStage.doubts(record))
    assert told == bool(unseen)


def test_a_ghost_state_puts_a_sample_first(tmp_path):
    """An on-site energy of −60 eV on one atom of one sample is a state far below all bands."""
    haunted = make_ensemble(tmp_path, 0.03).displaced(SampleKey(1, 0.0))

    class Haunted(NamingElectron):
        def hamiltonian(self, atoms, **options):
            h = super().hamiltonian(atoms, **options)
            if len(atoms) == len(haunted) and np.allclose(atoms.positions, haunted.positions):
                sites = (
                    (h.edge_index[0] == 5) & (h.edge_index[1] == 5) & ~h.edge_cell_shift.any(axis=1)
                )
                h = replace(h, blocks=np.where(sites[:, None, None], -60.0, h.blocks))
            return h

    record = compute(build_stage(n_worst=1), make_ensemble(tmp_path, 0.03, electron=Haunted()))
    np.testing.assert_array_equal(record.ghosts, [[0, 0], [1, 0], [0, 0]])
    assert (record.worst_samples[0], record.worst_temperatures[0]) == (1, 0.0)


def test_without_training_data_displacements_rank(tmp_path):
    ensemble = make_ensemble(tmp_path, 0.03, metadata={})
    record = compute(build_stage(openmx=None, vasp=None, n_worst=1), ensemble)
    assert (record.source, record.n_training) == ("", 0)
    assert np.all(np.isnan(record.distances))
    assert np.all(np.isnan(record.outside_shares))
    assert record.worst_samples[0] == np.argmax(record.values[:, 1, -1])
    assert DomainStage.doubts(record)[0].startswith("no training structures are known")
    assert "no training data known" in build_stage().summarize(record)
    by_hand = compute(
        build_stage(data=str(DATA / "forces.extxyz"), openmx=None, vasp=None), ensemble
    )
    assert by_hand.n_training == len(read_forces_dataset(DATA / "forces.extxyz"))


def test_one_sample_is_enough(tmp_path):
    """No error bar is asked of a diagnosis."""
    ensemble = make_ensemble(tmp_path, 0.03, metadata={}, n_samples=1)
    assert compute(build_stage(openmx=None, vasp=None), ensemble).n_samples == 1


def write_networks(folder):
    """Two electron networks that differ, and a phonon network; return their checkpoints."""
    table, files = gaussian_overlap_table(), []
    for seed in (0, 1):
        network, config = build_network("electron"), build_config("electron")
        for value in network.parameters():
            value.data += 0.01 * seed
        files.append(folder / f"{seed}.ckpt")
        content = stamp("electron", config, config["cutoffs"], basis=BASIS, overlap_table=table)
        save_checkpoint(files[-1], content, network.state_dict())
    phonon, config = build_network("phonon"), build_config("phonon")
    files.append(folder / "phonon.ckpt")
    content = stamp("phonon", config, config["network"]["backbone"]["cutoffs"])
    save_checkpoint(files[-1], content, phonon.state_dict())
    return files


def test_several_networks_are_compared(tmp_path):
    own, other, phonon = write_networks(tmp_path)
    atoms, predictor = corrugated_bilayer(), load_model(own)
    assert isinstance(predictor, ElectronPredictor)
    settings = toy_settings((1, 1, 1), (0.0,), 2, phonon=Source("phonon", str(phonon)))
    networks = Networks(settings, load_model(phonon).calculator(), predictor)
    ensemble = toy_ensemble(0.0, n_samples=2, temperatures=(0.0,), supercell=(1, 1, 1))
    ensemble.sampler.n_atoms = len(atoms)
    ensemble = replace(
        ensemble,
        equilibrium=Equilibrium(atoms, *networks.predict(atoms)),
        primitive=atoms,
        networks=networks,
    )
    stage = build_stage(
        electron_checkpoints=[str(other)],
        phonon_checkpoints=[str(phonon)],
        rank_by="hamiltonian_spread",
        openmx=None,
        vasp=None,
    )
    record = compute(stage, ensemble)
    expected = hamiltonian_spread(
        [model.hamiltonian(atoms, dtype="float64") for model in (predictor, load_model(other))],
        predictor.overlap(atoms),
    )
    assert expected > 1e-4
    np.testing.assert_allclose(record.hamiltonian_spreads, expected)
    np.testing.assert_allclose(record.force_spreads, 0.0, atol=1e-12)  # a network and itself
    assert (record.n_electron_networks, record.n_phonon_networks) == (2, 2)
    assert set(stage.sample_inputs(settings)) == {"electron", "phonon", "supercell"}
    assert stage.sources() == {"electron", "phonon"}
    assert build_stage().sources() == {"electron"}
    assert {"mlepi.models.deeph_e3", "mlepi.models.mace"} <= stage.further_modules()
    assert build_stage().further_modules() == set()


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"stage\.domain\.rank_by: got 'force_spread' with 0 and 0 further networks",
    ):
        build_stage(rank_by="force_spread")
    with pytest.raises(ConfigError, match=r"stage\.domain\.n_worst: got -1"):
        build_stage(n_worst=-1)
    with pytest.raises(
        DataError, match=r"stage\.domain\.electron_checkpoints: got 'missing\.ckpt'"
    ):
        build_stage(electron_checkpoints=["missing.ckpt"])
    with pytest.raises(DataError, match=r"stage\.domain\.data: got 'missing\.h5'"):
        compute(build_stage(data="missing.h5"), make_ensemble(tmp_path, 0.0))


def test_inputs_name_the_settings_and_not_the_ensemble():
    few, many = toy_settings(n_samples=2), toy_settings(n_samples=9)
    assert build_stage().sample_inputs(few) == build_stage(n_worst=7).sample_inputs(many)
    assert build_stage().inputs(few) != build_stage(n_worst=7).inputs(few)
    assert build_stage().inputs(few)["openmx"]["bases"] == {"6": "C6.0-s2p2"}
