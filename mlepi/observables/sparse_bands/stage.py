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
from mlepi.observables.sparse_bands.moire import compare_with_continuum, measure_stackings
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


@dataclass(frozen=True, kw_only=True)
class SparseBandsStage(PlainStage):
    """States around the Fermi level; see ``conf/stage/sparse_bands.yaml``.

    Attributes:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        route: special points Γ, M, K, K' of a hexagonal cell.
        spacing: largest distance of two k-points, Å⁻¹.
        n_states: around neutrality, half of them occupied; even.
        tolerance: largest error of an energy by the Lanczos bound, eV.
        backend: "auto", "pardiso" or "superlu".
        memory_limit: GB that the factors may take; None for all of the machine.
        proof: k-points at which two further factorisations prove that no state is missing: "first",
            "all" or "none".
        guess: eV, near the Fermi energy; None takes that of a Bernal bilayer by the same network.
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
    route: Sequence[str]
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
            "route": list(self.route),
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
        points = lattice.hexagonal_points(atoms.cell.array)
        # the equivalent corner on the edge of K and M
        points["K'"] = 2.0 * points["M"] - points["K"]
        path = lattice.build_k_path(points, self.route, atoms.cell.array, self.spacing)
        first = int(n_electrons / SPIN_DEGENERACY) - self.n_states // 2
        found = self._solve_path(run, line, (hamiltonian, overlap), path.kpoints, first)
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
        )

    def summarize(self, record: SparseBandsRecord) -> str:
        """Say in a few words what was found."""
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
    ) -> list[SolvedPoint]:
        """Return the results at all k-points, from the part files where they are there."""
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
                    guess = self._guess(run)
                solved[key] = self._solve_point(matrices, key, first, guess, key in proven)
                points.append(key, solved[key])
                line.advance(
                    f"k = {', '.join(f'{x:.4f}' for x in key)}: "
                    f"{float(solved[key]['cpu_seconds']):.0f} CPU-seconds"
                )
            guess = float(np.mean(solved[key]["energies"][self.n_states // 2 - 1 :][:2]))
        return [solved[key] for key in keys]

    def _guess(self, run: Run) -> float:
        """Return an energy near the Fermi level: that of a Bernal bilayer by the same network."""
        structure = run.read("structure")
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
        first: int,
        guess: float,
        prove: bool,
    ) -> SolvedPoint:
        """Solve one k-point, and prove that no state is missing if asked."""
        started = time.process_time()
        factorise = choose_factorisation(self.backend, self.memory_limit)
        pencil = build_pencil(*matrices, kpoint)
        states = solve_numbered_states(
            pencil, first, self.n_states, guess, factorise, tolerance=self.tolerance
        )
        if prove:
            prove_numbers(pencil, states, factorise)
        return {
            "energies": states.energies,
            "residuals": states.residuals,
            "proven": np.array(prove),
            "cpu_seconds": np.array(time.process_time() - started),
        }
