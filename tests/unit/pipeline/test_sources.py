"""Overlaps from the user's own files instead of the checkpoint's table."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import write
from tiny_networks import CUTOFFS, build_config, build_network

from mlepi.checkpoint import save_checkpoint, stamp
from mlepi.errors import DataError, StructureError
from mlepi.physics.overlaps import read_overlap_table, write_overlap_table
from mlepi.pipeline import sources
from mlepi.pipeline.networks import Networks
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.sources import (
    Source,
    load_calculator,
    load_electron,
    load_overlap_table,
    load_structure,
)
from mlepi.reference_systems import HoneycombSprings, TightBinding
from mlepi.results import hash_file
from mlepi.structures import LabelledStructure, OrbitalBasis, build_graphene, write_deeph
from mlepi.units import BOHR

ROOT = Path(__file__).parents[3]
ELECTRON = Source("electron", str(ROOT / "data/checkpoints/hedgenet_electron.ckpt"))
TABLE = ROOT / "data/blg_openmx/overlap_C6.0-s2p2.h5"
PAO = ROOT.parent / "shared" / "data" / "pao" / "C6.0.pao"


def test_a_table_of_the_user_replaces_that_of_the_checkpoint(tmp_path):
    table = read_overlap_table(TABLE)
    halved = type(table)(
        shells=table.shells,
        radii=table.radii,
        names=table.names,
        values={pair: 0.5 * values for pair, values in table.values.items()},
        fitted_intervals=table.fitted_intervals,
    )
    write_overlap_table(tmp_path / "halved.h5", halved, {})
    atoms = build_graphene(stacking="AB")
    own = load_electron(ELECTRON).overlap(atoms).blocks
    given = load_electron(ELECTRON, [tmp_path / "halved.h5"]).overlap(atoms).blocks
    np.testing.assert_allclose(given, 0.5 * own, atol=1e-12)


@pytest.mark.skipif(not PAO.is_file(), reason="OpenMX's orbitals are not part of the project")
def test_orbitals_give_the_shipped_table():
    atoms = build_graphene(stacking="AB")
    own, given = (
        load_electron(ELECTRON).overlap(atoms),
        load_electron(ELECTRON, [PAO]).overlap(atoms),
    )
    np.testing.assert_allclose(given.blocks, own.blocks, atol=1e-9)


def test_s_of_every_structure_replaces_the_table(tmp_path):
    """From a folder and from a program: the S that the table of the checkpoint gave before."""
    atoms = build_graphene(stacking="AB")
    own = load_electron(ELECTRON).overlap(atoms)
    labels = LabelledStructure(
        "AB", atoms, own.basis, own.edge_index, own.edge_cell_shift, overlap_blocks=own.blocks
    )
    write_deeph(tmp_path / "given" / "AB", labels)
    (tmp_path / "copy").write_text(f'#!/bin/sh\ncp -r {tmp_path / "given"} "$1"\n')
    (tmp_path / "copy").chmod(0o755)
    common = {
        "temperatures": (0.0,),
        "n_samples": 1,
        "seed": 0,
        "supercell": (1, 1, 1),
        "structure": Source("structure", None),
        "phonon": Source("phonon", None),
        "electron": ELECTRON,
    }
    described = [Settings(**common).describe_electron()]
    for chosen in (
        {"overlap": (tmp_path / "given",)},
        {"overlap_program": (str(tmp_path / "copy"),)},
    ):
        settings = Settings(**common, **chosen)
        model = Networks(settings).electron
        given = model.overlap(atoms)
        for kpoint in ([0, 0, 0], [0.2, 0.1, 0]):
            np.testing.assert_allclose(given.dense(kpoint), own.dense(kpoint), atol=1e-12)
        described.append(settings.describe_electron())
    assert "overlap" not in described[0]
    assert len(described[1]["overlap"]) == 1
    assert described[2]["overlap"] == [hash_file(tmp_path / "copy"), str(tmp_path / "copy")]


def test_files_of_other_elements_or_orbitals_are_refused(tmp_path):
    basis = OrbitalBasis(shells={6: (0, 0, 1, 1)}, radii={6: 3.175}, names={6: "C6.0-s2p2"})
    with pytest.raises(
        DataError,
        match=r"overlap: got the file Mo7\.0\.pao; expected a \.pao or \.ion\.xml file named",
    ):
        load_overlap_table([tmp_path / "Mo7.0.pao"], basis)
    table = read_overlap_table(TABLE)
    other = type(table)(
        shells=table.shells,
        radii={6: 2.0},
        names=table.names,
        values=table.values,
        fitted_intervals=table.fitted_intervals,
    )
    write_overlap_table(tmp_path / "other.h5", other, {})
    with pytest.raises(DataError, match=r"within 2\.000 Å; expected .* within 3\.175 Å"):
        load_electron(ELECTRON, [tmp_path / "other.h5"])


def test_toy_names_the_reference_systems():
    phonon, electron = Source("phonon", "toy"), Source("electron", "toy")
    assert isinstance(load_calculator(phonon, "cpu"), HoneycombSprings)
    assert isinstance(load_electron(electron), TightBinding)
    assert electron.describe() == "mlepi.reference_systems.TightBinding()"
    written_out = Source("electron", {"_target_": "mlepi.reference_systems.TightBinding"})
    assert electron.fingerprint() == written_out.fingerprint() != phonon.fingerprint()
    assert Source("structure", "toy").path == Path("toy")


@pytest.mark.parametrize("load_first", [True, False])
def test_a_network_replaced_between_load_and_hash_is_the_one_that_was_hashed(tmp_path, load_first):
    path = tmp_path / "best.ckpt"  # of a training that goes on
    weights = [build_network("phonon").state_dict() for _ in range(2)]
    weights[1] = {name: 1.5 * value for name, value in weights[0].items()}

    def write_weights(number):
        stamped = stamp("phonon", build_config("phonon"), CUTOFFS)
        save_checkpoint(path, stamped, weights[number])
        return hash_file(path)

    first = write_weights(0)
    source = Source("phonon", str(path))
    steps = [lambda: load_calculator(source, "cpu"), source.fingerprint]
    calculator, digest = None, None
    for step in steps if load_first else reversed(steps):
        found = step()
        calculator, digest = (calculator, found) if isinstance(found, str) else (found, digest)
        assert write_weights(1) != first
    assert digest == first
    kept = calculator.predictor.network().state_dict()
    name = next(n for n, v in weights[0].items() if v.is_floating_point() and v.abs().max() > 0)
    torch.testing.assert_close(kept[name].float(), weights[0][name].float())


def test_a_structure_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "POSCAR"
    write(path, build_graphene(stacking="AB"), format="vasp")
    read = sources.read_structure

    def read_and_change(file):
        atoms = read(file)
        path.write_text(path.read_text() + "\n")
        return atoms

    assert len(load_structure(Source("structure", str(path)))) == 4
    monkeypatch.setattr(sources, "read_structure", read_and_change)
    with pytest.raises(DataError, match="a file that changed while it was read"):
        load_structure(Source("structure", str(path)))


def test_units_of_a_structure_are_checked_unless_told_not_to(tmp_path):
    path = tmp_path / "POSCAR"
    atoms = build_graphene(stacking="AB")
    atoms.set_cell(atoms.cell.array / BOHR)  # the cell alone in Bohr
    write(path, atoms, format="vasp")
    with pytest.raises(StructureError, match="empty space between the atoms and their images"):
        load_structure(Source("structure", str(path)))
    assert len(load_structure(Source("structure", str(path)), check_units=False)) == 4
