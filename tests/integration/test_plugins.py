"""A package of its own, ``tests/plugin``, installed with pip: its four additions are used."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import setuptools

from mlepi import plugins
from mlepi.project_files import PROJECT_FOLDER
from mlepi.structures import HamiltonianDataset

pytestmark = pytest.mark.slow

WITH_OVERLAPS = PROJECT_FOLDER / "tests/references/openmx_overlaps.h5"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which the package is installed, from a copy: a build leaves files behind."""
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("setuptools here is too old to build a package of this form")
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(
        PROJECT_FOLDER / "tests" / "plugin",
        folder / "source",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    target = ["--quiet", "--target", str(folder / "installed"), str(folder / "source")]
    done = subprocess.run([*pip, *target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "installed"


@pytest.fixture
def python(installed, tmp_path):
    """Python with mlepi and the package, in an empty folder."""

    def call(*arguments):
        path = os.pathsep.join([str(installed), str(PROJECT_FOLDER)])
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def test_without_the_package_there_is_nothing():
    assert plugins.list_backbones() == set()
    assert plugins.find_config_folders() == {}


def test_its_reader_converts(python, tmp_path):
    one = HamiltonianDataset(WITH_OVERLAPS)[0]
    arrays = {
        "numbers": one.atoms.numbers,
        "positions": one.atoms.positions,
        "cell": one.atoms.cell.array,
        "shells": one.basis.shells[6],
        "radius": one.basis.radii[6],
        "edge_index": one.edge_index,
        "edge_cell_shift": one.edge_cell_shift,
        "hamiltonian_blocks": one.hamiltonian_blocks,
        "overlap_blocks": one.overlap_blocks,
    }
    np.savez(tmp_path / "one.npz", **arrays)
    convert = ["-m", "mlepi", "convert", "one.npz", "--format", "example"]
    assert "1 structures" in python(*convert, "--out", "one.h5")
    found = HamiltonianDataset(tmp_path / "one.h5")
    assert found.names == ("one",)
    assert found.provenance["converted_from"] == "example"
    np.testing.assert_array_equal(found["one"].atoms.positions, one.atoms.positions)
    assert len(found["one"].hamiltonian_blocks) == len(one.hamiltonian_blocks)


def test_its_sampler_and_its_observable_run(python):
    shown = python(
        *("-m", "mlepi", "infer", "experiment=toy_monolayer", "sampler=mirrored"),
        *("stage=[layer_count,sampling]", "stage.layer_count.at_least=2"),
        *("supercell=[2,2,1]", "n_samples=2", "report=false"),
    )
    assert "2 snapshots (Mirrored)" in shown
    assert "1 layers" in shown
    assert "fewer than 2 layers." in shown


def test_its_backbone_trains_and_its_checkpoint_loads(python):
    python(
        *("-m", "mlepi", "train", "model=example_mace", "optimizer.max_epochs=1", "logger=csv"),
        *("size.phonon.num_features=4", "size.phonon.l_max=1", "data.n_train=1", "test=false"),
        *("trainer.limit_val_batches=1", "trainer.accelerator=cpu", "hydra.run.dir=run"),
    )
    backbone = python(
        "-c",
        "import mlepi; model = mlepi.load_model('run/checkpoints/best.ckpt').network(); "
        "print(sorted({type(part).__module__ for part in model.modules()}))",
    )
    assert "mlepi_example.network" in backbone
