"""Force constants of the supercell from the phonon network, with bands and density of states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from mlepi.errors import ConfigError, message
from mlepi.physics.vibrations.force_constants import (
    ForceConstants,
    compute_force_constants,
    differentiate_force_constants,
)
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.phonon_bands import compute_phonon_bands, compute_phonon_dos
from mlepi.physics.vibrations.sum_rules import SumRules, impose_sum_rules, measure_sum_rules
from mlepi.results import PhononRecord, StructureRecord
from mlepi.units import THZ_TO_INVERSE_CM

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from mlepi.pipeline.run import Run

Method = Literal["displacements", "derivatives"]


class PhononStage:
    """Differentiate the forces of the phonon source in the supercell.

    Args:
        method: "displacements" for finite differences of the forces, "derivatives" for those of the
            network itself.
        displacement: Å, of the finite differences.
        symmetrize: impose the space group, Φ_ab = Φ_baᵀ and the translational sum rule together.
        sum_rules: imposed after that by the smallest symmetric correction: "none", "translational",
            or "rotational" for the translational, rotational and Huang rules.
        path: special points of the bands; None takes "GMKG" for a hexagonal layer and the lattice's
            standard path otherwise.
        n_points: q-points of the bands.
        in_plane: keep q_z = 0.
        dos_mesh: q-points of the density of states.
        dos_broadening: THz.
    """

    name: ClassVar[str] = "phonon"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("structure",)
    record: ClassVar[type] = PhononRecord

    def __init__(
        self,
        *,
        method: Method = "displacements",
        displacement: float = 0.01,
        symmetrize: bool = True,
        sum_rules: SumRules = "translational",
        path: str | None = None,
        n_points: int = 151,
        in_plane: bool = True,
        dos_mesh: Sequence[int] = (48, 48, 1),
        dos_broadening: float = 0.15,
    ) -> None:
        if method not in ("displacements", "derivatives"):
            raise ConfigError(
                message(
                    "stage.phonon.method",
                    repr(method),
                    "'displacements' or 'derivatives'",
                    "Choose one of the two.",
                )
            )
        self.method = method
        self.displacement = displacement
        self.symmetrize = symmetrize
        self.sum_rules = sum_rules
        self.path = path
        self.n_points = n_points
        self.in_plane = in_plane
        self.dos_mesh = tuple(dos_mesh)
        self.dos_broadening = dos_broadening

    def inputs(self, run: Run) -> Mapping[str, Any]:
        """Return all settings, the supercell and the network."""
        return {**vars(self), "supercell": run.supercell, "phonon": run.phonon.fingerprint()}

    def compute(self, run: Run) -> PhononRecord:
        """Return force constants, bands and density of states."""
        structure: StructureRecord = run.read("structure")
        before = self._differentiate(structure.atoms, run)
        loads = self._measure_loads(structure.atoms, run)
        force_constants = impose_sum_rules(before, self.sum_rules, *loads)
        missed, left = measure_sum_rules(before, *loads), measure_sum_rules(force_constants, *loads)
        bands = compute_phonon_bands(force_constants, self.path, self.n_points, self.in_plane)
        dos = compute_phonon_dos(force_constants, self.dos_mesh, self.dos_broadening)
        modes = compute_modes(force_constants)
        return PhononRecord(
            atoms=force_constants.atoms,
            supercell=force_constants.supercell,
            force_constants=force_constants.values,
            raw_sum_rule_residual=force_constants.raw_sum_rule_residual,
            sum_rule_residual=left.translational,
            band_qpoints=bands.qpoints,
            band_distances=bands.distances,
            band_frequencies=bands.frequencies,
            band_labels=bands.labels,
            band_label_distances=bands.label_distances,
            dos_frequencies=dos.frequencies,
            dos=dos.dos,
            lowest_frequency=float(modes.frequencies[~modes.translations].min()),
            method=self.method,
            sum_rules=self.sum_rules,
            raw_rotational_residual=missed.rotational,
            rotational_residual=left.rotational,
            raw_huang_residual=missed.huang,
            huang_residual=left.huang,
        )

    def summarize(self, record: PhononRecord) -> str:
        """Say in a few words what was found."""
        low, high = (
            record.lowest_frequency * THZ_TO_INVERSE_CM,
            record.band_frequencies.max() * THZ_TO_INVERSE_CM,
        )
        imaginary = ", IMAGINARY MODES" if record.lowest_frequency < 0 else ""
        residual = (
            f"sum rule {record.raw_sum_rule_residual:.0e} → {record.sum_rule_residual:.0e} eV/Å²"
        )
        rotational = (
            f"rotational {record.raw_rotational_residual:.0e} → {record.rotational_residual:.0e} "
            "eV/Å"
        )
        return f"{low:.0f} to {high:.0f} cm⁻¹{imaginary}, {residual}, {rotational}"

    def _differentiate(self, atoms: Atoms, run: Run) -> ForceConstants:
        if self.method == "derivatives":
            return differentiate_force_constants(
                atoms, run.calculator, run.supercell, symmetrize=self.symmetrize
            )
        return compute_force_constants(
            atoms,
            run.calculator,
            run.supercell,
            displacement=self.displacement,
            symmetrize=self.symmetrize,
        )

    def _measure_loads(
        self, atoms: Atoms, run: Run
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return forces, eV/Å, and stress (3, 3), eV/Å³, of the structure, which enter the rules.

        Raises:
            ConfigError: the rotational rules are asked for and the calculator has no stress.
        """
        atoms = atoms.copy()
        atoms.calc = run.calculator
        if "stress" in run.calculator.implemented_properties:
            return atoms.get_forces(), atoms.get_stress(voigt=False)
        if self.sum_rules == "rotational":
            raise ConfigError(
                message(
                    "stage.phonon.sum_rules",
                    f"rotational with {type(run.calculator).__name__}, which has no stress",
                    "a calculator with stress, which enters the Huang rules",
                    "Use stage.phonon.sum_rules=translational.",
                )
            )
        return atoms.get_forces(), None
