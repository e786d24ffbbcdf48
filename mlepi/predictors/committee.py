"""Committees: several networks of one kind that predict the same structure.

What drives a calculation is their mean: energies, forces and stress of phonon networks, blocks of H
of electron networks. H is linear in its blocks, so the mean of Hamiltonians in one basis is a
Hamiltonian, Hermitian and as symmetric as its members; it is not the mean of their bands. How far
members differ estimates the error of the network, once it is calibrated
(``mlepi.physics.averages.calibration``).

References:
    Lakshminarayanan et al., NeurIPS 30 (2017), arXiv:1612.01474 (ensembles of networks that differ
    in their random numbers); Imbalzano et al., J. Chem. Phys. 154, 074102 (2021),
    doi:10.1063/5.0036522 (committees for thermodynamic averages).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.block_pairs import align_matrices
from mlepi.predictors.derivatives import (
    BlockDerivatives,
    DifferentiableModel,
    HamiltonianModel,
    MatrixDerivatives,
)
from mlepi.predictors.predictor import Predictor

SAME_OVERLAP = 1e-9
"""Largest accepted difference of two tables of radial overlap functions."""


def average_matrices(matrices: Sequence[BlockMatrix]) -> BlockMatrix:
    """Average real-space matrices of one structure in one basis.

    Args:
        matrices: at least one; where one has no block, it counts as zero.

    Returns:
        On the edges of the first one where all have the same, else on all edges of any.
    """
    first = matrices[0]
    same = all(
        np.array_equal(first.edge_index, other.edge_index)
        and np.array_equal(first.edge_cell_shift, other.edge_cell_shift)
        for other in matrices[1:]
    )
    if same:
        return replace(first, blocks=np.mean([m.blocks for m in matrices], axis=0))
    edge_index, shift, blocks = align_matrices(matrices)
    return BlockMatrix(first.numbers, first.basis, edge_index, shift, np.mean(blocks, axis=0))


@dataclass(frozen=True)
class ElectronCommittee:
    """The mean Hamiltonian of several electron models in one basis, with the overlap of the first.

    Attributes:
        members: at least two models of H and S, see ``check_electron_members``.
    """

    members: Sequence[HamiltonianModel]

    @property
    def metadata(self) -> dict[str, Any]:
        """What the first member says of itself."""
        return dict(getattr(self.members[0], "metadata", {}))

    @property
    def reach(self) -> float | None:
        """How far the environment of an atom reaches, Å, where every member tells; the longest."""
        told = [float(m.reach) for m in self.members if hasattr(m, "reach")]
        return max(told) if len(told) == len(self.members) else None

    @property
    def level_shift(self) -> Any:
        """What removes ghost states when its matrices are diagonalised: that of the first."""
        return getattr(self.members[0], "level_shift", None)

    def hamiltonian(
        self, atoms: Atoms, *, device: str = "cpu", dtype: str = "float32"
    ) -> BlockMatrix:
        """Return the mean Hamiltonian, eV; arguments as ``ElectronPredictor.hamiltonian``."""
        return average_matrices(self.member_hamiltonians(atoms, device=device, dtype=dtype))

    def member_hamiltonians(
        self, atoms: Atoms, *, device: str = "cpu", dtype: str = "float32"
    ) -> list[BlockMatrix]:
        """Return the Hamiltonian of every member, eV."""
        return [member.hamiltonian(atoms, device=device, dtype=dtype) for member in self.members]

    def hamiltonians(
        self, structures: Sequence[Atoms], *, device: str = "cpu", dtype: str = "float32"
    ) -> list[BlockMatrix]:
        """Return the mean Hamiltonians of several structures, in one evaluation per member."""
        options = {"device": device, "dtype": dtype}
        by_member = [_predict_many(member, structures, options) for member in self.members]
        return [average_matrices(matrices) for matrices in zip(*by_member, strict=True)]

    def overlap(self, atoms: Atoms) -> BlockMatrix:
        """Return the overlap.

        Raises:
            DataError: members that are no trained networks have different ones.
        """
        overlap = self.members[0].overlap(atoms)
        for member in self.members[1:]:
            # tables of networks were compared when the committee was built
            if not isinstance(member, Predictor) and not _same_matrices(
                overlap, member.overlap(atoms)
            ):
                raise _not_comparable("different overlaps of one structure", "one overlap")
        return overlap

    def overlaps(self, structures: Sequence[Atoms]) -> list[BlockMatrix]:
        """Return the overlaps of several structures, as ``overlap``."""
        several = getattr(self.members[0], "overlaps", None)
        if several is None or not all(isinstance(m, Predictor) for m in self.members):
            return [self.overlap(atoms) for atoms in structures]
        matrices: list[BlockMatrix] = several(structures)
        return matrices


@dataclass(frozen=True)
class DifferentiableCommittee(ElectronCommittee):
    """A committee whose members all know the derivatives of their matrices."""

    members: Sequence[DifferentiableModel]

    def derivatives(
        self, atoms: Atoms, directions: NDArray[np.float64], *, device: str = "cpu"
    ) -> MatrixDerivatives:
        """Return the derivatives of the mean H, and of S; see ``ElectronPredictor.derivatives``."""
        return self._average(lambda m: m.derivatives(atoms, directions, device=device))

    def second_derivatives(
        self,
        atoms: Atoms,
        first: NDArray[np.float64],
        second: NDArray[np.float64],
        *,
        device: str = "cpu",
    ) -> MatrixDerivatives:
        """Return second derivatives; see ``ElectronPredictor.second_derivatives``."""
        return self._average(lambda m: m.second_derivatives(atoms, first, second, device=device))

    def _average(
        self, differentiate: Callable[[DifferentiableModel], MatrixDerivatives]
    ) -> MatrixDerivatives:
        found = [differentiate(member) for member in self.members]
        first = found[0].hamiltonian
        for other in found[1:]:
            if not (
                np.array_equal(first.edge_index, other.hamiltonian.edge_index)
                and np.array_equal(first.edge_cell_shift, other.hamiltonian.edge_cell_shift)
            ):
                raise _not_comparable("derivatives on other pairs of atoms", "one range of H")
        values = np.mean([each.hamiltonian.values for each in found], axis=0)
        mean = BlockDerivatives(first.edge_index, first.edge_cell_shift, values)
        return replace(found[0], hamiltonian=mean)


def build_electron_committee(members: Sequence[HamiltonianModel]) -> ElectronCommittee:
    """Join electron models that predict matrices of one kind.

    Args:
        members: at least two.

    Raises:
        DataError: they differ in orbitals, overlaps or range, or are too few.
    """
    check_electron_members(members)
    if all(isinstance(member, DifferentiableModel) for member in members):
        return DifferentiableCommittee(tuple(members))  # type: ignore[arg-type]
    return ElectronCommittee(tuple(members))


def check_electron_members(members: Sequence[Any]) -> None:
    """Refuse electron models whose matrices cannot be averaged or compared.

    Args:
        members: models; the matrices of those that are no trained networks are compared later.

    Raises:
        DataError: fewer than two, or they differ in orbitals, overlaps or range.
    """
    if len(members) < 2:
        raise _not_comparable(f"{len(members)} network", "at least two")
    first = members[0]
    for number, other in enumerate(members[1:], start=2):
        if not (isinstance(first, Predictor) and isinstance(other, Predictor)):
            continue
        for name, equal in (
            ("basis", lambda a, b: a.shells == b.shells and a.radii == b.radii),
            ("overlap_table", _same_tables),
            ("cutoffs", lambda a, b: a == b),
        ):
            mine, theirs = getattr(first, name, None), getattr(other, name, None)
            if (mine is None) != (theirs is None) or not (mine is None or equal(mine, theirs)):
                raise _not_comparable(
                    f"network {number} with another {name} than the first",
                    "networks of one basis, one overlap table and one range",
                )


def check_phonon_members(members: Sequence[Any]) -> None:
    """Refuse phonon networks of different elements.

    Raises:
        DataError: fewer than two, or they know different elements.
    """
    if len(members) < 2:
        raise _not_comparable(f"{len(members)} network", "at least two")
    known = [getattr(getattr(m, "predictor", None), "elements", None) for m in members]
    for number, elements in enumerate(known[1:], start=2):
        if elements != known[0]:
            raise _not_comparable(
                f"network {number} of the elements {elements}, the first of {known[0]}",
                "networks of the same elements",
            )


class PhononCommittee(Calculator):
    """ASE calculator of the mean energy surface of several calculators: eV, eV/Å, eV/Å³.

    Args:
        members: at least two calculators, see ``check_phonon_members``.

    Raises:
        DataError: they know different elements, or are too few.
    """

    implemented_properties: ClassVar[list[str]] = []  # type: ignore[misc]

    def __init__(self, members: Sequence[Calculator]) -> None:
        super().__init__()
        check_phonon_members(members)
        self.members = tuple(members)
        self.implemented_properties = [  # type: ignore[misc]
            name
            for name in ("energy", "free_energy", "forces", "stress")
            if all(name in member.implemented_properties for member in members)
        ]

    def __getattr__(self, name: str) -> Any:
        """Offer ``hessian_rows`` where every member does."""
        members = self.__dict__.get("members", ())
        if name == "hessian_rows" and members and all(hasattr(m, name) for m in members):
            return self._average_hessian_rows
        raise AttributeError(name)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute what is asked for with every member, and average."""
        super().calculate(atoms, list(properties), list(system_changes))
        wanted = dict.fromkeys([*properties, "energy", "forces"])  # a stress brings the others
        self.results = {
            name: np.mean([m.get_property(name, self.atoms) for m in self.members], axis=0)
            for name in wanted
        }
        self.results["energy"] = float(self.results["energy"])
        if "free_energy" in self.implemented_properties:
            self.results["free_energy"] = self.results["energy"]

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what changed since the last calculation, also in the eyes of any member."""
        changes: list[str] = super().check_state(atoms, tol=tol)
        return changes or [c for m in self.members for c in m.check_state(atoms, tol=tol)]

    def _average_hessian_rows(self, atoms: Atoms, indices: Sequence[int]) -> NDArray[np.float64]:
        """Return the mean of the members' ``hessian_rows``."""
        members: Sequence[Any] = self.members
        rows: NDArray[np.float64] = np.mean([m.hessian_rows(atoms, indices) for m in members], 0)
        return rows


