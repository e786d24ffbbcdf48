"""What every observable of an ensemble demands of its samples before the first one is solved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlepi.errors import ConfigError, message
from mlepi.physics.bands.unfolding import AtomMap, check_atom_map

if TYPE_CHECKING:
    from ase import Atoms


def check_samples(n_samples: int, equilibrium: Atoms, displaced: Atoms, atom_map: AtomMap) -> None:
    """Refuse an ensemble without an error bar, and atoms in another order than ``Atoms.repeat``.

    Args:
        n_samples: of the ensemble.
        equilibrium: the primitive structure.
        displaced: any sample.
        atom_map: atoms of the supercell.

    Raises:
        ConfigError: fewer than two samples.
        StructureError: an atom of the sample is not near its site.
    """
    if n_samples < 2:
        raise ConfigError(
            message(
                "n_samples", f"{n_samples}", "at least 2, for an error bar", "Ask for more samples."
            )
        )
    check_atom_map(
        atom_map,
        equilibrium.positions,
        equilibrium.cell.array,
        displaced.positions,
        displaced.cell.array,
    )
