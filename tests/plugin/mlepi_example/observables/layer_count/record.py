"""The record of the layer_count stage."""

from dataclasses import dataclass, field

from mlepi.results import unit


@dataclass(frozen=True)
class LayerCountRecord:
    """What was counted."""

    n_layers: int = field(metadata=unit("1"))
    at_least: int = field(metadata=unit("1"))
