"""The dos stage: density of states of displaced supercells, and its projections.

Projected are elements, orbitals and layers. All states are needed, so every k-point is diagonalised
completely; a mesh of 2 along each direction has time-reversal invariant points only, whose matrices
are real. The undisplaced crystal is taken on the folded k-points, where an undisplaced supercell
has the same levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.observables.near_k.peaks import ALIGNMENTS, mean_potential
from mlepi.observables.sample_checks import check_samples
from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.bands import lattice, unfolding
from mlepi.physics.bands.populations import energy_of_count, integrated_lines, mulliken_weights
from mlepi.physics.bands.spectra import compute_spectral_function
from mlepi.physics.eigenstates.bloch import SPIN_DEGENERACY, count_valence_electrons, solve_bands
from mlepi.pipeline.stage import SampleKey
from mlepi.results.dos import DosRecord

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.run import Run

SHELL_NAMES = "spdfgh"


class DosStage:
    """Densities of states; see ``conf/stage/settings/dos.yaml``.

    Args:
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
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "sampling", "hamiltonian")
    record: ClassVar[type] = DosRecord

    def __init__(
        self,
        *,
        valence_electrons: Mapping[int, float],
        mesh: Sequence[int],
        window: Sequence[float],
        energy_step: float,
        width: float,
        align: str,
    ) -> None:
        if not 0 < energy_step <= 0.5 * width or not window[0] < 0 < window[1]:
            raise ConfigError(
                message(
                    "stage.dos",
                    f"energy_step {energy_step}, width {width}, window {list(window)} eV",
                    "a step of at most half the width, and a window around 0",
                    "Lower energy_step to half the width, and give a window such as [-3, 3].",
                )
            )
        if align not in ALIGNMENTS:
            raise ConfigError(
                message(
                    "stage.dos.align",
                    repr(align),
                    f"one of {list(ALIGNMENTS)}",
                    "Choose one of them.",
                )
            )
        self.valence_electrons = {int(z): float(n) for z, n in valence_electrons.items()}
        self.mesh = tuple(int(n) for n in mesh)
        self.energies = np.arange(window[0], window[1] + 0.5 * energy_step, energy_step)
        self.width, self.align = width, align
        self._shared: _Shared | None = None

    def inputs(self, run: Run) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return self.sample_inputs(run)

    def sample_inputs(self, run: Run) -> dict[str, Any]:
        """Return what decides the densities of one sample."""
        return {
            "mesh": list(self.mesh),
            "energies": [float(self.energies[0]), len(self.energies), float(self.energies[-1])],
            "width": self.width,
            "align": self.align,
            "valence_electrons": {str(z): n for z, n in self.valence_electrons.items()},
            "supercell": list(run.supercell),
        }

    def begin(self, run: Run) -> None:
        """Compute the undisplaced density on the folded k-points and find its Fermi energy."""
        atoms, hamiltonian, overlap = run.equilibrium()
        atom_map = unfolding.cell_major_map(len(atoms), run.supercell)
        displaced = run.displaced(SampleKey(0, run.temperatures[0]))
        check_samples(run.n_samples, atoms, displaced, atom_map)
        n_electrons = count_valence_electrons(hamiltonian.numbers, self.valence_electrons)
        folded = [m * n for m, n in zip(self.mesh, run.supercell, strict=True)]
        solved = [
            (levels, weight) for levels, _, weight in _solve(hamiltonian, overlap, folded, None)
        ]
        low, high = min(levels[0] for levels, _ in solved), max(levels[-1] for levels, _ in solved)
        outer = np.arange(low - 10.0 * self.width, high + 10.0 * self.width, 0.1 * self.width)
        counts = np.sum(
            [weight * integrated_lines(outer, levels, self.width) for levels, weight in solved],
            axis=0,
        )
        reference = energy_of_count(outer, counts, n_electrons / SPIN_DEGENERACY)
        channels, members = _channels(atoms, hamiltonian)
        self._shared = _Shared(
            atom_map,
            n_electrons,
            reference,
            mean_potential(hamiltonian, overlap),
            channels,
            members,
        )

    def evaluate(
        self, key: SampleKey, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> dict[str, NDArray]:
        """Diagonalise one displaced supercell on the mesh.

        Returns:
            ``dos`` (n_energies,) and ``projections`` (n_channels, n_energies), 1/eV, and
            ``integrated`` (n_energies,), all per primitive cell and spin.
        """
        shared = self._require_shared()
        shift = (
            mean_potential(hamiltonian, overlap) - shared.mean_potential
            if self.align == "mean_potential"
            else 0.0
        )
        members = np.tile(shared.members, (1, shared.atom_map.n_cells))
        return self._densities(
            hamiltonian,
            overlap,
            self.mesh,
            members,
            shared.reference + shift,
            shared.atom_map.n_cells,
        )

    def finish(
        self, run: Run, results: Iterable[tuple[SampleKey, dict[str, NDArray]]]
    ) -> DosRecord:
        """Average the densities."""
        if self._shared is None:
            self.begin(run)
        shared = self._require_shared()
        n_channels, n_energies = len(shared.channels), len(self.energies)
        averages = BlockAverages(run.design, run.temperatures, (n_channels + 2, n_energies))
        for key, arrays in results:
            averages.add(
                key.sample,
                key.temperature,
                np.concatenate(
                    [arrays["projections"], arrays["dos"][None], arrays["integrated"][None]]
                ),
            )

        def shifts(mean: NDArray[np.float64]) -> NDArray[np.float64]:
            wanted = shared.n_electrons / SPIN_DEGENERACY
            return np.array(
                [energy_of_count(self.energies, counts, wanted) for counts in mean[:, -1]]
            )

        mean = averages.average()
        without = [averages.average(weights) for weights in averages.left_out]
        errors = averages.standard_errors(mean, np.array(without))
        _, hamiltonian, overlap = run.equilibrium()
        folded = [m * n for m, n in zip(self.mesh, run.supercell, strict=True)]
        at_rest = self._densities(hamiltonian, overlap, folded, shared.members, shared.reference, 1)
        return DosRecord(
            temperatures=np.array(run.temperatures),
            n_samples=run.n_samples,
            supercell=shared.atom_map.supercell,
            mesh=self.mesh,
            reference=shared.reference,
            align=self.align,
            width=self.width,
            energies=self.energies,
            channels=shared.channels,
            n_electrons=shared.n_electrons,
            n_orbitals=hamiltonian.n_orbitals,
            equilibrium=at_rest["dos"],
            equilibrium_projections=at_rest["projections"],
            dos=mean[:, -2],
            dos_errors=errors[:, -2],
            projections=mean[:, :n_channels],
            integrated=mean[:, -1],
            fermi_shifts=shifts(mean),
            fermi_shift_errors=averages.standard_errors(
                shifts(mean), np.array([shifts(each) for each in without])
            ),
        )

    def summarize(self, record: DosRecord) -> str:
        """Say in a few words what was found."""
        middle = int(np.argmin(np.abs(record.energies)))
        return (
            f"at E_F {record.equilibrium[middle]:.3f} → "
            f"{record.dos[-1, middle]:.3f}±{record.dos_errors[-1, middle]:.3f} 1/eV "
            f"per cell and spin at {record.temperatures[-1]:g} K, E_F moves by "
            f"{1e3 * record.fermi_shifts[-1]:+.0f}"
            f"±{1e3 * record.fermi_shift_errors[-1]:.0f} meV; "
            f"{'×'.join(str(n) for n in record.mesh)} k-points of "
            f"{'×'.join(str(n) for n in record.supercell)} cells"
        )

    def _densities(
        self,
        hamiltonian: BlockMatrix,
        overlap: BlockMatrix,
        mesh: Sequence[int],
        members: NDArray[np.float64],
        zero: float,
        n_cells: int,
    ) -> dict[str, NDArray]:
        dos, integrated = np.zeros(len(self.energies)), np.zeros(len(self.energies))
        projections = np.zeros((len(members), len(self.energies)))
        for levels, shares, weight in _solve(hamiltonian, overlap, mesh, members):
            weighted = np.concatenate([shares, np.ones((1, len(levels)))])
            found = compute_spectral_function(
                self.energies, levels - zero, weighted, self.width, "gaussian"
            )
            dos += weight / n_cells * found[-1]
            projections += weight / n_cells * found[:-1]
            integrated += (
                weight / n_cells * integrated_lines(self.energies, levels - zero, self.width)
            )
        return {"dos": dos, "projections": projections, "integrated": integrated}

    def _require_shared(self) -> _Shared:
        if self._shared is None:
            raise PhysicsError(
                message(
                    "dos stage",
                    "a sample before begin()",
                    "begin() first",
                    "Run the stage through the runner.",
                )
            )
        return self._shared


class _Shared:
    """What all samples share.

    Args:
        atom_map: atoms of the supercell.
        n_electrons: per primitive cell.
        reference: eV, Fermi energy of the undisplaced crystal.
        mean_potential: eV, of the undisplaced crystal.
        channels: names of the projections.
        members: (n_channels, n_orbitals) 0 or 1, orbitals of the primitive cell that belong to
            each.
    """

    def __init__(
        self,
        atom_map: unfolding.AtomMap,
        n_electrons: float,
        reference: float,
        mean_potential: float,
        channels: tuple[str, ...],
        members: NDArray[np.float64],
    ) -> None:
        self.atom_map, self.n_electrons, self.reference, self.mean_potential = (
            atom_map,
            n_electrons,
            reference,
            mean_potential,
        )
        self.channels, self.members = channels, members


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
