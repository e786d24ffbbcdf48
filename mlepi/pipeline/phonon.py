"""Force constants of the supercell from the phonon network, with bands and density of states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mlepi.physics.phonons import compute_force_constants, compute_phonon_bands, compute_phonon_dos
from mlepi.physics.sampling import compute_modes
from mlepi.results import PhononRecord, StructureRecord
from mlepi.units import THZ_TO_INVERSE_CM

if TYPE_CHECKING:
    from mlepi.pipeline.run import Run


class PhononStage:
    """Differentiate the forces of the phonon source in the supercell.

    Args:
        displacement: Å.
        symmetrize: impose the space group and the acoustic sum rule.
        path: special points of the bands; None takes "GMKG" for a hexagonal layer and the lattice's standard path otherwise.
        n_points: q-points of the bands.
        in_plane: keep q_z = 0.
        dos_mesh: q-points of the density of states.
        dos_broadening: THz.
    """

    name: ClassVar[str] = "phonon"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("structure",)
    record: ClassVar[type] = PhononRecord

    def __init__(
        self,
        *,
        displacement: float = 0.01,
        symmetrize: bool = True,
        path: str | None = None,
        n_points: int = 151,
        in_plane: bool = True,
        dos_mesh: Sequence[int] = (48, 48, 1),
        dos_broadening: float = 0.15,
    ) -> None:
        self.displacement = displacement
        self.symmetrize = symmetrize
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
        force_constants = compute_force_constants(
            structure.atoms, run.calculator, run.supercell, displacement=self.displacement, symmetrize=self.symmetrize
        )
        bands = compute_phonon_bands(force_constants, self.path, self.n_points, self.in_plane)
        dos = compute_phonon_dos(force_constants, self.dos_mesh, self.dos_broadening)
        modes = compute_modes(force_constants)
        return PhononRecord(
            atoms=force_constants.atoms,
            supercell=force_constants.supercell,
            force_constants=force_constants.values,
            raw_sum_rule_residual=force_constants.raw_sum_rule_residual,
            sum_rule_residual=force_constants.sum_rule_residual,
            band_qpoints=bands.qpoints,
            band_distances=bands.distances,
            band_frequencies=bands.frequencies,
            band_labels=bands.labels,
            band_label_distances=bands.label_distances,
            dos_frequencies=dos.frequencies,
            dos=dos.dos,
            lowest_frequency=float(modes.frequencies[~modes.translations].min()),
        )

    def summarize(self, record: PhononRecord) -> str:
        """Say in a few words what was found."""
        low, high = record.lowest_frequency * THZ_TO_INVERSE_CM, record.band_frequencies.max() * THZ_TO_INVERSE_CM
        imaginary = ", IMAGINARY MODES" if record.lowest_frequency < 0 else ""
        residual = f"sum rule {record.raw_sum_rule_residual:.0e} → {record.sum_rule_residual:.0e} eV/Å²"
        return f"{low:.0f} to {high:.0f} cm⁻¹{imaginary}, {residual}"
