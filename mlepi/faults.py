"""What the machine refused, as one message: disk full, folder read-only, memory at its limit.

Libraries report these in their own words. Here they become the errors of this package, with the
path and with what is needed.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
from pathlib import Path

from mlepi.errors import MlepiError, message

OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|Unable to allocate|bad allocation"
    r"|cannot allocate memory|OutOfMemory|CUBLAS_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
"""What torch, numpy and BLAS say of it; there are exceptions of that name, but not always."""
LOST = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|gloo.*(timed out|timeout|Read error)"
    r"|NCCL.*(remote|timed out|timeout)",
    re.IGNORECASE | re.DOTALL,
)
"""What gloo and NCCL say where another process of a run is gone."""
NO_TEMPORARY = "No usable temporary directory"
REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE),
)
"""Numbers of errors that say nothing of the content of a file."""
GONE_ON = "Nothing is damaged: what was finished is kept, and the same command goes on from there."
GIGABYTE = 1e9


class MachineError(MlepiError):
    """The machine refused something that a run needs: disk, memory, a folder, another process."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory, of this machine or of its GPU, was not enough."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and bool(OUT_OF_MEMORY.search(str(error)))


def explain_fault(error: BaseException, folder: Path) -> MachineError | None:
    """Return what to tell the user of an error of the machine; None where it is none.

    Args:
        error: whatever was raised.
        folder: of the run.
    """
    if is_out_of_memory(error):
        return MachineError(message("memory", *_memory(error)))
    if isinstance(error, RuntimeError) and LOST.search(str(error)):
        return explain_lost(error)
    number = find_number(error)
    if number is None and not isinstance(error, OSError):
        # HDF5 fails once more, in other words, when it closes a file that it could not write
        cause = None if isinstance(error, MlepiError) else error.__cause__ or error.__context__
        return None if cause is None else explain_fault(cause, folder)
    if NO_TEMPORARY in str(error):
        text = "no folder for temporary files"
        fix = f"Set TMPDIR to a folder that can be written to. {GONE_ON}"
        return MachineError(message("TMPDIR", text, "a folder with free space", fix))
    where = str(getattr(error, "filename", None) or find_file(error) or folder)
    reason = os.strerror(number) if number else str(error)
    if number in (errno.ENOSPC, errno.EDQUOT):
        free = describe_free(Path(where))
        got = "a full disk" if number == errno.ENOSPC else "a used-up quota"
        fix = f"Free some, or give the run a folder elsewhere. {GONE_ON}"
        return MachineError(message(where, f"{got} ({reason}; {free})", "space to write to", fix))
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        fix = f"Change its permissions, or give the run a folder elsewhere. {GONE_ON}"
        return MachineError(message(where, reason, "a file or folder to write to", fix))
    if number in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return MachineError(message(where, reason, "a folder", "Give the run another one."))
    if number == errno.ENOENT:
        if not folder.is_dir():
            text = "no folder any more"
            fix = "It was deleted or moved while the run was at work: start it again."
            return MachineError(message(str(folder), text, "the run folder", fix))
        fix = f"Put it back, or start again. {GONE_ON}"
        return MachineError(message(where, reason, "a file that is there", fix))
    if number in REFUSALS:
        fix = f"Look after the file system. {GONE_ON}"
        return MachineError(message(where, reason, "a file system that works", fix))
    return None


def explain_lost(error: Exception) -> MachineError:
    """Return what to tell the user of an error that says that another process is gone.

    Args:
        error: of the library by which processes talk to each other.
    """
    return MachineError(
        message(
            "processes",
            f"one that has ended ({' '.join(str(error).split())[:120]})",
            "all processes of the run",
            "Look for its own message above, or whether memory ran out. What was finished is kept: "
            "the same command goes on from there (a training with auto_resume=true).",
        )
    )


def is_refusal(error: BaseException) -> bool:
    """Tell whether the system refused to read or write, whatever the content of a file is."""
    return find_number(error) in REFUSALS


def find_number(error: BaseException) -> int | None:
    """Return the number of an error of the system, also where HDF5 has put it into words."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if not isinstance(error, (OSError, RuntimeError)):
        return None
    found = re.search(r"errno = (\d+)", str(error))
    return int(found[1]) if found else None


def find_file(error: BaseException) -> str | None:
    """Return the file that HDF5 names in such words."""
    found = re.search(r"filename = '([^']*)'", str(error))
    return found[1] if found else None


def describe_free(path: Path) -> str:
    """Say how much space is left where a file is, or would be."""
    free = free_disk(path)
    return "space unknown" if free is None else f"{free / GIGABYTE:.3g} GB free"


def free_disk(path: Path) -> int | None:
    """Return the bytes that may still be written where a path is, or would be; None if unknown."""
    for place in (path, *path.absolute().parents):
        if place.exists():
            try:
                return shutil.disk_usage(place).free
            except OSError:
                return None
    return None


def free_memory() -> int | None:
    """Return the bytes that this process may still take; None where nothing says it.

    The least of what the machine has, what the control group (a container, a SLURM job) allows, and
    what ``ulimit -v`` leaves.
    """
    limits = [
        x for x in (_available(), _left_in_group(), _left_of_address_space()) if x is not None
    ]
    return min(limits) if limits else None


def _memory(error: BaseException) -> tuple[str, str, str]:
    free = free_memory()
    left = "" if free is None else f", {free / GIGABYTE:.2g} GB are free"
    detail = " ".join(str(error).split())[:160]
    return (
        f"less than a step needs ({detail or type(error).__name__}{left})",
        "enough for a structure at a time",
        "Give the run more memory (--mem of SLURM, ulimit -v), fewer processes (trainer.devices), "
        f"a smaller cell or batch_size. {GONE_ON}",
    )


def _available() -> int | None:
    """Return what Linux thinks that processes may take without swapping."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return int(found[1]) * 1024 if found else None


def _left_in_group() -> int | None:
    """Return what the control group of this process leaves, the caches of files not counted."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    group = next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), None)
    folders = [Path("/sys/fs/cgroup/memory")]
    if group is not None:
        top = Path("/sys/fs/cgroup")
        folders = [top / group, *(top / group).parents]
    left: list[int] = []
    for folder in folders:
        limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            left.append(max(0, limit - used + _reclaimable(folder / "memory.stat")))
        if folder == Path("/sys/fs/cgroup"):
            break
    return min(left) if left else None


def _reclaimable(path: Path) -> int:
    try:
        found = re.search(r"^(?:total_)?inactive_file (\d+)", path.read_text("ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _number(*paths: Path) -> int | None:
    for path in paths:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None
    return None


def _left_of_address_space() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return limit
    return max(0, limit - pages * resource.getpagesize())
