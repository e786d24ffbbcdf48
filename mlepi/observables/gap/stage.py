"""The gap stage: band edges at chosen k-points and the gap between them, against temperature.

Edges are the peaks of the averaged unfolded spectra of the highest valence and the lowest
conduction band. What a supercell itself shows, the distance of its highest occupied and lowest
empty level, is reported beside them: it contains how folded states split and repel each other in a
cell of that size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.observables.near_k.peaks import (
    BandPeaks,
    PeakSettings,
    find_edges,
    name_points,
    place_peaks,
)
from mlepi.observables.sample_checks import check_samples
from mlepi.pipeline.stage import SampleKey
from mlepi.results.gap import GapRecord

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.run import Run


class GapStage:
    """Band edges and gap; see ``conf/stage/settings/gap.yaml``.

    Args:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        kpoints: names of special points or fractional coordinates; null takes the edges of the
            undisplaced crystal on ``mesh``.
        mesh: k-points among which they are looked for.
        energy_window: eV, half width around the middle of the gap, or around either edge of a wide
            one.
        energy_step: eV.
        peak_width: eV, standard deviation of the lines whose maxima are taken.
        align: "none", or "mean_potential" to remove rigid shifts of H between samples.
        n_resamples: of the bootstrap.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "gap"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "sampling", "hamiltonian")
    record: ClassVar[type] = GapRecord
    targets: ClassVar[tuple[str, ...]] = ("gap", "gap_change")

    def __init__(
        self,
        *,
        valence_electrons: Mapping[int, float],
        kpoints: Sequence[str | Sequence[float]] | None,
        mesh: Sequence[int],
        energy_window: float,
        energy_step: float,
        peak_width: float,
        align: str,
        n_resamples: int,
    ) -> None:
        electrons = {int(z): float(n) for z, n in valence_electrons.items()}
        self.settings = PeakSettings(
            self.name, electrons, energy_window, energy_step, peak_width, align, n_resamples
        )
        self.kpoints = None if kpoints is None else tuple(kpoints)
        self.mesh = tuple(int(n) for n in mesh)
        self._peaks: BandPeaks | None = None
        self._device = "cpu"

    def inputs(self, run: Run) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {**self.sample_inputs(run), **self.settings.inputs()}

    def sample_inputs(self, run: Run) -> dict[str, Any]:
        """Return what decides the levels and weights of one sample."""
        places = (
            list(self.mesh)
            if self.kpoints is None
            else [k if isinstance(k, str) else list(k) for k in self.kpoints]
        )
        return {
            **self.settings.sample_inputs(),
            "kpoints": places,
            "supercell": list(run.supercell),
        }

    def begin(self, run: Run) -> None:
        """Find the edges of the undisplaced crystal and place the energy windows."""
        equilibrium = run.equilibrium()
        self._device = run.device
        kpoints = (
            find_edges(equilibrium, self.mesh, self.settings.valence_electrons)
            if self.kpoints is None
            else name_points(equilibrium[0], self.kpoints, "stage.gap.kpoints")
        )
        peaks = place_peaks(self.settings, equilibrium, run.supercell, kpoints)
        check_samples(
            run.n_samples,
            equilibrium[0],
            run.displaced(SampleKey(0, run.temperatures[0])),
            peaks.windows[0].atom_map,
        )
        self._peaks = peaks

    def evaluate(
        self, key: SampleKey, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> dict[str, NDArray]:
        """Solve one displaced supercell near its edges and unfold it."""
        return self._require_peaks().evaluate(hamiltonian, overlap, self._device)

    def finish(
        self, run: Run, results: Iterable[tuple[SampleKey, dict[str, NDArray]]]
    ) -> GapRecord:
        """Average the spectra and take the distance of their peaks."""
        if self._peaks is None:
            self.begin(run)
        peaks = self._require_peaks()
        averages = peaks.average(
            run.design,
            run.temperatures,
            ((key.sample, key.temperature, arrays) for key, arrays in results),
        )
        energies, resampled = averages.energies(), averages.resampled()
        gaps, resampled_gaps = _gap(energies), _gap(resampled)
        edges, edge_errors = averages.own_edges()
        return GapRecord(
            temperatures=np.array(run.temperatures),
            n_samples=run.n_samples,
            supercell=peaks.windows[0].atom_map.supercell,
            reference=peaks.reference,
            align=self.settings.align,
            peak_width=self.settings.peak_width,
            kpoints=peaks.windows[0].kpoints,
            equilibrium=peaks.equilibrium,
            energies=self.settings.energies,
            centres=peaks.centres,
            spectral_functions=averages.spectra.average(),
            band_energies=energies,
            band_errors=resampled.std(axis=0),
            equilibrium_gap=float(_gap(peaks.equilibrium)),
            gaps=gaps,
            gap_errors=resampled_gaps.std(axis=0),
            gap_changes=gaps - gaps[0],
            gap_change_errors=(resampled_gaps - resampled_gaps[:, :1]).std(axis=0),
            supercell_edges=edges,
            supercell_edge_errors=edge_errors,
        )

    def summarize(self, record: GapRecord) -> str:
        """Say in a few words what was found."""
        return (
            f"gap {1e3 * record.equilibrium_gap:.0f} → "
            f"{1e3 * record.gaps[-1]:.0f}±{1e3 * record.gap_errors[-1]:.0f} meV at "
            f"{record.temperatures[-1]:g} K (spectral peaks; supercells' own "
            f"{1e3 * record.supercell_edges[-1, 2]:.0f}), "
            f"{len(record.kpoints)} k-points, {record.n_samples} samples of "
            f"{'×'.join(str(n) for n in record.supercell)} cells"
        )

    def error_bars(self, record: GapRecord) -> dict[str, NDArray[np.float64]]:
        """Return the error bars of the gap and of its change from the first temperature, eV."""
        return {"gap": record.gap_errors, "gap_change": record.gap_change_errors}

    def _require_peaks(self) -> BandPeaks:
        if self._peaks is None:
            raise PhysicsError(
                message(
                    "gap stage",
                    "a sample before begin()",
                    "begin() first",
                    "Run the stage through the runner.",
                )
            )
        return self._peaks


def _gap(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lowest conduction less highest valence energy: (…, n_points, 2) → (…)."""
    return np.asarray(energies[..., 1].min(axis=-1) - energies[..., 0].max(axis=-1))
