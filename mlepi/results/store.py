"""The store of a run.

One HDF5 file with a group per stage, replaced as a whole, checked when it is read.

Layout: ``/<stage>/record/<field>`` with attribute ``unit``; attributes of ``/<stage>``: ``inputs``
(digest of what decided the result), ``content`` (digest of the record), ``provenance`` (JSON text),
``format``, ``mlepi`` (the version that wrote it), ``sha256`` (digest of the other attributes and of
the units; later than the first files) and, where it is known, ``code`` (fingerprint of the source
that made it). The file has ``format`` and ``mlepi`` too: those of its last writer.

Groups of an older format stay as they are, under the name that their stage then had; they are
upgraded in memory when they are read. Stages are always asked for by their present names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from mlepi.errors import DataError, message
from mlepi.faults import is_refusal
from mlepi.hdf5_files import replace_hdf5
from mlepi.results.hdf5 import UNIT, build_record, hash_group, read_fields, write_record
from mlepi.results.provenance import find_version
from mlepi.results.upgrades import (
    RECORD_FORMAT,
    StoredResult,
    current_stage,
    former_stage,
    refuse_newer,
    upgrade,
)
from mlepi.untrusted import open_hdf5, parse_json

FILE_NAME = "results.h5"
SEAL = "sha256"
"""Attribute of a record: checksum of its other attributes and of the units."""


class ResultsStore:
    """Records of the stages of one run folder.

    Args:
        folder: run folder; it need not exist before the first write.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE_NAME

    def stages(self) -> tuple[str, ...]:
        """Return the present names of the stages that have a record."""
        if not self.path.exists():
            return ()
        with self._open() as file:
            return tuple(sorted(_list_stages(file)))

    def inputs(self, stage: str) -> str | None:
        """Return the digest of the inputs of a stored record, or None when there is none."""
        return self._attribute(stage, "inputs")

    def content(self, stage: str) -> str | None:
        """Return the digest of a stored record, as it lies in the file, or None without one."""
        return self._attribute(stage, "content")

    def code(self, stage: str) -> str | None:
        """Return the fingerprint of the source that made a record, or None when it is unknown."""
        return self._attribute(stage, "code")

    def format(self, stage: str) -> int:
        """Return the format of a stored record, on which the meaning of its inputs depends.

        Raises:
            DataError: there is no such record, or the file is damaged.
        """
        with self._open() as file:
            return _format_of(self._require(file, stage))

    def provenance(self, stage: str) -> dict[str, Any]:
        """Return how a stored record was made.

        Raises:
            DataError: there is no such record, or the file is damaged.
        """
        with self._open() as file:
            found = parse_json(str(self.path), str(self._require(file, stage).attrs["provenance"]))
            if not isinstance(found, dict):
                raise ValueError("a provenance that is no object")
            return found

    def read(self, stage: str, record_type: type) -> Any:
        """Read and check one record.

        Args:
            stage: its name.
            record_type: the dataclass to rebuild.

        Returns:
            An instance of ``record_type``.

        Raises:
            DataError: there is no such record, the file is damaged, or a newer version wrote it.
        """
        with self._open() as file:
            group = self._require(file, stage)
            where = f"{self.path}:{group.name}"
            if hash_group(group["record"]) != group.attrs["content"]:
                raise DataError(
                    message(
                        where,
                        "numbers that do not match their checksum",
                        "the record as it was written",
                        "Delete the file and run again.",
                    )
                )
            name, found = group.name.strip("/"), _format_of(group)
            refuse_newer(where, found, RECORD_FORMAT, _writer_of(group))
            stored = upgrade(StoredResult(name, read_fields(group["record"])), found)
            return build_record(stored.fields, record_type, f"{where}/record")

    def write(
        self,
        stage: str,
        record: Any,
        inputs: str,
        provenance: Mapping[str, Any],
        drop: Collection[str] = (),
        code: str | None = None,
    ) -> str:
        """Write one record; the file changes as a whole or not at all.

        Args:
            stage: its name; an earlier record of this stage is replaced, also under a former name.
            record: a frozen dataclass.
            inputs: digest of what decided the result.
            provenance: plain data, see ``collect_provenance``.
            drop: stages whose records rest on this one; they are removed if this one differs from
                the earlier one.
            code: fingerprint of the source that made it.

        Returns:
            Digest of the record.
        """
        with self._replace(stage, drop) as target:
            group = target.create_group(stage)
            write_record(group.create_group("record"), record)
            content = hash_group(group["record"])
            group.attrs.update(
                {
                    "inputs": inputs,
                    "content": content,
                    "provenance": json.dumps(provenance),
                    "format": RECORD_FORMAT,
                    "mlepi": find_version(),
                    **({} if code is None else {"code": code}),
                }
            )
            group.attrs[SEAL] = _hash_seal(group)
        return content

    def copy(self, stage: str, source: ResultsStore, drop: Collection[str] = ()) -> str:
        """Copy one record of another store as it lies there; the file changes as a whole.

        Args:
            stage: its name; an earlier record of this stage is replaced.
            source: store that has the record.
            drop: stages whose records rest on this one; they are removed if this one differs from
                the earlier one.

        Returns:
            Digest of the record.

        Raises:
            DataError: there is no such record, or a file is damaged.
        """
        with source._open() as file, self._replace(stage, drop) as target:
            group = source._require(file, stage)
            file.copy(group, target)
            return str(group.attrs["content"])

    @contextmanager
    def _replace(self, stage: str, drop: Collection[str]) -> Iterator[h5py.File]:
        """Open a file for one new record; it gets the others too and replaces the present file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replace_hdf5(self.path, durable=True) as target:
            target.attrs.update({"format": RECORD_FORMAT, "mlepi": find_version()})
            yield target
            content = next(iter(target.values())).attrs["content"]
            stale = set(drop) if content != self.content(stage) else set()
            self._copy_other_stages({stage, *stale}, target)

    def _copy_other_stages(self, replaced: set[str], target: h5py.File) -> None:
        if self.path.exists():
            with self._open() as source:
                for name, group in source.items():
                    # a name that another stage has taken again can hold one record only
                    stage = current_stage(name, _format_of(group))
                    if stage not in replaced and name not in target:
                        source.copy(group, target)

    def _attribute(self, stage: str, name: str) -> str | None:
        if not self.path.exists():
            return None
        with self._open() as file:
            group = _find_group(file, stage)
            if group is None or name not in group.attrs:
                return None
            _check_seal(f"{self.path}:{group.name}", group)
            return str(group.attrs[name])

    def _require(self, file: h5py.File, stage: str) -> h5py.Group:
        group = _find_group(file, stage)
        if group is not None:
            _check_seal(f"{self.path}:{group.name}", group)
        if group is None:
            raise DataError(
                message(
                    str(self.path),
                    f"no record {stage!r}",
                    f"one of {sorted(_list_stages(file))}",
                    f"Run stage={stage} first.",
                )
            )
        return group

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        """Open for reading; whatever is wrong with the file becomes one ``DataError``."""
        try:
            if not self.path.exists():
                raise FileNotFoundError(self.path)
            with open_hdf5(
                self.path,
                "the records of a run",
                "Delete the file and run again.",
                "a damaged file",
            ) as file:
                refuse_newer(
                    str(self.path), int(file.attrs["format"]), RECORD_FORMAT, _writer_of(file)
                )
                yield file
        except FileNotFoundError as error:
            raise DataError(
                message(
                    str(self.path), "no such file", "the records of a run", "Run infer.py first."
                )
            ) from error
        except (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            if is_refusal(error):
                raise  # the file may be whole: it must not be called damaged
            raise DataError(
                message(
                    str(self.path),
                    f"a damaged file ({error})",
                    "the records of a run",
                    "Delete the file and run again.",
                )
            ) from error


def _hash_seal(group: h5py.Group) -> str:
    """Digest what stands beside the numbers of a record: attributes and units."""
    words = {name: str(value) for name, value in group.attrs.items() if name != SEAL}
    units: dict[str, str] = {}

    def note(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if UNIT in item.attrs:
            units[name] = str(item.attrs[UNIT])

    group["record"].visititems(note)
    return hashlib.sha256(json.dumps([words, units], sort_keys=True).encode()).hexdigest()


def _check_seal(where: str, group: h5py.Group) -> None:
    """Refuse a record whose attributes or units were changed; earlier versions wrote no seal."""
    known = SEAL in group.attrs and _format_of(group) <= RECORD_FORMAT
    if known and group.attrs[SEAL] != _hash_seal(group):
        raise DataError(
            message(
                where,
                "inputs, provenance or units that do not match their checksum",
                "the record as it was written",
                "Delete the file and run again.",
            )
        )


def _find_group(file: h5py.File, stage: str) -> h5py.Group | None:
    """Find the group of a stage, under its present name first, then under its former one."""
    for name in (stage, former_stage(stage)):
        if name in file and current_stage(name, _format_of(file[name])) == stage:
            return file[name]
    return None


def _list_stages(file: h5py.File) -> set[str]:
    return {current_stage(name, _format_of(group)) for name, group in file.items()}


def _format_of(group: h5py.Group) -> int:
    return int(group.attrs.get("format", 1))


def _writer_of(group: h5py.Group) -> str | None:
    writer = group.attrs.get("mlepi")
    return None if writer is None else str(writer)
