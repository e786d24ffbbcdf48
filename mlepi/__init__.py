"""Electron-phonon interactions from finite displacements with heterogeneous equivariant networks.

The public API of scripts and notebooks. Names are loaded on first use, so that ``import mlepi`` is
quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlepi.checkpoint import load_model
    from mlepi.graphs.block_matrix import BlockMatrix, compute_bands
    from mlepi.structures.basis import OrbitalBasis

    __version__: str

__all__ = ["BlockMatrix", "OrbitalBasis", "__version__", "compute_bands", "load_model"]

_HOMES = {
    "BlockMatrix": "mlepi.graphs.block_matrix",
    "OrbitalBasis": "mlepi.structures.basis",
    "compute_bands": "mlepi.graphs.block_matrix",
    "load_model": "mlepi.checkpoint",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("mlepi")
    if name not in _HOMES:
        raise AttributeError(
            f"module 'mlepi' has no attribute {name!r}; its public names are {', '.join(__all__)}"
        )
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
