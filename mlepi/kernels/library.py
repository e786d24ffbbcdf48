"""Build the C++ kernels once per processor and precision, and load them."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

SOURCES = [Path(__file__).with_name(name) for name in ("sums.cpp", "polynomials.cpp", "pieces.cpp")]
HEADERS = [Path(__file__).with_name("vectors.h")]
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")
REALS = {torch.float32: "float", torch.float64: "double"}
PATIENCE = 600
"""Seconds after which building is given up."""

log = logging.getLogger(__name__)


@functools.cache
def load_library(dtype: torch.dtype) -> ctypes.CDLL:
    """Return the kernels of a precision, from the cache where they were built before.

    Raises:
        OSError: there is no compiler, it fails, or the cache cannot be written.
    """
    compiler = find_compiler()
    command = [compiler, *FLAGS, f"-DREAL={REALS[dtype]}"]
    library = cache_folder() / f"mace_{_digest(command)}.so"
    if not library.is_file():
        _build(command, library)
    found = ctypes.CDLL(str(library))
    found.lanes.restype = ctypes.c_int64
    for function in (found.has_path, found.has_piece):
        function.restype, function.argtypes = ctypes.c_int64, [ctypes.c_int64] * 2
    return found


def find_library(like: Tensor, channels: int) -> ctypes.CDLL | None:
    """Return the kernels for arrays like one, whose vectors run over channels; None without any.

    That is on other devices, in other precisions, for channels that fill no vectors, and where the
    kernels cannot be built.
    """
    if like.device.type != "cpu" or like.dtype not in REALS or like.dtype in _missing:
        return None
    try:
        library = load_library(like.dtype)
    except (OSError, subprocess.SubprocessError) as error:
        _missing[like.dtype] = error
        return None
    return None if channels % int(library.lanes()) else library


_missing: dict[torch.dtype, Exception] = {}
"""Precision → why its kernels cannot be built, in this process."""


def find_compiler() -> str:
    """Return the C++ compiler: that of the variable CXX, or g++, or clang++.

    Raises:
        OSError: there is none.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise FileNotFoundError(f"no C++ compiler {' or '.join(names)}")
    return found


def cache_folder() -> Path:
    """Return where built code is kept: that of torch if it was chosen, or one of the user's own."""
    chosen = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if chosen:
        return Path(chosen) / "mlepi"
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "mlepi"


def address(tensor: Tensor | None) -> ctypes.c_void_p:
    """Return the address of a tensor's data, of nothing without one."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _digest(command: list[str]) -> str:
    """Return what tells the source, the compiler with its options, and the processor."""
    version = subprocess.run(  # noqa: S603 - the user's compiler
        [command[0], "--version"], capture_output=True, timeout=PATIENCE, check=False
    ).stdout
    texts = [file.read_bytes() for file in (*SOURCES, *HEADERS)]
    parts = [*texts, version, " ".join(command).encode(), _processor().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _processor() -> str:
    """Name the processor and what it can do, because code is built for it alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def _build(command: list[str], library: Path) -> None:
    """Build, and move into place what is complete."""
    library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        part = Path(scratch) / library.name
        done = subprocess.run(  # noqa: S603 - the user's compiler, our source
            [*command, *map(str, SOURCES), "-o", str(part)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode != 0:
            raise OSError(f"{command[0]}: {' '.join(done.stderr.split())[:500]}")
        part.replace(library)
    seconds = time.perf_counter() - start
    log.info("built the kernels of MACE in C++ in %.0f s; kept in %s", seconds, library)
