"""Ways to choose displaced supercells: random, quasi-random, by signs, or from a trajectory; one class each, one interface."""

from mlepi.physics.samplers.gaussian import Antithetic, MonteCarlo
from mlepi.physics.samplers.sampler import HarmonicSampler, Sampler
from mlepi.physics.samplers.signs import ZG, ThermalLines
from mlepi.physics.samplers.sobol import Sobol
from mlepi.physics.samplers.trajectory import Trajectory

__all__ = ["ZG", "Antithetic", "HarmonicSampler", "MonteCarlo", "Sampler", "Sobol", "ThermalLines", "Trajectory"]
