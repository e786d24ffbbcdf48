"""The lock of a run folder: one run at a time writes there, and the lock says which.

The lock is a small file, ``run.lock``, that appears by a hard link and changes by a rename, both of
which are atomic on local disks and on NFS alike; ``fcntl`` is not used. Its content names the
holder, its age is its sign of life: the holder renews it every few seconds. A lock is left behind
when its process is gone from this machine, or when it has shown no life for ``PATIENCE`` (any
machine; ages are differences of the file server's own clock). It is then taken over. A holder that
was taken for dead, because its machine slept, notices at its next step and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from mlepi.errors import DataError, message
from mlepi.litter import remove_litter

FILE_NAME = "run.lock"
HEARTBEAT = 15.0
"""Seconds between two signs of life."""
PATIENCE = 300.0
"""Seconds without a sign of life after which a holder on another machine counts as gone."""
TAKEOVER = 60.0
"""Seconds that taking over a lock may last; a process that died during it blocks no longer."""
TOKEN = "MLEPI_RUN"  # noqa: S105 - the name of an environment variable
"""Environment variable by which processes that a run starts know that they belong to it."""
RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
"""Environment variables in which launchers number the processes of a run."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        host: name of the machine.
        machine: tells machines, and containers, of one name apart; empty where it is unknown.
        pid: process.
        born: when that process began, in ticks of its machine; tells it from a later process of the
            same number. Empty where it is unknown.
        started: when it took the lock, UTC.
        command: its command line.
        token: unique.
    """

    host: str
    machine: str
    pid: int
    born: str
    started: str
    command: str
    token: str

    def describe(self) -> str:
        """Name it in a message."""
        return f"{self.command!r} (process {self.pid} on {self.host}, since {self.started})"


class FolderLostError(DataError):
    """The folder of this run belongs to another run by now: nothing may be written there."""


class RunLock:
    """The lock of one folder, held or joined by this process; leaving the context releases it.

    Args:
        folder: run folder.
        holder: who holds it.
        is_owner: whether this process has taken it and keeps it alive; others only look at it.
        left_behind: the holder it was taken over from.
    """

    def __init__(
        self, folder: Path, holder: Holder, is_owner: bool, left_behind: Holder | None = None
    ) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self.holder = holder
        self.is_owner = is_owner
        self.left_behind = left_behind
        self._released = threading.Event()
        self._beat: threading.Thread | None = None
        if is_owner:
            self._beat = threading.Thread(target=self._live, name="run lock", daemon=True)
            self._beat.start()

    @property
    def word(self) -> str:
        """What the user should know of how the lock was obtained; empty when nothing."""
        if self.left_behind is None:
            return ""
        return f"{self.folder}: took over from {self.left_behind.describe()}, which is gone"

    def check(self) -> None:
        """Make sure that the folder still belongs to this run.

        Raises:
            FolderLostError: another run has taken it over, or the folder is gone.
        """
        found = _read(self.path)
        if found is not None and found.token == self.holder.token:
            return
        got = "no lock any more" if found is None else f"the lock of {found.describe()}"
        raise FolderLostError(
            message(
                str(self.path),
                got,
                f"that of this run ({self.holder.token})",
                f"This run showed no sign of life for {PATIENCE:.0f} s, or the file was deleted; "
                "it stops here. What was finished is kept: start it again.",
            )
        )

    def release(self) -> None:
        """Give the folder back; nothing happens where another run has it by now."""
        self._released.set()
        if not self.is_owner:
            return
        if self._beat is not None:
            self._beat.join(timeout=1.0)
        found = _read(self.path)
        if found is not None and found.token == self.holder.token:
            with contextlib.suppress(OSError):  # left behind; what went wrong before is told
                self.path.unlink(missing_ok=True)

    def __enter__(self) -> RunLock:
        """Hold it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release it."""
        self.release()

    def _live(self) -> None:
        """Renew the sign of life until the lock is released or belongs to another run."""
        while not self._released.wait(HEARTBEAT):
            with contextlib.suppress(OSError):  # a server that is away for a while
                found = _read(self.path)
                if found is not None and found.token != self.holder.token:
                    return
                if found is not None:
                    os.utime(self.path)


def acquire(folder: Path) -> RunLock:
    """Take the lock of a run folder; one that was left behind is taken over.

    Args:
        folder: it is made where it does not exist.

    Raises:
        DataError: another run holds it, or the folder cannot be written to.
    """
    path, holder = folder / FILE_NAME, _this_process()
    with _draft(folder, holder) as draft:
        _remove_drafts(folder, draft)
        for _ in range(3):  # a lock may vanish between two looks at it
            if _create(draft, path):
                return RunLock(folder, holder, is_owner=True)
            found, age = _read(path), _age(path, draft)
            if age is None:
                continue
            if not is_left_behind(found, age):
                raise _held(path, found, age)
            if _take_over(draft, path, found):
                return RunLock(folder, holder, is_owner=True, left_behind=found)
        raise _held(path, _read(path), 0.0)


def join(folder: Path, holder: Holder) -> RunLock:
    """Return the lock that another process of the same run holds."""
    return RunLock(folder, holder, is_owner=False)


@contextmanager
def hold(folder: Path) -> Iterator[RunLock | None]:
    """Hold the lock of a run folder in its first process; the other processes of the run join it.

    The first one is where a launcher says so, or the only one. Processes that it starts know its
    token.

    Args:
        folder: run folder.

    Yields:
        The lock; None in a process that a launcher has started beside the first one.

    Raises:
        DataError: another run holds it.
    """
    if not is_first_process():
        check_membership(folder)
        yield None
        return
    with acquire(folder) as lock:
        remove_litter(folder)
        before = os.environ.get(TOKEN)
        os.environ[TOKEN] = lock.holder.token
        try:
            yield lock
        finally:
            if before is None:
                os.environ.pop(TOKEN, None)
            else:
                os.environ[TOKEN] = before


def refuse_held(folder: Path) -> None:
    """Refuse a folder that another run holds, without taking it.

    Raises:
        DataError: it is held.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return
    with _draft(folder, _this_process()) as draft:
        found, age = _read(path), _age(path, draft)
        if age is not None and not is_left_behind(found, age):
            raise _held(path, found, age)


