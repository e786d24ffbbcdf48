"""Tight binding and springs of graphene layers with known answers, and data sets of them."""

from mlepi.reference_systems.springs import HoneycombSprings
from mlepi.reference_systems.tight_binding import TightBinding

__all__ = ["HoneycombSprings", "TightBinding"]
