"""What is measured on the samples: one stage per file, with its config, record, figure and units."""

from mlepi.observables.bands import BandsStage
from mlepi.observables.fermi_velocity import FermiVelocityStage
from mlepi.observables.self_energy import SelfEnergyStage

__all__ = ["BandsStage", "FermiVelocityStage", "SelfEnergyStage"]
