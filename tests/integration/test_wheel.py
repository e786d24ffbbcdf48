"""A wheel, installed into an empty environment outside the clone, runs from an empty folder.

Its dependencies are those of this environment, seen through a path file; this environment's own
mlepi is not, since path files in folders that a path file names are not read.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import setuptools

from mlepi.project_files import PROJECT_FOLDER as CLONE

pytestmark = pytest.mark.slow

SOURCES = ("mlepi", "conf", "data", "setup.py", "pyproject.toml", "README.md", "LICENSE")
INDEX_IS_NEEDED = int(setuptools.__version__.split(".")[0]) < 77  # an older one cannot build it


def call(folder, *command):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build from a copy of the sources: a build leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        path = CLONE / name
        if path.is_dir():
            shutil.copytree(path, folder / "source" / name, ignore=ignored)
        else:
            shutil.copy(path, folder / "source" / name)
    here = [] if INDEX_IS_NEEDED else ["--no-build-isolation"]
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", *here, "--wheel-dir", folder]
    built = call(folder / "source", *pip, ".")
    if built.returncode and INDEX_IS_NEEDED:
        pytest.skip("setuptools here is too old to build a wheel, and no index gives a newer one")
    assert built.returncode == 0, built.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with nothing but the wheel in it."""
    folder = tmp_path_factory.mktemp("environment")
    assert call(folder, sys.executable, "-m", "venv", "--without-pip", folder).returncode == 0
    python = folder / "bin" / "python"
    install = ("install", "--no-deps", "--no-index", wheel)
    installed = call(folder, sys.executable, "-m", "pip", "--python", python, *install)
    assert installed.returncode == 0, installed.stderr
    (packages,) = folder.glob("lib/python*/site-packages")
    dependencies = Path(setuptools.__file__).parents[1]
    (packages / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")
    return folder


@pytest.fixture
def mlepi(environment, tmp_path):
    """``mlepi`` of the environment, called in an empty folder."""
    return lambda *arguments: call(tmp_path, environment / "bin" / "mlepi", *arguments)


def test_the_wheel_holds_all_configs_data_and_checkpoints(wheel):
    with zipfile.ZipFile(wheel) as file:
        shipped = {
            name.removeprefix("mlepi/shipped/"): file.getinfo(name).file_size
            for name in file.namelist()
            if name.startswith("mlepi/shipped/")
        }
    ours = {
        path.relative_to(CLONE).as_posix(): path.stat().st_size
        for folder in ("conf", "data")
        for path in (CLONE / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name[0] != "."
    }
    assert shipped.pop("commit.txt")
    assert shipped == ours
    assert wheel.stat().st_size < 50e6


def test_the_installation_describes_itself(mlepi, environment):
    shown = mlepi("--version")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"mlepi {version('mlepi')}\n")
    assert f"package          {environment.resolve()}" in shown.stdout
    assert "(wheel)" in shown.stdout
    networks = mlepi("checkpoints").stdout
    assert "hedgenet_electron" in networks
    assert "hedgenet_phonon" in networks
    path = Path(mlepi("checkpoints", "path", "hedgenet_phonon").stdout.strip())
    assert path.is_file()
    assert environment.resolve() in path.parents
    refused = mlepi("bench")
    assert refused.returncode == 1
    assert "expected a clone" in refused.stderr


def test_the_demo_runs_from_any_folder(mlepi, tmp_path):
    """Its beginning, on two processes: relaxation by one network, H by the other."""
    done = mlepi("demo", "stage=hamiltonian", "report=false")
    assert done.returncode == 0, done.stderr
    assert "relaxed" in done.stdout
    assert "32 orbitals in hamiltonian.h5" in done.stdout
    assert (tmp_path / "outputs" / "demo" / "hamiltonian.h5").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]
