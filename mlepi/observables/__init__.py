"""What is measured on the samples: one stage per file, with its config, record, figure and units."""

from mlepi.observables.bands import BandsStage
from mlepi.observables.fermi_velocity import FermiVelocityStage

__all__ = ["BandsStage", "FermiVelocityStage"]
