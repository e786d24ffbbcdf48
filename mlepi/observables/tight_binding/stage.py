"""The stage ``tight_binding``.

A one-orbital Hamiltonian that follows the electron network around the Dirac energy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase.neighborlist import neighbor_list

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.physics.bands import lattice, unfolding
from mlepi.physics.eigenstates.bloch import count_valence_electrons, solve_bands
from mlepi.physics.vibrations.thermal import sample_displacements
from mlepi.pipeline.structure import measure_spacings
from mlepi.reference_systems import TightBinding
from mlepi.reference_systems.fit import fit_tight_binding
from mlepi.results import PhononRecord, SamplingRecord, TightBindingRecord
from mlepi.structures.builders import SPACING

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.pipeline.run import Run

OTHER_SEED = 1_000_003
"""Added to the seed of the ensemble: the structures of the fit must not be samples of the ensemble
that it will control."""


class TightBindingStage:
    """Fit hopping and its decay to levels of displaced supercells.

    See ``conf/stage/settings/tight_binding.yaml``.

    Args:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        n_structures: displaced supercells, at the highest temperature of the run.
        distances: Å⁻¹, |k − K| on K→Γ and K→M.
        n_levels: per k-point and cone that folds onto it, half of them below the Dirac energy.
    """

    name: ClassVar[str] = "tight_binding"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("phonon", "sampling", "hamiltonian")
    record: ClassVar[type] = TightBindingRecord

    def __init__(
        self,
        *,
        valence_electrons: Mapping[int, float],
        n_structures: int,
        distances: Sequence[float],
        n_levels: int,
    ) -> None:
        if n_structures < 1 or n_levels < 2 or n_levels % 2:
            raise ConfigError(
                message(
                    "stage.tight_binding",
                    f"n_structures {n_structures}, n_levels {n_levels}",
                    "at least one structure, an even number of levels",
                    "Use 20 structures and 4 levels.",
                )
            )
        self.valence_electrons = {int(z): float(n) for z, n in valence_electrons.items()}
        self.n_structures = n_structures
        self.distances = tuple(float(d) for d in distances)
        self.n_levels = n_levels

    def inputs(self, run: Run) -> Mapping[str, Any]:
        """Return all settings, the supercell and the seed."""
        return {
            "valence_electrons": {str(z): n for z, n in self.valence_electrons.items()},
            "n_structures": self.n_structures,
            "distances": list(self.distances),
            "n_levels": self.n_levels,
            "supercell": list(run.supercell),
            "seed": run.seed,
        }

    def compute(self, run: Run) -> TightBindingRecord:
        """Solve displaced supercells with the network and fit the tight binding to them."""
        atoms, _, _ = run.equilibrium()
        cell = atoms.cell.array
        points = lattice.hexagonal_points(cell)
        atom_map = unfolding.cell_major_map(len(atoms), run.supercell)
        signed = np.unique([sign * d for d in self.distances for sign in (-1.0, 1.0)])
        on_line = lattice.build_line(points["K"], points["Γ"], signed, cell)
        kpoints = np.array([atom_map.fold(k) for k in on_line])
        corner = 2.0 * atom_map.fold(points["K"])
        n_levels = self.n_levels * (
            2 if np.max(np.abs(corner - np.round(corner))) < unfolding.FOLD_TOLERANCE else 1
        )
        structures = self._displaced(run)
        levels = []
        run.line.start(len(structures))
        for structure in structures:
            h, s = run.predict(structure)
            middle = round(count_valence_electrons(h.numbers, self.valence_electrons) / 2.0)
            part = (middle - n_levels // 2, middle + n_levels // 2 - 1)
            if part[0] < 0 or part[1] >= h.n_orbitals:
                raise PhysicsError(
                    message(
                        "tight-binding fit",
                        f"{n_levels} levels around state {middle} of {h.n_orbitals}",
                        "levels that exist",
                        "Check valence_electrons, or lower stage.tight_binding.n_levels.",
                    )
                )
            levels.append([solve_bands(h.dense(k), s.dense(k), subset=part) for k in kpoints])
            run.line.advance()
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

    def _displaced(self, run: Run) -> list[Atoms]:
        """Draw harmonic supercells that do not belong to the ensemble of the run."""
        phonon: PhononRecord = run.read("phonon")
        sampling: SamplingRecord = run.read("sampling")
        displacements = sample_displacements(
            phonon.build_force_constants(),
            (max(run.temperatures),),
            self.n_structures,
            run.seed + OTHER_SEED,
            statistics=sampling.statistics,  # type: ignore[arg-type]
            imaginary=sampling.imaginary,  # type: ignore[arg-type]
            floor_frequency=sampling.floor_frequency,
        )[0]
        structures = [phonon.atoms.repeat(phonon.supercell) for _ in displacements]
        for structure, displacement in zip(structures, displacements, strict=True):
            structure.positions += displacement
        return structures


def measure_bond(atoms: Atoms) -> float:
    """Return the mean bond length inside the layers, Å."""
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
