"""The reference systems in place of the networks, by their name on the command line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlepi.reference_systems import TightBinding
from mlepi.results import ObservablesRecord, PhononRecord, ResultsStore

ROOT = Path(__file__).parents[2]
SHORT = ["supercell=[3,3,1]", "n_samples=2", "temperature=300", "report=false", "stage.observables.dos_mesh=[12,12,1]"]


def infer(folder, *overrides):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "infer.py"), f"folder={folder}", *SHORT, *overrides]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder.parent, check=False)


@pytest.mark.parametrize("stacking", ["AB", "monolayer"])
def test_toy_stands_in_for_both_networks(tmp_path, stacking):
    run = infer(tmp_path / "run", "phonon=toy", "electron=toy", f"structure.stacking={stacking}")
    assert run.returncode == 0, run.stderr
    store = ResultsStore(tmp_path / "run")
    assert store.read("phonon", PhononRecord).frequencies.max() < 50
    observables = store.read("observables", ObservablesRecord)
    assert observables.n_electrons == 8 * (1 + (stacking == "AB"))
    assert np.all(np.isfinite(observables.spectral.velocities))


@pytest.mark.parametrize("experiment", ["toy_monolayer", "toy_bilayer"])
def test_toy_experiments(tmp_path, experiment):
    run = infer(tmp_path / "run", f"experiment={experiment}")
    assert run.returncode == 0, run.stderr
    record = ResultsStore(tmp_path / "run").read("observables", ObservablesRecord)
    # the fit window is not at K itself: trigonal warping and, in the bilayer, slanted hoppings take less than two per cent
    assert record.spectral.equilibrium_velocity == pytest.approx(TightBinding(orbitals="s").fermi_velocity, rel=0.02)
    assert record.spectral.equilibrium_gamma_1 == pytest.approx(0.38 * (experiment == "toy_bilayer"), abs=0.04)
