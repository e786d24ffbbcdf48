"""The folder of a design: what is in it, that it is the same again, and that labelling takes it."""

import json

import design_materials
import numpy as np
import pytest
from ase.build import bulk
from design_materials import ranges, settings
from toy_labels import Told, fake

from mlepi.design import PhononSource, design_structures, estimate_cost, examine_material
from mlepi.design.phonons import choose_supercell, find_force_constants
from mlepi.errors import ConfigError, DataError
from mlepi.labelling import label_structures, read_structures
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.reference_systems import HoneycombSprings
from mlepi.run_lock import acquire

FILES = ["README.md", "design.json", "design.pdf", "design.png", "phonons.npz", "structures.extxyz"]


def examine(name="bilayer"):
    return examine_material(design_materials.crystals()[name], design_materials.VACUUM)


def design(folder, name="bilayer", phonon="springs", *, known=(), cost=None, **given):
    source = PhononSource(phonon)
    told = Told()
    chosen = settings(**given)
    made = design_structures(folder, examine(name), source, chosen, told, known=known, cost=cost)
    return made, told


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("design")
    return folder, *design(folder)


def test_the_folder_holds_what_the_card_says(made):
    folder, found, told = made
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert told.done == told.total == found.n_drawn
    card = (folder / "README.md").read_text()
    assert f"the 6 most different of {found.n_drawn}" in card
    narrow = f"{found.n_narrow} of 6: there an atom" if found.n_narrow else "none: no atom meets"
    assert narrow in card
    assert "| 300 |" in card
    table = json.loads((folder / "design.json").read_text())
    assert [row["name"] for row in table["rows"]] == [row.name for row in found.rows]


def test_every_row_is_true_of_its_structure(made):
    folder, found, _ = made
    structures = {one.name: one for one in read_structures([folder / "structures.extxyz"])}
    assert list(structures) == [row.name for row in found.rows]
    for row in found.rows:
        one = structures[row.name]
        assert (one.notes["kind"], one.notes["temperature"]) == (row.kind, row.temperature)
        assert one.notes["supercell"].startswith(f"({' '.join(map(str, row.supercell[0]))})")
        assert len(one.atoms) == row.n_atoms == 4 * round(np.linalg.det(row.supercell))
        np.testing.assert_allclose(one.atoms.cell.array, row.cell, atol=1e-7)
        apart = one.atoms.repeat((2, 2, 1)).get_all_distances(mic=True)
        assert apart[~np.eye(len(apart), dtype=bool)].min() == pytest.approx(row.shortest, abs=1e-6)
        lengths = np.linalg.norm(np.array(row.cell)[:2], axis=1)
        assert row.width <= lengths.min() + 1e-9
        assert row.narrow == (row.width < found.reach)
        assert set(one.atoms.arrays["layer"]) == {0, 1}


def test_labelling_takes_it(made, tmp_path):
    folder, _, _ = made
    structures = read_structures([folder / "structures.extxyz"])
    thermal = [one for one in structures if one.notes["kind"] == "thermal"][:1]
    summary = label_structures(tmp_path, thermal, fake(), Told())
    assert summary.written.names == [thermal[0].name]
    assert not summary.written.failed


