"""Bands of a label and of a network in one figure."""

import dataclasses

import numpy as np
import pytest
from ase import Atoms

from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training import band_overlay
from mlepi.training.band_overlay import N_KPOINTS, build_path, draw_overlay, plot_band_overlay

HEXAGONAL = np.array([[2.46, 0.0, 0.0], [-1.23, 2.1304, 0.0], [0.0, 0.0, 20.0]])


@pytest.mark.parametrize(
    ("cell", "labels"),
    [(HEXAGONAL, ("Γ", "M", "K", "Γ")), (np.diag([3.0, 5.0, 20.0]), ("Γ", "X", "S", "Γ"))],
)
def test_the_path_is_closed_and_of_one_length_in_any_cell(cell, labels):
    for scale in (1.0, 4.0):
        path = build_path(scale * cell)
        assert path.labels == labels
        assert N_KPOINTS <= len(path.kpoints) <= N_KPOINTS + 4
        np.testing.assert_allclose(path.kpoints[[0, -1]], 0.0)


def test_both_are_drawn_within_the_window():
    path = build_path(HEXAGONAL)
    x = path.distances[:, None]
    label = np.concatenate([np.cos(x), 0.0 * x + 9.0], axis=1)
    axes = draw_overlay(path, label, label + 0.1).axes[0]
    curves = [line for line in axes.lines if len(line.get_ydata()) == len(x)]
    assert [line.get_label() for line in curves] == ["label", "network"]  # 9 eV is outside
    np.testing.assert_allclose(curves[1].get_ydata() - curves[0].get_ydata(), 0.1)


def test_forces_have_no_bands_and_a_failure_is_told(tmp_path, monkeypatch, caplog):
    atoms = Atoms("C", cell=HEXAGONAL, pbc=True)
    forces = LabelledStructure("a", atoms)
    assert plot_band_overlay([forces], tmp_path / "no.ckpt", tmp_path) == {}

    def fail(*arguments):
        raise OSError("no space")

    monkeypatch.setattr(band_overlay, "_draw", fail)
    blocks = np.zeros((1, 1, 1))
    labelled = dataclasses.replace(forces, hamiltonian_blocks=blocks, overlap_blocks=blocks)
    assert plot_band_overlay([labelled], tmp_path / "no.ckpt", tmp_path) == {}
    assert "the figure of bands failed (OSError: no space)" in caplog.text
    assert list(tmp_path.iterdir()) == []
