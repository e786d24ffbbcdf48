"""The dos stage: density of states of displaced supercells, and its projections.

Projected are elements, orbitals and layers. All states are needed, so every k-point is diagonalised
completely; a mesh of 2 along each direction has time-reversal invariant points only, whose matrices
are real. The undisplaced crystal is taken on the folded k-points, where an undisplaced supercell
has the same levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.observables.dos.record import DosRecord
from mlepi.observables.near_k.peaks import ALIGNMENTS, mean_potential
from mlepi.observables.stage_settings import describe_electrons, read_electrons
from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.averages.statistics import pseudo_values
from mlepi.physics.bands import lattice
from mlepi.physics.bands.populations import energy_of_count, integrated_lines, mulliken_weights
from mlepi.physics.bands.spectra import compute_spectral_function
from mlepi.physics.eigenstates.bloch import SPIN_DEGENERACY, count_valence_electrons, solve_bands
from mlepi.pipeline.ensemble import Ensemble, Sample, SampleKey
from mlepi.pipeline.sampled_stage import Part, SampledStage
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.stage import check_choice
from mlepi.results.quantities import half_interval

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix

SHELL_NAMES = "spdfgh"


@dataclass(frozen=True)
class DosReference:
    """What all samples share.

    Attributes:
        n_cells: primitive cells in a supercell.
        n_electrons: per primitive cell.
        fermi_energy: eV, of the undisplaced crystal.
        mean_potential: eV, of the undisplaced crystal.
        channels: names of the projections.
        members: (n_channels, n_orbitals) 0 or 1, orbitals of the primitive cell that belong to
            each.
    """

    n_cells: int
    n_electrons: float
    fermi_energy: float
    mean_potential: float
    channels: tuple[str, ...]
    members: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DosStage(SampledStage[DosReference]):
    """Densities of states; see ``conf/stage/dos.yaml``.

    Attributes:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        mesh: k-points of the supercell.
        window: eV, from the Fermi energy of the undisplaced crystal.
        energy_step: eV.
        width: eV, standard deviation of the lines.
        align: "none", or "mean_potential" to remove rigid shifts of H between samples.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "dos"
    record: ClassVar[type] = DosRecord
    targets: ClassVar[tuple[str, ...]] = ("fermi_dos",)
    uneven: ClassVar[bool] = True

    valence_electrons: Mapping[int, float]
    mesh: Sequence[int]
    window: Sequence[float]
    energy_step: float
    width: float
    align: str

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        window = list(self.window)
        if not 0 < self.energy_step <= 0.5 * self.width or not window[0] < 0 < window[1]:
            raise ConfigError(
                message(
                    "stage.dos",
                    f"energy_step {self.energy_step}, width {self.width}, window {window} eV",
                    "a step of at most half the width, and a window around 0",
                    "Make the step smaller or the lines wider, and let the window hold 0.",
                )
            )
        check_choice("stage.dos.align", self.align, ALIGNMENTS)
        object.__setattr__(self, "valence_electrons", read_electrons(self.valence_electrons))
        object.__setattr__(self, "mesh", tuple(int(n) for n in self.mesh))

    @property
    def energies(self) -> NDArray[np.float64]:
        """(n_energies,) eV, from the Fermi energy of the undisplaced crystal."""
        step = self.energy_step
        return np.arange(self.window[0], self.window[1] + 0.5 * step, step)

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return self.sample_inputs(settings)

    def sample_inputs(self, settings: Settings) -> dict[str, Any]:
        """Return what decides the densities of one sample."""
        energies = self.energies
        return {
            "mesh": list(self.mesh),
            "energies": [float(energies[0]), len(energies), float(energies[-1])],
            "width": self.width,
            "align": self.align,
            "valence_electrons": describe_electrons(self.valence_electrons),
            "supercell": list(settings.supercell),
        }

    def begin(self, ensemble: Ensemble) -> DosReference:
        """Find the Fermi energy of the undisplaced crystal on the folded k-points."""
        atoms, hamiltonian, overlap = ensemble.equilibrium
        n_electrons = count_valence_electrons(hamiltonian.numbers, self.valence_electrons)
        mesh = self._fold(ensemble)
        solved = [
            (levels, weight) for levels, _, weight in _solve(hamiltonian, overlap, mesh, None)
        ]
        low, high = min(levels[0] for levels, _ in solved), max(levels[-1] for levels, _ in solved)
        outer = np.arange(low - 10.0 * self.width, high + 10.0 * self.width, 0.1 * self.width)
        counts = np.sum(
            [weight * integrated_lines(outer, levels, self.width) for levels, weight in solved],
            axis=0,
        )
        fermi_energy = energy_of_count(outer, counts, n_electrons / SPIN_DEGENERACY)
        potential = mean_potential(hamiltonian, overlap)
        n_cells = ensemble.atom_map.n_cells
        channels = _channels(atoms, hamiltonian)
        return DosReference(n_cells, n_electrons, fermi_energy, potential, *channels)

    def evaluate(self, prepared: DosReference, sample: Sample) -> Part:
        """Diagonalise one displaced supercell on the mesh.

        Returns:
            ``dos`` (n_energies,) and ``projections`` (n_channels, n_energies), 1/eV, and
            ``integrated`` (n_energies,), all per primitive cell and spin.
        """
        matrices, n_cells = (sample.hamiltonian, sample.overlap), prepared.n_cells
        shift = (
            mean_potential(*matrices) - prepared.mean_potential
            if self.align == "mean_potential"
            else 0.0
        )
        members = np.tile(prepared.members, (1, n_cells))
        zero = prepared.fermi_energy + shift
        return self._densities(*matrices, self.mesh, members, zero, n_cells)

    def finish(
        self,
        prepared: DosReference,
        ensemble: Ensemble,
        results: Iterable[tuple[SampleKey, Part]],
    ) -> DosRecord:
        """Average the densities."""
        energies, n_channels = self.energies, len(prepared.channels)
        shape = (n_channels + 2, len(energies))
        averages = BlockAverages(ensemble.design, ensemble.temperatures, shape)
        for key, arrays in results:
            rows = [arrays["projections"], arrays["dos"][None], arrays["integrated"][None]]
            averages.add(*key, np.concatenate(rows))

        def shifts(mean: NDArray[np.float64]) -> NDArray[np.float64]:
            wanted = prepared.n_electrons / SPIN_DEGENERACY
            return np.array([energy_of_count(energies, counts, wanted) for counts in mean[:, -1]])

        mean = averages.average()
        without = [averages.average(weights) for weights in averages.left_out]
        errors = averages.standard_errors(mean, np.array(without))
        own_shifts = shifts(mean)
        without_shifts = np.array([shifts(each) for each in without])

        def at_fermi(mean: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
            found = zip(places, mean[:, -2], strict=True)
            return np.array([np.interp(place, energies, curve) for place, curve in found])

        fermi_dos = at_fermi(mean, own_shifts)
        without_dos = np.array(
            [at_fermi(*each) for each in zip(without, without_shifts, strict=True)]
        )
        _, hamiltonian, overlap = ensemble.equilibrium
        mesh, zero = self._fold(ensemble), prepared.fermi_energy
        at_rest = self._densities(hamiltonian, overlap, mesh, prepared.members, zero, 1)
        return DosRecord(
            temperatures=np.array(ensemble.temperatures),
            n_samples=ensemble.n_samples,
            supercell=ensemble.supercell,
            mesh=tuple(self.mesh),
            reference=prepared.fermi_energy,
            align=self.align,
            width=self.width,
            energies=energies,
            channels=prepared.channels,
            n_electrons=prepared.n_electrons,
            n_orbitals=hamiltonian.n_orbitals,
            equilibrium=at_rest["dos"],
            equilibrium_projections=at_rest["projections"],
            dos=mean[:, -2],
            dos_errors=errors[:, -2],
            projections=mean[:, :n_channels],
            integrated=mean[:, -1],
            fermi_shifts=own_shifts,
            fermi_shift_errors=averages.standard_errors(own_shifts, without_shifts),
            degrees_of_freedom=averages.degrees_of_freedom,
            fermi_dos=fermi_dos,
            fermi_dos_errors=averages.standard_errors(fermi_dos, without_dos),
            pseudo_fermi_dos=pseudo_values(fermi_dos, without_dos),
        )

    def summarize(self, record: DosRecord) -> str:
        """Say in a few words what was found."""
        middle = int(np.argmin(np.abs(record.energies)))
        error = half_interval(record, "dos_errors")[-1, middle]
        return (
            f"at E_F {record.equilibrium[middle]:.3f} → "
            f"{record.dos[-1, middle]:.3f}±{error:.3f} 1/eV "
            f"per cell and spin at {record.temperatures[-1]:g} K, E_F moves by "
            f"{1e3 * record.fermi_shifts[-1]:+.0f}"
            f"±{1e3 * half_interval(record, 'fermi_shift_errors')[-1]:.0f} meV; "
            f"{'×'.join(str(n) for n in record.mesh)} k-points of "
            f"{'×'.join(str(n) for n in record.supercell)} cells"
        )

    def error_bars(self, record: DosRecord) -> dict[str, NDArray[np.float64]]:
        """Return the error bar of the density at the Fermi energy, 1/eV."""
        return {"fermi_dos": half_interval(record, "fermi_dos_errors")}

    def target_values(self, record: DosRecord) -> dict[str, NDArray[np.float64]]:
        """Return the density at the Fermi energy, 1/eV per primitive cell and spin."""
        return {"fermi_dos": record.fermi_dos}

    def contributions(self, record: DosRecord) -> dict[str, NDArray[np.float64]]:
        """Return the pseudo-values of the density at the Fermi energy, 1/eV."""
        return {"fermi_dos": record.pseudo_fermi_dos}

    def _fold(self, ensemble: Ensemble) -> list[int]:
        """Return the mesh of the primitive cell that folds onto that of the supercell."""
        return [m * n for m, n in zip(self.mesh, ensemble.supercell, strict=True)]

    def _densities(
        self,
        hamiltonian: BlockMatrix,
        overlap: BlockMatrix,
        mesh: Sequence[int],
        members: NDArray[np.float64],
        zero: float,
        n_cells: int,
    ) -> Part:
        """Return the densities of any cell per primitive cell, energies from ``zero``, eV."""
        energies = self.energies
        dos, integrated = np.zeros(len(energies)), np.zeros(len(energies))
        projections = np.zeros((len(members), len(energies)))
        for levels, shares, weight in _solve(hamiltonian, overlap, mesh, members):
            weighted = np.concatenate([shares, np.ones((1, len(levels)))])
            found = compute_spectral_function(
                energies, levels - zero, weighted, self.width, "gaussian"
            )
            dos += weight / n_cells * found[-1]
            projections += weight / n_cells * found[:-1]
            integrated += weight / n_cells * integrated_lines(energies, levels - zero, self.width)
        return {"dos": dos, "projections": projections, "integrated": integrated}


def _channels(
    atoms: Atoms, hamiltonian: BlockMatrix
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Group the orbitals of the primitive cell by element and shell, and by layer if they have one.

    Returns:
        Names of the groups, and (n_groups, n_orbitals) 0 or 1, which orbitals belong to each.
    """
    names: list[list[str]] = []
    layers = atoms.arrays.get("layer")
    for atom, (number, symbol) in enumerate(
        zip(hamiltonian.numbers, atoms.get_chemical_symbols(), strict=True)
    ):
        for l in hamiltonian.basis.shells[int(number)]:
            both = [f"{symbol} {SHELL_NAMES[l]}"] + (
                [] if layers is None else [f"layer {int(layers[atom])}"]
            )
            names += [both] * (2 * l + 1)
    channels = sorted({each[0] for each in names}) + sorted(
        {each[1] for each in names if len(each) > 1}
    )
    return tuple(channels), np.array(
        [[float(channel in each) for each in names] for channel in channels]
    )


def _solve(
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    mesh: Sequence[int],
    members: NDArray[np.float64] | None,
) -> Iterable[tuple[NDArray[np.float64], NDArray[np.float64], float]]:
    """Diagonalise every k-point of a mesh.

    Yields:
        Levels (n_states,) eV, shares of the channels (n_channels, n_states), and the weight.
    """
    h, s = hamiltonian.lay_out(), overlap.lay_out()
    for kpoint, weight in zip(*lattice.build_k_mesh(mesh), strict=True):
        matrix, metric = h.at(kpoint), s.at(kpoint)
        if members is None:
            yield solve_bands(matrix, metric), np.empty((0, len(matrix))), float(weight)
        else:
            levels, vectors = solve_bands(matrix, metric, vectors=True)
            yield levels, members @ mulliken_weights(vectors, metric @ vectors), float(weight)
