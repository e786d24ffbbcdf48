"""The tight_binding stage: a one-orbital Hamiltonian that follows the network around neutrality.

Hoppings and their decay are fitted to levels of displaced supercells that are no samples of the
ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase.neighborlist import neighbor_list

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.observables.stage_settings import describe_electrons, read_electrons
from mlepi.observables.tight_binding.record import TightBindingRecord
from mlepi.physics.bands import lattice, unfolding
from mlepi.physics.eigenstates.bloch import count_valence_electrons, solve_bands
from mlepi.physics.vibrations.thermal import sample_displacements
from mlepi.pipeline.plain_stage import PlainStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.stages.structure.relaxation import measure_spacings
from mlepi.reference_systems import TightBinding
from mlepi.reference_systems.fit import fit_tight_binding
from mlepi.structures.builders import SPACING

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

OTHER_SEED = 1_000_003
"""Added to the seed of the ensemble: the structures of the fit must not be samples of the ensemble
that it will control."""


@dataclass(frozen=True, kw_only=True)
class TightBindingStage(PlainStage):
    """Fit hopping and its decay to levels of displaced supercells.

    See ``conf/stage/tight_binding.yaml``.

    Attributes:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        n_structures: displaced supercells, at the highest temperature of the run.
        distances: Å⁻¹, |k − K| on K→Γ and K→M.
        n_levels: per k-point and cone that folds onto it, half of them below the Dirac energy.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "tight_binding"
    requires: ClassVar[tuple[str, ...]] = ("phonon", "sampling", "hamiltonian")
    networks: ClassVar[tuple[str, ...]] = ("electron",)
    record: ClassVar[type] = TightBindingRecord

    valence_electrons: Mapping[int, float]
    n_structures: int
    distances: Sequence[float]
    n_levels: int

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if self.n_structures < 1 or self.n_levels < 2 or self.n_levels % 2:
            raise ConfigError(
                message(
                    "stage.tight_binding",
                    f"n_structures {self.n_structures}, n_levels {self.n_levels}",
                    "at least one structure, an even number of levels",
                    "Take 4 of both.",
                )
            )
        object.__setattr__(self, "valence_electrons", read_electrons(self.valence_electrons))
        object.__setattr__(self, "distances", tuple(float(d) for d in self.distances))

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return all settings, the supercell and the seed."""
        return {
            "valence_electrons": describe_electrons(self.valence_electrons),
            "n_structures": self.n_structures,
            "distances": list(self.distances),
            "n_levels": self.n_levels,
            "supercell": list(settings.supercell),
            "seed": settings.seed,
        }

    def compute(self, run: Run, line: StageLine) -> TightBindingRecord:
        """Solve displaced supercells with the network and fit the tight binding to them.

        Raises:
            PhysicsError: levels that do not exist, or no bonds.
        """
        atoms, _, _ = run.equilibrium()
        kpoints, n_cones = self._place_kpoints(atoms, run.settings.supercell)
        structures = self._displace(run)
        line.start(len(structures))
        levels = []
        for structure in structures:
            levels.append(self._solve(run, structure, kpoints, n_cones * self.n_levels))
            line.advance()
        bond, spacings = measure_bond(atoms), measure_spacings(atoms)
        spacing = float(spacings.mean()) if len(spacings) else SPACING
        fit = fit_tight_binding(structures, kpoints, np.array(levels), bond, spacing)
        return TightBindingRecord(
            hopping=fit.intralayer[0],
            hopping_decay=fit.intralayer[1],
            interlayer_hopping=fit.interlayer[0],
            interlayer_decay=fit.interlayer[1],
            bond=bond,
            spacing=spacing,
            n_layers=1 + len(spacings),
            fermi_velocity=TightBinding(**fit.arguments()).fermi_velocity,
            rms=fit.rms,
            kpoints=kpoints,
            levels=fit.wanted,
            fitted_levels=fit.found,
        )

    def summarize(self, record: TightBindingRecord) -> str:
        """Say in a few words what was found."""
        between = (
            f", γ₁ {record.interlayer_hopping:.3f} eV (β {record.interlayer_decay:.1f})"
            if record.n_layers > 1
            else ""
        )
        within = f"t {record.hopping:.3f} eV (β {record.hopping_decay:.2f})"
        velocity = f"v_F {1e-5 * record.fermi_velocity:.2f} ×10⁵ m/s"
        return f"{within}{between}, {velocity}, levels within {1e3 * record.rms:.0f} meV (rms)"

    def _place_kpoints(
        self, atoms: Atoms, supercell: tuple[int, int, int]
    ) -> tuple[NDArray[np.float64], int]:
        """Return the k-points of the supercell, (n_kpoints, 3) fractional, and cones at each."""
        cell = atoms.cell.array
        points = lattice.hexagonal_points(cell)
        atom_map = unfolding.cell_major_map(len(atoms), supercell)
        signed = np.unique([sign * d for d in self.distances for sign in (-1.0, 1.0)])
        on_line = lattice.build_line(points["K"], points["Γ"], signed, cell)
        corner = 2.0 * atom_map.fold(points["K"])
        same = np.max(np.abs(corner - np.round(corner))) < unfolding.FOLD_TOLERANCE
        return np.array([atom_map.fold(k) for k in on_line]), 2 if same else 1

    def _solve(
        self, run: Run, structure: Atoms, kpoints: NDArray[np.float64], n_levels: int
    ) -> list[NDArray[np.float64]]:
        """Return the levels of the network around neutrality at each k-point, (n_levels,) eV."""
        h, s = run.networks.predict_shifted(structure)
        middle = round(count_valence_electrons(h.numbers, self.valence_electrons) / 2.0)
        part = (middle - n_levels // 2, middle + n_levels // 2 - 1)
        if part[0] < 0 or part[1] >= h.n_orbitals:
            raise PhysicsError(
                message(
                    "tight-binding fit",
                    f"{n_levels} levels around state {middle} of {h.n_orbitals}",
                    "levels that exist",
                    "Set valence_electrons to those of the pseudopotentials, or lower "
                    "stage.tight_binding.n_levels.",
                )
            )
        return [solve_bands(h.dense(k), s.dense(k), subset=part) for k in kpoints]

    def _displace(self, run: Run) -> list[Atoms]:
        """Draw harmonic supercells that do not belong to the ensemble of the run."""
        phonon, sampling, settings = run.read("phonon"), run.read("sampling"), run.settings
        displacements = sample_displacements(
            phonon.build_force_constants(),
            (max(settings.temperatures),),
            self.n_structures,
            settings.seed + OTHER_SEED,
            statistics=sampling.statistics,
            imaginary=sampling.imaginary,
            floor_frequency=sampling.floor_frequency,
        )[0]
        structures = [phonon.atoms.repeat(phonon.supercell) for _ in displacements]
        for structure, displacement in zip(structures, displacements, strict=True):
            structure.positions += displacement
        return structures


def measure_bond(atoms: Atoms) -> float:
    """Measure the mean bond length inside the layers.

    Args:
        atoms: with the layer of each atom.

    Returns:
        Å, mean over pairs of one layer closer than 2 Å.

    Raises:
        PhysicsError: there is no such pair.
    """
    source, target, lengths = neighbor_list("ijd", atoms, 2.0)
    layer = atoms.arrays["layer"]
    bonds = lengths[layer[source] == layer[target]]
    if not len(bonds):
        raise PhysicsError(
            message(
                "tight binding",
                "no bond shorter than 2 Å",
                "graphene layers",
                "Use another structure.",
            )
        )
    return float(bonds.mean())
