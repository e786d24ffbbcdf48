"""The sparse_bands stage: states around the Fermi level of a large cell, by sparse shift-invert.

A k-point that is done is kept in a part file, so that an interrupted run continues where it
stopped; H is real in space, so a k-point and its negative are solved once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.observables.sparse_bands.moire import (
    compare_with_continuum,
    find_vacuum,
    is_graphene_bilayer,
    measure_stackings,
)
from mlepi.observables.sparse_bands.record import FLAT_BANDS, ContinuumRecord, SparseBandsRecord
from mlepi.observables.sparse_bands.solved_points import (
    KPoint,
    SolvedPoint,
    SolvedPoints,
    fold_kpoint,
)
from mlepi.observables.stage_settings import read_electrons
from mlepi.physics.bands import lattice
from mlepi.physics.eigenstates.bloch import (
    SPIN_DEGENERACY,
    count_valence_electrons,
    fermi_energy_from_eigenvalues,
    solve_bands,
)
from mlepi.physics.eigenstates.sparse import (
    build_pencil,
    choose_backend,
    choose_factorisation,
    prove_numbers,
    solve_numbered_states,
)
from mlepi.pipeline.fingerprints import fingerprint_modules
from mlepi.pipeline.plain_stage import PlainStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.stage import check_choice
from mlepi.results import former_inputs, hash_data
from mlepi.results.parts import PARTS_FOLDER

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix

PROOFS = ("first", "all", "none")

FORMER_ROUTE = ["K", "Γ", "M", "K'"]
"""What stands for the route of the lattice among the inputs: the default of earlier versions."""

DENSE_SHARE = 4
"""A matrix with fewer rows than this times the states is diagonalised as a whole."""

DENSE_LIMIT = 6000
"""Rows of a matrix that is diagonalised at Γ to find the Fermi energy."""

VACUUM = 6.0
"""Å without atoms along the third lattice vector, from which on a structure is a layer."""


@dataclass(frozen=True, kw_only=True)
class SparseBandsStage(PlainStage):
    """States around the Fermi level; see ``conf/stage/sparse_bands.yaml``.

    Attributes:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        route: special points of the lattice, own ones, or fractional coordinates; None takes
            K-Γ-M-K' for a hexagonal layer and the lattice's own path otherwise.
        points: name → (3,) fractional, own points.
        spacing: largest distance of two k-points, Å⁻¹.
        n_states: around neutrality, half of them occupied; even. A small cell may have fewer.
        tolerance: largest error of an energy by the Lanczos bound, eV.
        backend: "auto", "pardiso" or "superlu".
        memory_limit: GB that the factors may take; None for all of the machine.
        proof: k-points at which two further factorisations prove that no state is missing: "first",
            "all" or "none".
        guess: eV, near the Fermi energy; None takes that of a Bernal bilayer by the same network
            for a bilayer of graphene, and that of the dense matrix at Γ for others.
        electronic_temperature: K, smearing of the Fermi energy.
        continuum: compare with the Bistritzer–MacDonald model.
        continuum_velocity: ħ v_F of a layer, eV·Å; None measures it with the same network.
        continuum_w_aa: hopping in AA regions, eV; None likewise.
        continuum_w_ab: hopping in AB regions, eV; None likewise.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "sparse_bands"
    requires: ClassVar[tuple[str, ...]] = ("structure", "hamiltonian")
    networks: ClassVar[tuple[str, ...]] = ("electron",)
    record: ClassVar[type] = SparseBandsRecord

    valence_electrons: Mapping[int, float]
    route: Sequence[str | Sequence[float]] | None
    spacing: float
    n_states: int
    tolerance: float
    backend: str
    memory_limit: float | None
    proof: str
    guess: float | None
    electronic_temperature: float
    continuum: bool
    continuum_velocity: float | None
    continuum_w_aa: float | None
    continuum_w_ab: float | None
    points: Mapping[str, Sequence[float]] | None = None

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        check_choice("stage.sparse_bands.proof", self.proof, PROOFS)
        if self.n_states < FLAT_BANDS + 2 or self.n_states % 2:
            raise ConfigError(
                message(
                    "stage.sparse_bands.n_states",
                    f"{self.n_states}",
                    f"an even number from {FLAT_BANDS + 2} on",
                    "Take 30: the flat bands and what is next to them.",
                )
            )
        object.__setattr__(self, "valence_electrons", read_electrons(self.valence_electrons))

    @property
    def continuum_parameters(self) -> tuple[float | None, float | None, float | None]:
        """Velocity, eV·Å, and hoppings, eV, of the continuum model, as far as they are given."""
        return self.continuum_velocity, self.continuum_w_aa, self.continuum_w_ab

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return the settings that decide the result."""
        return {
            **self._point_inputs(),
            "route": FORMER_ROUTE if self.route is None else list(self.route),
            **({"points": dict(self.points)} if self.points else {}),
            "spacing": self.spacing,
            "proof": self.proof,
            "electronic_temperature": self.electronic_temperature,
            "continuum": [self.continuum, *self.continuum_parameters],
        }

    def compute(self, run: Run, line: StageLine) -> SparseBandsRecord:
        """Solve every k-point that is not done yet.

        Raises:
            PhysicsError: no backend for this size, or no convergence.
        """
        atoms, hamiltonian, overlap = run.equilibrium()
        n_electrons = count_valence_electrons(hamiltonian.numbers, self.valence_electrons)
        periodic = (True, True, find_vacuum(atoms) < VACUUM)
        path = lattice.follow_route(self.route, self.points or {}, atoms, periodic, self.spacing)
        n_occupied = int(n_electrons / SPIN_DEGENERACY)
        n_orbitals = int(hamiltonian.basis.counts(hamiltonian.numbers).sum())
        half = min(self.n_states // 2, n_occupied, n_orbitals - n_occupied)
        if half < 1:
            raise ConfigError(
                message(
                    "valence_electrons",
                    f"{n_electrons:g} electrons in {n_orbitals} orbitals",
                    "occupied and empty bands",
                    "Give those of every element, such as valence_electrons={Si: 4}.",
                )
            )
        first = n_occupied - half
        found = self._solve_path(run, line, (hamiltonian, overlap), path.kpoints, first, 2 * half)
        energies = np.array([point["energies"] for point in found])
        fermi_energy = fermi_energy_from_eigenvalues(
            energies,
            np.ones(len(energies)),
            n_electrons - SPIN_DEGENERACY * first,
            self.electronic_temperature,
        )
        smallest = float(run.read("hamiltonian").smallest_overlap_eigenvalues.min())
        largest = max(float(point["residuals"].max()) for point in found)
        return SparseBandsRecord(
            kpoints=path.kpoints,
            distances=path.distances,
            labels=path.labels,
            label_distances=path.ticks,
            energies=energies,
            first_state=first,
            n_electrons=n_electrons,
            fermi_energy=fermi_energy,
            electronic_temperature=self.electronic_temperature,
            error_bound=largest / math.sqrt(smallest),
            proven=sum(int(point["proven"]) for point in found),
            backend=choose_backend(self.backend),
            cpu_seconds=np.array([float(point["cpu_seconds"]) for point in found]),
            continuum=self._compare(run, atoms, path) if self.continuum else None,
            moire=is_graphene_bilayer(atoms) and 2 * half > FLAT_BANDS,
        )

    def summarize(self, record: SparseBandsRecord) -> str:
        """Say in a few words what was found."""
        if not record.moire:
            gap = record.band_gap()
            edges = f"gap {gap:.3f} eV" if gap > 0.0 else f"no gap, bands overlap by {-gap:.3f} eV"
            return (
                f"{record.energies.shape[1]} states at {len(record.kpoints)} k-points along "
                f"{'-'.join(record.labels)}, E_F {record.fermi_energy:.4f} eV, {edges} on the path"
            )
        below, above = (1e3 * gap for gap in record.gaps())
        text = (
            f"{record.energies.shape[1]} states at {len(record.kpoints)} k-points, E_F "
            f"{record.fermi_energy:.4f} eV, "
            f"four bands around it {1e3 * record.flat_width():.1f} meV wide, gaps {below:.1f} and "
            f"{above:.1f} meV"
        )
        if record.continuum is not None:
            text += (
                f"; continuum model at {record.continuum.twist:.3f}°: "
                f"{1e3 * record.continuum.flat_width():.1f} meV"
            )
        return text

    def _compare(self, run: Run, atoms: Atoms, path: lattice.KPath) -> ContinuumRecord:
        return compare_with_continuum(
            atoms,
            run.read("structure").spacings,
            run.networks.predict_shifted,
            path,
            self.valence_electrons,
            self.continuum_parameters,
        )

    def _point_inputs(self) -> dict[str, Any]:
        """Return what decides the result of one k-point."""
        return {
            "valence_electrons": self.valence_electrons,
            "n_states": self.n_states,
            "tolerance": self.tolerance,
        }

    def _find_points(self, run: Run) -> SolvedPoints:
        """Return where k-points that are solved are kept."""
        inputs = {**self._point_inputs(), "hamiltonian": run.content("hamiltonian")}
        return SolvedPoints(
            folder=run.store.folder / PARTS_FOLDER,
            stage=self.name,
            inputs=hash_data(inputs),
            former_inputs=hash_data(former_inputs(inputs)),
            code=fingerprint_modules({__name__, *run.networks.modules(["electron"])}),
            keep_other_code=run.settings.reuse == "always",
        )

    def _solve_path(
        self,
        run: Run,
        line: StageLine,
        matrices: tuple[BlockMatrix, BlockMatrix],
        kpoints: NDArray[np.float64],
        first: int,
        n_states: int,
    ) -> list[SolvedPoint]:
        """Return the results at all k-points, from the part files where they are there.

        Args:
            run: of the stage.
            line: where progress goes.
            matrices: H (eV) and S.
            kpoints: (n_kpoints, 3) fractional.
            first: number of the lowest state.
            n_states: from there on.
        """
        points = self._find_points(run)
        if run.settings.reuse == "never":
            points.forget()
        keys = [fold_kpoint(k) for k in kpoints]
        # time-reversal invariant points first: their matrices are real, a proof costs least there
        wanted = sorted(set(keys), key=lambda key: (any((2.0 * x) % 1.0 for x in key), key))
        proven = set(wanted if self.proof == "all" else wanted[: self.proof == "first"])
        solved = {
            key: point
            for key, point in points.read().items()
            if key not in proven or point["proven"]
        }
        line.start(len(wanted), sum(key in solved for key in wanted))
        guess = self.guess
        for key in wanted:
            if key not in solved:
                if guess is None:
                    guess = self._guess(run, matrices, first + n_states // 2)
                solved[key] = self._solve_point(
                    matrices, key, (first, n_states), guess, key in proven
                )
                points.append(key, solved[key])
                line.advance(
                    f"k = {', '.join(f'{x:.4f}' for x in key)}: "
                    f"{float(solved[key]['cpu_seconds']):.0f} CPU-seconds"
                )
            guess = float(np.mean(solved[key]["energies"][n_states // 2 - 1 :][:2]))
        return [solved[key] for key in keys]

    def _guess(self, run: Run, matrices: tuple[BlockMatrix, BlockMatrix], n_occupied: int) -> float:
        """Return an energy near the Fermi level.

        That of a Bernal bilayer by the same network for a bilayer of graphene; else the middle of
        the gap at Γ.

        Raises:
            ConfigError: the matrix is too large to be diagonalised.
        """
        structure = run.read("structure")
        if not is_graphene_bilayer(structure.atoms):
            n_orbitals = int(matrices[0].basis.counts(matrices[0].numbers).sum())
            if n_orbitals > DENSE_LIMIT:
                raise ConfigError(
                    message(
                        "stage.sparse_bands.guess",
                        f"null for {n_orbitals} orbitals",
                        "an energy near the Fermi level, eV",
                        "Take the Fermi energy of a smaller cell of this material.",
                    )
                )
            gamma = np.zeros(3)
            levels = solve_bands(*(matrix.dense(gamma) for matrix in matrices))
            return float(levels[n_occupied - 1 : n_occupied + 1].mean())
        return measure_stackings(
            structure.atoms,
            structure.spacings,
            run.networks.predict_shifted,
            self.valence_electrons,
        ).neutrality

    def _solve_point(
        self,
        matrices: tuple[BlockMatrix, BlockMatrix],
        kpoint: KPoint,
        states_wanted: tuple[int, int],
        guess: float,
        prove: bool,
    ) -> SolvedPoint:
        """Solve one k-point, and prove that no state is missing if asked.

        Args:
            matrices: H (eV) and S.
            kpoint: fractional.
            states_wanted: number of the lowest state, and how many.
            guess: eV, near their middle.
            prove: whether.
        """
        started = time.process_time()
        first, n_states = states_wanted
        if int(matrices[0].basis.counts(matrices[0].numbers).sum()) < DENSE_SHARE * n_states:
            at = np.array(kpoint)
            levels = solve_bands(*(matrix.dense(at) for matrix in matrices))
            return {
                "energies": levels[first : first + n_states],
                "residuals": np.zeros(n_states),
                "proven": np.array(True),  # all states are there
                "cpu_seconds": np.array(time.process_time() - started),
            }
        factorise = choose_factorisation(self.backend, self.memory_limit)
        pencil = build_pencil(*matrices, kpoint)
        states = solve_numbered_states(
            pencil, first, n_states, guess, factorise, tolerance=self.tolerance
        )
        if prove:
            prove_numbers(pencil, states, factorise)
        return {
            "energies": states.energies,
            "residuals": states.residuals,
            "proven": np.array(prove),
            "cpu_seconds": np.array(time.process_time() - started),
        }
