"""Hamiltonian and overlap of the equilibrium structure, and of displaced supercells."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse.linalg
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.physics.eigenstates.bloch import smallest_overlap_eigenvalue
from mlepi.pipeline.stage import SampleKey
from mlepi.results import (
    HamiltonianRecord,
    StructureRecord,
    collect_provenance,
    hash_file,
    write_hamiltonian,
)
from mlepi.structures import LabelledStructure, write_deeph

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms

    from mlepi.pipeline.run import Run

FILE_NAME = "hamiltonian.h5"
DEEPH_FOLDER = "deeph"
SAMPLES_FOLDER = "hamiltonians"
DENSE_LIMIT = 4000
"""Orbitals up to which eigenvalues of S come from a dense solver; Lanczos beyond."""
MESH_LIMIT = 200
"""Orbitals up to which S is examined on a 6 × 6 × 1 mesh; at Γ alone beyond."""


class HamiltonianStage:
    """Predict H and S and examine S.

    Args:
        store: keep H and S of every displaced supercell in a file of its own.
        deeph: write the equilibrium structure in the DeepH layout as well.
        ghost_threshold: warn when the smallest eigenvalue of S is below this.
    """

    name: ClassVar[str] = "hamiltonian"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("structure",)
    record: ClassVar[type] = HamiltonianRecord

    def __init__(
        self, *, store: bool = False, deeph: bool = False, ghost_threshold: float = 1e-4
    ) -> None:
        self.store = store
        self.deeph = deeph
        self.ghost_threshold = ghost_threshold

    def inputs(self, run: Run) -> Mapping[str, Any]:
        """Return the network and its precision."""
        return {**self.network(run), "deeph": self.deeph}

    def network(self, run: Run) -> Mapping[str, Any]:
        """Return what decides H and S of a given structure."""
        overlap = {"overlap": [hash_file(file) for file in run.overlap]} if run.overlap else {}
        rounded = {"tf32": True} if run.tf32 and run.on_gpu else {}
        return {"electron": run.electron.fingerprint(), "dtype": run.dtype, **overlap, **rounded}

    def compute(self, run: Run) -> HamiltonianRecord:
        """Write H and S of the structure and return what characterises them.

        Raises:
            PhysicsError: S is not positive definite.
        """
        structure: StructureRecord = run.read("structure")
        hamiltonian, overlap = run.predict(structure.atoms)
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
        if smallest.min() < self.ghost_threshold:
            run.warnings.append(
                f"hamiltonian: S is nearly singular (smallest eigenvalue {smallest.min():.1e} < "
                f"{self.ghost_threshold:.0e}); "
                "small errors of H then make ghost states, eigenvalues far from any physical "
                "band. Atoms may be too close "
                "for the basis."
            )
        provenance = collect_provenance(run.config, self.inputs(run), run.seed)
        checksum = write_hamiltonian(
            run.store.folder / FILE_NAME, structure.atoms, hamiltonian, overlap, provenance
        )
        if self.deeph:
            write_deeph_folder(
                run.store.folder / DEEPH_FOLDER,
                structure.atoms,
                hamiltonian,
                overlap,
                structure.source,
            )
        return HamiltonianRecord(
            FILE_NAME,
            checksum,
            hamiltonian.n_orbitals,
            hamiltonian.blocks.shape[0],
            kpoints,
            smallest,
        )

    def summarize(self, record: HamiltonianRecord) -> str:
        """Say in a few words what was found."""
        smallest = float(record.smallest_overlap_eigenvalues.min())
        return (
            f"{record.n_orbitals} orbitals in {record.file}, smallest eigenvalue of S "
            f"{smallest:.1e}"
        )

    def predict_samples(
        self, run: Run, keys: Sequence[SampleKey]
    ) -> list[tuple[BlockMatrix, BlockMatrix]]:
        """Return H and S of displaced supercells, stored if asked.

        Each is what it would be without the others.
        """
        structures = [run.displaced(key) for key in keys]
        predicted = run.predict_many(structures)
        if self.store:
            for key, atoms, matrices in zip(keys, structures, predicted, strict=True):
                self._store_sample(run, key, atoms, *matrices)
        return predicted

    def _store_sample(
        self, run: Run, key: SampleKey, atoms: Atoms, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> None:
        path = (
            run.store.folder / SAMPLES_FOLDER / f"sample_{key.sample:06d}_T{key.temperature:g}.h5"
        )
        provenance = {
            "inputs": dict(self.network(run)),
            "sample": key.sample,
            "temperature": key.temperature,
            "seed": run.seed,
        }
        write_hamiltonian(path, atoms, hamiltonian, overlap, provenance)


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


def write_deeph_folder(
    folder: Path, atoms: Atoms, hamiltonian: BlockMatrix, overlap: BlockMatrix, name: str
) -> None:
    """Write H and S on their common pairs in the DeepH layout, replacing an earlier folder.

    Pairs that only one of the two has get a zero block in the other.
    """
    edge_index, shift, blocks = _align(hamiltonian, overlap)
    structure = LabelledStructure(
        name=name,
        atoms=atoms,
        basis=hamiltonian.basis,
        edge_index=edge_index,
        edge_cell_shift=shift,
        hamiltonian_blocks=blocks[0],
        overlap_blocks=blocks[1],
        fermi_energy=0.0,
    )
    if folder.exists():
        shutil.rmtree(folder)
    write_deeph(folder, structure)


def _align(
    first: BlockMatrix, second: BlockMatrix
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.float64]]]:
    """Put two matrices on the union of their edges."""
    rows = [np.concatenate([m.edge_index.T, m.edge_cell_shift], axis=1) for m in (first, second)]
    union, inverse = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
    places = np.split(inverse.reshape(-1), [len(rows[0])])
    blocks = []
    for matrix, place in zip((first, second), places, strict=True):
        aligned = np.zeros((len(union), *matrix.blocks.shape[1:]))
        aligned[place] = matrix.blocks
        blocks.append(aligned)
    return union[:, :2].T.copy(), union[:, 2:].copy(), blocks
