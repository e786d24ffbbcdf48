"""H and S of AB bilayer graphene by the shipped network leave in files of other programs."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import scipy.linalg
import scipy.sparse
from foreign_files import bloch_sum

import mlepi
from mlepi.commands.main import main
from mlepi.exports import collect_labels, write_deeph_folder
from mlepi.graphs.shifted_matrix import shift_hamiltonian
from mlepi.project_files import PROJECT_FOLDER
from mlepi.structures import build_graphene, read_deeph


def test_prediction_to_deeph_and_back(tmp_path):
    """Sums over edges are Hermitian to rounding only; the folder holds the same levels."""
    predictor = mlepi.load_model(PROJECT_FOLDER / "data/checkpoints/hedgenet_electron.ckpt")
    atoms = build_graphene()
    hamiltonian, overlap = predictor.hamiltonian(atoms), predictor.overlap(atoms)
    labels = collect_labels("AB", atoms, hamiltonian, overlap)
    write_deeph_folder(tmp_path / "deeph", labels)
    labels = read_deeph(tmp_path / "deeph")
    kpoint = np.array([0.1, 0.2, 0.0])
    expected = scipy.linalg.eigvalsh(hamiltonian.dense(kpoint), overlap.dense(kpoint))
    H, S = (
        bloch_sum(labels, b, kpoint) for b in (labels.hamiltonian_blocks, labels.overlap_blocks)
    )
    np.testing.assert_allclose(scipy.linalg.eigvalsh(H, S), expected, rtol=0, atol=1e-6)


def test_files_of_matrices_contain_the_level_shift_unless_told_otherwise(tmp_path, capsys):
    """Other solvers get what the solvers of a run get."""
    name = "data/checkpoints/hedgenet_electron.ckpt"
    predictor, atoms = mlepi.load_model(PROJECT_FOLDER / name), build_graphene()
    ase.io.write(tmp_path / "POSCAR", atoms, format="vasp", direct=True)
    plain, overlap = predictor.hamiltonian(atoms), predictor.overlap(atoms)
    shifted = shift_hamiltonian(atoms, plain, overlap, predictor.level_shift)
    kpoint = np.array([0.1, 0.2, 0.0])
    for matrix, options in ((shifted, []), (plain, ["--as-predicted"])):
        out = tmp_path / f"csr{len(options)}"
        words = ["export", "csr", f"{tmp_path}/POSCAR", "--electron", name, "--out", f"{out}"]
        assert main([*words, *options]) == 0
        cells = np.array(json.loads((out / "orbitals.json").read_text())["cells"])
        pair = [scipy.sparse.load_npz(out / f"{x}.npz") for x in ("hamiltonian", "overlap")]
        n, phases = pair[0].shape[0], np.exp(2j * np.pi * cells @ kpoint)
        H, S = (
            sum(p * M[:, c * n : (c + 1) * n].toarray() for c, p in enumerate(phases)) for M in pair
        )
        expected = scipy.linalg.eigvalsh(matrix.dense(kpoint), overlap.dense(kpoint))
        np.testing.assert_allclose(scipy.linalg.eigvalsh(H, S), expected, rtol=0, atol=2e-5)
    shown = capsys.readouterr().out
    assert shown.count("H contains the network's level shift against ghost states") == 1
    assert shown.count("H is as predicted, without a level shift") == 1
