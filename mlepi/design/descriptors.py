"""What a structure looks like to a network, as one vector of the same length for every cell.

Around every atom the neighbours of each element, within its layer and beyond, are counted by smooth
radial functions; the vector holds mean and standard deviation of these counts over the atoms of
each element. It does not depend on rotations, the order of atoms or the size of a cell.

References:
    Behler, Parrinello (2007), doi:10.1103/PhysRevLett.98.146401, Eqs. 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import StructureError, message
from mlepi.graphs.neighbours import find_edges
from mlepi.structures import select_intralayer

CUTOFF, NEAREST, STEP = 6.0, 0.8, 0.2
"""Å: reach, centre of the first radial function, and distance between them, which is twice their
standard deviation."""
SMALLEST_SCALE = 1e-6
"""Of components that are the same in all structures, relative to the largest of the others."""


def describe_environments(atoms: Atoms, elements: Sequence[int]) -> NDArray[np.float64]:
    """Describe a structure.

    Args:
        atoms: Å; a supplied layer index wins.
        elements: atomic numbers, in the order of the parts of the vector.

    Returns:
        (n_components,), neighbours; the same length for all structures of these elements.

    Raises:
        StructureError: an atom is of another element.
    """
    known = sorted(set(elements))
    index = {number: k for k, number in enumerate(known)}
    if not set(atoms.numbers.tolist()) <= set(known):
        got = f"elements {sorted(set(atoms.numbers.tolist()))}"
        fix = "Compare structures of one material."
        raise StructureError(message("descriptor", got, f"elements {known}", fix))
    (source, target), shift = find_edges(atoms, CUTOFF)
    vectors = atoms.positions[source] + shift @ atoms.cell.array - atoms.positions[target]
    lengths = np.linalg.norm(vectors, axis=1)
    within = select_intralayer(atoms, np.stack([source, target]), shift)
    places = np.array([index[int(z)] for z in atoms.numbers])
    channel = 2 * places[source] + ~within
    centres = np.arange(NEAREST, CUTOFF, STEP)
    fade = 0.5 * (np.cos(np.pi * lengths / CUTOFF) + 1.0)
    waves = fade[:, None] * np.exp(-2.0 * ((lengths[:, None] - centres) / STEP) ** 2)
    counts = np.zeros((len(atoms), 2 * len(known), len(centres)))
    np.add.at(counts, (target, channel), waves)
    parts = []
    for k in range(len(known)):
        own = counts[places == k].reshape(-1, counts[0].size)
        parts += [own.mean(axis=0), own.std(axis=0)] if len(own) else [np.zeros(counts[0].size)] * 2
    return np.concatenate(parts)


def scale_descriptors(
    descriptors: NDArray[np.float64], reference: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Put all components on one scale: their standard deviation among some structures.

    Args:
        descriptors: (n_structures, n_components).
        reference: (n, n_components), of the structures that set the scale; None takes these.

    Returns:
        (n_structures, n_components), dimensionless; a Euclidean distance of two is their RMS
        difference in standard deviations.
    """
    base = descriptors if reference is None else reference
    deviations = base.std(axis=0)
    varies = deviations > SMALLEST_SCALE * deviations.max(initial=0.0)
    scaled = (descriptors - base.mean(axis=0)) / np.where(varies, deviations, 1.0)
    count = max(1, int(varies.sum()))
    return np.asarray(np.where(varies, scaled, 0.0) / np.sqrt(count))
