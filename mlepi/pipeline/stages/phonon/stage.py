"""The phonon stage: derivatives of the forces in the supercell, their bands and sum rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.physics.vibrations.force_constants import (
    ForceConstants,
    compute_force_constants,
    differentiate_force_constants,
)
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.phonon_bands import compute_phonon_bands, compute_phonon_dos
from mlepi.physics.vibrations.sum_rules import SumRules, impose_sum_rules, measure_sum_rules
from mlepi.pipeline.plain_stage import PlainStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.stage import check_choice
from mlepi.pipeline.stages.phonon.record import PhononRecord
from mlepi.units import THZ_TO_INVERSE_CM

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from numpy.typing import NDArray

METHODS = ("displacements", "derivatives")

RESIDUAL_FORCE = 0.01
"""eV/Å; a larger force on an atom is told: the harmonic expansion is then not about a minimum."""

INTERPOLATION_NOISE = 2.0
"""Imaginary part of an interpolated band, cm⁻¹, that is not worth a word."""


@dataclass(frozen=True, kw_only=True)
class PhononStage(PlainStage):
    """Differentiate the forces of the phonon source in the supercell.

    Attributes:
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

    Raises:
        ConfigError: an unknown method.
    """

    name: ClassVar[str] = "phonon"
    requires: ClassVar[tuple[str, ...]] = ("structure",)
    networks: ClassVar[tuple[str, ...]] = ("phonon",)
    record: ClassVar[type] = PhononRecord
    compared: ClassVar[bool] = True

    method: Literal["displacements", "derivatives"] = "displacements"
    displacement: float = 0.01
    symmetrize: bool = True
    sum_rules: SumRules = "translational"
    path: str | None = None
    n_points: int = 151
    in_plane: bool = True
    dos_mesh: Sequence[int] = (48, 48, 1)
    dos_broadening: float = 0.15

    def __post_init__(self) -> None:
        """Refuse an unknown method."""
        check_choice("stage.phonon.method", self.method, METHODS)

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return all settings, the supercell and the network."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            **own,
            "dos_mesh": list(self.dos_mesh),
            "supercell": list(settings.supercell),
            **settings.describe_phonon(),
        }

    def compute(self, run: Run, line: StageLine) -> PhononRecord:
        """Return force constants, bands and density of states."""
        atoms = run.read("structure").atoms
        calculator, supercell = run.networks.calculator, run.settings.supercell
        before = self._differentiate(atoms, calculator, supercell, line)
        loads = self._measure_loads(atoms, calculator)
        force_constants = impose_sum_rules(before, self.sum_rules, *loads)
        missed = measure_sum_rules(before, *loads)
        left = measure_sum_rules(force_constants, *loads)
        bands = compute_phonon_bands(force_constants, self.path, self.n_points, self.in_plane)
        dos = compute_phonon_dos(force_constants, tuple(self.dos_mesh), self.dos_broadening)
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
            residual_forces=loads[0],
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

    @staticmethod
    def doubts(record: PhononRecord) -> list[str]:
        """Tell of forces that are left, and of imaginary modes, also between the q-points."""
        texts = _doubt_stationarity(record)
        lowest = float(record.band_frequencies.min()) * THZ_TO_INVERSE_CM
        if record.lowest_frequency < 0:
            return [
                *texts,
                Doubt(
                    "The structure is unstable: lowest frequency "
                    f"{record.lowest_frequency * THZ_TO_INVERSE_CM:.1f} cm⁻¹ (imaginary).",
                    "A mode of this cell has no harmonic distribution; averages depend on how it "
                    "is treated (stage.sampling.imaginary).",
                    "Relax the structure, or look for the one that this mode leads to.",
                    "serious",
                ),
            ]
        if lowest >= -INTERPOLATION_NOISE:
            return texts
        cell = "×".join(str(n) for n in record.supercell)
        return [
            *texts,
            Doubt(
                f"Interpolated between the q-points of the {cell} supercell, the phonon bands dip "
                f"to {lowest:.1f} cm⁻¹ (imaginary).",
                "Samples of this cell do not contain such waves; a larger cell would.",
                "Relax the lattice first, or expect an error there.",
            ),
        ]

    def _differentiate(
        self,
        atoms: Atoms,
        calculator: Calculator,
        supercell: tuple[int, int, int],
        line: StageLine,
    ) -> ForceConstants:
        if self.method == "derivatives":
            return differentiate_force_constants(
                atoms, calculator, supercell, symmetrize=self.symmetrize
            )
        return compute_force_constants(
            atoms,
            calculator,
            supercell,
            displacement=self.displacement,
            symmetrize=self.symmetrize,
            watch=lambda done, total: line.advance() if done else line.start(total),
        )

    def _measure_loads(
        self, atoms: Atoms, calculator: Calculator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return forces, eV/Å, and stress (3, 3), eV/Å³, of the structure, which enter the rules.

        Raises:
            ConfigError: the rotational rules are asked for and the calculator has no stress.
        """
        atoms = atoms.copy()
        atoms.calc = calculator
        if "stress" in calculator.implemented_properties:
            return atoms.get_forces(), atoms.get_stress(voigt=False)
        if self.sum_rules == "rotational":
            raise ConfigError(
                message(
                    "stage.phonon.sum_rules",
                    f"rotational with {type(calculator).__name__}, which has no stress",
                    "a calculator with stress, which enters the Huang rules",
                    "Use stage.phonon.sum_rules=translational.",
                )
            )
        return atoms.get_forces(), None


def _doubt_stationarity(record: PhononRecord) -> list[str]:
    """Tell of a structure about which the energy has no extremum, as far as forces are known."""
    largest = record.largest_residual_force
    if not largest > RESIDUAL_FORCE:
        return []
    per_layer = ", ".join(f"{force:+.3f}" for force in record.layer_forces)
    out_of_plane = f", out of plane on the layers {per_layer} eV/Å per atom" if per_layer else ""
    return [
        Doubt(
            f"The structure is not stationary: largest force on an atom {largest:.3f} eV/Å"
            f"{out_of_plane}.",
            "Phonons and displacements are those of an expansion about this structure, not about "
            "a minimum.",
            "Relax what can be relaxed (stage.structure.relax), and say what is held.",
        )
    ]
