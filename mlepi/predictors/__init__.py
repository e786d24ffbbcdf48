"""Trained networks with all that is needed to use them, from graphs to overlap tables."""

from mlepi.predictors.derivatives import (
    BlockDerivatives,
    DifferentiableModel,
    MatrixDerivatives,
    compute_derivatives,
    compute_second_derivatives,
)
from mlepi.predictors.electron import ElectronPredictor
from mlepi.predictors.layer_pairs import LayerPairs, LayerPairsCalculator
from mlepi.predictors.phonon import PhononCalculator, PhononPredictor

__all__ = [
    "BlockDerivatives",
    "DifferentiableModel",
    "ElectronPredictor",
    "LayerPairs",
    "LayerPairsCalculator",
    "MatrixDerivatives",
    "PhononCalculator",
    "PhononPredictor",
    "compute_derivatives",
    "compute_second_derivatives",
]
