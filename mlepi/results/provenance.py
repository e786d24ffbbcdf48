"""Where a result comes from: versions, commit, config, digests of everything that went in."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, message

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
    """Digest the bytes of a file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            message(str(path), str(error.strerror), "a readable file", "Correct the path.")
        ) from error


def collect_provenance(
    config: Mapping[str, Any], inputs: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Describe how a record was made.

    Args:
        config: the resolved config of the run.
        inputs: what decided the result: settings of the stage, digests of earlier records and of
            checkpoints.
        seed: of the ensemble.

    Returns:
        Plain data: config, inputs, seed, git commit of the source, package versions.
    """
    return {
        "config": dict(config),
        "inputs": dict(inputs),
        "seed": int(seed),
        "commit": find_commit(Path(__file__).parent),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def find_commit(folder: Path) -> str:
    """Return the git commit of a source folder, with "+changes" if it was edited since, or "no repository"."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return "no repository"
    return commit + (
        "+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no", ".") else ""
    )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        run = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - whichever git the user has
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None
