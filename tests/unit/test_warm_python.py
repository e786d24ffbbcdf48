"""Forked children of tests are what ``subprocess`` would have started."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import warm_python

HERE = Path(__file__).parent


def call(code, *arguments, runner=warm_python.run, **options):
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return runner(command, capture_output=True, text=True, **options)


FACTS = """
    import json, multiprocessing.process, os, random, sys, threading
    import numpy, torch
    print(json.dumps({
        "arguments": sys.argv, "original": sys.orig_argv, "folder": os.getcwd(),
        "first folder of many": multiprocessing.process.ORIGINAL_DIR,
        "environment": dict(sorted(os.environ.items())), "path": sys.path,
        "threads": threading.active_count(), "tasks": len(os.listdir("/proc/self/task")),
        "main": [sys.modules["__main__"].__dict__ is globals(), __name__, __spec__],
        "flags": str(sys.flags), "warnings": sys.warnoptions,
        "streams": [[file.encoding, file.errors, file.line_buffering]
                    for file in (sys.stdin, sys.stdout, sys.stderr)],
        "handlers": str([signal for signal in map(__import__("signal").getsignal, (2, 15, 17))]),
        "files": sorted(os.listdir("/proc/self/fd"))[:3], "group": os.getpgid(0),
        "torch": [torch.get_num_threads(), str(torch.get_default_dtype())],
        "locale": __import__("locale").getlocale(), "parent": multiprocessing.parent_process(),
        "backend": __import__("matplotlib").get_backend(),
        "loggers": [__import__("logging").root.level, len(__import__("logging").root.handlers)],
    }, default=str))
"""


def test_it_is_the_process_that_subprocess_starts(tmp_path):
    (tmp_path / "helper_of_mine.py").write_text("value = 3")
    path = os.pathsep.join([str(tmp_path), str(warm_python.ROOT)])
    options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": path, "MINE": "é 1"}}
    options["env"]["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # as Lightning says when it is imported
    code = textwrap.dedent(FACTS) + "import helper_of_mine"
    plain = call(code, "a b", "--c=ü", runner=subprocess.run, **options)
    warm = call(code, "a b", "--c=ü", **options)
    assert warm.returncode == plain.returncode == 0, warm.stderr
    assert warm.stdout == plain.stdout
    assert warm.stderr == plain.stderr == ""


def test_random_numbers_are_new_in_every_child():
    code = "import random, numpy, torch, uuid; "
    code += "print(random.random(), numpy.random.rand(), torch.initial_seed(), uuid.uuid4())"
    first, second = (call(code).stdout.split() for _ in range(2))
    assert len({*first, *second}) == 8


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit()",
        "import sys; sys.exit(3)",
        "import sys; sys.exit(259)",
        "import sys; sys.exit('why')",
        "def fail():\n    raise ValueError('what')\nfail()",
        "raise KeyboardInterrupt",
        "import os; os.kill(os.getpid(), 9)",
        "import os; os.abort()",
        "import os; print('lost'); os._exit(4)",
        "syntax error",
        "import atexit, sys; atexit.register(print, 'last'); print('first'); sys.exit(2)",
        "import threading, time\n"
        "def work():\n    time.sleep(0.2); print('waited for')\n"
        "threading.Thread(target=work).start()",
        "import sys; sys.excepthook = lambda *_: print('hook'); raise ValueError",
        "import os; os.close(1); print('nowhere')",
        "import warnings; warnings.warn('told', stacklevel=1)",
    ],
)
def test_it_ends_as_that_process(code):
    found, expected = call(code), call(code, runner=subprocess.run)
    assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout)
    if "KeyboardInterrupt" in code:
        assert found.stderr.splitlines()[-1] == expected.stderr.splitlines()[-1]
    elif "os.close" not in code:  # of a pipe the interpreter says more at its end
        assert found.stderr == expected.stderr


def test_scripts_and_modules_have_their_names(tmp_path):
    code = "import sys; print(sys.argv, sys.path[0], __name__, __file__, __spec__ is None)\n"
    code += "from inner_of_mine import x; print(x)"
    (tmp_path / "inner_of_mine.py").write_text("x = 1")
    (tmp_path / "outer_of_mine.py").write_text(code)
    for command in (["outer_of_mine.py", "a"], ["-m", "outer_of_mine", "a"]):
        found, expected = (
            runner([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
            for runner in (warm_python.run, subprocess.run)
        )
        assert found.stdout == expected.stdout != ""
        assert found.stderr == expected.stderr == ""


def test_processes_of_a_pool_find_the_functions_of_the_script(tmp_path):
    (tmp_path / "script.py").write_text(
        "import multiprocessing\n"
        "def double(x):\n    return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(double, [1, 2]))\n"
    )
    command = [sys.executable, "script.py"]
    found = warm_python.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("[2, 4]\n", "")


def test_a_child_that_takes_too_long_is_killed(tmp_path):
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); "
    with pytest.raises(subprocess.TimeoutExpired):
        call(code + "time.sleep(60)", timeout=1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    with pytest.raises(subprocess.CalledProcessError):
        call("raise SystemExit(1)", check=True)


def test_children_are_spoken_to_and_killed():
    command = [sys.executable, "-c", "print(input() + '!', flush=True); input()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with warm_python.Popen(command, **pipes, text=True) as child:
        child.stdin.write("hello\n")
        child.stdin.flush()
        assert child.stdout.readline() == "hello!\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("command", "environment", "reason"),
    [
        (["git", "status"], {}, "another program"),
        ([sys.executable, "-W", "error", "x.py"], {}, "option -W"),
        ([sys.executable, "x.py"], {"OMP_NUM_THREADS": "2"}, "OMP_NUM_THREADS is read"),
        ([sys.executable, "x.py"], {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES is read"),
        ([sys.executable, "x.py"], {"LOCAL_RANK": "1"}, "LOCAL_RANK is read"),
        ([sys.executable, "copy/x.py"], {}, "the mlepi in"),
        ([sys.executable, "x.py"], {"PYTHONPATH": "copy"}, "the mlepi in"),
        ([sys.executable, "x.py"], {"PYTHONPATH": f"{warm_python.ROOT}:copy"}, None),
        ([sys.executable, "-m", "mlepi"], {"ANYTHING": "else"}, None),
    ],
)
def test_what_cannot_be_changed_later_is_started_anew(tmp_path, command, environment, reason):
    (tmp_path / "copy" / "mlepi").mkdir(parents=True)
    (tmp_path / "copy" / "mlepi" / "__init__.py").touch()
    found = warm_python.find_reason(command, tmp_path, {**os.environ, **environment})
    assert (reason in found) if reason else found is None