def digest_weights(predictor: Predictor) -> str:
    """Digest the numbers of a trained network, whatever else its file says.

    Args:
        predictor: of either kind.

    Returns:
        SHA-256 of names and values of its state, in double precision.
    """
    digest = hashlib.sha256()
    for name, value in sorted(predictor.network("cpu", "float64").state_dict().items()):
        digest.update(f"|{name}|{tuple(value.shape)}|".encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def _predict_many(
    member: HamiltonianModel, structures: Sequence[Atoms], options: dict[str, str]
) -> list[BlockMatrix]:
    several = getattr(member, "hamiltonians", None)
    if several is None:
        return [member.hamiltonian(atoms, **options) for atoms in structures]
    matrices: list[BlockMatrix] = several(structures, **options)
    return matrices


def _same_matrices(one: BlockMatrix, other: BlockMatrix) -> bool:
    if one.basis.shells != other.basis.shells:
        return False
    _, _, (mine, theirs) = align_matrices([one, other])
    return bool(np.abs(mine - theirs).max(initial=0.0) <= SAME_OVERLAP)


def _same_tables(one: Any, other: Any) -> bool:
    mine, theirs = (
        {
            (part, key): values
            for part in ("values", "corrections", "slopes")
            for key, values in table.to_dict().get(part, {}).items()
        }
        for table in (one, other)
    )
    if one.shells != other.shells or mine.keys() != theirs.keys():
        return False
    return all(
        values.shape == theirs[key].shape
        and bool(np.abs(values - theirs[key]).max(initial=0.0) <= SAME_OVERLAP)
        for key, values in mine.items()
    )


def _not_comparable(found: str, expected: str) -> DataError:
    return DataError(
        message("committee of networks", found, expected, "Use checkpoints of one recipe.")
    )
