"""The conductivity stage.

Optical conductivity and joint density of states of displaced supercells by Kubo–Greenwood.

Each supercell is solved on a small k mesh whose offset runs through a low-discrepancy sequence with
the number of the sample, the same at all temperatures, so that the ensemble as a whole covers the
Brillouin zone (twist averaging; Lin, Zong and Ceperley, Phys. Rev. E 64, 016702 (2001),
doi:10.1103/PhysRevE.64.016702). The undisplaced primitive cell at the same k-points is a control
variate: its mean over all offsets is known from a dense mesh. Only states near the Fermi energy are
computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.observables.optical_spectra import (
    MAX_GHOSTS,
    OpticalStates,
    SpectralLines,
    UndisplacedSheet,
)
from mlepi.observables.sample_checks import check_samples
from mlepi.physics.averages.convergence import mean_and_error, running_means
from mlepi.physics.bands import lattice, unfolding
from mlepi.physics.bands.optics import sheet_area
from mlepi.physics.bands.velocity_matrices import derivatives_at, velocity_matrices
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.pipeline.stage import SampleKey
from mlepi.results.conductivity import ConductivityRecord
from mlepi.units import UNIVERSAL_CONDUCTIVITY

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.run import Run

SPARE_STATES = 1.2
"""Factor on the number of states that the undisplaced bands have in the energy window."""

OFFSET_STEPS = (0.7548776662466927, 0.5698402909980532)
"""1/g and 1/g² with g³ = g + 1: the steps of the two-dimensional low-discrepancy sequence of the
mesh offsets."""


class ConductivityStage:
    """Optical conductivity against temperature; see ``conf/stage/settings/conductivity.yaml``.

    Args:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        electronic_temperature: K, of the occupations.
        mesh: k-points of every supercell.
        equilibrium_mesh: k-points of the undisplaced primitive cell.
        max_energy: eV, largest ħω.
        energy_step: eV.
        line_width: eV, standard deviation.
        window: eV, of the mean conductivity.
        n_resamples: of the bootstrap.
        n_counts: of the convergence study.
    """

    name: ClassVar[str] = "conductivity"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "sampling", "hamiltonian")
    record: ClassVar[type] = ConductivityRecord
    targets: ClassVar[tuple[str, ...]] = ("optical_conductivity",)

    def __init__(
        self,
        *,
        valence_electrons: Mapping[int, float],
        electronic_temperature: float,
        mesh: Sequence[int],
        equilibrium_mesh: Sequence[int],
        max_energy: float,
        energy_step: float,
        line_width: float,
        window: Sequence[float],
        n_resamples: int,
        n_counts: int,
    ) -> None:
        if not 0 < energy_step <= 0.5 * line_width or electronic_temperature <= 0:
            raise ConfigError(
                message(
                    "stage.conductivity",
                    f"energy_step {energy_step}, line_width {line_width} eV, "
                    f"electronic_temperature {electronic_temperature} K",
                    "a step > 0 of at most half the width, and a temperature > 0",
                    "Lower energy_step, or raise line_width or electronic_temperature.",
                )
            )
        if not 0 <= window[0] < window[1] <= max_energy:
            raise ConfigError(
                message(
                    "stage.conductivity.window",
                    f"{list(window)}",
                    f"two energies from 0 to {max_energy} eV",
                    "Choose a window inside the energies of the spectrum.",
                )
            )
        for key, divisions in (("mesh", mesh), ("equilibrium_mesh", equilibrium_mesh)):
            if len(divisions) != 3 or min(divisions) < 1:
                raise ConfigError(
                    message(
                        f"stage.conductivity.{key}",
                        f"{list(divisions)}",
                        "three divisions ≥ 1",
                        "For example [2, 2, 1].",
                    )
                )
        self.valence_electrons = {int(z): float(n) for z, n in valence_electrons.items()}
        self.mesh = (int(mesh[0]), int(mesh[1]), int(mesh[2]))
        self.equilibrium_mesh = (
            int(equilibrium_mesh[0]),
            int(equilibrium_mesh[1]),
            int(equilibrium_mesh[2]),
        )
        self.energies = (np.arange(round(max_energy / energy_step) + 1) * energy_step).astype(
            np.float64
        )
        self.lines = SpectralLines(self.energies, line_width, electronic_temperature)
        self.window = (float(window[0]), float(window[1]))
        self.n_resamples, self.n_counts = n_resamples, n_counts
        self._shared: UndisplacedSheet | None = None
        self._run: Run | None = None
        self._n_half = 0
        self._rest: dict[str, NDArray[np.float64]] = {}
        self._reference: tuple[int, dict[str, NDArray[np.float64]]] | None = None

    def inputs(self, run: Run) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {
            **self.sample_inputs(run),
            "window": list(self.window),
            "bootstrap": [self.n_resamples, self.n_counts],
        }

    def sample_inputs(self, run: Run) -> dict[str, Any]:
        """Return what decides the spectra of one sample."""
        return {
            "valence_electrons": {str(z): n for z, n in self.valence_electrons.items()},
            "electronic_temperature": self.lines.temperature,
            "mesh": list(self.mesh),
            "equilibrium_mesh": list(self.equilibrium_mesh),
            "energies": [float(self.energies[-1]), len(self.energies)],
            "line_width": self.lines.width,
            "supercell": list(run.supercell),
        }

    def begin(self, run: Run) -> None:
        """Prepare the undisplaced cell, and find how many states the energy window holds."""
        self._shared = UndisplacedSheet(
            *run.equilibrium(),
            run.supercell,
            self.lines,
            self.valence_electrons,
            self.equilibrium_mesh,
        )
        self._n_half = (
            int(np.ceil(SPARE_STATES * self._shared.count_states(self.offset_mesh(0)))) + 4
        )
        self._run, self._rest = run, {}
        displaced = run.displaced(SampleKey(0, run.temperatures[0]))
        check_samples(run.n_samples, self._shared.atoms, displaced, self._shared.atom_map)

    def evaluate(
        self, key: SampleKey, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> dict[str, NDArray]:
        """Compute the spectra of a displaced supercell, and of the undisplaced one at its k-points.

        Returns:
            ``conductivity``, ``joint_density``, ``reference_conductivity`` and
            ``reference_joint_density``, (n_energies,) each, per layer, ``fermi_shift`` (), eV, and
            ``ghosts`` (), ghost states.
        """
        run, shared = self._require_begun()
        kpoints = self.offset_mesh(key.sample)
        if self._reference is None or self._reference[0] != key.sample:
            self._reference = (
                key.sample,
                shared.response(np.concatenate([shared.unfold(k) for k in kpoints])),
            )
        reference = self._reference[1]
        atoms = run.displaced(key)
        n_electrons = shared.n_electrons * shared.atom_map.n_cells
        states = self._solve(atoms, hamiltonian, overlap, kpoints, n_electrons)
        area = sheet_area(atoms.cell.array) * shared.n_layers
        found = self.lines.spectra(states, n_electrons, area, shared.fermi_energy)
        return {
            "conductivity": found["conductivity"],
            "joint_density": found["joint_density"],
            "reference_conductivity": reference["conductivity"],
            "reference_joint_density": reference["joint_density"],
            "fermi_shift": found["fermi_energy"] - shared.fermi_energy,
            "ghosts": found["ghosts"],
        }

    def offset_mesh(self, sample: int) -> NDArray[np.float64]:
        """Return the k-points of one sample: (n_k, 3) fractional, of the supercell."""
        grid = np.stack(
            np.meshgrid(*[np.arange(n) for n in self.mesh], indexing="ij"), axis=-1
        ).reshape(-1, 3)
        steps = np.array([*OFFSET_STEPS, 0.0])
        return (grid + np.mod(0.5 * (steps > 0) + sample * steps, 1.0)) / np.array(self.mesh)

    def _solve(
        self,
        atoms: Atoms,
        hamiltonian: BlockMatrix,
        overlap: BlockMatrix,
        kpoints: NDArray[np.float64],
        n_electrons: float,
    ) -> OpticalStates:
        """Solve one supercell.

        Twice as many states are taken until those at the ends are out of reach.
        """
        _, shared = self._require_begun()
        layouts = hamiltonian.lay_out(), overlap.lay_out()
        slopes = [
            matrix.lay_out_derivatives(atoms.cell.array, atoms.positions)
            for matrix in (hamiltonian, overlap)
        ]
        bloch_overlap = unfolding.lay_out_average(
            shared.atom_map,
            overlap.edge_index,
            overlap.edge_cell_shift,
            overlap.blocks,
            shared.counts,
        )
        half, middle, n = self._n_half, int(n_electrons // 2), hamiltonian.n_orbitals
        while True:
            first, last = max(0, middle - half), min(n, middle + half + MAX_GHOSTS)
            states = OpticalStates(first, np.empty((len(kpoints), last - first)), [], [])
            for number, kpoint in enumerate(kpoints):
                overlap_k = layouts[1].at(kpoint)
                subset = None if last - first == n else (first, last - 1)
                values, vectors = solve_bands(
                    layouts[0].at(kpoint), overlap_k, subset=subset, vectors=True
                )
                distances = shared.fermi_energy - values[0], values[-1] - shared.fermi_energy
                if (first > 0 and distances[0] < self.lines.reach) or (
                    last < n and distances[1] < self.lines.reach
                ):
                    break
                states.values[number] = values
                states.velocities.append(
                    velocity_matrices(values, vectors, *(derivatives_at(s, kpoint) for s in slopes))
                )
                states.weights.append(
                    shared.share(overlap_k @ vectors, bloch_overlap, shared.unfold(kpoint))
                )
            else:
                return states
            half *= 2

    def finish(
        self, run: Run, results: Iterable[tuple[SampleKey, dict[str, NDArray]]]
    ) -> ConductivityRecord:
        """Average the samples, less what the undisplaced structure gives at their k-points."""
        if self._shared is None:
            self.begin(run)
        _, shared = self._require_begun()
        collected: dict[int, dict[float, dict[str, NDArray]]] = {}
        for key, arrays in results:
            collected.setdefault(key.sample, {})[key.temperature] = arrays
        rows = list(collected.values())

        def gather(name: str) -> NDArray[np.float64]:
            return np.array([[row[t][name] for t in run.temperatures] for row in rows])

        rest = self._rest = self._rest or shared.response(
            *lattice.build_k_mesh(self.equilibrium_mesh)
        )
        means, errors = {}, {}
        for name in ("conductivity", "joint_density"):
            changes = gather(name) - gather(f"reference_{name}")
            means[name], errors[name] = mean_and_error(
                rest[name] + changes, run.design, self.n_resamples
            )
        inside = (self.energies >= self.window[0] - 1e-9) & (self.energies <= self.window[1] + 1e-9)
        window_means = (
            rest["conductivity"] + gather("conductivity") - gather("reference_conductivity")
        )[:, :, inside].mean(axis=2)
        mean, mean_error = mean_and_error(window_means, run.design, self.n_resamples)
        counts, running, running_errors = running_means(
            window_means, run.design, self.n_counts, self.n_resamples
        )
        record = ConductivityRecord(
            temperatures=np.array(run.temperatures),
            n_samples=len(rows),
            supercell=shared.atom_map.supercell,
            n_layers=shared.n_layers,
            mesh=self.mesh,
            equilibrium_mesh=self.equilibrium_mesh,
            electronic_temperature=self.lines.temperature,
            line_width=self.lines.width,
            universal_conductivity=UNIVERSAL_CONDUCTIVITY,
            energies=self.energies,
            equilibrium_conductivity=rest["conductivity"],
            conductivities=means["conductivity"],
            conductivity_errors=errors["conductivity"],
            equilibrium_joint_density=rest["joint_density"],
            joint_densities=means["joint_density"],
            joint_density_errors=errors["joint_density"],
            fermi_shifts=np.tensordot(run.design.weights, gather("fermi_shift"), axes=1),
            ghosts=np.tensordot(run.design.weights, gather("ghosts"), axes=1),
            window=self.window,
            equilibrium_mean=float(rest["conductivity"][inside].mean()),
            means=mean,
            mean_errors=mean_error,
            convergence_counts=counts,
            convergence_means=running,
            convergence_errors=running_errors,
        )
        run.warnings += [f"{self.name}: {text}" for text in record.doubts()]
        return record

    def summarize(self, record: ConductivityRecord) -> str:
        """Say in a few words what was found."""
        return (
            f"σ {record.equilibrium_mean:.3f} → "
            f"{record.means[-1]:.3f}±{record.mean_errors[-1]:.3f} e²/4ħ per layer at "
            f"{record.temperatures[-1]:g} K, mean over {record.window[0]:g}–{record.window[1]:g} "
            "eV; "
            f"{record.n_samples} samples of {'×'.join(str(n) for n in record.supercell)} cells"
        )

    def error_bars(self, record: ConductivityRecord) -> dict[str, NDArray[np.float64]]:
        """Return the error bars of the mean conductivity in the window, e²/4ħ."""
        return {"optical_conductivity": record.mean_errors}

    def _require_begun(self) -> tuple[Run, UndisplacedSheet]:
        if self._run is None or self._shared is None:
            raise PhysicsError(
                message(
                    "conductivity stage",
                    "a sample before begin()",
                    "begin() first",
                    "Run the stage through the runner.",
                )
            )
        return self._run, self._shared