def test_one_seed_gives_the_same_files(made, tmp_path):
    folder, _, _ = made
    design(tmp_path)
    for name in ("structures.extxyz", "design.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert (tmp_path / "design.png").read_bytes() == (folder / "design.png").read_bytes()


def test_a_run_that_was_killed_goes_on_and_one_that_is_done_stays(made, tmp_path):
    folder, found, _ = made
    (tmp_path / "phonons.npz").write_bytes((folder / "phonons.npz").read_bytes())
    (tmp_path / ".structures.extxyz.999999999.unfinished").write_text("half")
    (tmp_path / "structures.extxyz").write_text("of a run that was killed before the table")
    design(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    same = (tmp_path / "structures.extxyz").read_bytes()
    assert same == (folder / "structures.extxyz").read_bytes()
    before = (tmp_path / "structures.extxyz").stat().st_mtime_ns
    again, told = design(tmp_path)
    assert (tmp_path / "structures.extxyz").stat().st_mtime_ns == before
    assert again.to_plain() == found.to_plain()
    assert told.done == told.total == 6
    (tmp_path / "structures.extxyz").write_text("changed by hand")
    with pytest.raises(DataError, match="changed since"):
        design(tmp_path)
    (tmp_path / "structures.extxyz").unlink()
    design(tmp_path)
    assert (tmp_path / "structures.extxyz").read_bytes() == same


def test_another_design_or_another_run_in_the_folder_is_refused(made, tmp_path):
    folder, _, _ = made
    with pytest.raises(DataError, match=r"other settings \(n_structures\).*another folder"):
        design(folder, n_structures=5)
    with pytest.raises(DataError, match=r"other settings \(seed\)"):
        design(folder, ranges=ranges(seed=9))
    with acquire(tmp_path), pytest.raises(DataError, match=r"run\.lock"):
        design(tmp_path)
    (tmp_path / "design.json").write_text("[]")
    with pytest.raises(DataError, match="damaged"):
        design(tmp_path)
    (tmp_path / "design.json").unlink()
    (tmp_path / "phonons.npz").write_bytes(b"PK damaged")
    with pytest.raises(DataError, match="damaged"):
        design(tmp_path)


def test_what_the_material_does_not_have_is_told(tmp_path):
    found, _ = design(tmp_path, "silicon", n_structures=3, supercell=(2, 2, 2))
    assert {row.kind for row in found.rows} <= {"thermal", "strain"}
    assert found.absent == ("slide", "spacing", "twist")
    card = (tmp_path / "README.md").read_text()
    assert "kinds that this material does not have | slide, spacing, twist" in card
    with pytest.raises(ConfigError, match=r"shares.*Set shares\.thermal=1"):
        design(tmp_path / "other", "silicon", shares={"slide": 1.0}, supercell=(2, 2, 2))


def test_hours_bound_atoms_and_structures(tmp_path):
    """Cells shrink to what an average structure may cost; then fewer are made."""
    cost = estimate_cost([8, 1.0], 1.0)  # 1/8 h per atom
    found, _ = design(tmp_path / "a", cost=cost, cpu_hours=12.0, reach=9.0)
    assert {row.n_atoms for row in found.rows} <= {8, 12, 16}  # 2 h each
    assert found.hours <= 12.0
    assert found.n_narrow == len(found.rows)
    few, _ = design(tmp_path / "b", cost=cost, cpu_hours=3.5)
    assert 1 <= len(few.rows) < 6
    assert few.hours <= 3.5
    assert "CPU-hours for 8 atoms" in (tmp_path / "b" / "README.md").read_text()
    with pytest.raises(ConfigError, match="less than one structure costs"):
        design(tmp_path / "c", cost=cost, cpu_hours=0.5)
    with pytest.raises(ConfigError, match="not what a structure costs"):
        design(tmp_path / "d", cpu_hours=1.0)


def test_structures_that_are_labelled_are_kept_away_from(made, tmp_path):
    folder, found, _ = made
    known = read_structures([folder / "structures.extxyz"])
    other, _ = design(tmp_path, known=known)
    assert other.n_known == 6
    assert not {row.name for row in other.rows} & {row.name for row in found.rows}


def test_force_constants_are_those_of_the_calculator_and_kept(tmp_path):
    material = examine()
    source = PhononSource("toy")
    found = find_force_constants(tmp_path, material.atoms, source, (2, 2, 1))
    expected = compute_force_constants(material.atoms, HoneycombSprings(), (2, 2, 1))
    np.testing.assert_allclose(found.values, expected.values, atol=1e-12)
    before = (tmp_path / "phonons.npz").stat().st_mtime_ns
    again = find_force_constants(tmp_path, material.atoms, source, (2, 2, 1))
    assert np.array_equal(again.values, found.values)
    assert (tmp_path / "phonons.npz").stat().st_mtime_ns == before
    springs = find_force_constants(tmp_path, material.atoms, PhononSource("springs"), (2, 2, 1))
    assert not np.allclose(springs.values, found.values)
    assert "springs" in PhononSource("springs").describe()
    assert "HoneycombSprings" in source.describe()


def test_any_calculator_of_ase_moves_the_atoms(tmp_path):
    emt = {"_target_": "ase.calculators.emt.EMT"}
    copper = examine_material(bulk("Cu"), 6.0)
    chosen = settings(n_structures=2, pool=1.0, supercell=(2, 2, 2), shares={"thermal": 1.0})
    found = design_structures(tmp_path, copper, PhononSource(emt), chosen, Told())
    assert [row.kind for row in found.rows] == ["thermal", "thermal"]
    assert found.imaginary == 0


def test_the_supercell_of_the_phonons_is_wide_enough():
    atoms = examine().atoms
    assert choose_supercell(atoms, (0, 1), None, 10.0) == (5, 5, 1)
    assert choose_supercell(atoms, (0, 1), [2, 3, 1], 10.0) == (2, 3, 1)
