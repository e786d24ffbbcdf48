"""The level shift that belongs to the orbitals of an electron network, from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.structures.basis import OrbitalBasis

KEY = "level_shift"
"""Entry of a checkpoint's metadata: ``LevelShift.to_dict()``, or None for no shift."""

DEFAULTS: Mapping[frozenset[str], LevelShift] = {
    frozenset({"C6.0-s2p2"}): LevelShift(threshold=0.01, strength=0.5, offset=0.0018),
}
"""Names of the elements' orbitals → the shift of checkpoints that say nothing; others have none.

The bias of these values is 0.9 meV RMS on 14 labels of that basis with displacements and spacings
of every kind (``mlepi.training.level_shift.choose_level_shift``).
"""


def read_level_shift(metadata: Mapping[str, Any], basis: OrbitalBasis) -> LevelShift | None:
    """Return the level shift of a checkpoint.

    Args:
        metadata: of the checkpoint.
        basis: of its network; decides where the metadata say nothing.

    Raises:
        PhysicsError: the metadata hold parameters without meaning.
    """
    if KEY in metadata:
        stored = metadata[KEY]
        return None if stored is None else LevelShift.from_dict(stored)
    return DEFAULTS.get(frozenset(basis.names.values()))
