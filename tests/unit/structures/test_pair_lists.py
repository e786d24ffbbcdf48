"""Repeated, one-sided and missing pairs: what is repaired, what is remarked, what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hamiltonian_samples import real_sample, slater_koster_sample, write_legacy_folder
from hamiltonian_samples import write_new_folder as write_new

from mlepi.errors import DataError, UnusualDataWarning
from mlepi.structures.deeph import read_deeph
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.remarks import KINDS, describe_remark, merge_remarks


def chosen(sample, rows):
    """The sample with these of its pairs, in this order."""
    return dataclasses.replace(
        sample,
        pairs=sample.pairs[rows],
        hamiltonian=[sample.hamiltonian[k] for k in rows],
        overlap=[sample.overlap[k] for k in rows],
    )


def test_equal_blocks_of_one_pair_are_one(tmp_path):
    sample = slater_koster_sample()
    rows = [*range(len(sample.pairs)), 3, 5, 5]
    with pytest.warns(UnusualDataWarning, match="3 pairs listed more than once, with equal"):
        structure = read_deeph(write_new(tmp_path / "a", chosen(sample, rows)))
    whole = read_deeph(write_new(tmp_path / "b", sample))
    np.testing.assert_array_equal(structure.hamiltonian_blocks, whole.hamiltonian_blocks)
    assert structure.provenance["unusual"] == {"duplicate_pairs": 3.0}


def test_different_blocks_of_one_pair_are_refused(tmp_path):
    sample = slater_koster_sample()
    rows = [*range(len(sample.pairs)), 3]
    double = chosen(sample, rows)
    double.hamiltonian[-1] = double.hamiltonian[-1] + 0.1
    with pytest.raises(DataError, match=r"a Hamiltonian pair listed twice, R = .* differ by 0\.1"):
        read_deeph(write_new(tmp_path / "a", double))


def test_a_missing_pair_is_remarked_with_its_size(tmp_path):
    sample = slater_koster_sample()
    i, j = sample.pairs[:, 3], sample.pairs[:, 4]
    vectors = sample.positions[j] + sample.pairs[:, :3] @ sample.cell - sample.positions[i]
    lengths = np.linalg.norm(vectors, axis=1)
    carbon = (sample.numbers[i] == 6) & (sample.numbers[j] == 6) & (lengths > 0.1)
    length = np.sort(lengths[carbon])[len(lengths[carbon]) // 2]
    kept = np.flatnonzero(np.abs(lengths - length) > 1e-6)
    gone = max(
        np.abs(sample.overlap[k]).max() for k in np.flatnonzero(carbon & (lengths > length - 1e-6))
    )
    with pytest.warns(UnusualDataWarning, match="pairs within reach that are not listed"):
        structure = read_deeph_legacy(write_legacy_folder(tmp_path / "a", chosen(sample, kept)))
    assert 0.2 * gone < structure.provenance["unusual"]["missing_pairs"] <= gone


def test_lists_of_h_and_s_may_differ(tmp_path):
    """H without its longest pairs is nothing unusual; S without them is told where H is large."""
    sample = slater_koster_sample()
    i, j = sample.pairs[:, 3], sample.pairs[:, 4]
    vectors = sample.positions[j] + sample.pairs[:, :3] @ sample.cell - sample.positions[i]
    short = chosen(sample, np.flatnonzero(np.linalg.norm(vectors, axis=1) < 2.4))
    one, other = (
        write_legacy_folder(tmp_path / name, s) for name, s in (("a", sample), ("b", short))
    )
    (one / "hamiltonians.h5").rename(tmp_path / "whole.h5")
    (other / "hamiltonians.h5").rename(one / "hamiltonians.h5")
    structure = read_deeph_legacy(one, radii={"C": 3.0, "H": 3.0})
    assert structure.edge_index.shape[1] == len(sample.pairs) > len(short.pairs)
    assert "unusual" not in structure.provenance
    (tmp_path / "whole.h5").rename(other / "hamiltonians.h5")
    with pytest.warns(UnusualDataWarning, match="pairs that the overlap does not list"):
        structure = read_deeph_legacy(other, radii={"C": 3.0, "H": 3.0})
    assert structure.edge_index.shape[1] == len(sample.pairs)


def test_h_of_another_order_of_atoms_is_refused(tmp_path):
    sample = real_sample()
    folder = write_legacy_folder(tmp_path / "a", sample)
    other = dataclasses.replace(sample, pairs=sample.pairs.copy())
    other.pairs[:, 3:] = np.array([1, 2, 3, 0])[sample.pairs[:, 3:]]
    (folder / "hamiltonians.h5").unlink()
    (write_legacy_folder(tmp_path / "b", other) / "hamiltonians.h5").rename(
        folder / "hamiltonians.h5"
    )
    with pytest.raises(DataError, match="sizes hardly correlate"):
        read_deeph_legacy(folder)


def test_texts_of_all_remarks():
    for kind in KINDS:
        text = describe_remark("file", kind, 3.0)
        assert text.startswith("file: got ")
        assert "; expected " in text
    many = [{"missing_pairs": 1e-3, "near_singular": 1e-5}, {"near_singular": 2e-6}, {}]
    assert merge_remarks(many) == {"missing_pairs": 1e-3, "near_singular": 2e-6}
    assert merge_remarks([{"energy_zero": -30.0}, {"energy_zero": 12.0}]) == {"energy_zero": -30.0}
