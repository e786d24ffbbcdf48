"""The reference systems in place of the networks, by their name on the command line."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import warm_python

from mlepi.command_line import compose_config
from mlepi.observables import all_stages
from mlepi.observables.fermi_velocity.record import FermiVelocityRecord
from mlepi.pipeline import infer
from mlepi.reference_systems import TightBinding
from mlepi.results import ResultsStore

ROOT = Path(__file__).parents[2]
SHORT = [
    "supercell=[3,3,1]",
    "n_samples=2",
    "temperature=300",
    "report=false",
    "stage.fermi_velocity.dos_mesh=[12,12,1]",
    "stage.fermi_velocity.n_resamples=10",
]
TOYS = ["phonon=toy", "electron=toy"]


def run(folder, *overrides):
    config = compose_config(ROOT / "conf", "infer", [*SHORT, *overrides])
    folder.mkdir()
    infer(config, folder, all_stages())
    return ResultsStore(folder).read("fermi_velocity", FermiVelocityRecord)


def test_toy_on_the_command_line(tmp_path):
    command = [sys.executable, str(ROOT / "infer.py"), f"folder={tmp_path / 'run'}", *SHORT, *TOYS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = warm_python.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    record = ResultsStore(tmp_path / "run").read("fermi_velocity", FermiVelocityRecord)
    assert record.n_electrons == 16  # AB bilayer, four electrons per atom
    assert np.all(np.isfinite(record.spectral.velocities))


def test_toy_of_a_monolayer(tmp_path):
    record = run(
        tmp_path / "run",
        *TOYS,
        "structure.stacking=monolayer",
        "stage.fermi_velocity.dispersion=linear",
    )
    assert record.n_electrons == 8
    assert record.spectral.equilibrium_velocity == pytest.approx(
        TightBinding(orbitals="sp").fermi_velocity, rel=0.02
    )


@pytest.mark.parametrize("experiment", ["toy_monolayer", "toy_bilayer"])
def test_toy_experiments(tmp_path, experiment):
    record = run(tmp_path / "run", f"experiment={experiment}", *SHORT)
    # the fit window is not at K itself: trigonal warping and, in the bilayer, slanted hoppings take
    # less than two per cent
    assert record.spectral.equilibrium_velocity == pytest.approx(
        TightBinding(orbitals="s").fermi_velocity, rel=0.02
    )
    assert record.spectral.equilibrium_gamma_1 == pytest.approx(
        0.38 * (experiment == "toy_bilayer"), abs=0.04
    )
