"""Part files: results of single samples, appended one by one, that survive a kill at any moment.

A part file is a sequence of frames: magic, length and CRC-32 of the payload, payload. The payload
is an ``.npz`` of the arrays and of a ``__key__`` (JSON text). The first frame holds no arrays; its
key ``["header", {…}]`` says the format, the inputs that the results belong to, the fingerprint of
the code and the version that wrote them; in format 1 it is ``["inputs", digest]``. Every further
frame repeats inputs and code as ``__of__``, and says what computed it: one that got into the file
of another calculation is left out, and its sample is done again. Frames of older files do not say
it. A frame that ends beyond the file is the one that was being written when the process died and is
dropped; any other disagreement is damage and raises.

A file holds results of one format and one code. The files of a stage are called
``<stage>.<process>.part``, or ``<stage>.<process>.<n>.part`` where that name is taken by a file
of another format or code, whose results are kept.
"""

from __future__ import annotations

import io
import json
import logging
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.results.provenance import find_version
from mlepi.results.upgrades import (
    PART_FORMAT,
    PART_UPGRADES,
    StoredResult,
    current_stage,
    former_stage,
    refuse_newer,
    upgrade,
)
from mlepi.untrusted import open_npz, parse_json

PARTS_FOLDER = "parts"
MAGIC = b"MLEPIPRT"
FRAME = struct.Struct("<8sQI")
KEY = "__key__"
OF = "__of__"

log = logging.getLogger(__name__)

THIS_CODE = "this code"
OTHER_CODE = "other code"
UNKNOWN_CODE = "unknown code"


class Label(NamedTuple):
    """What a frame says beside its arrays.

    Attributes:
        place: where in the file it begins.
        key: of the sample; of the first frame, the header.
        of: inputs, code and maker of the result, as far as it says so.
    """

    place: int
    key: tuple[Any, ...]
    of: tuple[str | None, ...]

    def belongs(self, header: PartHeader) -> bool:
        """Tell whether it is of the calculation that its file is of, as far as it says so."""
        return self.of[:2] in ((), (header.inputs, header.code))


@dataclass(frozen=True)
class PartHeader:
    """What the first frame of a part file says.

    Attributes:
        format: of the file.
        inputs: digest of what decides the result of one sample.
        code: fingerprint of the source that made the results; None when it is unknown.
        mlepi: version that wrote the file; None when it is unknown.
    """

    format: int
    inputs: str
    code: str | None
    mlepi: str | None


