"""Phonon networks against labelled energies, forces and stresses, as they are.

Energies are compared per atom, forces by component, by element, and as means over whole layers,
stresses by their six components, where the labels have one and the network's cell a volume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from mlepi.errors import DataError, message
from mlepi.evaluation.breakdown import add_sums
from mlepi.evaluation.findings import Finding, Points, sum_differences, thin
from mlepi.evaluation.settings import Settings
from mlepi.predictors import PhononPredictor
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.layers import get_layers
from mlepi.training.losses import compute_relative_layer_forces
from mlepi.training.metrics import mean_error
from mlepi.training.phonon_task import UNITS, phonon_metrics

DTYPE = "float64"
"""Precision of a network of forces where nothing else is asked for."""

OF_ELEMENT = "forces_"
"""In front of the symbol of an element: forces on its atoms alone."""


class PhononJudge:
    """Compares energies, forces and stresses of a network with labels.

    Args:
        predictor: the network.
        settings: device and precision.
        most_points: of every quantity and structure for the parity plots.
    """

    outlying: ClassVar[Sequence[str]] = (
        "forces_rmse_mev_per_angstrom",
        "energy_mae_mev_per_atom",
    )

    def __init__(self, predictor: PhononPredictor, settings: Settings, most_points: int) -> None:
        predictor.network(settings.device, settings.dtype or DTYPE)
        self.calculator = predictor.calculator(settings.device, settings.dtype or DTYPE)
        self.most_points = most_points

    def measure(self, structure: LabelledStructure, number: int, paired: bool) -> Finding:
        """Compare energy, forces and stress of one structure; see ``Judge``.

        Raises:
            DataError: it has no energy or no forces.
        """
        atoms, n_atoms = structure.atoms, len(structure.atoms)
        if structure.energy is None or structure.forces is None:
            where, fix = f"structure {structure.name!r}", "Label the structure."
            raise DataError(message(where, "no energy or no forces", "both", fix))
        wanted = ["energy", "forces", *(["stress"] if structure.stress is not None else [])]
        self.calculator.calculate(atoms, wanted)
        found = self.calculator.results
        labels = {
            "energy": np.array([structure.energy]) / n_atoms,
            "forces": np.asarray(structure.forces).ravel(),
        }
        predictions = {
            "energy": np.array([found["energy"]]) / n_atoms,
            "forces": found["forces"].ravel(),
        }
        if structure.stress is not None:
            labels["stress"] = full_3x3_to_voigt_6_stress(structure.stress)
            predictions["stress"] = found["stress"]
        sums = {
            quantity: sum_differences(predictions[quantity] - label)
            for quantity, label in labels.items()
        }
        error = found["forces"] - structure.forces
        layer = torch.from_numpy(get_layers(atoms))
        on_layers, _ = compute_relative_layer_forces(
            torch.from_numpy(error), layer, torch.zeros_like(layer)
        )
        sums["layers"] = sum_differences(on_layers.numpy())
        for z in np.unique(atoms.numbers):
            sums[OF_ELEMENT + chemical_symbols[z]] = sum_differences(error[atoms.numbers == z])
        return Finding(
            atoms,
            sums,
            {
                f"{quantity} ({SYMBOLS[quantity]})": self._thin(label, predictions[quantity])
                for quantity, label in labels.items()
            },
            {"largest_force_error_mev_per_angstrom": 1e3 * float(np.abs(error).max(initial=0.0))},
        )

    def _thin(self, label: np.ndarray, prediction: np.ndarray) -> Points:
        return thin(label, prediction, self.most_points)

    def summarize(self, findings: Mapping[str, Finding]) -> dict[str, float]:
        """Return the metrics of a group of structures, by name; see ``Judge``."""
        total = add_sums(finding.sums for finding in findings.values())
        metrics = phonon_metrics(total)
        for quantity, sums in total.items():
            if quantity.startswith(OF_ELEMENT):
                for measure, value in mean_error(sums).items():
                    metrics[f"{quantity}_{measure}_{UNITS['forces']}"] = value
        return {name: float(value) for name, value in metrics.items()}


SYMBOLS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³"}
"""Quantity → unit in figures."""
