"""What a pass over samples needs of memory and disk, before it begins, beside what there is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from mlepi.errors import message
from mlepi.faults import GIGABYTE, MachineError, free_disk, free_memory
from mlepi.pipeline.ensemble import Ensemble

MATRICES = 4
"""Dense complex matrices of an eigenproblem: H and S, what they become, and the states."""
COPIES = 3
"""Copies of the blocks of H and S while one sample is in use and the next is made."""
NOTEWORTHY = 0.5
"""Part of the free memory or disk from which on the need is told."""


@dataclass(frozen=True)
class Needs:
    """Estimates, in bytes.

    Attributes:
        memory: of all processes on this machine, beside the libraries and networks in it.
        disk: of all files that are still to be written.
    """

    memory: int
    disk: int


def estimate_needs(
    ensemble: Ensemble, n_missing: int, *, n_processes: int, batch: int, solves: bool, keeps: bool
) -> Needs:
    """Estimate what the samples of an ensemble need, from H and S of the crystal at rest.

    Args:
        ensemble: of the samples.
        n_missing: samples that are still to be computed.
        n_processes: on this machine.
        batch: samples that the network sees at once.
        solves: whether their eigenproblems are solved, in dense matrices.
        keeps: whether H and S of every sample go to a file.
    """
    _, hamiltonian, overlap = ensemble.equilibrium
    n_cells = math.prod(ensemble.supercell)
    blocks = n_cells * (hamiltonian.blocks.nbytes + overlap.blocks.nbytes)
    order = n_cells * hamiltonian.n_orbitals
    dense = MATRICES * 16 * order**2 if solves else 0
    each = (COPIES + batch - 1) * blocks + dense
    return Needs(n_processes * each, n_missing * blocks if keeps else 0)


def compare_needs(needs: Needs, folder: Path) -> str:
    """Compare the needs of a pass with what is free; return what the user should know.

    Memory is warned of only, since the estimate is coarse; a disk that cannot hold the files is
    refused before hours are lost.

    Args:
        needs: of the pass.
        folder: of the run.

    Raises:
        MachineError: the disk is too small.
    """
    disk, memory = free_disk(folder), free_memory()
    if disk is not None and needs.disk > disk:
        raise MachineError(
            message(
                str(folder),
                f"{disk / GIGABYTE:.3g} GB of free disk",
                f"{needs.disk / GIGABYTE:.3g} GB for H and S of all samples",
                "Free some, give the run a folder elsewhere, or leave out "
                "stage.hamiltonian.store=true.",
            )
        )
    texts = []
    for name, need, free in (("memory", needs.memory, memory), ("disk", needs.disk, disk)):
        if free is not None and need > NOTEWORTHY * free:
            texts.append(
                f"about {need / GIGABYTE:.2g} GB of {name} ({free / GIGABYTE:.2g} GB free)"
            )
    if not texts:
        return ""
    short = memory is not None and needs.memory > memory
    fix = ": too little; fewer processes (trainer.devices), or a smaller cell" if short else ""
    return f"needs {' and '.join(texts)}{fix}"
