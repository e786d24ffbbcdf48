"""Overlaps of a table beside those of labels: known differences, and a block that one lacks."""

import numpy as np
import pytest
from tiny_networks import BASIS, gaussian_overlap_table
from toy_evaluation import bilayers, write_checkpoint

from mlepi.checkpoint import load_model
from mlepi.evaluation.overlaps import OverlapErrors, compare_overlaps, overlap_metrics
from mlepi.graphs.block_matrix import BlockMatrix


def test_an_overlap_error_and_a_missing_block_are_seen(tmp_path):
    write_checkpoint(tmp_path / "e.ckpt", "electron", {})
    (_, atoms), *_ = bilayers()
    overlap = load_model(tmp_path / "e.ckpt").overlap(atoms, gaussian_overlap_table())
    short = BlockMatrix(
        overlap.numbers,
        BASIS,
        overlap.edge_index[:, :-1],
        overlap.edge_cell_shift[:-1],
        overlap.blocks[:-1].copy(),
    )
    short.blocks[0, 0, 0] += 1e-3
    found = compare_overlaps(overlap, short, atoms)
    missing = np.abs(overlap.blocks[-1])
    assert found["onsite"][0] == pytest.approx(1e-3)
    assert max(found[part][0] for part in ("intra", "inter")) == pytest.approx(missing.max())
    assert sum(total for _, total, _ in found.values()) == pytest.approx(1e-3 + missing.sum())
    assert sum(count for *_, count in found.values()) == 16 * overlap.edge_index.shape[1]


def test_metrics_are_those_of_all_structures_together():
    parts = {"onsite": (0.1, 0.2, 4), "intra": (0.3, 0.6, 6), "inter": (0.0, 0.0, 0)}
    other = {"onsite": (0.4, 0.4, 4), "intra": (0.1, 0.2, 2), "inter": (0.2, 0.2, 2)}
    found = overlap_metrics(
        [
            OverlapErrors(parts, 0.02, 0.03, np.array([0.003, -0.004])),
            OverlapErrors(other, 0.01, 0.04, np.array([0.0])),
        ]
    )
    assert found["overlap_max"] == 0.4
    assert found["overlap_mean"] == pytest.approx(1.6 / 18)
    assert found["overlap_intra_max"] == 0.3
    assert found["overlap_intra_mean"] == pytest.approx(0.1)
    assert found["bands_from_table_rms_mev"] == pytest.approx(5.0 / np.sqrt(3.0))
    assert found["overlap_smallest_eigenvalue"] == 0.01
    assert found["overlap_smallest_eigenvalue_dft"] == 0.03
    assert overlap_metrics([]) == {}
