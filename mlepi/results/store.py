"""The store of a run.

One HDF5 file with a group per stage, replaced as a whole, checked when it is read.

Layout: ``/<stage>/record/<field>`` with attribute ``unit``; attributes of ``/<stage>``: ``inputs``
(digest of what decided the result), ``content`` (digest of the record) and ``provenance`` (JSON
text).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from mlepi.errors import DataError, message
from mlepi.results.hdf5 import hash_group, read_record, write_record

FILE_NAME = "results.h5"
FORMAT = 1


class ResultsStore:
    """Records of the stages of one run folder.

    Args:
        folder: run folder; it need not exist before the first write.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE_NAME

    def stages(self) -> tuple[str, ...]:
        """Return the names of the stages that have a record."""
        if not self.path.exists():
            return ()
        with self._open() as file:
            return tuple(file)

    def inputs(self, stage: str) -> str | None:
        """Return the digest of the inputs of a stored record, or None when there is none."""
        return self._attribute(stage, "inputs")

    def content(self, stage: str) -> str | None:
        """Return the digest of a stored record, or None when there is none."""
        return self._attribute(stage, "content")

    def provenance(self, stage: str) -> dict[str, Any]:
        """Return how a stored record was made.

        Raises:
            DataError: there is no such record, or the file is damaged.
        """
        with self._open() as file:
            self._require(file, stage)
            return json.loads(str(file[stage].attrs["provenance"]))

    def read(self, stage: str, record_type: type) -> Any:
        """Read and check one record.

        Args:
            stage: its name.
            record_type: the dataclass to rebuild.

        Returns:
            An instance of ``record_type``.

        Raises:
            DataError: there is no such record, or the file is damaged.
        """
        with self._open() as file:
            self._require(file, stage)
            group = file[stage]
            if hash_group(group["record"]) != group.attrs["content"]:
                raise DataError(
                    message(
                        f"{self.path}:/{stage}",
                        "numbers that do not match their checksum",
                        "the record as it was written",
                        "Delete the file and run again.",
                    )
                )
            return read_record(group["record"], record_type)

    def write(
        self,
        stage: str,
        record: Any,
        inputs: str,
        provenance: Mapping[str, Any],
        drop: Collection[str] = (),
    ) -> str:
        """Write one record; the file changes as a whole or not at all.

        Args:
            stage: its name; an earlier record of this stage is replaced.
            record: a frozen dataclass.
            inputs: digest of what decided the result.
            provenance: plain data, see ``collect_provenance``.
            drop: stages whose records rest on this one; they are removed if this one differs from
                the earlier one.

        Returns:
            Digest of the record.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{FILE_NAME}.{os.getpid()}")
        try:
            with h5py.File(temporary, "w") as target:
                target.attrs["format"] = FORMAT
                group = target.create_group(stage)
                write_record(group.create_group("record"), record)
                content = hash_group(group["record"])
                stale = set(drop) if content != self.content(stage) else set()
                self._copy_other_stages({stage, *stale}, target)
                group.attrs.update(
                    {"inputs": inputs, "content": content, "provenance": json.dumps(provenance)}
                )
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        return content

    def _copy_other_stages(self, replaced: set[str], target: h5py.File) -> None:
        if self.path.exists():
            with self._open() as source:
                for name in source:
                    if name not in replaced:
                        source.copy(name, target)

    def _attribute(self, stage: str, name: str) -> str | None:
        if not self.path.exists():
            return None
        with self._open() as file:
            return str(file[stage].attrs[name]) if stage in file else None

    def _require(self, file: h5py.File, stage: str) -> None:
        if stage not in file:
            raise DataError(
                message(
                    str(self.path),
                    f"no record {stage!r}",
                    f"one of {sorted(file)}",
                    f"Run stage={stage} first.",
                )
            )

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        """Open for reading; whatever is wrong with the file becomes one ``DataError``."""
        try:
            with h5py.File(self.path, "r") as file:
                if file.attrs["format"] != FORMAT:
                    raise DataError(
                        message(
                            str(self.path),
                            f"format {file.attrs['format']}",
                            f"format {FORMAT}",
                            "Use the version that wrote it.",
                        )
                    )
                yield file
        except FileNotFoundError as error:
            raise DataError(
                message(
                    str(self.path), "no such file", "the records of a run", "Run infer.py first."
                )
            ) from error
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise DataError(
                message(
                    str(self.path),
                    f"a damaged file ({error})",
                    "the records of a run",
                    "Delete the file and run again.",
                )
            ) from error
