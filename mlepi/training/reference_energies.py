"""Energies of free atoms of a network that comes from another level of theory.

A total energy has no zero of its own: codes, pseudopotentials and functionals count from different
ones, and no force tells them apart. A network from another level of theory therefore gets the zero
of the data, one number per element, before it is trained on.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping, Sequence
from typing import Any

import numpy as np
import torch

from mlepi.graphs import fields
from mlepi.graphs.build import AtomGraph
from mlepi.models import PhononNetwork

log = logging.getLogger(__name__)

SAME_ZERO = 0.5
"""eV per atom; energies that differ by less are those of one level of theory."""

N_STRUCTURES = 32
"""Training structures that are compared, at equal steps of their list."""


def align_energies(
    network: Any, graphs: Sequence[AtomGraph], model: MutableMapping[str, Any]
) -> None:
    """Shift the free atoms of a network to the zero of the data, where the two differ.

    Args:
        network: with its weights; modified. Others than those of energies stay as they are.
        graphs: of the training subset, with energies (eV).
        model: config of the network, in which the same energies are noted.
    """
    if not isinstance(network, PhononNetwork):
        return
    chosen = graphs[:: -(-len(graphs) // N_STRUCTURES)]
    elements = [int(z) for z in network.network.elements]
    with torch.no_grad():
        found = [float(network(graph, compute_forces=False)["energy"].sum()) for graph in chosen]
    labels = [float(graph[fields.ENERGY].sum()) for graph in chosen]
    numbers = [graph[fields.ATOM][fields.NUMBERS].numpy() for graph in chosen]
    sizes = np.array([len(of_atoms) for of_atoms in numbers])
    fractions = np.array([[np.mean(of_atoms == z) for z in elements] for of_atoms in numbers])
    differences = (np.array(labels) - np.array(found)) / sizes
    largest = float(np.abs(differences).max())
    if largest < SAME_ZERO:
        return
    shifts = np.linalg.lstsq(fractions, differences, rcond=None)[0]
    energies = [
        float(energy + shift) for energy, shift in zip(network.atomic_energies, shifts, strict=True)
    ]
    network.atomic_energies = tuple(energies)
    model["atomic_energies"] = energies
    rest = float(np.abs(differences - fractions @ shifts).max())
    log.warning(
        "init_from: energies of the data lie up to %.3f eV per atom from the checkpoint's, another "
        "level of theory; free atoms now have the zero of the data (left: %.3f eV per atom)",
        largest,
        rest,
    )
