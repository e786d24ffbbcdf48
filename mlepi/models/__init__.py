"""Equivariant networks.

The heterogeneous combination, its backbones, and the phonon and electron read-outs.

These names are the public paths that configurations and checkpoints refer to.
"""

from mlepi.models.deeph import DeepH
from mlepi.models.deeph_e3 import DeepHE3
from mlepi.models.electron_network import ElectronNetwork
from mlepi.models.hedgenet import HeteroNetwork
from mlepi.models.mace import MACE
from mlepi.models.pair_features import PairFeatures
from mlepi.models.phonon_network import PhononNetwork

__all__ = [
    "MACE",
    "DeepH",
    "DeepHE3",
    "ElectronNetwork",
    "HeteroNetwork",
    "PairFeatures",
    "PhononNetwork",
]
