"""A scan of the demo on a device, through the command line, and the same samples on the processor.

Nothing of the pipeline is used but its keys, its results file, and the line that it prints about
the samples.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from speed_results import Row
from speed_settings import ROOT

TEMPERATURE = 300.0
RESERVE = 5.0
"""Seconds of its limit that a scan leaves unused."""


TOLERANCE = 1e-3
"""Deviation within which results agree: eigenvalues on a GPU are solved to 5e-5 eV."""


class InferenceError(RuntimeError):
    """``infer.py`` failed; the text holds its last lines."""


class Inference:
    """One run of ``infer.py`` in the background.

    Args:
        folder: of the run.
        n_samples: of the ensemble.
        device: "cpu" or "cuda".
        overrides: of the demo.
    """

    def __init__(
        self, folder: Path, n_samples: int, device: str, overrides: Sequence[str] = ()
    ) -> None:
        self.n_samples = n_samples
        command = [sys.executable, str(ROOT / "infer.py"), "experiment=demo", "trainer.devices=1"]
        command += [f"folder={folder}", f"temperature={TEMPERATURE:g}", f"n_samples={n_samples}"]
        command += [f"device={device}", "report=false", "logger=csv", *overrides]
        self.start = time.perf_counter()
        self.process = subprocess.Popen(  # noqa: S603 - our own script
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )

    def finish(self) -> Row:
        """Wait for the end.

        Returns:
            "seconds" of the whole run, and "seconds_per_sample" if the run says how long its
            samples took, else None.

        Raises:
            InferenceError: the run failed.
        """
        text, _ = self.process.communicate()
        seconds = time.perf_counter() - self.start
        if self.process.returncode != 0:
            raise InferenceError("\n".join(text.strip().splitlines()[-15:]))
        found = re.search(r"^samples +([\d.,]+) s  ", text, re.MULTILINE)
        each = float(found[1].replace(",", "")) / self.n_samples if found else None
        return {"n_samples": self.n_samples, "seconds": seconds, "seconds_per_sample": each}


def compare_results(one: Path, other: Path, tolerance: float = TOLERANCE) -> Row:
    """Compare all floating-point numbers of two results files.

    Deviations of a dataset are in units of its largest value. Few of them say nothing: errors of
    fits that are exact, sums that vanish, and fits that jump when a state enters their window.

    Args:
        one: results of the device.
        other: results of the processor.
        tolerance: largest deviation of a dataset that agrees.

    Returns:
        "n_datasets" with the same shape in both, the fraction of them that is "agreeing", the
        "median" deviation, and the five "worst", name → deviation.

    Raises:
        ValueError: the files have nothing in common.
    """
    ours, theirs = read_numbers(one), read_numbers(other)
    shared = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    if not shared:
        raise ValueError(f"{one} and {other} have no numbers in common")
    deviations = {name: measure_deviation(ours[name], theirs[name]) for name in shared}
    values = np.array(list(deviations.values()))
    worst = sorted(shared, key=lambda name: -deviations[name])[:5]
    return {
        "n_datasets": len(shared),
        "agreeing": float(np.mean(values <= tolerance)),
        "median": float(np.median(values)),
        "worst": {name: deviations[name] for name in worst},
    }


def read_numbers(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read all floating-point datasets of an HDF5 file that are not empty."""
    found: dict[str, np.ndarray[Any, Any]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fc" and item.size:
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def measure_deviation(values: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
    """Return the largest difference in units of the largest reference value; NaN equals NaN."""
    values, reference = np.atleast_1d(values), np.atleast_1d(reference)
    known = ~(np.isnan(values) & np.isnan(reference))
    if not known.any():
        return 0.0
    difference = np.abs(values[known] - reference[known]).max()
    if np.isnan(difference):
        return float("inf")
    largest = np.abs(reference[known]).max()
    return float(difference / largest) if largest > 0.0 else float(difference)


def measure_scan(
    note: Callable[..., None],
    *,
    device: str,
    overrides: Sequence[str],
    n_samples: int,
    n_compared: int,
    limit: float,
) -> None:
    """Scan a few samples on the device and on the processor, then all on the device.

    Fewer than all where the few say that all would take longer than the limit.

    Args:
        note: takes facts by name as soon as they are known.
        device: "cpu" or "cuda".
        overrides: of the demo.
        n_samples: of the scan.
        n_compared: samples that the processor repeats.
        limit: seconds for everything.
    """
    end = time.perf_counter() + limit
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch) / name for name in ("few", "processor", "all")}
        here = Inference(folders["processor"], n_compared, "cpu", overrides)
        try:
            few = Inference(folders["few"], n_compared, device, overrides).finish()
            note(few=few)
            note(processor=here.finish())
        finally:
            if here.process.poll() is None:
                here.process.kill()
                here.process.wait()
        files = (folders[name] / "results.h5" for name in ("few", "processor"))
        note(agreement=compare_results(*files))
        n = choose_number(few, n_samples, end - time.perf_counter() - RESERVE)
        note(n_wanted=n_samples, n_samples=n)
        found = Inference(folders["all"], n, device, overrides).finish()
        each = found["seconds_per_sample"]
        if each is None:  # what more samples took beyond the few
            each = (found["seconds"] - few["seconds"]) / max(n - n_compared, 1)
        note(all=found, samples_per_second=1.0 / each if each > 0.0 else None)


def choose_number(few: Row, n_samples: int, seconds: float) -> int:
    """Return how many samples fit into some seconds, from a run of a few; at least those."""
    each = few["seconds_per_sample"]
    if each is None:
        return n_samples
    start = few["seconds"] - each * few["n_samples"]
    return int(np.clip((seconds - start) / max(each, 1e-6), few["n_samples"], n_samples))
