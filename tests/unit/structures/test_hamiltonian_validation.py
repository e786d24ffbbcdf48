"""The invariants on their own, on labels that every one of them accepts before it is broken."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase import Atoms
from hamiltonian_samples import slater_koster_sample, write_scfout

from mlepi.errors import DataError
from mlepi.structures.assembly import infer_radii
from mlepi.structures.openmx import read_openmx
from mlepi.structures.validation import (
    check_hamiltonian_labels,
    check_spectrum,
    check_two_centre_overlap,
)


@pytest.fixture
def labels(tmp_path):
    return read_openmx(write_scfout(tmp_path / "a.scfout", slater_koster_sample(), order_max=1))


def onsite(labels, atom):
    hit = (labels.edge_index == atom).all(axis=0) & ~labels.edge_cell_shift.any(axis=1)
    return int(np.flatnonzero(hit)[0])


def changed(blocks, index, value):
    blocks = blocks.copy()
    blocks[index] = value
    return blocks


def test_valid_labels_pass(labels):
    check_hamiltonian_labels(labels)
    check_two_centre_overlap(labels)
    check_spectrum(labels)
    bare = dataclasses.replace(
        labels, hamiltonian_blocks=None, overlap_blocks=None, basis=None, edge_index=None
    )
    for check in (check_hamiltonian_labels, check_two_centre_overlap, check_spectrum):
        check(bare)
        check(dataclasses.replace(labels, overlap_blocks=None))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: {"edge_cell_shift": None}, "blocks without basis or edges"),
        (lambda s: {"edge_index": s.edge_index + 1}, r"indices 0 … 2 \(counted from 0\)"),
        (
            lambda s: {"hamiltonian_blocks": s.hamiltonian_blocks[:, :4]},
            r"Hamiltonian blocks of shape \(\d+, 4, 13\)",
        ),
        (
            lambda s: {"overlap_blocks": changed(s.overlap_blocks, (0, 0, 0), np.nan)},
            "1 overlap values that are NaN",
        ),
        (
            lambda s: {
                "hamiltonian_blocks": changed(s.hamiltonian_blocks, (onsite(s, 1), 7, 7), 1.0)
            },
            "in padded orbitals",
        ),
        (
            lambda s: {"hamiltonian_blocks": changed(s.hamiltonian_blocks, (0, 0, 0), 9.0)},
            "blocks that are not Hermitian",
        ),
        (
            lambda s: {"overlap_blocks": changed(s.overlap_blocks, (onsite(s, 2), 3, 3), 2.5)},
            r"on-site overlap of 2\.5 on the diagonal",
        ),
    ],
)
def test_structural_invariants(labels, change, text):
    with pytest.raises(DataError, match=text):
        check_hamiltonian_labels(dataclasses.replace(labels, **change(labels)))


def test_a_further_function_of_one_momentum_may_be_small(labels):
    """GPAW's second s of boron has 0.34; the first function of an l has about 1 in every code."""
    atom = next(
        n for n, z in enumerate(labels.atoms.numbers) if labels.basis.shells[z][:2] == (0, 0)
    )
    place = onsite(labels, atom)
    small = dataclasses.replace(
        labels, overlap_blocks=changed(labels.overlap_blocks, (place, 1, 1), 0.3)
    )
    check_hamiltonian_labels(small)
    for row, value in ((0, 0.3), (1, 0.005)):
        wrong = changed(labels.overlap_blocks, (place, row, row), value)
        with pytest.raises(DataError, match=f"on-site overlap of {value} on the diagonal"):
            check_hamiltonian_labels(dataclasses.replace(labels, overlap_blocks=wrong))


@pytest.mark.parametrize(
    ("dropped", "text"),
    [(0, "no on-site block for 1 atoms"), (1, "x: edge list: got edges without")],
)
def test_incomplete_edge_lists(labels, dropped, text):
    """Edge 0 or another edge is missing; the name given is in the message."""
    edge = (
        onsite(labels, 0)
        if dropped == 0
        else next(k for k, (j, i) in enumerate(labels.edge_index.T) if i != j)
    )
    keep = np.arange(labels.edge_index.shape[1]) != edge
    cut = dataclasses.replace(
        labels,
        edge_index=labels.edge_index[:, keep],
        edge_cell_shift=labels.edge_cell_shift[keep],
        hamiltonian_blocks=labels.hamiltonian_blocks[keep],
        overlap_blocks=labels.overlap_blocks[keep],
    )
    with pytest.raises(DataError, match=text):
        check_hamiltonian_labels(cut, where="x")


def test_overlap_that_is_not_positive_definite(labels):
    bad = labels.overlap_blocks.copy()
    rows = bad[onsite(labels, 0)]
    rows[0, 1] = rows[1, 0] = 1.5
    with pytest.raises(DataError, match=r"smallest eigenvalue -0\.\d+ at k = \[0\.5, 0\.5, 0\.5\]"):
        check_spectrum(dataclasses.replace(labels, overlap_blocks=bad))


def test_fermi_energy_below_all_levels_is_an_error_above_them_a_remark(labels):
    with pytest.raises(DataError, match=r"Fermi energy -900\.0000 eV; expected a value among the"):
        check_spectrum(dataclasses.replace(labels, fermi_energy=-900.0))
    remarks = check_spectrum(dataclasses.replace(labels, fermi_energy=900.0))
    assert remarks["energy_zero"] == 900.0
    assert 850.0 < remarks["fermi_above_all"] < 900.0
    assert check_spectrum(dataclasses.replace(labels, fermi_energy=0.0)) == {}


def test_large_structures_are_not_diagonalised(labels, monkeypatch):
    monkeypatch.setattr("mlepi.structures.validation.MAX_ORBITALS_FOR_SPECTRUM", 10)
    check_spectrum(dataclasses.replace(labels, fermi_energy=900.0))


def test_radii_cover_every_pair():
    """A dimer of different elements has no equal pair in reach: its bond is shared.

    Equal pairs fix their element.
    """
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 2.0]], cell=[9, 9, 9], pbc=True)
    mixed = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]])
    assert infer_radii(atoms, mixed) == pytest.approx({6: 1.0, 8: 1.0})
    carbon = np.concatenate([mixed, [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]])
    atoms.cell = np.diag([3.0, 9.0, 9.0])
    assert infer_radii(atoms, carbon) == pytest.approx({6: 1.5, 8: 0.5})
