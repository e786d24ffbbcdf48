"""A finished run opened again from its folder alone: its records, samples and networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms
from hydra.utils import instantiate

from mlepi.errors import DataError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.physics.vibrations.samplers import MonteCarlo, Sampler
from mlepi.pipeline.config_values import overlap_files, read_level_shift
from mlepi.pipeline.discovery import Stages
from mlepi.pipeline.ensemble import SampleKey
from mlepi.pipeline.networks import Networks
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.sources import Source
from mlepi.pipeline.stage import Stage
from mlepi.pipeline.stages.hamiltonian.sample_files import FOLDER, name_file
from mlepi.project_files import locate_file
from mlepi.results import ResultsStore, read_hamiltonian
from mlepi.results.store import FILE_NAME

TELLING = ("sampling", "hamiltonian", "phonon", "structure")
"""Stages whose provenance holds the config of the run, the first that is there."""


def is_run_folder(path: str | Path) -> bool:
    """Tell whether a path is the folder of a run of ``mlepi infer``."""
    return (Path(path) / FILE_NAME).is_file()


def open_run(folder: str | Path, stages: Stages, device: str | None = None) -> Run:
    """Open a run folder to look at its records and to predict with its networks.

    Nothing is computed and nothing is written.

    Args:
        folder: of ``mlepi infer``.
        stages: all that there are.
        device: of the networks; None takes the processor.

    Raises:
        DataError: there are no records, or none of them says how it was made.
    """
    store = ResultsStore(folder)
    found = store.stages()
    name = next((each for each in TELLING if each in found), None)
    config = {} if name is None else store.provenance(name).get("config", {})
    if not config:
        got, fix = "no record that tells its settings", "Give the folder of a run of mlepi infer."
        raise DataError(message(str(folder), got, "the records of a run", fix))
    settings = _build_settings(config, device or "cpu")
    # only the classes are asked, for their records
    return Run(settings, store, Networks(settings), cast(Mapping[str, Stage], stages))


def list_samples(
    run: Run, samples: Sequence[int] | None = None, temperatures: Sequence[float] | None = None
) -> list[SampleKey]:
    """Return the samples of a run that are asked for, in its order.

    Args:
        run: with a record of the sampling stage.
        samples: numbers of snapshots, from 0; None takes all.
        temperatures: K; None takes all.

    Raises:
        DataError: the run has no such sample, or no samples at all.
    """
    record = run.read("sampling")
    known = [float(t) for t in record.temperatures]
    chosen = known if temperatures is None else [float(t) for t in temperatures]
    if absent := [t for t in chosen if t not in known]:
        got = ", ".join(f"{t:g} K" for t in absent)
        expected = "of " + ", ".join(f"{t:g}" for t in known)
        raise DataError(message("--temperature", got, expected, "Choose among these."))
    numbers = range(record.n_samples) if samples is None else samples
    if wrong := [n for n in numbers if not 0 <= n < record.n_samples]:
        expected = f"0 to {record.n_samples - 1}"
        raise DataError(message("--samples", f"{wrong}", expected, "The run has no others."))
    return [SampleKey(int(n), t) for n in numbers for t in chosen]


def displace(run: Run, keys: Sequence[SampleKey]) -> list[Atoms]:
    """Return displaced supercells as the run saw them, atoms in the order of ``Atoms.repeat``.

    Args:
        run: with records of the phonon and sampling stages.
        keys: samples.
    """
    phonon, sampling = run.read("phonon"), run.read("sampling")
    distribution = sampling.build_distribution(phonon, "cpu")
    found = []
    for key in keys:
        atoms = phonon.atoms.repeat(phonon.supercell)
        atoms.positions += run.settings.sampler.displacements(
            distribution, key.temperature, [key.sample], sampling.seed
        )[0]
        found.append(atoms)
    return found


def find_matrices(run: Run, key: SampleKey | None = None) -> tuple[Atoms, BlockMatrix, BlockMatrix]:
    """Return the structure at rest or a sample with H, eV, without the level shift, and S.

    A sample is read where its file was kept, and predicted otherwise.

    Args:
        run: with a record of the hamiltonian stage.
        key: sample; None takes the structure at rest.

    Raises:
        DataError: a file is damaged, or the network is not that of the run any more.
    """
    record, folder = run.read("hamiltonian"), run.store.folder
    if key is None:
        return read_hamiltonian(folder / record.file)
    [atoms] = displace(run, [key])
    kept = folder / FOLDER / name_file(key)
    if kept.is_file():
        stored, hamiltonian, overlap = read_hamiltonian(kept)
        if np.allclose(stored.positions, atoms.positions, rtol=0.0, atol=1e-9):
            return stored, hamiltonian, overlap
    require_same_network(run)
    return atoms, *run.networks.predict(atoms)


def require_same_network(run: Run) -> None:
    """Make sure that the electron network is the one that the run used.

    Raises:
        DataError: its file has changed since.
    """
    inputs = run.store.provenance("hamiltonian").get("inputs", {})
    used = inputs.get("settings", {}).get("electron")
    source = run.settings.electron
    if used is not None and used != source.fingerprint():
        fix = "Put that file back, or run mlepi infer again with this one."
        got = f"{source.describe()}, which has changed since the run"
        raise DataError(message("electron", got, "the network of the run", fix))


def _build_settings(config: Mapping[str, Any], device: str) -> Settings:
    """Read what is needed of a stored config; older ones lack some keys."""
    drive = config.get("committee", "mean")
    temperature = config["temperature"]
    temperatures = temperature if isinstance(temperature, list) else [temperature]
    sampler: Sampler = MonteCarlo()
    if "sampler" in config:
        sampler = instantiate(config["sampler"], _convert_="all")
    files = overlap_files(config.get("overlap"))
    supercell = [int(n) for n in config["supercell"]]
    return Settings(
        temperatures=tuple(float(t) for t in temperatures),
        n_samples=int(config["n_samples"]),
        seed=int(config["seed"]),
        supercell=(supercell[0], supercell[1], supercell[2]),
        sampler=sampler,
        structure=Source("structure", config["structure"]),
        phonon=Source("phonon", config["phonon"], drive),
        electron=Source("electron", config["electron"], drive),
        overlap=tuple(locate_file(file) or Path(file) for file in files),
        dtype=config.get("dtype", "float32"),
        device=device,
        level_shift=read_level_shift(config.get("level_shift", "off")),
        config=config,
    )
