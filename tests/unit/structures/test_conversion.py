"""Many sources at once: refusals are told, interruptions resumed, processes agree."""

from __future__ import annotations

import dataclasses

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hamiltonian_samples import openmx_out, real_sample, write_legacy_folder, write_scfout

from mlepi.commands.main import main
from mlepi.errors import DataError
from mlepi.structures import conversion
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.conversion import convert
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dataset_format import HEADER_CHECKSUM


@pytest.fixture
def folders(tmp_path):
    """Three good folders, one without its overlaps, one with a NaN, one unusual."""
    sample = real_sample()
    root = tmp_path / "data"
    root.mkdir()
    for name in ("a", "b", "c"):
        moved = dataclasses.replace(sample, positions=sample.positions + 0.1)
        write_legacy_folder(root / name, moved)
    (write_legacy_folder(root / "without", sample) / "overlaps.h5").unlink()
    bad = dataclasses.replace(
        sample, hamiltonian=[np.full((8, 8), np.nan), *sample.hamiltonian[1:]]
    )
    write_legacy_folder(root / "nan", bad)
    half = dataclasses.replace(
        sample,
        pairs=sample.pairs[:-1],
        hamiltonian=sample.hamiltonian[:-1],
        overlap=sample.overlap[:-1],
    )
    write_legacy_folder(root / "unusual", half)
    return root


