"""The phonon_reference stage: the phonons of a run beside frequencies known from elsewhere.

A dynamical matrix at a wave vector that the supercell contains is exact whatever the supercell, so
that one large cell is compared with references from several small ones. Branches are paired by
their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, DataError, message
from mlepi.observables.phonon_reference.record import PhononReferenceRecord
from mlepi.observables.phonon_reference.reference_file import (
    ReferenceFrequencies,
    read_reference,
    read_rigid_layers,
)
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.physics.vibrations.points_on_path import find_on_path, list_rotations
from mlepi.physics.vibrations.rigid_displacements import compute_rigid_frequency, list_rigid_modes
from mlepi.pipeline.plain_stage import PlainStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.project_files import find_file
from mlepi.results import hash_file
from mlepi.units import THZ_TO_INVERSE_CM

KEY = "stage.phonon_reference"

CONTAINED = 1e-6
"""Largest distance of q times the supercell from integers at which the supercell contains q."""


@dataclass(frozen=True, kw_only=True)
class PhononReferenceStage(PlainStage):
    """Compare frequencies with a reference; see ``conf/stage/phonon_reference.yaml``.

    Attributes:
        file: JSON with frequencies at wave vectors, see ``reference_file``.
        rigid_layers: JSON with frequencies of shear and breathing; None compares none.
        rigid_steps: Å, displacements of a layer that give those of the run.

    Raises:
        ConfigError: displacements that are not positive.
    """

    name: ClassVar[str] = "phonon_reference"
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon")
    networks: ClassVar[tuple[str, ...]] = ("phonon",)
    record: ClassVar[type] = PhononReferenceRecord

    file: str | None
    rigid_layers: str | None
    rigid_steps: Sequence[float]

    def __post_init__(self) -> None:
        """Refuse displacements without meaning."""
        object.__setattr__(self, "rigid_steps", tuple(float(step) for step in self.rigid_steps))
        if not self.rigid_steps or min(self.rigid_steps) <= 0.0:
            raise ConfigError(
                message(
                    f"{KEY}.rigid_steps",
                    f"{list(self.rigid_steps)}",
                    "displacements > 0, in Å",
                    "Use [0.05,0.1].",
                )
            )

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return what the files hold and, for rigid layers, what moves them."""
        inputs: dict[str, Any] = {"file": hash_file(self._locate()) if self.file else None}
        if self.rigid_layers:
            inputs["rigid_layers"] = hash_file(find_file(f"{KEY}.rigid_layers", self.rigid_layers))
            inputs["rigid_steps"] = list(self.rigid_steps)
            inputs["phonon"] = settings.phonon.fingerprint()
        return inputs

    def compute(self, run: Run, line: StageLine) -> PhononReferenceRecord:
        """Compare the force constants of the run with the reference.

        Raises:
            ConfigError: no reference is named.
            DataError: it is one of another crystal, or no reference at all.
        """
        reference, phonon = read_reference(self._locate()), run.read("phonon")
        found = compute_frequencies(phonon.build_force_constants(), reference.qpoints)
        wanted = fit_branches(str(self.file), reference, found.shape[1])
        rotations, cell = list_rotations(phonon.atoms), phonon.atoms.cell.array
        places = [
            find_on_path(q, phonon.band_qpoints, phonon.band_distances, rotations, cell)
            for q in reference.qpoints
        ]
        cells = reference.qpoints * np.array(phonon.supercell)
        contained = np.abs(cells - np.rint(cells)).max(axis=1) < CONTAINED
        rigid = self._read_rigid_layers()
        measured = (
            measure_rigid_layers(phonon.atoms, run.networks.calculator, rigid, self.rigid_steps)
            if rigid
            else {}
        )
        return PhononReferenceRecord(
            source=reference.source,
            supercell=phonon.supercell,
            names=reference.names,
            groups=reference.groups,
            qpoints=reference.qpoints,
            contained=contained.astype(np.int64),
            reference=wanted,
            frequencies=found,
            band_distances=phonon.band_distances,
            band_frequencies=phonon.band_frequencies,
            band_labels=phonon.band_labels,
            band_label_distances=phonon.band_label_distances,
            places=np.concatenate(places),
            place_qpoints=np.repeat(np.arange(len(places)), [len(each) for each in places]),
            rigid_reference={mode: np.array(ends) for mode, ends in rigid.items()},
            rigid_frequencies=measured,
            rigid_steps=np.array(self.rigid_steps if rigid else (), dtype=np.float64),
        )

    def summarize(self, record: PhononReferenceRecord) -> str:
        """Say in a few words what was found."""
        n_known = int(np.isfinite(record.reference).sum())
        text = (
            f"{n_known} frequencies at {len(record.names)} q-points within "
            f"{record.rmse() * THZ_TO_INVERSE_CM:.1f} cm⁻¹ (RMSE)"
        )
        for mode, values in record.rigid_frequencies.items():
            low, high = (THZ_TO_INVERSE_CM * x for x in (values.min(), values.max()))
            wanted = "–".join(f"{x:.0f}" for x in record.rigid_reference[mode] * THZ_TO_INVERSE_CM)
            text += f", {mode} {low:.0f}–{high:.0f} ({wanted})"
        return text

    @staticmethod
    def doubts(record: PhononReferenceRecord) -> list[str]:
        """Tell of wave vectors that the supercell does not contain."""
        missed = [
            name for name, inside in zip(record.names, record.contained, strict=True) if not inside
        ]
        if not missed:
            return []
        cell = "×".join(str(n) for n in record.supercell)
        return [
            Doubt(
                f"The {cell} supercell does not contain the wave vectors {', '.join(missed)} of "
                "the reference.",
                "Frequencies there are interpolated, and their errors are not the network's alone.",
                "Choose a supercell whose divisions times q are integers.",
                "note",
            )
        ]

    def _locate(self) -> Path:
        if not self.file:
            raise ConfigError(
                message(
                    f"{KEY}.file",
                    "null",
                    "a JSON file with frequencies at wave vectors",
                    "Name one, such as data/blg_openmx/phonon_frequencies.json.",
                )
            )
        return find_file(f"{KEY}.file", self.file)

    def _read_rigid_layers(self) -> dict[str, tuple[float, float]]:
        if not self.rigid_layers:
            return {}
        return read_rigid_layers(find_file(f"{KEY}.rigid_layers", self.rigid_layers))


