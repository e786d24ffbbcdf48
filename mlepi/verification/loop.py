"""The whole way: data of the reference system → small networks → inference, against the system.

Both inferences use the same normals, so the noise of the samples nearly cancels in their
difference, which is the error of the networks. It is compared with the standard errors of the
reference run alone: the bootstrap over its snapshots, which holds sampling noise and nothing of the
networks. Everything goes through ``mlepi train`` and ``mlepi infer``, each in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.observables.fermi_velocity.record import FermiVelocityRecord
from mlepi.parents import PARENT
from mlepi.reference_systems.generate import (
    FORCES,
    HAMILTONIANS,
    OVERLAP,
    SPLIT,
    DataSettings,
    generate,
)
from mlepi.results import ResultsStore
from mlepi.verification.check import Check, at_most, statistical

TEMPERATURES = (0.0, 300.0)
N_SAMPLES = 256
EPOCHS = {"phonon": 150, "electron": 40}
TWO_STANDARD_ERRORS = 2.0


def check_full_loop() -> list[Check]:
    """Train both networks on the toy monolayer and find its own v_F(T) and band shifts."""
    return _check_loop(
        "loop", DataSettings(stacking="monolayer"), "toy_monolayer", ("phonon", "electron")
    )


def check_bilayer_hamiltonian() -> list[Check]:
    """Train the electron network on the AB bilayer and find its own v_F(T) with its springs."""
    return _check_loop(
        "bilayer", DataSettings(stacking="AB", n_structures=30), "toy_bilayer", ("electron",)
    )


def _check_loop(
    name: str, settings: DataSettings, experiment: str, trained: Sequence[str]
) -> list[Check]:
    with TemporaryDirectory(prefix="mlepi-verification-") as folder:
        return compare_runs(name, *run_loop(Path(folder), settings, experiment, trained))


def run_loop(
    folder: Path, settings: DataSettings, experiment: str, trained: Sequence[str]
) -> tuple[FermiVelocityRecord, FermiVelocityRecord]:
    """Generate, train and infer.

    Args:
        folder: for data, checkpoints and records.
        settings: of the training data.
        experiment: configuration of the inference.
        trained: "phonon", "electron" or both; the other network is the reference system in both
            runs.

    Returns:
        Bands and velocities by the reference system and by the trained networks.
    """
    _train(folder, settings, trained)
    model = (
        "{_target_:mlepi.reference_systems.TightBinding,"
        f"orbitals:{settings.orbitals},orthogonal:{settings.orthogonal}}}"
    )
    toys = {"phonon": "toy", "electron": model}
    networks = {
        **toys,
        **{kind: str(folder / kind / "checkpoints" / "best.ckpt") for kind in trained},
    }
    sampling = [
        f"n_samples={N_SAMPLES}",
        f"temperature=[{','.join(f'{t:g}' for t in TEMPERATURES)}]",
        "report=false",
        "logger=csv",
    ]
    _run_all(
        [
            [
                "infer",
                f"experiment={experiment}",
                f"folder={folder / name}",
                *sampling,
                "~electron",  # the experiment's own is a node, which a path cannot replace
                *(
                    f"{'+' if kind == 'electron' else ''}{kind}={source}"
                    for kind, source in chosen.items()
                ),
            ]
            for name, chosen in (("toy", toys), ("networks", networks))
        ]
    )
    toy, found = (
        ResultsStore(folder / name).read("fermi_velocity", FermiVelocityRecord)
        for name in ("toy", "networks")
    )
    return toy, found


def _train(folder: Path, settings: DataSettings, kinds: Sequence[str]) -> None:
    """Make the data of the reference system and train networks on them."""
    data = folder / "data"
    generate(data, settings)
    files = {
        "phonon": [f"data.path={data / FORCES}"],
        "electron": [f"data.path={data / HAMILTONIANS}", f"data.overlap_table={data / OVERLAP}"],
    }
    _run_all(
        [
            [
                "train",
                f"experiment=toy_train_{kind}",
                *files[kind],
                f"data.split={data / SPLIT}",
                f"optimizer.max_epochs={EPOCHS[kind]}",
                f"hydra.run.dir={folder / kind}",
                "trainer.accelerator=cpu",
            ]
            for kind in kinds
        ]
    )


def compare_runs(name: str, toy: FermiVelocityRecord, networks: FermiVelocityRecord) -> list[Check]:
    """Compare v_F(T) and the band shifts of two runs, in standard errors of the first.

    The name heads those of the checks.
    """
    checks = []
    shifts = [_band_shifts(record) for record in (toy, networks)]
    for t, temperature in enumerate(toy.temperatures):
        own, got = toy.spectral, networks.spectral
        at = f"{name}, {temperature:g} K"
        checks += [
            statistical(
                f"{at}: v_F of the trained networks against the toy's",
                own.velocities[t],
                got.velocities[t],
                own.velocity_errors[t],
                "m/s",
                TWO_STANDARD_ERRORS,
            ),
            statistical(
                f"{at}: ratio of the mean slope to that at rest",
                own.slope_ratios[t],
                got.slope_ratios[t],
                own.slope_ratio_errors[t],
                "",
                TWO_STANDARD_ERRORS,
            ),
            at_most(
                f"{at}: largest deviation of {shifts[0][t].size} band shifts, standard errors of "
                "the toy's",
                TWO_STANDARD_ERRORS,
                float(np.max(np.abs(shifts[1][t] - shifts[0][t]) / own.energy_errors[t])),
                "σ",
            ),
        ]
    return checks


def _band_shifts(record: FermiVelocityRecord) -> NDArray[np.float64]:
    """Return the shifts of the low bands from those at rest: (n_temperatures, n_points, 2), eV."""
    return record.spectral.energies - record.spectral.equilibrium_energies


def _run_all(commands: Sequence[Sequence[str]]) -> None:
    """Run commands of mlepi side by side, one thread each.

    Raises:
        PhysicsError: one failed; the message holds the end of what it said.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", PARENT: str(os.getpid())}
    started = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "mlepi", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for command in commands
    ]
    outputs = [process.communicate()[0] for process in started]
    for process, (name, *_), output in zip(started, commands, outputs, strict=True):
        if process.returncode:
            last = " ".join(output.splitlines()[-3:])
            raise PhysicsError(
                message(
                    f"full loop, mlepi {name}",
                    f"exit status {process.returncode}: {last}",
                    "0",
                    "See above.",
                )
            )
