from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import warm_python
from hamiltonian_samples import (
    openmx_out,
    real_sample,
    write_legacy_folder,
    write_new_folder,
    write_scfout,
)

from mlepi.commands.main import main as run
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.openmx import read_openmx


def main(arguments):
    """`mlepi convert` in this process."""
    return run(["convert", *arguments, "--workers", "1"])


@pytest.fixture
def sample():
    return real_sample()


def sorted_blocks(structure):
    """Hamiltonian blocks ordered by target, source and cell shift, and those keys."""
    keys = np.column_stack(
        [structure.edge_index[1], structure.edge_index[0], structure.edge_cell_shift]
    )
    order = np.lexsort(keys.T[::-1])
    return keys[order], structure.hamiltonian_blocks[order]


def test_openmx_to_dataset(sample, tmp_path, capsys):
    path = write_scfout(tmp_path / "slide.scfout", sample)
    path.with_suffix(".out").write_text(openmx_out(sample))
    assert (
        main([str(path), "--format", "openmx", "--out", str(tmp_path / "data.h5"), "--note", "PBE"])
        == 0
    )
    assert "1 structures" in capsys.readouterr().out
    dataset, direct = HamiltonianDataset(tmp_path / "data.h5"), read_openmx(path)
    stored = dataset["slide"]
    for a, b in zip(sorted_blocks(stored), sorted_blocks(direct), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)
    assert dataset.basis == direct.basis
    assert dataset.provenance == {
        "converted_from": "openmx",
        "radii": "in the files",
        "note": "PBE",
    }
    assert stored.atoms.arrays["layer"].tolist() == [0, 0, 1, 1]
    assert stored.energy == pytest.approx(sample.energy)


@pytest.mark.parametrize(
    ("source_format", "write"), [("deeph", write_new_folder), ("deeph_legacy", write_legacy_folder)]
)
def test_deeph_folders_share_their_largest_radius(sample, tmp_path, source_format, write):
    """A structure whose longest pairs are shorter gets the radius of the other one.

    A given radius wins.
    """
    root = tmp_path / "dft"
    root.mkdir()
    i, j = sample.pairs[:, 3], sample.pairs[:, 4]
    vectors = sample.positions[j] + sample.pairs[:, :3] @ sample.cell - sample.positions[i]
    near = np.linalg.norm(vectors, axis=1) < 6.2  # what is cut is below 1e-7
    cut = dataclasses.replace(
        sample,
        pairs=sample.pairs[near],
        hamiltonian=[b for b, keep in zip(sample.hamiltonian, near, strict=True) if keep],
        overlap=[b for b, keep in zip(sample.overlap, near, strict=True) if keep],
    )
    write(root / "full", sample)
    write(root / "cut", cut)
    assert main([str(root), "--format", source_format, "--out", str(tmp_path / "a.h5")]) == 0
    dataset = HamiltonianDataset(tmp_path / "a.h5")
    assert dataset.names == ("cut", "full")
    assert dataset.basis.radii[6] == pytest.approx(6.324087 / 2, abs=1e-2)
    assert (
        main(
            [
                str(root / "cut"),
                "--format",
                source_format,
                "--out",
                str(tmp_path / "b.h5"),
                "--radius",
                "C=3.1750632",
            ]
        )
        == 0
    )
    assert HamiltonianDataset(tmp_path / "b.h5").basis.radii[6] == 3.1750632


def test_equal_file_names_get_their_folder_in_front(sample, tmp_path):
    for folder in ("run1", "run2"):
        (tmp_path / folder).mkdir()
        write_scfout(tmp_path / folder / "openmx.scfout", sample)
    assert (
        main(
            [
                str(tmp_path / "run1"),
                str(tmp_path / "run2"),
                "--format",
                "openmx",
                "--out",
                str(tmp_path / "a.h5"),
            ]
        )
        == 0
    )
    assert HamiltonianDataset(tmp_path / "a.h5").names == ("run1_openmx", "run2_openmx")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["absent", "--format", "openmx"], "no such file or folder"),
        (["empty", "--format", "openmx"], "no structure in it or below it"),
        (["empty", "--format", "deeph"], "no structure in it or below it"),
        (
            ["slide.scfout", "--format", "deeph"],
            "slide.scfout: got a file of no known format; expected DeepH folder",
        ),
        (["slide.scfout", "--format", "openmx", "--radius", "C=3"], "none with --format openmx"),
        (["legacy", "--format", "deeph_legacy", "--radius", "C=long"], "such as C=3.175"),
        (["legacy", "--format", "deeph_legacy", "--radius", "Qq=3"], "such as C=3.175"),
        (["legacy", "--format", "deeph_legacy", "--radius", "C=2"], "sum of the orbital radii"),
        (["legacy", "--format", "deeph"], "no structure in it or below it"),
        (["overlap_only", "--format", "deeph_legacy"], "an overlap without Hamiltonian"),
    ],
)
def test_errors_are_one_line_and_write_nothing(
    sample, tmp_path, monkeypatch, capsys, arguments, text
):
    monkeypatch.chdir(tmp_path)
    write_scfout(tmp_path / "slide.scfout", sample)
    (tmp_path / "empty").mkdir()
    write_legacy_folder(tmp_path / "legacy", sample)
    (write_legacy_folder(tmp_path / "overlap_only", sample) / "hamiltonians.h5").unlink()
    assert main([*arguments, "--out", "a.h5"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert text in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.h5")) + list(tmp_path.glob(".*"))


def test_output_is_never_overwritten_or_lost(sample, tmp_path, capsys):
    path = write_scfout(tmp_path / "slide.scfout", sample)
    (tmp_path / "a.h5").write_text("precious")
    assert main([str(path), "--format", "openmx", "--out", str(tmp_path / "a.h5")]) == 1
    assert "existing file" in capsys.readouterr().err
    assert (tmp_path / "a.h5").read_text() == "precious"
    assert main([str(path), "--format", "openmx", "--out", str(tmp_path / "absent" / "a.h5")]) == 1
    assert "no folder" in capsys.readouterr().err


def test_command_line_exit_status(tmp_path):
    command = [
        sys.executable,
        "-m",
        "mlepi",
        "convert",
        str(tmp_path / "absent"),
        "--format",
        "openmx",
        "--out",
        "a.h5",
    ]
    run = warm_python.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert "Traceback" not in run.stderr
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), "--format", "vasp", "--out", "a.h5"])
