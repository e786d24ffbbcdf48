"""Ways to choose displaced supercells: random, quasi-random, by signs, or from a trajectory."""

from mlepi.physics.vibrations.samplers.gaussian import Antithetic, MonteCarlo
from mlepi.physics.vibrations.samplers.sampler import HarmonicSampler, Sampler
from mlepi.physics.vibrations.samplers.signs import ZG, ThermalLines
from mlepi.physics.vibrations.samplers.sobol import Sobol
from mlepi.physics.vibrations.samplers.trajectory import Trajectory

__all__ = [
    "ZG",
    "Antithetic",
    "HarmonicSampler",
    "MonteCarlo",
    "Sampler",
    "Sobol",
    "ThermalLines",
    "Trajectory",
]
