"""What ``mlepi --version`` says: what a report of a bug needs, without importing a framework."""

from __future__ import annotations

import os
import platform
import runpy
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from mlepi.project_files import PACKAGE_FOLDER, PROJECT_FOLDER, find_commit

PACKAGES = (
    "torch",
    "lightning",
    "e3nn",
    "torch-geometric",
    "hydra-core",
    "numpy",
    "scipy",
    "ase",
    "phonopy",
    "symfc",
    "h5py",
)
GPUS = Path("/proc/driver/nvidia/gpus")
"""One folder per GPU, where NVIDIA's driver for Linux runs."""
THREADS = "OMP_NUM_THREADS"


def describe_environment() -> str:
    """Return version, commit, place, packages, threads and devices, one line each."""
    installed = PROJECT_FOLDER.is_relative_to(PACKAGE_FOLDER)
    rows = {
        "commit": find_commit(PACKAGE_FOLDER),
        "package": f"{PACKAGE_FOLDER} ({'wheel' if installed else 'clone'})",
        "python": f"{platform.python_version()}, {platform.platform()}",
        "threads": _describe_threads(),
        "devices": _describe_devices(),
        **{name: _find_version(name) for name in PACKAGES},
    }
    return "\n".join(
        [f"mlepi {_find_version('mlepi')}", *(f"  {name:<16} {row}" for name, row in rows.items())]
    )


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _describe_threads() -> str:
    """Say how many threads torch will take: those of the environment, or one per core."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    chosen = os.environ.get(THREADS)
    wish = f"{THREADS}={chosen}" if chosen else f"{THREADS} not set, one per core"
    return f"{wish}; {usable} of {os.cpu_count()} processors usable"


def _describe_devices() -> str:
    """Say what torch was built for and which GPUs the driver shows."""
    built = _find_cuda_of_torch()
    torch = "torch without CUDA" if built is None else f"torch for CUDA {built}"
    n_gpus = len(list(GPUS.iterdir())) if GPUS.is_dir() else 0
    return f"{torch}; {n_gpus} NVIDIA GPU{'' if n_gpus == 1 else 's'} seen by the driver"


def _find_cuda_of_torch() -> str | None:
    """Read the file of torch that names its CUDA version: importing torch takes seconds."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).with_name("version.py")
    cuda = runpy.run_path(str(file)).get("cuda") if file.is_file() else None
    return None if cuda is None else str(cuda)
