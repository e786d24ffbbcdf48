"""Everything that a GPU is wanted for, in at most five minutes.

    make gpu PYTHON=python3
    python benchmarks/gpu.py --parts forward step --limit forward=20

Parts, each a process of its own with its own time limit (``gpu_parts.py``): the tests that need a
GPU; both networks and a training step of both at published size, in float32 and in TF32; H of the
magic-angle cell; a scan of the demo; energy and forces of mace-torch, where it is installed. What a
part has measured is kept when it fails or is stopped, its error is recorded, and the others go on.

Writes ``results/gpu-DEVICE.json`` after every part and prints the row for docs/speed.md
(``gpu_report.py`` puts it there). Without a GPU it says so in one line and ends well.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpu_report import format_row, make_slug
from speed_results import Row, write_atomically
from speed_settings import BENCHMARKS, ROOT, describe_machine

from mlepi.results.provenance import find_commit

LIMITS = {"tests": 75, "forward": 50, "step": 50, "large_cell": 45, "scan": 120, "peer": 40}
"""Part → seconds that it may take; the most important ones come first."""

DEVICE_LIMIT = 60.0
TOTAL = 290.0
"""Seconds of all parts together."""

SHORTEST = 5.0
"""A part is not started with less than these seconds left."""


def run_part(command: Sequence[str], limit: float, facts: Path) -> Row:
    """Run a part and return what came of it.

    Args:
        command: of its process.
        limit: seconds after which the process and all that it has started are ended.
        facts: JSON file that it writes while it runs.

    Returns:
        "status" ("done", "failed" or "limit"), "wall_seconds", "error" (None when it is done), the
        last lines of a part that failed as "output", and the facts that it has written.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:
        process = subprocess.Popen(  # noqa: S603 - our own scripts
            list(command), stdout=words, stderr=words, start_new_session=True, cwd=ROOT
        )
        try:
            code: int | None = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_group(process)
        words.seek(0)
        lines = [line for line in words.read().splitlines() if line.strip()]
    found: Row = {"status": "done", "wall_seconds": time.perf_counter() - start, "error": None}
    if code is None:
        found |= {"status": "limit", "error": f"stopped after {limit:.0f} s"}
    elif code != 0:
        last = lines[-1] if lines else "nothing was printed"
        found |= {"status": "failed", "error": f"status {code}: {last}"}
    if code != 0:
        found["output"] = lines[-30:]
    written: Row = json.loads(facts.read_text("utf-8")) if facts.exists() else {}
    return {**written, **found}


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process and of those that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_parts(
    commands: Mapping[str, Sequence[str]],
    limits: Mapping[str, float],
    total: float,
    results: Row,
    path: Path,
) -> None:
    """Run parts one after the other and write the results after each.

    Args:
        commands: part → command; "FACTS" and "LIMIT" in it become the file of its facts and the
            seconds that it may take.
        limits: part → seconds.
        total: seconds of all together; parts for which none are left are not started.
        results: gets the parts under "parts".
        path: file of the results.
    """
    end = time.perf_counter() + total
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands.items():
            facts = Path(folder) / f"{name}.json"
            limit = min(limits[name], end - time.perf_counter())
            if limit < min(SHORTEST, limits[name]):
                found: Row = {"status": "left out", "error": f"all {total:.0f} s were used up"}
            else:
                words = {"FACTS": str(facts), "LIMIT": f"{limit:.1f}"}
                found = run_part([words.get(word, word) for word in command], limit, facts)
            results["parts"][name] = found
            write_atomically(path, json.dumps(results, indent=1) + "\n")
            print(describe_part(name, found), flush=True)


def describe_part(name: str, found: Row) -> str:
    """Return one line about a part."""
    seconds = f"{found['wall_seconds']:6.1f} s" if "wall_seconds" in found else "    –   "
    absent = f", {found['absent']}" if "absent" in found else ""
    return f"{name:<12}{seconds}  {found['status']}{absent}" + (
        f": {found['error']}" if found["error"] else ""
    )


def parse_limit(text: str) -> tuple[str, float]:
    """Read "PART=SECONDS".

    Raises:
        argparse.ArgumentTypeError: it is something else.
    """
    name, _, seconds = text.partition("=")
    try:
        if name in LIMITS:
            return name, float(seconds)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not one of {'=…, '.join(LIMITS)}=…, in seconds")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Everything that a GPU is wanted for.")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--toy", action="store_true", help="smallest networks and cells")
    parser.add_argument("--parts", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--limit", nargs="+", type=parse_limit, default=[], metavar="PART=SECONDS")
    parser.add_argument("--total", type=float, default=TOTAL, help="seconds of all parts")
    parser.add_argument("--commit", help="of a checkout without a repository")
    parser.add_argument(
        "--output", type=Path, default=BENCHMARKS / "results", help="folder of the results"
    )
    return parser.parse_args()


def main() -> int:
    """Run all parts.

    Returns:
        0 when all are done or there is no GPU, 1 when a part is not done.
    """
    chosen = parse()
    limits = {**LIMITS, **dict(chosen.limit)}
    start = time.perf_counter()
    script = [sys.executable, str(BENCHMARKS / "gpu_parts.py")]
    options = ["--output", "FACTS", "--limit", "LIMIT", "--device", chosen.device]
    options += ["--toy"] if chosen.toy else []
    with tempfile.TemporaryDirectory() as folder:
        facts = Path(folder) / "device.json"
        command = [*script, "device", "--output", str(facts), "--device", chosen.device]
        device = run_part(command, DEVICE_LIMIT, facts)
    if device["error"]:
        print(f"error: no answer about the device: {device['error']}", file=sys.stderr)
        return 1
    if not device["available"]:
        print(f"No GPU: torch {device['versions']['torch']} finds no CUDA device.")
        return 0
    slug = make_slug(device["name"], chosen.toy)
    path = chosen.output / f"gpu-{slug}.json"
    results: Row = {
        "device": device,
        "machine": describe_machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": chosen.commit or find_commit(ROOT / "mlepi"),
        "command": shlex.join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
        "toy": chosen.toy,
        "parts": {},
    }
    print(f"{device['name']}, torch {device['versions']['torch']}, driver {device.get('driver')}")
    commands = {name: [*script, name, *options] for name in chosen.parts}
    run_parts(commands, limits, chosen.total - (time.perf_counter() - start), results, path)
    print(f"{path}\n{format_row(results)}")
    return int(any(part["status"] != "done" for part in results["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