class PartFile:
    """Results of samples of one stage, written by one process.

    Args:
        path: the file; it is created by the first ``append``.
        inputs: digest of what decides the result of one sample.
        code: fingerprint of the source that computes it; None does not look at the code.
        former_inputs: the digest that files of format 1 have for the same inputs.
        keep_other_code: use results of other code as well.

    Attributes:
        made_by: what ``keys`` has found about the code: ``THIS_CODE``, ``OTHER_CODE`` (and then
            kept or deleted) or ``UNKNOWN_CODE``; None before, and without a file of these inputs.
    """

    def __init__(
        self,
        path: Path,
        inputs: str,
        code: str | None = None,
        former_inputs: str | None = None,
        *,
        keep_other_code: bool = False,
    ) -> None:
        self.path = path
        self.inputs = inputs
        self.code = code
        self.former_inputs = former_inputs
        self.keep_other_code = keep_other_code
        self.made_by: str | None = None

    def header(self) -> PartHeader | None:
        """Return what the first frame says, or None without a complete one.

        Raises:
            DataError: the file is damaged.
        """
        if not self.path.exists():
            return None
        first = next(_frames(self.path), None)
        return (
            None
            if first is None
            else _parse_header(_read_label(first[1], 0, self.path).key, self.path)
        )

    def append(
        self, key: tuple[Any, ...], arrays: Mapping[str, NDArray[Any]], maker: str = ""
    ) -> None:
        """Add the result of one sample and make sure that it reaches the disk.

        Args:
            key: plain numbers or texts that identify the sample.
            arrays: named arrays.
            maker: what computed it: processor and threads.

        Raises:
            DataError: the file holds results of other inputs, of another format or of other code.
        """
        new = not self.path.exists()
        if not new and not self.takes_new_results():
            raise DataError(
                message(
                    str(self.path),
                    "results of another format, of other inputs or of other code",
                    "a file for new results",
                    "Take the file that choose_part gives.",
                )
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        header = {
            "format": PART_FORMAT,
            "inputs": self.inputs,
            "code": self.code,
            "mlepi": find_version(),
        }
        with self.path.open("ab") as stream:
            if new:
                stream.write(_frame(("header", header), {}))
            of = np.array(json.dumps([self.inputs, self.code, *([maker] if maker else [])]))
            stream.write(_frame(key, {OF: of, **arrays}))
            stream.flush()
            os.fsync(stream.fileno())

    def takes_new_results(self) -> bool:
        """Whether results of this code may be appended to the file; also where there is none yet.

        Raises:
            DataError: the file is damaged.
        """
        if not self.path.exists():
            return True
        found = self.header()
        return found is not None and (found.format, found.inputs, found.code) == (
            PART_FORMAT,
            self.inputs,
            self.code,
        )

    def keys(self) -> set[tuple[Any, ...]]:
        """Return the keys of all complete results; an unfinished frame at the end is cut off first.

        A file of other inputs is deleted, its results belong to another calculation; one of other
        code likewise, unless that is kept.

        Raises:
            DataError: the file is damaged, or a newer version wrote it.
        """
        self.made_by = None
        if not self.path.exists():
            return set()
        header = self.header()
        if header is None or not self._accepts(header):
            self.path.unlink()
            return set()
        keys, n_foreign, complete = set(), 0, 0
        for end, payload in _frames(self.path):
            if complete:  # the first frame is the header
                label = _read_label(payload, complete, self.path)
                own = label.belongs(header)
                n_foreign += not own
                keys |= {label.key} if own else set()
            complete = end
        if complete < self.path.stat().st_size:
            os.truncate(self.path, complete)
        if n_foreign:
            log.warning("%s: left out %d results of another calculation", self.path, n_foreign)
        return keys

    def places(self) -> dict[tuple[Any, ...], int]:
        """Return where in the file the result of each sample stands.

        Raises:
            DataError: the file is damaged.
        """
        header = self.header()
        if header is None:
            return {}
        return {label.key: label.place for label in self._labels() if label.belongs(header)}

    def count_makers(self) -> Counter[str]:
        """Count the results by what computed them, as far as they say it.

        Raises:
            DataError: the file is damaged.
        """
        header = self.header()
        if header is None:
            return Counter()
        of = (label.of for label in self._labels() if label.belongs(header))
        return Counter(str(words[2]) for words in of if len(words) > 2)

    def load(self, place: int, header: PartHeader | None = None) -> dict[str, NDArray[Any]]:
        """Return the arrays of the result at a position from ``places``, in the present format.

        Args:
            place: position.
            header: of the file, where it is known; it is read otherwise.

        Raises:
            DataError: the file is damaged, or has changed since.
        """
        header = self.header() if header is None else header
        _, payload = next(_frames(self.path, place))
        label, arrays = _read_frame(payload, place, self.path)
        if header is not None and not label.belongs(header):
            raise _damaged(self.path, place)
        found = PART_FORMAT if header is None else header.format
        name = self.path.name.split(".")[0]
        return upgrade(StoredResult(name, arrays), found, upgrades=PART_UPGRADES).fields

    def _labels(self) -> Iterator[Label]:
        """Yield the label of every complete result; the first frame is the header."""
        start = 0
        for end, payload in _frames(self.path):
            if start:
                yield _read_label(payload, start, self.path)
            start = end

    def _accepts(self, found: PartHeader) -> bool:
        """Whether the results may be used; says in ``made_by`` what was found."""
        refuse_newer(str(self.path), found.format, PART_FORMAT, found.mlepi)
        if found.inputs != (self.former_inputs if found.format == 1 else self.inputs):
            return False
        if found.code is None or self.code is None:
            self.made_by = UNKNOWN_CODE
        else:
            self.made_by = THIS_CODE if found.code == self.code else OTHER_CODE
        return self.made_by != OTHER_CODE or self.keep_other_code


def find_parts(
    folder: Path,
    stage: str,
    inputs: str,
    code: str | None = None,
    former_inputs: str | None = None,
    *,
    keep_other_code: bool = False,
) -> list[PartFile]:
    """Return the part files of a stage, whichever process wrote them, also under a former name.

    Where two hold a result of the same sample, that of the later file counts: files of an older
    format and of other code come first.

    Args:
        folder: of the part files.
        stage: name of the stage.
        inputs: see ``PartFile``, as the other arguments.
        code: see there.
        former_inputs: see there.
        keep_other_code: see there.

    Raises:
        DataError: a file is damaged.
    """
    found = []
    for name in {stage, former_stage(stage)}:
        for path in folder.glob(f"{name}.*.part"):
            part = PartFile(path, inputs, code, former_inputs, keep_other_code=keep_other_code)
            header = part.header()
            written = PART_FORMAT if header is None else header.format
            if current_stage(name, written) == stage:
                own = header is not None and header.code == code
                found.append(((written, own, path.name), part))
    return [part for _, part in sorted(found, key=lambda item: item[0])]


def choose_part(
    folder: Path,
    stage: str,
    process: int,
    inputs: str,
    code: str | None = None,
) -> PartFile:
    """Return the file to which one process writes new results of a stage.

    Never one that holds results of another format or of other code.

    Args:
        folder: of the part files.
        stage: name of the stage.
        process: its number.
        inputs: digest of what decides the result of one sample.
        code: fingerprint of the source that computes it.

    Raises:
        DataError: a file is damaged.
    """
    names = (f"{stage}.{process}{f'.{n}' if n else ''}.part" for n in count())
    parts = (PartFile(folder / name, inputs, code) for name in names)
    return next(part for part in parts if part.takes_new_results())


def _parse_header(key: tuple[Any, ...], path: Path) -> PartHeader:
    if len(key) == 2 and key[0] == "inputs":
        return PartHeader(1, str(key[1]), None, None)
    fields = key[1] if len(key) == 2 and key[0] == "header" else None
    if isinstance(fields, dict) and type(fields.get("format")) is int and "inputs" in fields:
        return PartHeader(
            int(fields["format"]), fields["inputs"], fields.get("code"), fields.get("mlepi")
        )
    raise _damaged(path, 0)


def _frame(key: tuple[Any, ...], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{KEY: np.array(json.dumps(key)), **arrays})
    payload = buffer.getvalue()
    return FRAME.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


def _frames(path: Path, position: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the end position and the payload of every complete frame from a position on."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(position)
        while position + FRAME.size <= size:
            magic, length, checksum = FRAME.unpack(stream.read(FRAME.size))
            if magic != MAGIC:
                raise _damaged(path, position)
            if position + FRAME.size + length > size:
                return
            payload = stream.read(length)
            if zlib.crc32(payload) != checksum:
                raise _damaged(path, position)
            position += FRAME.size + length
            yield position, payload


def _read_label(payload: bytes, place: int, path: Path) -> Label:
    return _read_frame(payload, place, path, with_arrays=False)[0]


def _read_frame(
    payload: bytes, place: int, path: Path, *, with_arrays: bool = True
) -> tuple[Label, dict[str, NDArray[Any]]]:
    """Return the label and the arrays of a frame."""
    where = f"{path}, byte {place}"
    with open_npz(where, payload) as archive:
        of = parse_json(where, str(archive[OF])) if OF in archive.files else ()
        label = Label(place, tuple(parse_json(where, str(archive[KEY]))), tuple(of))
        names = [name for name in archive.files if name not in (KEY, OF)]
        return label, {name: archive[name] for name in names if with_arrays}


def _damaged(path: Path, position: int) -> DataError:
    return DataError(
        message(
            f"{path}, byte {position}",
            "a damaged frame",
            "the results of samples",
            "Delete the file; its samples are redone.",
        )
    )
