"""The domain stage.

Geometry against training ranges, spread of networks, and inputs for labelling the worst samples.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import ase.io
import h5py
import numpy as np
import pytest
from mlepi.observables.training_domain import (
    QUANTITIES,
    TrainingDomain,
    describe_geometry,
    find_training_data,
    force_spread,
    hamiltonian_spread,
    read_training_structures,
)
from mlepi.plots.domain import list_domain_facts, plot_domain
from tiny_networks import (
    BASIS,
    build_config,
    build_network,
    corrugated_bilayer,
    gaussian_overlap_table,
)
from toy_runs import ToyRun
from toys import SPACING, honeycomb

from mlepi.checkpoint import save_checkpoint, stamp
from mlepi.errors import ConfigError, DataError, PhysicsError, StructureError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.observables.domain import DomainStage
from mlepi.pipeline.stage import SampleKey
from mlepi.predictors import ElectronPredictor
from mlepi.project_files import PROJECT_FOLDER
from mlepi.results.hdf5 import read_record, write_record
from mlepi.structures import OpenmxSettings, VaspSettings, read_openmx_input

BOND = 2.46 / np.sqrt(3)
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


class Run(ToyRun):
    def __init__(self, folder, amplitude, metadata=NAMED, **settings):
        super().__init__(amplitude, **settings)
        self.store = SimpleNamespace(folder=folder)
        self.electron_model = SimpleNamespace(metadata=metadata)
        self.dtype = "float64"

    def predict(self, atoms):
        return self.matrices(atoms)


def build_stage(**settings):
    return DomainStage(**{**SETTINGS, **settings})


def test_geometry_of_known_structures():
    flat = honeycomb(bilayer=True)
    values = describe_geometry(flat.repeat((3, 3, 1)), flat.repeat((3, 3, 1)).positions)
    np.testing.assert_allclose(values, [BOND, BOND, SPACING, SPACING, 0.0, 0.0], atol=1e-6)
    moved = flat.repeat((3, 3, 1))
    moved.positions[0] += [0.0, 0.0, 0.18]
    values = dict(
        zip(QUANTITIES, describe_geometry(moved, flat.repeat((3, 3, 1)).positions), strict=True)
    )
    assert values["displacement"] == pytest.approx(0.18)
    assert values["height within a layer"] == pytest.approx(0.18 * 17 / 18)
    assert values["layer spacing"] == pytest.approx(SPACING - 0.01)
    assert values["longest bond"] == pytest.approx(np.hypot(BOND, 0.18), rel=1e-6)
    assert values["nearest intralayer pair"] == pytest.approx(BOND, rel=1e-6)
    values = dict(zip(QUANTITIES, describe_geometry(honeycomb()), strict=True))
    assert np.isnan(
        [values["nearest interlayer pair"], values["layer spacing"], values["displacement"]]
    ).all()


def test_distance_is_counted_outside_the_range_on_the_right_side():
    training = np.array([[1.3, 1.5, 3.0, 3.3, 0.1, np.nan], [1.4, 1.6, 3.2, 3.5, 0.3, np.nan]])
    domain = TrainingDomain(training, "two structures")
    np.testing.assert_allclose(
        domain.ranges[:5], [[1.3, 1.4], [1.5, 1.6], [3.0, 3.2], [3.3, 3.5], [0.1, 0.3]]
    )
    inside = np.array([1.35, 1.55, 3.1, 3.4, 0.2, 9.0])
    assert domain.distances(inside) == pytest.approx(-1.0)
    for number, value, expected in (
        (0, 1.2, 2.0),
        (0, 2.0, -1.0),
        (1, 1.7, 2.0),
        (3, 3.2, 1.0),
        (3, 3.7, 2.0),
        (4, 0.0, -1.0),
    ):
        sample = inside.copy()
        sample[number] = value
        assert domain.distances(sample) == pytest.approx(expected)
    assert np.isnan(TrainingDomain(np.empty((0, 6)), "").distances(inside))


def test_shipped_checkpoints_name_their_training_structures():
    """What the domain of validity in data/checkpoints/hedgenet_electron.md says.

    Spacings 3.00–3.50 Å, heights up to 0.24 Å.
    """
    from mlepi.checkpoint import load_checkpoint

    path, split = find_training_data(
        load_checkpoint(PROJECT_FOLDER / "data/checkpoints/hedgenet_electron.ckpt")[0]["metadata"]
    )
    structures = read_training_structures(PROJECT_FOLDER / path, PROJECT_FOLDER / split)
    assert len(structures) == 27
    ranges = TrainingDomain(
        np.array([describe_geometry(atoms) for atoms in structures]), "shipped"
    ).ranges
    np.testing.assert_allclose(ranges[QUANTITIES.index("layer spacing")], [3.0, 3.5], atol=5e-3)
    assert ranges[QUANTITIES.index("height within a layer"), 1] == pytest.approx(0.24, abs=5e-3)


def test_spread_of_hamiltonians_ignores_their_energy_zero():
    atoms = honeycomb(bilayer=True)
    h, s = ToyRun(0.0).matrices(atoms)
    noise = 0.01 * np.random.default_rng(0).normal(size=h.blocks.shape)
    noise -= np.sum(noise * s.blocks) / np.sum(s.blocks**2) * s.blocks
    others = [
        BlockMatrix(h.numbers, h.basis, h.edge_index, h.edge_cell_shift, h.blocks + x)
        for x in (noise, 3.0 * s.blocks)
    ]
    assert hamiltonian_spread([h, others[1]], s) == pytest.approx(0.0, abs=1e-9)
    # two values a and b deviate by ±(a − b)/2 from their mean: variance (a − b)²/2 with n − 1
    expected = np.sqrt(np.mean(noise**2) / 2)
    assert hamiltonian_spread([h, others[0]], s) == pytest.approx(expected, rel=1e-6)
    order = np.random.default_rng(1).permutation(len(h.blocks))
    shuffled = BlockMatrix(
        h.numbers,
        h.basis,
        h.edge_index[:, order],
        h.edge_cell_shift[order],
        others[0].blocks[order],
    )
    assert hamiltonian_spread([h, shuffled], s) == pytest.approx(expected, rel=1e-6)
    assert force_spread([np.zeros((4, 3)), np.full((4, 3), 0.2)]) == pytest.approx(0.2 / np.sqrt(2))
    with pytest.raises(
        StructureError, match="ensemble of electron networks: got matrices of different size"
    ):
        hamiltonian_spread([h, ToyRun(0.0).matrices(atoms.repeat((2, 1, 1)))[0]], s)


def test_samples_are_compared_ranked_and_written(tmp_path):
    run = Run(tmp_path, 0.03, n_samples=3, supercell=(3, 3, 1))
    stage = build_stage()
    record = run.compute(stage)
    assert (
        record.source
        == "data/blg_openmx/forces.extxyz, train of data/blg_openmx/splits/forces_81_09_10.json"
    )
    assert (record.n_training, record.values.shape) == (36, (3, 2, 6))
    expected = describe_geometry(
        run.displaced(SampleKey(1, 300.0)), run.atoms.repeat((3, 3, 1)).positions
    )
    np.testing.assert_allclose(record.values[1, 1], expected)
    domain = TrainingDomain(record.training_values, "")
    np.testing.assert_allclose(record.distances, domain.distances(record.values))
    assert np.all(record.ghosts == 0)
    order = np.argsort(-record.distances, axis=None)[:2]
    np.testing.assert_array_equal(record.worst_samples, order // 2)
    np.testing.assert_array_equal(record.worst_temperatures, np.array([0.0, 300.0])[order % 2])
    first = run.displaced(
        SampleKey(int(record.worst_samples[0]), float(record.worst_temperatures[0]))
    )
    name = f"sample_{record.worst_samples[0]:06d}_{record.worst_temperatures[0]:g}K"
    assert record.label_files[:2] == (f"label/openmx/{name}.dat", f"label/vasp/{name}")
    np.testing.assert_allclose(
        read_openmx_input(tmp_path / record.label_files[0]).positions, first.positions, atol=1e-9
    )
    assert (
        "scf.Kgrid                           6 6 1"
        in (tmp_path / record.label_files[0]).read_text()
    )
    np.testing.assert_allclose(
        ase.io.read(tmp_path / record.label_files[1] / "POSCAR").positions,
        first.positions,
        atol=1e-9,
    )
    assert "outside the range of 36 training structures" in stage.summarize(record)
    with h5py.File(tmp_path / "record.h5", "w") as file:
        write_record(file.create_group("record"), record)
        again = read_record(file["record"], type(record))
    np.testing.assert_array_equal(again.distances, record.distances)
    assert again.label_files == record.label_files
    assert plot_domain(record).axes[0].get_xlabel() == "nearest intralayer pair (Å)"
    facts = list_domain_facts(record)
    assert facts[0] == ["training structures", f"36 of {record.source}"]
    assert f"label/openmx/{name}.dat" in facts[-2][1]


def test_far_samples_and_ghosts_are_told(tmp_path):
    far = Run(tmp_path, 0.12, n_samples=2).compute(build_stage(openmx=None, vasp=None))
    assert np.all(far.outside_shares == 1.0)
    assert any(
        "100 % of the samples at 300 K lie outside the training data" in text
        for text in far.doubts()
    )
    assert far.label_files == ()
    haunted = replace(far, ghosts=np.array([[0, 1], [0, 0]]))
    assert any("1 of 2 samples have ghost states" in text for text in haunted.doubts())
    spreads = replace(
        far,
        hamiltonian_spreads=np.full((2, 2), 0.02),
        training_hamiltonian_spreads=np.array([0.01]),
    )
    assert any(
        "the networks differ in H by up to 0.02 eV, more than on any training structure (0.01 eV)"
        in t
        for t in spreads.doubts()
    )
    assert len(plot_domain(spreads).axes) == 9


def test_a_ghost_state_puts_a_sample_first(tmp_path):
    """An on-site energy of −60 eV on one atom of one sample is a state far below all bands."""

    class Haunted(Run):
        def matrices(self, atoms):
            h, s = super().matrices(atoms)
            if len(atoms) > 4 and np.allclose(
                atoms.positions, self.displaced(SampleKey(1, 0.0)).positions
            ):
                sites = (
                    (h.edge_index[0] == 5) & (h.edge_index[1] == 5) & ~h.edge_cell_shift.any(axis=1)
                )
                h = replace(h, blocks=np.where(sites[:, None, None], -60.0, h.blocks))
            return h, s

    record = Haunted(tmp_path, 0.03).compute(build_stage(n_worst=1))
    np.testing.assert_array_equal(record.ghosts, [[0, 0], [1, 0], [0, 0]])
    assert (record.worst_samples[0], record.worst_temperatures[0]) == (1, 0.0)


def test_without_training_data_displacements_rank(tmp_path):
    run = Run(tmp_path, 0.03, metadata={})
    record = run.compute(build_stage(openmx=None, vasp=None, n_worst=1))
    assert (record.source, record.n_training) == ("", 0)
    assert np.all(np.isnan(record.distances))
    assert np.all(np.isnan(record.outside_shares))
    assert record.worst_samples[0] == np.argmax(record.values[:, 1, -1])
    assert record.doubts()[0].startswith("no training structures are known")
    assert "no training data known" in build_stage().summarize(record)
    assert len(list_domain_facts(record)) == 2
    plot_domain(record)
    by_hand = run.compute(build_stage(data=str(DATA / "forces.extxyz"), openmx=None, vasp=None))
    assert by_hand.n_training == 45


def test_several_networks_are_compared(tmp_path):
    table = gaussian_overlap_table()
    networks = []
    for seed in (0, 1):
        network, config = build_network("electron"), build_config("electron")
        for value in network.parameters():
            value.data += 0.01 * seed
        path = tmp_path / f"{seed}.ckpt"
        content = stamp("electron", config, config["cutoffs"], basis=BASIS, overlap_table=table)
        save_checkpoint(path, content, network.state_dict())
        networks.append(path)
    phonon, config = build_network("phonon"), build_config("phonon")
    save_checkpoint(
        tmp_path / "phonon.ckpt",
        stamp("phonon", config, config["network"]["backbone"]["cutoffs"]),
        phonon.state_dict(),
    )
    from mlepi.checkpoint import load_model

    atoms = corrugated_bilayer()
    predictor = load_model(networks[0])
    assert isinstance(predictor, ElectronPredictor)
    run = Run(tmp_path, 0.0, n_samples=2, temperatures=(0.0,), metadata={})
    run.atoms, run.electron_model, run.supercell = atoms, predictor, (1, 1, 1)
    run.matrices = run.predict = lambda a: (
        predictor.hamiltonian(a, dtype="float64"),
        predictor.overlap(a),
    )
    run.calculator = load_model(tmp_path / "phonon.ckpt").calculator()
    run.phonon = SimpleNamespace(fingerprint=lambda: "phonon")
    settings = {
        "electron_checkpoints": [str(networks[1])],
        "phonon_checkpoints": [str(tmp_path / "phonon.ckpt")],
    }
    stage = build_stage(**settings, rank_by="hamiltonian_spread", openmx=None, vasp=None)
    record = run.compute(stage)
    other = load_model(networks[1]).hamiltonian(atoms, dtype="float64")
    expected = hamiltonian_spread(
        [predictor.hamiltonian(atoms, dtype="float64"), other], predictor.overlap(atoms)
    )
    assert expected > 1e-4
    np.testing.assert_allclose(record.hamiltonian_spreads, expected)
    np.testing.assert_allclose(record.force_spreads, 0.0, atol=1e-12)  # a network and itself
    assert (record.n_electron_networks, record.n_phonon_networks) == (2, 2)
    assert set(stage.sample_inputs(run)) == {"electron", "phonon", "supercell"}


def test_bad_settings_and_samples_are_refused(tmp_path):
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
        Run(tmp_path, 0.0).compute(build_stage(data="missing.h5"))
    with pytest.raises(DataError, match=r"expected 'holdout'"):
        read_training_structures(
            DATA / "forces.extxyz", DATA / "splits" / "forces_81_09_10.json", "holdout"
        )
    run = ToyRun(0.0)
    with pytest.raises(PhysicsError, match=r"a sample before begin\(\)"):
        build_stage().evaluate(SampleKey(0, 0.0), *run.matrices(run.atoms))


def test_inputs_of_a_sample_do_not_depend_on_the_ensemble():
    few, many = (
        SimpleNamespace(supercell=(3, 3, 1), n_samples=2),
        SimpleNamespace(supercell=(3, 3, 1), n_samples=9),
    )
    assert build_stage().sample_inputs(few) == build_stage(n_worst=7).sample_inputs(many)
    assert build_stage().inputs(few) != build_stage(n_worst=7).inputs(few)
    assert build_stage().inputs(few)["openmx"]["bases"] == {"6": "C6.0-s2p2"}
