"""Where a result comes from: versions, commit, config, digests of everything that went in."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, message
from mlepi.project_files import find_commit

PACKAGES = (
    "mlepi",
    "torch",
    "e3nn",
    "torch-geometric",
    "lightning",
    "numpy",
    "scipy",
    "ase",
    "phonopy",
    "symfc",
    "h5py",
)


SECRET = re.compile(r"api_?key|token|password|secret|credential", re.IGNORECASE)
"""Keys whose values no record holds."""
HIDDEN = "***"


@cache
def find_version() -> str:
    """Return the version of this package."""
    return importlib.metadata.version("mlepi")


@cache
def list_packages() -> Mapping[str, str]:
    """Return the versions of the packages that results rest on, by name."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def hash_data(data: Any) -> str:
    """Digest plain data (mappings, sequences, numbers, texts) independently of the order of keys.

    Raises:
        DataError: the data holds something else.
    """
    try:
        text = json.dumps(data, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            message(
                "stage inputs",
                str(error),
                "plain JSON-able data",
                "Convert arrays and objects first.",
            )
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Digest the bytes of a file, or the names and bytes of all files in a folder.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            return hash_data([[str(f.relative_to(path)), hash_file(f)] for f in files])
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def read_input(path: Path) -> tuple[bytes, str]:
    """Read a file once: its bytes, to load from, and their digest, to record.

    Args:
        path: file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return content, hashlib.sha256(content).hexdigest()


def check_unchanged(digests: Mapping[Path, str]) -> None:
    """Make sure that files are still those that were hashed, after they have been loaded.

    For readers that open a path themselves.

    Args:
        digests: file → digest from before it was loaded.

    Raises:
        DataError: one has changed meanwhile.
    """
    for path, digest in digests.items():
        if hash_file(path) != digest:
            raise DataError(
                message(
                    str(path),
                    "a file that changed while it was read",
                    "the same content from beginning to end",
                    "Run again once it is complete.",
                )
            )


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        message(
            str(path),
            str(error.strerror),
            "a readable file",
            "Give a path to a file that exists and may be read.",
        )
    )


def hide_secrets(config: Any) -> Any:
    """Replace what keys such as ``api_key`` or ``password`` hold, which no record should.

    Args:
        config: nested plain data; not modified.
    """
    if isinstance(config, Mapping):
        return {
            key: HIDDEN if value and SECRET.search(str(key)) else hide_secrets(value)
            for key, value in config.items()
        }
    return [hide_secrets(value) for value in config] if isinstance(config, list) else config


def collect_provenance(
    config: Mapping[str, Any], inputs: Mapping[str, Any], seed: int, code: str | None = None
) -> dict[str, Any]:
    """Describe how a record was made.

    Args:
        config: the resolved config of the run.
        inputs: what decided the result: settings of the stage, digests of earlier records and of
            checkpoints.
        seed: of the ensemble.
        code: fingerprint of the source that made it (``fingerprint_code``), where it is known.

    Returns:
        Plain data: config, inputs, seed, code, git commit of the source, package versions.
    """
    return {
        "config": hide_secrets(config),
        "inputs": dict(inputs),
        "seed": int(seed),
        "code": code,
        "commit": find_commit(Path(__file__).parent),
        "packages": dict(list_packages()),
    }
