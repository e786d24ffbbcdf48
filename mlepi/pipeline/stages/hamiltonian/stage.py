"""The hamiltonian stage: H and S of the crystal at rest, and how singular S is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse.linalg
from ase import Atoms
from numpy.typing import NDArray

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.exports import collect_labels, write_deeph_folder
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.plausibility import LARGEST_MATRIX, check_predicted
from mlepi.physics.eigenstates.bloch import count_valence_electrons, smallest_overlap_eigenvalue
from mlepi.pipeline.ensemble import GHOST_MARGIN
from mlepi.pipeline.plain_stage import PlainStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.stages.hamiltonian.record import HamiltonianRecord
from mlepi.results import collect_provenance, write_hamiltonian

FILE_NAME = "hamiltonian.h5"
DEEPH_FOLDER = "deeph"
DENSE_LIMIT = 4000
"""Orbitals up to which eigenvalues of S come from a dense solver; Lanczos beyond."""
MESH_LIMIT = 200
"""Orbitals up to which S is examined on a 6 × 6 × 1 mesh; at Γ alone beyond."""


@dataclass(frozen=True, kw_only=True)
class HamiltonianStage(PlainStage):
    """Predict H and S and examine S.

    Attributes:
        store: keep H and S of every displaced supercell in a file of its own.
        deeph: write the equilibrium structure in the DeepH layout as well.
        ghost_threshold: warn when the smallest eigenvalue of S is below this.
        ghost_margin: eV; states of a sample further below the lowest level at rest are ghosts.
    """

    name: ClassVar[str] = "hamiltonian"
    requires: ClassVar[tuple[str, ...]] = ("structure",)
    networks: ClassVar[tuple[str, ...]] = ("electron",)
    record: ClassVar[type] = HamiltonianRecord
    solves: ClassVar[bool] = False

    store: bool = False
    deeph: bool = False
    ghost_threshold: float = 1e-4
    ghost_margin: float = GHOST_MARGIN

    def __post_init__(self) -> None:
        """Refuse a margin that every thermal structure would exceed.

        Raises:
            ConfigError: it is not positive.
        """
        if not self.ghost_margin > 0:
            raise ConfigError(
                message(
                    "stage.hamiltonian.ghost_margin",
                    f"{self.ghost_margin} eV",
                    "an energy > 0",
                    "Use 1.0, more than the lowest level moves with temperature.",
                )
            )

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return the network and its precision."""
        return {**settings.describe_electron(), "deeph": self.deeph}

    def compute(self, run: Run, line: StageLine) -> HamiltonianRecord:
        """Write H and S of the structure and return what characterises them.

        Raises:
            PhysicsError: S is not positive definite.
        """
        structure, folder = run.read("structure"), run.store.folder
        hamiltonian, overlap = run.networks.predict(structure.atoms)
        kpoints, smallest = examine_overlap(overlap)
        if smallest.min() <= 0:
            raise PhysicsError(
                message(
                    f"overlap of {structure.source}",
                    f"smallest eigenvalue {smallest.min():.1e}",
                    "a positive definite matrix",
                    "Atoms are too close for this basis, or the overlap table does not belong to "
                    "it.",
                )
            )
        settings, matrices = run.settings, (structure.atoms, hamiltonian, overlap)
        if settings.check_units and hamiltonian.n_orbitals <= LARGEST_MATRIX:
            labelled = collect_labels(structure.source, *matrices, fermi_energy=0.0)
            n_electrons = _count_electrons(structure.atoms, settings.config)
            check_predicted(structure.source, labelled, n_electrons)
        provenance = collect_provenance(settings.config, self.inputs(settings), settings.seed)
        checksum = write_hamiltonian(folder / FILE_NAME, *matrices, provenance)
        if self.deeph:
            labels = collect_labels(structure.source, *matrices)
            write_deeph_folder(folder / DEEPH_FOLDER, labels, renew=True)
        return HamiltonianRecord(
            FILE_NAME,
            checksum,
            hamiltonian.n_orbitals,
            hamiltonian.blocks.shape[0],
            kpoints,
            smallest,
            self.ghost_threshold,
        )

    def summarize(self, record: HamiltonianRecord) -> str:
        """Say in a few words what was found."""
        smallest = float(record.smallest_overlap_eigenvalues.min())
        return (
            f"{record.n_orbitals} orbitals in {record.file}, smallest eigenvalue of S "
            f"{smallest:.1e}"
        )

    @staticmethod
    def doubts(record: HamiltonianRecord) -> list[str]:
        """Tell of an overlap that is nearly singular."""
        smallest = float(record.smallest_overlap_eigenvalues.min())
        if smallest >= record.ghost_threshold:
            return []
        return [
            Doubt(
                f"S is nearly singular (smallest eigenvalue {smallest:.1e} < "
                f"{record.ghost_threshold:.0e}).",
                "Small errors of H then make ghost states, eigenvalues far from any physical band.",
                "Atoms may be too close for the basis: look at the structure, or set level_shift.",
                "serious",
            )
        ]


def examine_overlap(overlap: BlockMatrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the smallest eigenvalue of S(k).

    Args:
        overlap: of any structure.

    Returns:
        The k-points that were examined, (n_kpoints, 3) fractional, and the eigenvalue at each,
        (n_kpoints,).
    """
    if overlap.n_orbitals > DENSE_LIMIT:
        gamma = overlap.sparse(np.zeros(3)).real
        value = scipy.sparse.linalg.eigsh(
            gamma, k=1, which="SA", tol=0.03, ncv=64, return_eigenvectors=False
        )
        return np.zeros((1, 3)), np.asarray(value, dtype=np.float64)
    n = 6 if overlap.n_orbitals <= MESH_LIMIT else 1
    grid = np.stack(np.meshgrid(np.arange(n) / n, np.arange(n) / n, [0.0], indexing="ij"), axis=-1)
    kpoints = grid.reshape(-1, 3)
    return kpoints, np.array([smallest_overlap_eigenvalue(overlap.dense(k)) for k in kpoints])


def _count_electrons(atoms: Atoms, config: Mapping[str, Any]) -> float | None:
    """Return the valence electrons as ``valence_electrons`` has them; None for other elements."""
    valence = {int(z): float(n) for z, n in (config.get("valence_electrons") or {}).items()}
    known = all(int(z) in valence for z in atoms.numbers)
    return count_valence_electrons(atoms.numbers, valence) if known else None
