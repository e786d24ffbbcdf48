"""Children of tests that start at once: forked from a process that has imported everything.

``run`` and ``Popen`` stand in for those of ``subprocess`` where a test starts a script or a module
of this project, or code that uses it. The children are processes of their own, with the arguments,
environment, folder, files, signals and exit status that they would have anyway; they only do not
import torch, Lightning and the rest again, which takes longer than what they are started for.

Each worker of pytest starts one such process at its first request. It has one thread and does
nothing but fork: first a keeper, which forks the child and tells the test how it ended.

What a process reads only while it starts cannot be changed afterwards. A request that changes it,
or that would import another ``mlepi``, is started by ``subprocess`` (``find_reason``). So are, by
their own choice, the tests whose subject is the start itself.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PIPE = subprocess.PIPE
READ_AT_START = (
    *("CUDA", "HOME", "KMP_", "LANG", "LC_", "LD_", "LOCAL_RANK", "MKL_", "MPL", "NODE_RANK"),
    *("NUMEXPR_", "OMP_", "OPENBLAS_", "PYTHON", "RANK", "SLURM_", "TORCH_", "XDG_"),
)
"""How the names of variables begin that the interpreter or a package reads once."""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
"""Of the process that forks; pytest's own when this is imported, before any test."""


def run(
    command: Sequence[str | Path],
    *,
    capture_output: bool = False,
    text: bool = False,
    check: bool = False,
    timeout: float | None = None,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[Any]:
    """Do what ``subprocess.run`` does."""
    command = [os.fspath(word) for word in command]
    if find_reason(command, cwd, env) is not None:
        options = {"capture_output": capture_output, "text": text, "check": check}
        return subprocess.run(command, timeout=timeout, cwd=cwd, env=env, **options)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        files = {"stdout": out, "stderr": err} if capture_output else {}
        process = Popen(command, cwd=cwd, env=env, **files)
        try:
            process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        found = [_read(file, text) if capture_output else None for file in (out, err)]
    done = subprocess.CompletedProcess(command, process.returncode, *found)
    if check:
        done.check_returncode()
    return done


def _read(file: Any, text: bool) -> str | bytes:
    file.seek(0)
    content = file.read()
    return io.TextIOWrapper(io.BytesIO(content)).read() if text else content


class Popen:
    """Do what ``subprocess.Popen`` does, as far as the tests need it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        text: bool = False,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.args = [os.fspath(word) for word in command]
        self.returncode: int | None = None
        self.processor_seconds = 0.0
        if reason := find_reason(self.args, cwd, env):
            raise ValueError(f"use subprocess.Popen: {reason}")
        mode = "" if text else "b"
        theirs, pipes = [], []
        for number, file in enumerate((stdin, stdout, stderr)):
            ours = None
            if file == PIPE:
                ends = os.pipe()
                theirs.append(ends[number > 0])
                pipes.append(ends[number > 0])
                ours = os.fdopen(ends[number == 0], ("r" if number else "w") + mode)
            else:
                theirs.append(number if file is None else file.fileno())
            setattr(self, ("stdin", "stdout", "stderr")[number], ours)
        request = {
            "arguments": self.args,
            "folder": os.fspath(cwd or Path.cwd()),
            "environment": dict(os.environ if env is None else env),
        }
        self._keeper = _start_forking().fork(request, theirs)
        for end in pipes:
            os.close(end)
        self.pid = int(self._receive()["pid"])

    def _receive(self) -> dict[str, Any]:
        answer = self._keeper.recv(1 << 16)
        if not answer:
            raise RuntimeError(f"nothing was forked: {_start_forking().explain()}")
        return json.loads(answer)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, or −N after signal N."""
        if self.returncode is None:
            self._keeper.settimeout(timeout)
            try:
                answer = self._receive()
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            self._keeper.close()
            self.returncode = os.waitstatus_to_exitcode(answer["status"])
            self.processor_seconds = answer["processor_seconds"]
            SPENT.append(self.processor_seconds)
        return self.returncode

    def kill(self) -> None:
        """End it at once, unless it has been waited for."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> Popen:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                file.close()
        self.wait()


SPENT: list[float] = []
"""Processor seconds of every child: the system counts them for the keeper, not for pytest."""


def find_reason(
    command: Sequence[str], cwd: str | Path | None, env: Mapping[str, str] | None
) -> str | None:
    """Return why a command has to be started anew; None if it can be forked."""
    if sys.platform != "linux" or _has_gpu():
        return "forks of imported packages are safe on Linux without a GPU"
    if command[0] != sys.executable or len(command) < 2:
        return "another program"
    if command[1].startswith("-") and command[1] not in ("-m", "-c"):
        return f"option {command[1]} of the interpreter"
    environment = os.environ if env is None else env
    for name in {*environment, *ENVIRONMENT} - {"PYTHONPATH"}:
        if name.startswith(READ_AT_START) and environment.get(name) != ENVIRONMENT.get(name):
            return f"{name} is read while a process starts"
    for folder in _find_folders(command, Path(cwd or Path.cwd()), environment):
        if (folder / "mlepi" / "__init__.py").exists():
            return None if folder.resolve() == ROOT else f"the mlepi in {folder}"
    return None


def _find_folders(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> list[Path]:
    """Return where a command looks for modules before the installed ones."""
    first = folder if command[1] in ("-m", "-c") else (folder / command[1]).resolve().parent
    path = environment.get("PYTHONPATH", "")
    entries = [(folder / entry).absolute() for entry in path.split(os.pathsep) if path]
    return [first, *dict.fromkeys(entries)]


@cache
def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


class ForkingProcess:
    """The process that forks, seen from pytest."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process lives)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                cwd=ROOT,
                env=ENVIRONMENT,
            )
        atexit.register(self.close)

    def fork(self, request: Mapping[str, Any], files: Sequence[int]) -> socket.socket:
        """Ask for a child; its keeper answers on the socket: the process id, then the end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(
                    self._socket, [json.dumps(request).encode()], [theirs.fileno(), *files]
                )
            except OSError:
                ours.close()
                raise RuntimeError(f"the process that forks has ended: {self.explain()}") from None
        return ours

    def explain(self) -> str:
        """Return what the process wrote about its own mistakes."""
        time.sleep(0.1)
        return str(_read(self._errors, text=True))

    def close(self) -> None:
        """End the process; what it was asked for ends first."""
        self._socket.close()
        self._process.wait()
        self._errors.close()


_start_forking = cache(ForkingProcess)


# From here on: in the process that forks.


def import_everything() -> None:
    """Import what commands import, and parse all configs, so that forks need not."""
    import importlib
    import pkgutil

    from omegaconf import OmegaConf

    import mlepi.observables

    names = ["e3nn", "hydra", "lightning", "matplotlib.pyplot", "torch", "torch_geometric"]
    rooms = ["checkpoint", "command_line", "evaluation.judgement", "models", "pipeline"]
    rooms += ["predictors", "reference_systems", "report", "structures.sources"]
    rooms += ["training", "training.jobs", "training.run"]
    for name in [*names, *(f"mlepi.{room}" for room in rooms)]:
        importlib.import_module(name)
    from parsed_yaml import remember_parsed_yaml

    remember_parsed_yaml()
    for path in (ROOT / "conf").rglob("*.yaml"):
        OmegaConf.load(path)
    for module in pkgutil.walk_packages(mlepi.observables.__path__, "mlepi.observables."):
        importlib.import_module(module.name)


def _serve(connection: socket.socket) -> None:
    """Fork whatever is asked for until pytest ends."""
    import gc

    import torch

    sys.path[:] = sys.path[2:]  # without the folders of this file and of PYTHONPATH
    added = {name: value for name, value in os.environ.items() if ENVIRONMENT.get(name) != value}
    gc.collect()
    gc.freeze()  # nothing is written into the pages that all children share
    if torch.cuda.is_initialized():
        raise RuntimeError("the imports started CUDA, which no child could use")
    while True:
        request, files, _, _ = socket.recv_fds(connection, 1 << 20, 4)
        if not files:
            break
        if (n_threads := len(list(Path("/proc/self/task").iterdir()))) != 1:
            raise RuntimeError(f"the imports started {n_threads - 1} threads, lost in a fork")
        if os.fork() == 0:
            connection.close()
            wanted = json.loads(request)
            wanted["environment"] |= added  # as they would change it again
            _keep(wanted, *files)
        for file in files:
            os.close(file)
        while _reap(os.WNOHANG):
            pass
    while _reap(0):
        pass


def _reap(options: int) -> bool:
    try:
        return os.waitpid(-1, options)[0] != 0
    except ChildProcessError:
        return False


def _keep(request: Mapping[str, Any], answers: int, *files: int) -> None:
    """Fork the child, wait for it and tell how it ended."""
    child = os.fork()
    if child == 0:
        os.close(answers)
        _become(request, files)
    for file in files:
        os.close(file)
    with socket.socket(fileno=answers) as connection:
        connection.send(json.dumps({"pid": child}).encode())
        _, status, usage = os.wait4(child, 0)
        spent = usage.ru_utime + usage.ru_stime
        with suppress(BrokenPipeError):  # where nobody waits for it any more
            connection.send(json.dumps({"status": status, "processor_seconds": spent}).encode())
    os._exit(0)


def _become(request: Mapping[str, Any], files: Sequence[int]) -> None:
    """Turn into the process that was asked for, run it and end as the interpreter does."""
    import random
    import threading
    import traceback

    for target, file in enumerate(files):
        os.dup2(file, target)
    for file in files:
        os.close(file)
    _forget_the_start(request)
    random.seed()
    status = 0
    try:
        _execute(request["arguments"])
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        status = 0 if end.code is None else end.code & 0xFF if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        traceback.print_exc()
        status = -signal.SIGINT
    except BaseException as error:
        places = error.__traceback__
        while places is not None and places.tb_frame.f_code.co_filename == __file__:
            places = places.tb_next
        sys.excepthook(type(error), error.with_traceback(places), places)
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = 120
    if status < 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


def _forget_the_start(request: Mapping[str, Any]) -> None:
    """Take on folder, environment and module path, also where packages have noted the old ones."""
    import importlib
    import multiprocessing.process

    import numpy as np
    import torch

    folder, environment = Path(request["folder"]), request["environment"]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.process.ORIGINAL_DIR = os.fspath(folder)
    tempfile.tempdir = None
    np.random.seed()  # noqa: NPY002 (third parties draw from the global generator)
    torch.seed()
    command = request["arguments"]
    folders = _find_folders(command, folder, environment)
    first, *entries = map(str, folders)
    sys.path[:0] = ["" if command[1] == "-c" else first, *entries]
    sys.path += [] if ROOT in folders else [str(ROOT)]  # where an installed clone is
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


def _execute(command: Sequence[str]) -> None:
    import runpy
    import types

    first, *arguments = command[1:]
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=__builtins__, __spec__=None)
    sys.modules["__main__"] = main
    sys.orig_argv = list(command)
    if first == "-m":
        sys.argv[:] = ["-m", *arguments[1:]]
        runpy._run_module_as_main(arguments[0])
    elif first == "-c":
        sys.argv[:] = ["-c", *arguments[1:]]
        exec(compile(arguments[0], "<string>", "exec"), main.__dict__)  # noqa: S102
    else:
        sys.argv[:] = [first, *arguments]
        main.__file__ = str(Path(first).absolute())
        exec(compile(Path(first).read_bytes(), first, "exec"), main.__dict__)  # noqa: S102


if __name__ == "__main__":
    import_everything()
    with socket.socket(fileno=int(sys.argv[1])) as pytest_end:
        _serve(pytest_end)
