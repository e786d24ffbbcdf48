"""The bands stage.

The states around the Fermi level of a large cell along a path, by sparse shift-invert at each
k-point.

A k-point that is done is kept in a part file, so that an interrupted run continues where it
stopped; H is real in space, so a k-point and its negative are solved once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.observables.moire import compare_with_continuum, measure_stackings
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
from mlepi.results import PartFile, hash_data
from mlepi.results.bands import FLAT_BANDS, BandsRecord, ContinuumRecord

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.run import Run

PARTS_FOLDER = "parts"
PROOFS = ("first", "all", "none")


class BandsStage:
    """States around the Fermi level; see ``conf/stage/settings/bands.yaml``.

    Args:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        route: special points Γ, M, K, K' of a hexagonal cell.
        spacing: largest distance of two k-points, Å⁻¹.
        n_states: around neutrality, half of them occupied; even.
        tolerance: largest error of an energy by the Lanczos bound, eV.
        backend: "auto", "pardiso" or "superlu".
        memory_limit: GB that the factors may take; null for all of the machine.
        proof: k-points at which two further factorisations prove that no state is missing: "first",
            "all" or "none".
        guess: eV, near the Fermi energy; null takes that of a Bernal bilayer by the same network.
        electronic_temperature: K, smearing of the Fermi energy.
        continuum: compare with the Bistritzer–MacDonald model.
        continuum_velocity: ħ v_F of a layer, eV·Å; null measures it with the same network.
        continuum_w_aa: hopping in AA regions, eV; null likewise.
        continuum_w_ab: hopping in AB regions, eV; null likewise.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "bands"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("structure", "hamiltonian")
    record: ClassVar[type] = BandsRecord

    def __init__(
        self,
        *,
        valence_electrons: Mapping[int, float],
        route: Sequence[str] = ("K", "Γ", "M", "K'"),
        spacing: float = 0.01,
        n_states: int = 30,
        tolerance: float = 1e-8,
        backend: str = "auto",
        memory_limit: float | None = None,
        proof: str = "first",
        guess: float | None = None,
        electronic_temperature: float = 10.0,
        continuum: bool = False,
        continuum_velocity: float | None = None,
        continuum_w_aa: float | None = None,
        continuum_w_ab: float | None = None,
    ) -> None:
        if n_states < FLAT_BANDS + 2 or n_states % 2 or proof not in PROOFS:
            raise ConfigError(
                message(
                    "stage.bands",
                    f"n_states {n_states}, proof {proof!r}",
                    f"an even number from {FLAT_BANDS + 2} on, and one of {list(PROOFS)}",
                    "Use 24 states and proof=first.",
                )
            )
        self.valence_electrons = {int(z): float(n) for z, n in valence_electrons.items()}
        self.route, self.spacing = tuple(route), spacing
        self.n_states, self.tolerance = n_states, tolerance
        self.backend, self.memory_limit, self.proof, self.guess = (
            backend,
            memory_limit,
            proof,
            guess,
        )
        self.electronic_temperature = electronic_temperature
        self.continuum = continuum
        self.continuum_parameters = (continuum_velocity, continuum_w_aa, continuum_w_ab)

    def inputs(self, run: Run) -> Mapping[str, Any]:
        """Return the settings that decide the result."""
        return {
            **self._point_inputs(),
            "route": list(self.route),
            "spacing": self.spacing,
            "proof": self.proof,
            "electronic_temperature": self.electronic_temperature,
            "continuum": [self.continuum, *self.continuum_parameters],
        }

    def compute(self, run: Run) -> BandsRecord:
        """Solve every k-point that is not done yet.

        Raises:
            PhysicsError: no backend for this size, or no convergence.
        """
        atoms, hamiltonian, overlap = run.equilibrium()
        n_electrons = count_valence_electrons(hamiltonian.numbers, self.valence_electrons)
        points = lattice.hexagonal_points(atoms.cell.array)
        points["K'"] = (
            2.0 * points["M"] - points["K"]
        )  # the equivalent corner on the edge of K and M
        path = lattice.build_k_path(points, self.route, atoms.cell.array, self.spacing)
        first = int(n_electrons / SPIN_DEGENERACY) - self.n_states // 2
        found = self._solve_path(run, hamiltonian, overlap, path.kpoints, first)
        energies = np.array([point["energies"] for point in found])
        fermi_energy = fermi_energy_from_eigenvalues(
            energies,
            np.ones(len(energies)),
            n_electrons - SPIN_DEGENERACY * first,
            self.electronic_temperature,
        )
        smallest = float(run.read("hamiltonian").smallest_overlap_eigenvalues.min())
        continuum = self._compare(run, atoms, path) if self.continuum else None
        return BandsRecord(
            kpoints=path.kpoints,
            distances=path.distances,
            labels=path.labels,
            label_distances=path.ticks,
            energies=energies,
            first_state=first,
            n_electrons=n_electrons,
            fermi_energy=fermi_energy,
            electronic_temperature=self.electronic_temperature,
            error_bound=max(float(point["residuals"].max()) for point in found)
            / math.sqrt(smallest),
            proven=sum(int(point["proven"]) for point in found),
            backend=choose_backend(self.backend),
            cpu_seconds=np.array([float(point["cpu_seconds"]) for point in found]),
            continuum=continuum,
        )

    def summarize(self, record: BandsRecord) -> str:
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
            run.predict,
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

    def _solve_path(
        self,
        run: Run,
        hamiltonian: BlockMatrix,
        overlap: BlockMatrix,
        kpoints: NDArray[np.float64],
        first: int,
    ) -> list[dict[str, NDArray[Any]]]:
        """Return the results at all k-points, from the part file where they are there."""
        inputs = hash_data(
            {
                **self._point_inputs(),
                "version": self.version,
                "hamiltonian": run.store.content("hamiltonian"),
            }
        )
        part = PartFile(run.store.folder / PARTS_FOLDER / f"{self.name}.0.part", inputs)
        keys = [_representative(k) for k in kpoints]
        done = part.keys()
        # time-reversal invariant points first: their matrices are real, a proof costs least there
        wanted = sorted(set(keys), key=lambda key: (any((2.0 * x) % 1.0 for x in key), key))
        proven = set(wanted if self.proof == "all" else wanted[: self.proof == "first"])
        places = part.places()
        done = {key for key in done if key not in proven or part.load(places[key])["proven"]}
        run.line.start(len(wanted), sum(key in done for key in wanted))
        guess = self.guess
        for key in wanted:
            if key not in done:
                if guess is None:
                    structure = run.read("structure")
                    guess = measure_stackings(
                        structure.atoms, structure.spacings, run.predict, self.valence_electrons
                    ).neutrality
                prove = key in proven
                result = self._solve_point(hamiltonian, overlap, key, first, guess, prove)
                part.append(key, result)
                run.line.advance(
                    f"k = {', '.join(f'{x:.4f}' for x in key)}: "
                    f"{float(result['cpu_seconds']):.0f} CPU-seconds"
                )
            guess = float(
                np.mean(part.load(part.places()[key])["energies"][self.n_states // 2 - 1 :][:2])
            )
        places = part.places()
        return [part.load(places[key]) for key in keys]

    def _solve_point(
        self,
        hamiltonian: BlockMatrix,
        overlap: BlockMatrix,
        kpoint: tuple[float, ...],
        first: int,
        guess: float,
        prove: bool,
    ) -> dict[str, NDArray[Any]]:
        """Solve one k-point.

        Energies (n_states,), residuals (n_states,), whether it was proven, and the time it took.
        """
        started = time.process_time()
        factorise = choose_factorisation(self.backend, self.memory_limit)
        pencil = build_pencil(hamiltonian, overlap, kpoint)
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


def _representative(kpoint: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the same k-point modulo the reciprocal lattice and time reversal.

    That of k and −k that comes first.
    """
    folded = [np.round(np.mod(np.round(sign * kpoint, 9), 1.0), 9) % 1.0 for sign in (1.0, -1.0)]
    return min(tuple(float(x) for x in k) for k in folded)
