"""Reference systems with known answers.

Tight binding and springs of graphene layers, and data sets made with them.
"""

from mlepi.reference_systems.springs import HoneycombSprings
from mlepi.reference_systems.tight_binding import TightBinding

__all__ = ["HoneycombSprings", "TightBinding"]
