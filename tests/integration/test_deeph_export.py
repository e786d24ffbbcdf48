"""The shipped network's H and S of AB bilayer graphene leave in the DeepH layout."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from foreign_files import bloch_sum

import mlepi
from mlepi.exports import collect_labels, write_deeph_folder
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