def test_refused_and_unusual_sources_are_told(folders, tmp_path, capsys):
    out = tmp_path / "all.h5"
    assert main(["convert", str(folders), "--out", str(out), "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert f"{out}: 4 structures" in shown
    assert "refused, 2 of 6" in shown
    assert "no file overlaps.h5" in shown
    assert "Hamiltonian values that are NaN" in shown
    assert "1 sources: got 1 pairs without their reverse" in shown
    table = (tmp_path / "all.refused.tsv").read_text().splitlines()
    assert [row.split("\t")[0].rsplit("/", 1)[-1] for row in table] == ["source", "nan", "without"]
    dataset = HamiltonianDataset(out)
    dataset.verify()
    assert dataset.names == ("a", "b", "c", "unusual")
    assert dataset.provenance["unusual"] == {"one_direction": 1.0}
    assert not list(tmp_path.glob(".*"))


def test_sources_in_another_basis_are_left_out(tmp_path, capsys):
    """The basis of most is that of the data set, wherever the odd one stands."""
    sample = real_sample()
    (tmp_path / "data").mkdir()
    for name in ("b", "c"):
        write_legacy_folder(tmp_path / "data" / name, sample)
    keep = [0, 2, 3, 4]
    small = dataclasses.replace(
        sample,
        shells={6: [0, 1]},
        hamiltonian=[block[np.ix_(keep, keep)] for block in sample.hamiltonian],
        overlap=[block[np.ix_(keep, keep)] for block in sample.overlap],
    )
    write_legacy_folder(tmp_path / "data" / "a", small)
    out = tmp_path / "all.h5"
    assert main(["convert", str(tmp_path / "data"), "--out", str(out), "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert "refused, 1 of 3" in shown
    assert "a: got shells s p for C; expected shells s s p p as in 2 other sources." in shown
    assert f"{out}: 2 structures" in shown
    assert list(HamiltonianDataset(out).names) == ["b", "c"]


def test_basis_and_units_of_a_converted_set_are_sealed(folders, tmp_path):
    out = tmp_path / "all.h5"
    convert([folders / "a"], out)
    with h5py.File(out, "a") as file:
        assert HEADER_CHECKSUM in file.attrs
        file.attrs["basis"] = file.attrs["basis"].replace('"radii"', ' "radii"')
    with pytest.raises(DataError, match="checksum"):
        HamiltonianDataset(out)


def test_processes_give_the_same_file(folders, tmp_path):
    outcomes = [
        convert([folders], tmp_path / f"{n}.h5", n_workers=n, radii={"C": 3.2}) for n in (1, 2)
    ]
    for one, two in zip(*outcomes, strict=True):
        assert one == two
    one, two = (HamiltonianDataset(tmp_path / f"{n}.h5") for n in (1, 2))
    assert one.names == two.names
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.hamiltonian_blocks, b.hamiltonian_blocks)
        np.testing.assert_array_equal(a.atoms.positions, b.atoms.positions)


def test_an_interruption_is_resumed(folders, tmp_path, monkeypatch):
    """The third source is interrupted; the second attempt reads only what is missing."""
    read, n_read = conversion.read_source, []

    def counting(source, radii):
        n_read.append(source.name)
        if len(n_read) == 3:
            raise KeyboardInterrupt
        return read(source, radii)

    monkeypatch.setattr(conversion, "read_source", counting)
    out = tmp_path / "all.h5"
    with pytest.raises(KeyboardInterrupt):
        convert([folders], out)
    assert not out.exists()
    convert([folders], out)
    assert n_read == ["a", "b", "c", "c", "nan", "unusual", "without"]
    assert HamiltonianDataset(out).names == ("a", "b", "c", "unusual")
    assert not list(tmp_path.glob(".*"))


def test_a_changed_source_is_read_again(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        convert([folders / "a", folders / "b"], tmp_path / "x.h5")
    parts = sorted((tmp_path / ".x.h5.parts").glob("*.h5"))
    assert len(parts) == 2
    (folders / "a" / "info.json").write_text('{"isspinful": false, "fermi_level": -3.0}')
    with pytest.raises(KeyboardInterrupt):
        convert([folders / "a", folders / "b"], tmp_path / "x.h5")
    assert len(sorted((tmp_path / ".x.h5.parts").glob("*.h5"))) == 3


def test_a_reader_that_breaks_down_is_one_refusal(folders, tmp_path, monkeypatch):
    def broken(source, radii):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(conversion, "read_source", broken)
    with pytest.raises(DataError, match="ZeroDivisionError: division by zero; expected a file"):
        convert([folders / "a"], tmp_path / "x.h5")


def test_forces_of_many_runs(tmp_path):
    """OpenMX runs with their .out, in folders, become one extxyz with unique names."""
    sample = real_sample()
    for name in ("run1", "run2"):
        (tmp_path / name).mkdir()
        path = write_scfout(tmp_path / name / "mx.scfout", sample)
        path.with_suffix(".out").write_text(openmx_out(sample))
    convert([tmp_path], tmp_path / "forces.extxyz")
    structures = read_forces_dataset(tmp_path / "forces.extxyz")
    assert [structure.name for structure in structures] == ["run1_mx", "run2_mx"]
    assert structures[0].energy == pytest.approx(sample.energy, abs=1e-8)
    convert([tmp_path / "forces.extxyz"], tmp_path / "copy.extxyz")
    assert [s.name for s in read_forces_dataset(tmp_path / "copy.extxyz")] == ["run1_mx", "run2_mx"]
    with pytest.raises(DataError, match="forces; expected a Hamiltonian"):
        convert([tmp_path / "forces.extxyz"], tmp_path / "x.h5")


@pytest.mark.parametrize(
    ("out", "text"), [("a.npz", r"\.h5 or \.extxyz"), ("absent/a.h5", "no folder")]
)
def test_outputs_that_cannot_be(folders, tmp_path, out, text):
    with pytest.raises(DataError, match=text):
        convert([folders], tmp_path / out)


def write_frame(path, name, **info):
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]], cell=[9, 9, 9], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-14.0, forces=np.zeros((2, 3)))
    atoms.info = {"name": name, **info}
    ase.io.write(path, atoms)


def test_names_that_several_files_use_and_keys_that_extxyz_cannot_hold(tmp_path):
    """What is written can be read again, whatever others call their frames and keys."""
    write_frame(tmp_path / "p.extxyz", "slab", virial=np.eye(3), config_type="bulk opt")
    write_frame(tmp_path / "q.extxyz", "slab")
    write_frame(tmp_path / "r.extxyz", "bulk")
    convert([tmp_path], tmp_path / "all.extxyz")
    structures = read_forces_dataset(tmp_path / "all.extxyz")
    assert [structure.name for structure in structures] == ["p_slab", "q_slab", "bulk"]
    assert structures[0].provenance["config_type"] == "bulk opt"
    assert "virial" not in structures[0].provenance


def test_labels_that_the_output_does_not_want(folders, tmp_path):
    """One message that names the file, what it has, and what to do."""
    write_frame(tmp_path / "a.extxyz", "x")
    outcomes = convert([folders / "a", tmp_path / "a.extxyz"], tmp_path / "x.h5")
    text = "got forces; expected a Hamiltonian and an overlap. Leave it out, or name the output"
    assert outcomes[1].refusal == f"{tmp_path / 'a.extxyz'}: {text} .extxyz."
    outcomes = convert([folders / "a", tmp_path / "a.extxyz"], tmp_path / "x.extxyz")
    text = "got neither energy nor forces; expected an energy and forces. Leave it out, or name the"
    assert outcomes[0].refusal == f"{folders / 'a'}: {text} output .h5."
