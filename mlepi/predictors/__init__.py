"""Trained networks with all that is needed to use them: graph building, elements, basis and overlap table."""

from mlepi.predictors.electron import ElectronPredictor
from mlepi.predictors.phonon import PhononCalculator, PhononPredictor

__all__ = ["ElectronPredictor", "PhononCalculator", "PhononPredictor"]
