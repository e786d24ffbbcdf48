"""The level shift that belongs to the orbitals of an electron network, from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.structures.basis import OrbitalBasis

KEY = "level_shift"
"""Entry of a checkpoint's metadata: ``LevelShift.to_dict()``, or None for no shift."""

NORM_KEY = "largest_norm"
"""Entry of a checkpoint's metadata: largest |c|² of a state of training labels up to 2 eV above the
Fermi energy (``mlepi.training.level_shift.ShiftLabels.find_largest_norm``)."""

DEFAULTS: Mapping[frozenset[str], LevelShift] = {
    frozenset({"C6.0-s2p2"}): LevelShift(threshold=0.005, strength=0.7, offset=0.0016),
}
"""Names of the elements' orbitals → the shift of checkpoints that say nothing; others have none.

The bias of these values is 0.95 meV RMS on 19 labels of that basis with cells, spacings and
temperatures of every kind, 0.63 in the median structure (``benchmarks/level_shift_bias.py``).
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


def read_largest_norm(metadata: Mapping[str, Any]) -> float | None:
    """Return the largest |c|² of training states that a checkpoint names, None where it does not.

    Args:
        metadata: of the checkpoint.
    """
    stored = metadata.get(NORM_KEY)
    return None if stored is None else float(stored)
