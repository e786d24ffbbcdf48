"""Overlaps from the user's own files instead of the checkpoint's table."""

from pathlib import Path

import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.physics.overlaps import read_overlap_table, write_overlap_table
from mlepi.pipeline.sources import Source, load_calculator, load_electron, load_overlap_table
from mlepi.reference_systems import HoneycombSprings, TightBinding
from mlepi.structures import OrbitalBasis, build_graphene

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


def test_files_of_other_elements_or_orbitals_are_refused(tmp_path):
    basis = OrbitalBasis(shells={6: (0, 0, 1, 1)}, radii={6: 3.175}, names={6: "C6.0-s2p2"})
    with pytest.raises(
        DataError,
        match=r"overlap: got the file Mo7\.0\.pao; expected a \.pao file named after an element",
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
