"""What is measured on the samples.

One stage per file, with its config, record, figure and units.
"""

from mlepi.observables.band_geometry import BandGeometryStage
from mlepi.observables.bands import BandsStage
from mlepi.observables.conductivity import ConductivityStage
from mlepi.observables.control import ControlStage
from mlepi.observables.domain import DomainStage
from mlepi.observables.dos import DosStage
from mlepi.observables.effective_mass import EffectiveMassStage
from mlepi.observables.fermi_velocity import FermiVelocityStage
from mlepi.observables.gap import GapStage
from mlepi.observables.linear_response import LinearResponseStage
from mlepi.observables.self_energy import SelfEnergyStage
from mlepi.observables.tight_binding import TightBindingStage

__all__ = [
    "BandGeometryStage",
    "BandsStage",
    "ConductivityStage",
    "ControlStage",
    "DomainStage",
    "DosStage",
    "EffectiveMassStage",
    "FermiVelocityStage",
    "GapStage",
    "LinearResponseStage",
    "SelfEnergyStage",
    "TightBindingStage",
]