def check_membership(folder: Path) -> None:
    """Refuse a further process that belongs to another run than that which holds a folder.

    Raises:
        DataError: it was started by another run.
    """
    token, found = os.environ.get(TOKEN), _read(folder / FILE_NAME)
    if token is not None and found is not None and found.token != token:
        raise _held(folder / FILE_NAME, found, 0.0)


def is_first_process() -> bool:
    """Tell whether no launcher has given this process a number other than 0."""
    numbers = [os.environ[name] for name in RANKS if name in os.environ]
    return not numbers or all(number == "0" for number in numbers)


def is_left_behind(holder: Holder | None, age: float) -> bool:
    """Tell whether the holder of a lock is gone.

    Args:
        holder: what the lock says; None where it cannot be read.
        age: seconds since the last sign of life.
    """
    if age > PATIENCE:
        return True
    if holder is None or (holder.host, holder.machine) != _this_machine():
        return False
    return not _is_running(holder.pid, holder.born)


def _take_over(draft: Path, path: Path, stale: Holder | None) -> bool:
    """Replace a lock that was left behind; False where another process was faster."""
    guard = path.with_name(f"{FILE_NAME}.takeover")
    if not _create(draft, guard):
        age = _age(guard, draft)
        if age is not None and age > TAKEOVER:
            guard.unlink(missing_ok=True)
        return False
    try:
        if _read(path) != stale:
            return False
        copy = _name_copy(draft)
        copy.write_bytes(draft.read_bytes())
        copy.replace(path)
        return True
    finally:
        guard.unlink(missing_ok=True)


def _create(draft: Path, path: Path) -> bool:
    """Let a complete file appear under a name that must be free; False where it is not."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return draft.stat().st_nlink > 1 and path.samefile(draft)  # NFS repeats lost requests
    except OSError:  # a file system without hard links
        try:
            with path.open("xb") as stream:
                stream.write(draft.read_bytes())
        except FileExistsError:
            return False
    return True


@contextmanager
def _draft(folder: Path, holder: Holder) -> Iterator[Path]:
    """Write a lock under a name of its own; its time is the present time of the file server."""
    draft = folder / f".{FILE_NAME}.{holder.token}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(asdict(holder), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(
            message(
                str(folder),
                f"a folder that cannot be written to ({error.strerror})",
                "a run folder",
                "Choose another one by folder=… (training: hydra.run.dir=…), or free it.",
            )
        ) from error
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)
        _name_copy(draft).unlink(missing_ok=True)


def _name_copy(draft: Path) -> Path:
    """Name the file that replaces a lock: of this process alone, as its draft is."""
    return draft.with_name(f"{draft.name}.copy")


def _remove_drafts(folder: Path, own: Path) -> None:
    """Remove what processes that died while they took the lock have left."""
    for path in folder.glob(f".{FILE_NAME}.*"):
        if path not in (own, _name_copy(own)):
            age = _age(path, own)
            if age is not None and is_left_behind(_read(path), age):
                path.unlink(missing_ok=True)


def _read(path: Path) -> Holder | None:
    """Return what a lock says; None where there is none, or none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Holder(**{field.name: content[field.name] for field in fields(Holder)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _age(path: Path, draft: Path) -> float | None:
    """Return the seconds since a file last changed, by the clock of its server; None without it."""
    try:
        os.utime(draft)
        return draft.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return None


def _held(path: Path, holder: Holder | None, age: float) -> DataError:
    who = "a run that cannot be named" if holder is None else holder.describe()
    return DataError(
        message(
            str(path),
            f"a folder in use by {who}, last sign of life {max(age, 0.0):.0f} s ago",
            "a folder that no other run writes to",
            "Wait for it, or give this run a folder of its own (folder=…; training: "
            f"hydra.run.dir=…). A lock left behind on another machine is taken over "
            f"{PATIENCE:.0f} s after its last sign of life.",
        )
    )


def _this_process() -> Holder:
    host, machine = _this_machine()
    return Holder(
        host=host,
        machine=machine,
        pid=os.getpid(),
        born=_birth(os.getpid()) or "",
        started=datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%d %H:%M:%S"),
        command=shlex.join(sys.argv),
        token=secrets.token_hex(8),
    )


def _this_machine() -> tuple[str, str]:
    """Return the name of this machine, and what tells it from others of that name."""
    boot, space = "", ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return platform.node(), f"{boot} {space}".strip()


def _birth(pid: int) -> str | None:
    """Return when a process of this machine began, in ticks; None where it is gone or unknown."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *rest = words.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]


def _is_running(pid: int, born: str) -> bool:
    """Tell whether a process of this machine is there, and no later one of the same number."""
    if born:
        return _birth(pid) == born
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
