"""The inference command.

Records, files, errors and processes, with springs and a toy Hamiltonian in place of networks.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import warm_python
from ase.io import write
from toy_infer import MODELS, TOY_RUN

from mlepi.checkpoint import load_model
from mlepi.graphs.shifted_matrix import shift_hamiltonian
from mlepi.observables.fermi_velocity.record import FermiVelocityRecord
from mlepi.observables.sparse_bands.record import SparseBandsRecord
from mlepi.results import ResultsStore, read_hamiltonian

ROOT = Path(__file__).parents[2]
TOYS = Path(__file__).parents[1]
ELECTRON = ROOT / "data" / "checkpoints" / "hedgenet_electron.ckpt"


def infer(folder, *overrides, run=warm_python.run):
    script = TOYS / "toy_infer.py" if "stage.run=levels" in overrides else ROOT / "infer.py"
    environment = {**os.environ, "PYTHONPATH": str(TOYS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), f"hydra.run.dir={folder}", *overrides]
    return run(
        command, capture_output=True, text=True, env=environment, cwd=folder.parent, check=False
    )


def test_run_then_rerun(tmp_path):
    first = infer(tmp_path / "run", *TOY_RUN)
    assert first.returncode == 0, first.stderr
    assert [line.split()[0] for line in first.stdout.splitlines()] == [
        "structure",
        "phonon",
        "sampling",
        "hamiltonian",
        "levels",
    ]
    assert {"results.h5", "hamiltonian.h5", ".hydra"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    again = infer(tmp_path / "run", *TOY_RUN)
    assert again.stdout.count("unchanged") == 5
    provenance = ResultsStore(tmp_path / "run").provenance("phonon")
    assert provenance["config"]["supercell"] == [3, 3, 1]
    assert provenance["packages"]["phonopy"].startswith("4.10")


def test_hamiltonian_of_any_structure_file(tmp_path):
    sys.path.insert(0, str(TOYS))
    from toy_models import build_honeycomb

    atoms = build_honeycomb(2.5).repeat((2, 1, 1))
    write(tmp_path / "some.cif", atoms)
    run = infer(
        tmp_path / "run", "stage=hamiltonian", "structure=some.cif", "phonon=null", MODELS[1]
    )
    assert run.returncode == 0, run.stderr
    read, hamiltonian, overlap = read_hamiltonian(tmp_path / "run" / "hamiltonian.h5")
    np.testing.assert_allclose(read.positions, atoms.positions, atol=1e-6)
    k = np.array([0.1, 0.2, 0.0])
    assert np.linalg.eigvalsh(overlap.dense(k)).min() > 0
    np.testing.assert_allclose(hamiltonian.dense(k), hamiltonian.dense(k).conj().T)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["temprature=3"], ["temprature: got an unknown key", "Did you mean 'temperature'?"]),
        (
            ["+temprature=3", "n_samples=0"],
            [
                "Did you mean 'temperature'?",
                "n_samples: got 0",
                "phonon: got 'missing.ckpt'",
                "The traceback is in",
            ],
        ),
        (
            ["stage=hamiltonan"],
            ["stage.run: got 'hamiltonan'; expected names of", "Did you mean 'hamiltonian'?"],
        ),
        (["stage=hamiltonian", "structure=broken.cif"], ["broken.cif", "The traceback is in"]),
    ],
)
def test_mistakes_end_with_one_text_and_status_1(tmp_path, overrides, expected):
    (tmp_path / "broken.cif").write_text("no structure at all")
    run = infer(
        tmp_path / "run",
        *MODELS,
        *overrides,
        *(["phonon=missing.ckpt"] if "n_samples=0" in overrides else []),
    )
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert run.stderr.startswith("error: ")
    for text in expected:
        assert text in run.stderr
    if "The traceback is in" in expected:
        assert (
            "Traceback (most recent call last)" in (tmp_path / "run" / "traceback.txt").read_text()
        )


def test_unusable_checkpoint_stops_before_the_first_stage(tmp_path):
    (tmp_path / "garbage.ckpt").write_bytes(b"no checkpoint")
    run = infer(tmp_path / "run", *TOY_RUN, "electron=garbage.ckpt")
    assert run.returncode == 1
    assert "garbage.ckpt: got a file that cannot be read" in run.stderr
    assert run.stdout == ""


def test_corrupt_records_end_with_one_text(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.h5").write_bytes(b"not HDF5")
    run = infer(folder, *TOY_RUN)
    assert run.returncode == 1
    assert "results.h5: got a damaged file" in run.stderr
    assert "Delete the file and run again." in run.stderr


def test_a_killed_run_continues_in_the_middle_of_the_samples(tmp_path):
    failed = infer(tmp_path / "run", *TOY_RUN, "stage.levels.fail_at=2")
    assert failed.returncode == 1
    assert "a failure on purpose" in failed.stderr
    part = tmp_path / "run" / "parts" / "levels.0.part"
    part.write_bytes(part.read_bytes()[:-10])  # as if killed while writing
    size = part.stat().st_size
    assert infer(tmp_path / "run", *TOY_RUN).returncode == 0
    assert part.stat().st_size > size
    infer(tmp_path / "whole", *TOY_RUN)
    contents = {ResultsStore(tmp_path / name).content("levels") for name in ("run", "whole")}
    assert len(contents) == 1


@pytest.mark.slow
def test_real_observables_and_report(tmp_path):
    overrides = [item for item in TOY_RUN if "levels" not in item and item != "report=false"]
    run = infer(
        tmp_path / "run",
        *overrides,
        "stage=observables",  # the former names of stages
        "valence_electrons={6:1}",
        "stage.observables.dispersion=linear",
        run=subprocess.run,  # nothing is said while it starts
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert run.stdout.splitlines()[-1].startswith("report")
    names = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert {
        "phonons.png",
        "phonons.pdf",
        "bands.png",
        "spectral_function.png",
        "fermi_velocity.pdf",
    } <= names
    assert (tmp_path / "run" / "report.html").stat().st_size > 1e5
    record = ResultsStore(tmp_path / "run").read("fermi_velocity", FermiVelocityRecord)
    # v = (3/2) t d0 less the overlap's share: 8.7e5 m/s for the undisplaced honeycomb, and a little
    # less at temperature
    assert record.spectral.equilibrium_velocity == pytest.approx(8.7e5, rel=0.03)
    assert 0.8 < record.spectral.ratios[1] < 1.0


@pytest.mark.slow
def test_states_of_a_twisted_cell_by_the_shipped_network(tmp_path):
    """The magic-angle experiment on a cell that can be diagonalised.

    The states next to neutrality, with their numbers, of H with the level shift of the network.
    """
    run = infer(
        tmp_path / "run", "experiment=tbg_magic", "structure.m=2", "stage.bands.spacing=0.5"
    )
    assert run.returncode == 0, run.stderr
    record = ResultsStore(tmp_path / "run").read("sparse_bands", SparseBandsRecord)
    atoms, plain, overlap = read_hamiltonian(tmp_path / "run" / "hamiltonian.h5")
    shift = load_model(ELECTRON, kind="electron").level_shift
    assert shift is not None
    hamiltonian = shift_hamiltonian(atoms, plain, overlap, shift)
    wanted = slice(record.first_state, record.first_state + record.energies.shape[1])
    for kpoint, energies in zip(record.kpoints, record.energies, strict=True):
        expected = scipy.linalg.eigh(
            hamiltonian.dense(kpoint), overlap.dense(kpoint), eigvals_only=True
        )
        np.testing.assert_allclose(energies, expected[wanted], rtol=0, atol=1e-8)
    assert record.n_electrons == 4 * 76
    assert record.first_state + record.energies.shape[1] // 2 == record.n_electrons / 2
    assert record.proven == 1
    assert record.continuum.twist == pytest.approx(13.17, abs=0.01)
    assert (tmp_path / "run" / "figures" / "moire_bands.png").is_file()


def test_two_processes_give_the_numbers_of_one(tmp_path):
    assert infer(tmp_path / "one", *TOY_RUN).returncode == 0
    run = infer(tmp_path / "two", *TOY_RUN, "trainer.devices=2")
    assert run.returncode == 0, run.stderr
    assert {path.name for path in (tmp_path / "two" / "parts").iterdir()} == {
        "levels.0.part",
        "levels.1.part",
    }
    one, two = (ResultsStore(tmp_path / name) for name in ("one", "two"))
    assert one.stages() == two.stages()
    assert [one.content(stage) for stage in one.stages()] == [
        two.content(stage) for stage in two.stages()
    ]
    # a failure in one process ends both, and the samples of the other one are kept
    failed = infer(tmp_path / "failed", *TOY_RUN, "trainer.devices=2", "stage.levels.fail_at=2")
    assert failed.returncode == 1
    assert failed.stderr.count("a failure on purpose") == 1
    assert infer(tmp_path / "failed", *TOY_RUN).returncode == 0
    assert ResultsStore(tmp_path / "failed").content("levels") == one.content("levels")


def test_two_processes_stop_at_the_error_bar_of_one(tmp_path):
    asked = ("stage.sampling.target=level", "target_error=6e-4", "n_samples=40")
    for name, *devices in (("one",), ("two", "trainer.devices=2")):
        run = infer(tmp_path / name, *TOY_RUN, *asked, *devices)
        assert run.returncode == 0, run.stderr
        assert "error bar of level" in run.stdout
    one, two = (ResultsStore(tmp_path / name) for name in ("one", "two"))
    assert one.content("levels") == two.content("levels")
    told = one.provenance("levels")["precision"]
    assert told == two.provenance("levels")["precision"]
    assert 32 <= min(told["n_samples"]) <= max(told["n_samples"]) <= 40


def test_help_loads_no_framework():
    code = (
        "import sys; sys.argv = ['infer.py', '--help']; import runpy\ntry: "
        "runpy.run_path('infer.py', run_name='__main__')\n"
    )
    code += (
        "except SystemExit: pass\nprint(sorted({'torch', 'lightning', 'phonopy', 'ase'} & "
        "set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert run.stdout.splitlines()[-1] == "[]"
