"""What a GPU computes is what a processor computes: networks, training, eigenproblems, a scan.

Every test needs a CUDA device; ``make gpu`` runs them all.
"""

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from gpu_scan import Inference, compare_results
from small_run import TINY_ELECTRON, TINY_PHONON, run_training
from test_shift_invert import pencil

import mlepi
from mlepi.models.compilation import compile_kernel
from mlepi.physics.eigenstates.batched_states import count_batch_below, solve_batch_within
from mlepi.structures import build_graphene, build_supercell

DEVICE, ACCELERATOR = "cuda", "gpu"
CHECKPOINTS = Path(__file__).parents[2] / "data" / "checkpoints"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def phonon():
    return mlepi.load_model(CHECKPOINTS / "hedgenet_phonon.ckpt")


@pytest.fixture(scope="module")
def electron():
    return mlepi.load_model(CHECKPOINTS / "hedgenet_electron.ckpt")


@pytest.fixture(scope="module")
def structures():
    """Three bilayers of 4, 16 and 36 atoms, rattled."""
    found = []
    for n in (1, 2, 3):
        atoms = build_supercell(build_graphene("AB", spacing=3.35), (n, n, 1))
        atoms.rattle(0.05, seed=n)
        found.append(atoms)
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 2e-3)])
def test_forces(phonon, structures, dtype, tolerance):
    here, there = (
        phonon.energy_and_forces(structures, device=device, dtype=dtype)
        for device in ("cpu", DEVICE)
    )
    np.testing.assert_allclose(
        there[0], here[0], atol=0.0, rtol=1e-11 if dtype == "float64" else 1e-5
    )
    for ours, theirs in zip(there[1], here[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 5e-4)])
def test_hamiltonian(electron, structures, dtype, tolerance):
    here = electron.hamiltonian(structures[2], dtype=dtype)
    there = electron.hamiltonian(structures[2], device=DEVICE, dtype=dtype)
    np.testing.assert_array_equal(there.edge_index, here.edge_index)
    np.testing.assert_allclose(there.blocks, here.blocks, atol=tolerance)


def test_batch_is_what_each_is_alone(phonon, electron, structures):
    together = phonon.energy_and_forces(structures, batch_size=3, device=DEVICE)
    alone = phonon.energy_and_forces(structures, batch_size=1, device=DEVICE)
    np.testing.assert_allclose(together[0], alone[0], rtol=1e-12)
    for ours, theirs in zip(together[1], alone[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)
    batch = electron.hamiltonians(structures, device=DEVICE, dtype="float64")
    for atoms, found in zip(structures, batch, strict=True):
        single = electron.hamiltonian(atoms, device=DEVICE, dtype="float64")
        np.testing.assert_allclose(found.blocks, single.blocks, atol=1e-11)


def test_second_derivatives_of_the_energy(phonon, structures):
    here, there = (
        phonon.hessian_rows(structures[1], [0, 9], batch_size=6, device=device)
        for device in ("cpu", DEVICE)
    )
    np.testing.assert_allclose(there, here, atol=1e-8)


def test_derivatives_of_the_hamiltonian(electron, structures):
    directions = np.random.default_rng(0).normal(size=(2, len(structures[0]), 3))
    here, there = (
        electron.derivatives(structures[0], directions, device=device) for device in ("cpu", DEVICE)
    )
    np.testing.assert_allclose(there.hamiltonian.values, here.hamiltonian.values, atol=1e-9)
    np.testing.assert_allclose(there.overlap.values, here.overlap.values, atol=1e-12)


def read_losses(folder):
    (path,) = folder.rglob("metrics.csv")
    with path.open(encoding="utf-8") as stream:
        return [float(row["train/loss"]) for row in csv.DictReader(stream) if row["train/loss"]]


@pytest.mark.parametrize(
    ("network", "epochs"), [(TINY_PHONON, 8), (TINY_ELECTRON, 4)], ids=["phonon", "electron"]
)
def test_training_goes_the_same_way(tmp_path, network, epochs):
    options = [*network, "dtype=float64", f"optimizer.max_epochs={epochs}", "test=false"]
    losses = {}
    for accelerator in ("cpu", ACCELERATOR):
        folder = tmp_path / accelerator
        run_training(folder, [*options, f"trainer.accelerator={accelerator}"])
        losses[accelerator] = read_losses(folder)
    np.testing.assert_allclose(losses[ACCELERATOR], losses["cpu"], rtol=1e-6)
    assert losses[ACCELERATOR][-1] < losses[ACCELERATOR][0]


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize(("n", "width"), [(320, 64), (100, 64)])
def test_batched_states_equal_lapack(real, n, width):
    pencils = [pencil(n=n, real=real, seed=seed)[:2] for seed in range(3)]
    matrices = [np.stack(part) for part in zip(*pencils, strict=True)]
    h, s = (torch.from_numpy(part).to(DEVICE) for part in matrices)
    found = solve_batch_within(h, s, 0.07, 1.2, width=width)
    energies = torch.tensor([-3.0, 0.1, 7.0], dtype=torch.float64)
    counts = count_batch_below(h, s, energies.to(DEVICE))
    for one, count, energy, hk, sk in zip(found, counts, energies, *matrices, strict=True):
        expected, vectors = scipy.linalg.eigh(hk, sk)
        inside = np.abs(expected - 0.07) <= 1.2
        np.testing.assert_allclose(one.values.cpu().numpy(), expected[inside], atol=5e-5)
        overlaps = vectors[:, inside].conj().T @ sk @ one.vectors.cpu().numpy()
        assert np.linalg.svd(overlaps)[1].min() > 1 - 1e-4
        assert count == np.count_nonzero(expected < float(energy))


def test_compiled_kernel_and_its_derivative():
    def function(x, y):
        return torch.sin(x) * y**2

    kernel = compile_kernel(function, "test")
    x, y = (torch.randn(50, 3, device=DEVICE, dtype=torch.float64) for _ in range(2))
    x.requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler itself
        warnings.filterwarnings("error", message=r"compile \(")  # plain code instead
        ours = kernel(x, y)
        (slope,) = torch.autograd.grad(ours.sum(), x)
    torch.testing.assert_close(ours, function(x, y))
    torch.testing.assert_close(slope, torch.cos(x) * y**2)


def test_scan_of_the_command_line(tmp_path):
    overrides = ("dtype=float64", "supercell=[2,2,1]")
    runs = [
        Inference(tmp_path / device, 2, device, (*overrides, f"batch_size={size}"))
        for device, size in (("cpu", 1), (DEVICE, 2))
    ]
    assert all(run.finish()["seconds"] > 0.0 for run in runs)
    files = (tmp_path / device / "results.h5" for device in (DEVICE, "cpu"))
    found = compare_results(*files, tolerance=1e-5)
    assert found["agreeing"] > 0.9, found  # some are differences of rounding errors