def fit_branches(
    where: str, reference: ReferenceFrequencies, n_branches: int
) -> NDArray[np.float64]:
    """Return the frequencies of a reference as one array.

    Args:
        where: file, for the message.
        reference: of one crystal.
        n_branches: 3 n_atoms of the run.

    Returns:
        (n_qpoints, n_branches), THz; NaN where a branch is not known.

    Raises:
        DataError: the reference has another number of branches.
    """
    for name, values in zip(reference.names, reference.frequencies, strict=True):
        if len(values) != n_branches:
            raise DataError(
                message(
                    f"{where}, {name}",
                    f"{len(values)} branches",
                    f"{n_branches}, three per atom of the cell",
                    "Give null for each branch that is not known.",
                )
            )
    return np.array(reference.frequencies)


def measure_rigid_layers(
    atoms: Atoms, calculator: Calculator, modes: Mapping[str, Any], steps: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """Compute the frequencies of rigid layers by finite steps.

    Args:
        atoms: two layers.
        calculator: forces.
        modes: names out of "shear" and "breathing".
        steps: Å.

    Returns:
        Mode → (n_directions, n_steps), THz.

    Raises:
        StructureError: there are not two layers.
    """
    directions = list_rigid_modes(atoms)
    return {
        mode: np.array(
            [
                [compute_rigid_frequency(atoms, calculator, along, step) for step in steps]
                for along in directions[mode]
            ]
        )
        for mode in modes
    }
