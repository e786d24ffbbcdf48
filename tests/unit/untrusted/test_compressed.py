"""Compressed files of forces are read as what they hold; bombs and damage are one message."""

from __future__ import annotations

import bz2
import gzip
import lzma

import numpy as np
import pytest
import test_readers

from mlepi.errors import DataError
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.untrusted import compressed, strip_compression, unpack

PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize(
    "kind",
    [
        test_readers.TestOutcar,
        test_readers.TestVasprun,
        test_readers.TestMlAb,
        test_readers.TestVaspout,
        "t.extxyz",
    ],
)
def test_forces_in_compressed_files(tmp_path, kind, suffix):
    name = kind if isinstance(kind, str) else kind.name
    plain = tmp_path / name
    test_readers.write_frames(plain) if isinstance(kind, str) else kind().write(plain)
    packed = tmp_path / f"{name}{suffix}"
    packed.write_bytes(PACK[suffix](plain.read_bytes()))
    plain.unlink()
    structures = read_forces_dataset(packed)
    np.testing.assert_allclose(structures[1].forces, test_readers.STEPS[1]["forces"], atol=1e-5)
    assert [s.name for s in structures] == [f"{plain.stem}_00000", f"{plain.stem}_00001"]
    assert strip_compression(packed) == name


def test_messages_name_the_compressed_file(tmp_path):
    packed = tmp_path / "OUTCAR.gz"
    packed.write_bytes(gzip.compress(b"nothing of use\n"))
    with pytest.raises(DataError) as told:
        read_forces_dataset(packed)
    assert str(told.value).startswith(f"{packed}: got an unreadable file")


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"x" * 1000)[:-9]],
    ids=["empty", "other", "cut"],
)
def test_damaged_ones(tmp_path, content):
    packed = tmp_path / "a.extxyz.gz"
    packed.write_bytes(content)
    with pytest.raises(DataError, match=rf"{packed}: got .*expected"):
        read_forces_dataset(packed)


def test_more_than_text_can_become(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "FLOOR", 1000)
    packed = tmp_path / "a.extxyz.xz"
    packed.write_bytes(lzma.compress(bytes(10**7)))
    with pytest.raises(DataError, match="bytes that become more than"), unpack(packed):
        pass
