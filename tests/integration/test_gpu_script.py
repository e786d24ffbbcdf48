"""The GPU run, tried at toy size on the processor.

All parts run, one that fails or exceeds its limit is recorded and the others go on, without a GPU
there is one line; its environment and its table are what they should be.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import gpu
import gpu_environment
import gpu_networks
import gpu_parts
import gpu_report
import gpu_scan
import h5py
import numpy as np
import pytest
import torch
from gpu_settings import choose_scale
from speed_settings import MODELS, build_structure

from mlepi.errors import DataError

ROOT = Path(__file__).parents[2]
PARTS = ("tests", "forward", "step", "large_cell", "scan", "peer")


def run_script(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )


@pytest.mark.slow
def test_all_parts_run_and_one_that_exceeds_its_limit_is_recorded(tmp_path):
    options = ["--device", "cpu", "--toy", "--output", str(tmp_path), "--total", "900"]
    generous = [f"{part}=300" for part in PARTS if part != "step"]
    found = run_script(*options, "--limit", *generous, "step=0.2")
    assert found.returncode == 1, found.stderr
    results = json.loads((tmp_path / "gpu-toy-cpu.json").read_text("utf-8"))
    parts = results["parts"]
    assert tuple(parts) == PARTS
    assert parts["step"]["status"] == "limit"
    assert parts["step"]["error"] == "stopped after 0 s"
    errors = {name: part["error"] for name, part in parts.items() if part["error"]}
    assert list(errors) == ["step"], errors
    assert found.stdout.splitlines()[-1].startswith("| cpu, torch ")
    assert results["toy"]
    assert results["device"]["versions"]["torch"] == torch.__version__
    assert [row["model"] for row in parts["forward"]["rows"]] == [m[1] for m in MODELS.values()]
    for row in parts["forward"]["rows"]:
        assert row["float32"]["seconds"] > 0.0
        assert row["deviation"] >= 0.0
    assert parts["large_cell"]["n_atoms"] == 28
    assert parts["large_cell"]["deviation_from_processor_mev"] == 0.0
    assert parts["scan"]["n_samples"] == 4
    assert parts["scan"]["agreement"]["agreeing"] == 1.0
    assert parts["scan"]["samples_per_second"] > 0.0
    assert parts["scan"]["all"]["seconds_per_sample"] is not None  # the line of infer.py was found
    assert parts["tests"]["failures"] == []
    assert parts["tests"]["passed"] + parts["tests"]["skipped"] > 10


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line(tmp_path):
    found = run_script("--output", str(tmp_path))
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == f"No GPU: torch {torch.__version__} finds no CUDA device.\n"
    assert not list(tmp_path.iterdir())


def script(code):
    return [sys.executable, "-c", code, "FACTS"]


def test_parts_that_fail_leave_what_they_found(tmp_path):
    write = "import sys, time; open(sys.argv[1], 'w').write('{\"n\": 1}'); "
    commands = {
        "fails": script(write + "raise ValueError('no such kernel')"),
        "hangs": script(write + "time.sleep(60)"),
        "works": script(write),
    }
    results, path = {"parts": {}}, tmp_path / "results.json"
    start = time.monotonic()
    gpu.run_parts(commands, {"fails": 30.0, "hangs": 1.0, "works": 30.0}, 100.0, results, path)
    assert time.monotonic() - start < 60
    assert json.loads(path.read_text("utf-8")) == results
    found = results["parts"]
    assert {name: part["status"] for name, part in found.items()} == {
        "fails": "failed",
        "hangs": "limit",
        "works": "done",
    }
    assert found["fails"]["error"] == "status 1: ValueError: no such kernel"
    assert found["fails"]["output"][0].startswith("Traceback")
    assert found["hangs"]["error"] == "stopped after 1 s"
    assert found["works"]["error"] is None
    assert all(part["n"] == 1 for part in found.values())


def test_a_part_that_is_stopped_takes_its_children_along(tmp_path):
    sign = tmp_path / "alive"
    child = f"import time; time.sleep(3); open({str(sign)!r}, 'w')"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    found = gpu.run_part([sys.executable, "-c", code], 1.0, tmp_path / "none.json")
    assert found["status"] == "limit"
    time.sleep(3.5)
    assert not sign.exists()


def test_parts_without_time_left_are_not_started(tmp_path):
    results = {"parts": {}}
    gpu.run_parts({"late": script("")}, {"late": 30.0}, 2.0, results, tmp_path / "results.json")
    assert results["parts"]["late"] == {"status": "left out", "error": "all 2 s were used up"}


def test_limits_are_read():
    assert gpu.parse_limit("scan=2.5") == ("scan", 2.5)
    for text in ("scan", "scan=long", "sacn=3"):
        with pytest.raises(gpu.argparse.ArgumentTypeError, match="is not one of tests=…, forward"):
            gpu.parse_limit(text)


def test_limits_fit_into_five_minutes():
    assert tuple(gpu.LIMITS) == PARTS == tuple(gpu_parts.PARTS)[1:]
    assert gpu.DEVICE_LIMIT < gpu.TOTAL < 300.0


def test_published_structures_exist():
    scale = choose_scale(toy=False)
    for sizes in scale.atoms.values():
        for n_atoms in sizes:
            assert len(build_structure(n_atoms)) == n_atoms


def test_outcomes_of_tests():
    lines = ["a.py::one[x y] PASSED [ 50%]\n", "a.py::two FAILED\n", "b.py::three SKIPPED (why)\n"]
    lines += ["FAILED a.py::two - AssertionError\n", "1 failed, 1 passed in 1 s\n"]
    assert gpu_parts.count_outcomes(lines) == {
        "passed": 1,
        "failed": 1,
        "skipped": 1,
        "errors": 0,
        "failures": ["a.py::two"],
    }
    assert gpu_parts.needs_gpu(ROOT / "tests" / "integration" / "test_gpu.py")


def test_deviation_is_relative_to_the_largest_value():
    values = torch.tensor([1.0, -4.0])
    assert gpu_networks.compare(values + torch.tensor([0.0, 0.02]), values) == pytest.approx(0.005)


def test_results_files_are_compared(tmp_path):
    numbers = {"a": [1.0, np.nan], "b": [2.0], "c": [0.0]}
    changed = {"a": [1.0 + 1e-6, np.nan], "b": [3.0], "c": [0.0], "n": [1.0, 2.0]}
    for name, content in (("one", numbers), ("other", changed)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for key, values in content.items():
                file[f"part/{key}"] = values
            file["part/words"] = "text"
    found = gpu_scan.compare_results(tmp_path / "one.h5", tmp_path / "other.h5")
    assert found["n_datasets"] == 3
    assert found["agreeing"] == pytest.approx(2 / 3)
    assert found["median"] == pytest.approx(1e-6, rel=1e-5)
    assert list(found["worst"]) == ["part/b", "part/a", "part/c"]
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(ValueError, match="have no numbers in common"):
        gpu_scan.compare_results(tmp_path / "one.h5", tmp_path / "empty.h5")
    assert gpu_scan.measure_deviation(np.array([np.nan]), np.array([1.0])) == np.inf


def test_as_many_samples_as_fit():
    few = {"n_samples": 4, "seconds": 12.0, "seconds_per_sample": 0.5}
    assert gpu_scan.choose_number(few, 200, 1000.0) == 200
    assert gpu_scan.choose_number(few, 200, 60.0) == 100
    assert gpu_scan.choose_number(few, 200, 3.0) == 4
    assert gpu_scan.choose_number({**few, "seconds_per_sample": None}, 200, 3.0) == 200


def test_a_scan_that_fails_says_why(tmp_path):
    with pytest.raises(gpu_scan.InferenceError, match="n_samples"):
        gpu_scan.Inference(tmp_path / "run", -1, "cpu").finish()


RESULTS = {
    "device": {"name": "NVIDIA H100 80GB HBM3", "versions": {"torch": "2.11.0+cu130"}},
    "date": "2026-12-01",
    "toy": False,
    "parts": {
        "tests": {"passed": 15, "failed": 1, "errors": 0},
        "forward": {
            "rows": [
                {
                    "work": "hamiltonian",
                    "model": "hedgenet_electron",
                    "n_atoms": 1024,
                    "float32": {"seconds": 0.05},
                    "tf32": {"seconds": 0.02},
                    "used": "tf32",
                },
                {
                    "work": "energy_forces",
                    "model": "hedgenet_phonon",
                    "n_atoms": 1024,
                    "error": "RuntimeError: out of memory",
                },
            ]
        },
        "large_cell": {"seconds": 0.8, "peak_mb": 2048.0},
        "scan": {"samples_per_second": 12.0},
        "peer": {
            "atoms_1024": {
                "ours": {"seconds": 0.01},
                "mace": {"seconds": 0.05},
                "mace_cueq": {"error": "no cuEquivariance"},
            }
        },
    },
}


def test_row_of_the_table():
    cells = [cell.strip() for cell in gpu_report.format_row(RESULTS).strip("| ").split("|")]
    assert cells == [
        "NVIDIA H100 80GB HBM3, torch 2.11.0+cu130, 2026-12-01",
        "20.0 tf32",
        "–",
        "–, –",
        "0.800, 2.00",
        "12.0",
        "plain 5.00×",
        "15 passed, 1 failed",
    ]
    assert len(cells) == len(gpu_report.HEADER)
    assert gpu_report.make_slug(RESULTS["device"]["name"]) == "nvidia-h100-80gb-hbm3"


def test_pages_say_that_there_is_none_until_there_is_one(tmp_path):
    originals = (gpu_report.SPEED, gpu_report.LIMITS)
    pages = [tmp_path / page.name for page in originals]
    texts = [page.read_text("utf-8") for page in originals]
    for page, text in zip(pages, texts, strict=True):
        page.write_text(text, encoding="utf-8")
    (tmp_path / "gpu-toy-cpu.json").write_text(json.dumps({**RESULTS, "toy": True}))
    assert gpu_report.read_results(tmp_path) == []
    gpu_report.update_pages(*pages, [])
    assert [page.read_text("utf-8") for page in pages] == texts
    (tmp_path / "gpu-nvidia-h100-80gb-hbm3.json").write_text(json.dumps(RESULTS))
    for _ in range(2):
        gpu_report.update_pages(*pages, gpu_report.read_results(tmp_path))
        updated = [page.read_text("utf-8") for page in pages]
        assert not any("Nothing has been run on a GPU yet" in text for text in updated)
        assert updated[0].count(gpu_report.format_row(RESULTS)) == 1
    pages[0].write_text("# Speed\n")
    with pytest.raises(DataError, match="no comments <!-- gpu -->"):
        gpu_report.update_pages(*pages, [RESULTS])


def test_wheels_are_pinned_and_small(tmp_path, capsys):
    names = gpu_environment.read_names()
    pinned = (ROOT / "constraints.txt").read_text("utf-8")
    pins = {gpu_environment.normalise(line.split("==")[0]) for line in pinned.splitlines()}
    assert {gpu_environment.normalise(name) for name in names} <= pins
    with pytest.raises(SystemExit, match="no wheels of antlr4-python3-runtime, ase, "):
        gpu_environment.check_wheels(tmp_path, names)
    (tmp_path / "hydra_core-1.3.8-py3-none-any.whl").write_bytes(bytes(3 << 20))
    gpu_environment.check_wheels(tmp_path, ["hydra-core"])
    assert "1 wheels, 3.0 MB" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"take 3\.0 MB, more than 2 MB"):
        gpu_environment.check_wheels(tmp_path, ["hydra-core"], 2.0)
    (wheel,) = gpu_environment.choose_wheels(tmp_path, ["hydra-core"])
    assert wheel.name.startswith("hydra_core")
    with pytest.raises(SystemExit, match=r"lacks ase, and so does .*: run `make gpu-wheels`"):
        gpu_environment.choose_wheels(tmp_path, ["ase", "hydra-core"])
    assert gpu_environment.find_missing(["ase", "no-such-package"]) == ["no-such-package"]


@pytest.mark.slow
def test_environment_sees_the_packages_of_its_python_and_this_checkout(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_environment.py"), "make"]
    subprocess.run([*command, str(tmp_path / "gpu"), str(tmp_path / "no_wheels")], check=True)
    python = tmp_path / "gpu" / "bin" / "python"
    code = (
        "import mlepi, torch; print(mlepi.__file__, torch.__file__, mlepi.__version__, sep='\\n')"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    found = subprocess.run(
        [python, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    package, peer, version = found.stdout.split()
    assert Path(package) == ROOT / "mlepi" / "__init__.py"
    assert Path(peer) == Path(torch.__file__)
    assert version == importlib.metadata.version("mlepi")
