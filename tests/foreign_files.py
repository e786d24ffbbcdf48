"""Genuine files of other programs: they lie beside the repository and never in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "foreign"


def foreign(name: str) -> Path:
    """Path of a genuine file or folder; the test is skipped where they are absent."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


def bloch_sum(structure, blocks, kpoint):
    """Σ_R e^{2πi k·R} B(R) of labels in internal order, block by block."""
    ends = structure.basis.offsets(structure.atoms.numbers)
    dense = np.zeros((ends[-1], ends[-1]), dtype=complex)
    for (j, i), shift, block in zip(
        structure.edge_index.T, structure.edge_cell_shift, blocks, strict=True
    ):
        size = ends[i + 1] - ends[i], ends[j + 1] - ends[j]
        dense[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] += (
            np.exp(2j * np.pi * kpoint @ shift) * block[: size[0], : size[1]]
        )
    return dense
