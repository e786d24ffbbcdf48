"""How the C library hands out memory, kept and in large pages, and how much a process holds.

A network allocates and frees the same tensors of some megabytes for every structure. The C
library's own choice is to give them back to the system each time, which then has to find and clear
every page again.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3) in the GNU C library."""
NEVER = -1
"""Value of ``M_TRIM_THRESHOLD``: free memory at the end of the heap is never given back."""
GROWTH = 64 * 2**20
"""Bytes by which the heap grows at least."""
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Where Linux says whether pages of 2 MB may be asked for."""


def list_memory_variables() -> dict[str, str]:
    """Return variables by which a process that is started with them does as ``keep_freed_memory``.

    For programs that import torch before anything of ours. Their work may run in a thread, which
    would have a small heap of its own: there is one for all.
    """
    values = {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**62),
        "MALLOC_TOP_PAD_": str(GROWTH),
        "MALLOC_ARENA_MAX": "1",
    }
    return values | ({"THP_MEM_ALLOC_ENABLE": "1"} if _has_huge_pages() else {})


def _has_huge_pages() -> bool:
    return HUGE_PAGES.is_file() and "[never]" not in HUGE_PAGES.read_text(encoding="ascii")


def keep_freed_memory() -> bool:
    """Take tensors from a heap that never shrinks, large ones on pages of 2 MB.

    The pages are those that Linux offers. To be called before torch is imported. Only speed and
    page faults change, never a result; the process keeps the memory of its largest moment until it
    ends. Elsewhere than in the GNU C library nothing happens.

    Returns:
        Whether the C library accepted it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    options = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, GROWTH))
    if mallopt is None or not all(mallopt(parameter, value) for parameter, value in options):
        return False
    if _has_huge_pages():
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    return True


def used_memory() -> int:
    """Return the bytes of memory that this process holds now; the most so far outside Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    return pages * resource.getpagesize()


def used_gpu_memory() -> int:
    """Return the bytes that torch keeps on the present GPU; 0 where it uses none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return int(torch.cuda.memory_reserved())
