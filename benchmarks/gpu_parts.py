"""One part of the GPU run (``gpu.py``), in a process of its own.

    python benchmarks/gpu_parts.py forward --output forward.json

Every number is written as soon as it is known, so that a part that fails or is stopped leaves what
it had measured. A part imports what it needs and no more: seconds of its limit.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gpu_settings import Notes, Scale, choose_scale
from speed_results import Row
from speed_settings import ROOT

OUTCOMES = {"PASSED": "passed", "FAILED": "failed", "SKIPPED": "skipped", "ERROR": "errors"}
"""What pytest prints → key of the results."""


def describe_device(notes: Notes, device: str, scale: Scale, limit: float) -> None:
    """Note what the device is, or that there is none."""
    import torch

    if device == "cpu":
        notes.add(name="cpu", available=True)
    elif torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        notes.add(
            name=properties.name,
            available=True,
            memory_mb=properties.total_memory // 2**20,
            capability=f"{properties.major}.{properties.minor}",
            cuda=torch.version.cuda,
            driver=find_driver(),
        )
    else:
        notes.add(available=False)
    packages = ("torch", "e3nn", "torch-geometric", "lightning", "numpy")
    notes.add(
        python=sys.version.split()[0],
        versions={name: importlib.metadata.version(name) for name in packages},
    )


def find_driver() -> str | None:
    """Return the version of the NVIDIA driver, None where nothing tells it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip().split("\n")[0] or None


def measure_forward(notes: Notes, device: str, scale: Scale, limit: float) -> None:
    """Measure both networks in inference."""
    from gpu_networks import measure_networks

    measure_networks("forward", notes, device, scale)


def measure_step(notes: Notes, device: str, scale: Scale, limit: float) -> None:
    """Measure a training step of both networks."""
    from gpu_networks import measure_networks

    measure_networks("step", notes, device, scale)


def measure_large_cell(notes: Notes, device: str, scale: Scale, limit: float) -> None:
    """Measure H of the magic-angle cell."""
    from gpu_networks import measure_large_cell

    measure_large_cell(notes, device, scale, limit)


def measure_peer(notes: Notes, device: str, scale: Scale, limit: float) -> None:
    """Measure mace-torch beside ours."""
    from gpu_networks import measure_peer

    measure_peer(notes, device, scale, limit)


def measure_demo(notes: Notes, device: str, scale: Scale, limit: float) -> None:
    """Scan the demo at 300 K."""
    from gpu_scan import measure_scan

    measure_scan(
        notes.add,
        device=device,
        overrides=scale.scan,
        n_samples=scale.n_samples,
        n_compared=scale.n_compared,
        limit=limit,
    )


def run_tests(notes: Notes, device: str, scale: Scale, limit: float) -> None:
    """Run the tests that need a GPU, from the files that have some."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if needs_gpu(path)]
    # a warning of another torch version is no failure here, and no plugin of the system is needed
    options = ["-m", "gpu", "-v", "-ra", "--tb=short", "-W", "default", "-p", "no:cacheprovider"]
    process = subprocess.Popen(  # noqa: S603 - our own tests
        [sys.executable, "-m", "pytest", *options, *(str(path) for path in files)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONUNBUFFERED": "1"},
    )
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        notes.add(**count_outcomes(lines))
    if process.wait() != 0:
        notes.add(text="".join(lines)[-12000:])
        raise RuntimeError(f"pytest ended with status {process.returncode}")


def needs_gpu(path: Path) -> bool:
    """Tell whether a file of tests has some that need a GPU."""
    return bool(re.search(r"mark\.gpu\b", path.read_text("utf-8")))


def count_outcomes(lines: Sequence[str]) -> Row:
    """Read from what ``pytest -v`` prints how many tests passed, and which failed."""
    counts: Row = dict.fromkeys(OUTCOMES.values(), 0)
    failures = []
    for line in lines:
        found = re.match(r"(\S+::.*?) (PASSED|FAILED|SKIPPED|ERROR)\b", line)
        if found is not None:
            counts[OUTCOMES[found[2]]] += 1
            failures += [found[1]] if found[2] in ("FAILED", "ERROR") else []
    return {**counts, "failures": failures}


Part = Callable[[Notes, str, Scale, float], None]
PARTS: dict[str, Part] = {
    "device": describe_device,
    "tests": run_tests,
    "forward": measure_forward,
    "step": measure_step,
    "large_cell": measure_large_cell,
    "scan": measure_demo,
    "peer": measure_peer,
}


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description="One part of the GPU run.")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--toy", action="store_true", help="smallest networks and cells")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that it may take")
    chosen = parser.parse_args()
    PARTS[chosen.part](Notes(chosen.output), chosen.device, choose_scale(chosen.toy), chosen.limit)


if __name__ == "__main__":
    main()
