"""Facts that a network needs and only the training subset knows.

They fill the values that its configuration leaves at null.

A fact fills every key of its name with the value null, however deep in the model's config. A
network that needs more than what is here offers ``prepare(graphs)``, which sees the training subset
once, before training, and fills its buffers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mlepi.errors import DataError, message
from mlepi.graphs import fields
from mlepi.graphs.build import AtomGraph
from mlepi.graphs.partitions import LAYERS, Partition
from mlepi.models.block_targets import largest_degrees
from mlepi.models.dispersion import GrimmeD2
from mlepi.structures.labelled_structure import LabelledStructure

log = logging.getLogger(__name__)


def find_elements(structures: Sequence[LabelledStructure]) -> list[int]:
    """Return the atomic numbers that occur, ascending."""
    return sorted({int(number) for structure in structures for number in structure.atoms.numbers})


def fit_atomic_energies(structures: Sequence[LabelledStructure]) -> list[float]:
    """Fit the energies per atom of all structures by one energy per element.

    By least squares of smallest norm.

    Returns:
        (n_elements,) eV in the order of ``find_elements``; for a single element the mean energy per
        atom.
    """
    elements = find_elements(structures)
    fractions = np.array(
        [[np.mean(structure.atoms.numbers == z) for z in elements] for structure in structures]
    )
    energies = np.array(
        [float(structure.energy or 0.0) / len(structure.atoms) for structure in structures]
    )
    return [float(value) for value in np.linalg.lstsq(fractions, energies, rcond=None)[0]]


def compute_force_scale(structures: Sequence[LabelledStructure]) -> float:
    """Compute the root mean square force, eV/Å, the natural unit of interaction energies."""
    forces = np.concatenate([np.asarray(structure.forces).ravel() for structure in structures])
    scale = float(np.sqrt(np.mean(forces**2)))
    if not scale > 0.0:
        raise DataError(
            message(
                "training subset",
                "forces that are all zero",
                "forces of displaced structures",
                "Check the labels.",
            )
        )
    return scale


def count_neighbours(
    graphs: Sequence[AtomGraph], partition: Partition = LAYERS
) -> dict[str, float]:
    """Count the mean number of neighbours of an atom in every relation.

    Where a relation has only some elements at its centre, of atoms of these elements.
    """
    numbers = torch.cat([graph[fields.ATOM][fields.NUMBERS] for graph in graphs])
    counts = {}
    for relation in partition.relations:
        edges = [graph[fields.edge_type(relation)][fields.EDGE_INDEX] for graph in graphs]
        centres = partition.centres.get(relation, tuple(numbers.unique().tolist()))
        n_atoms = int(torch.isin(numbers, torch.tensor(centres)).sum())
        counts[relation] = sum(edge_index.shape[1] for edge_index in edges) / n_atoms
    return counts


def phonon_facts(structures: Sequence[LabelledStructure]) -> dict[str, Any]:
    """Return elements, atomic_energies (eV) and energy_scale (eV) of a training subset."""
    return {
        "elements": find_elements(structures),
        "atomic_energies": fit_atomic_energies(structures),
        "energy_scale": compute_force_scale(structures),
    }


def electron_facts(structures: Sequence[LabelledStructure]) -> dict[str, Any]:
    """Return elements, shells and basis of a training subset, as plain data.

    Shells map an atomic number to the list of l.
    """
    basis = structures[0].basis
    if basis is None:
        raise DataError(
            message(
                f"structure {structures[0].name!r}",
                "no basis",
                "Hamiltonian labels",
                "Use another data set.",
            )
        )
    return {
        "elements": list(basis.elements),
        "shells": {z: list(ls) for z, ls in basis.shells.items()},
        "basis": basis.to_dict(),
    }


def subtract_dispersion(
    structures: Sequence[LabelledStructure], graphs: Sequence[AtomGraph], cutoff: float
) -> list[LabelledStructure]:
    """Return the structures with energies (eV) and forces (eV/Å) less Grimme's D2.

    Args:
        structures: with energies and forces; not modified.
        graphs: of the same structures.
        cutoff: of the pairs, Å.

    Raises:
        ConfigError: an element without D2 parameters.
    """
    term = GrimmeD2(elements=find_elements(structures), cutoff=cutoff)
    rest = []
    for structure, graph in zip(structures, graphs, strict=True):
        positions = graph[fields.ATOM][fields.POSITIONS].clone().double().requires_grad_(True)
        energy = term(graph, positions).sum()
        # two atoms out of reach of each other have an energy that depends on nothing
        (gradient,) = torch.autograd.grad(energy + 0.0 * positions.sum(), positions)
        rest.append(
            replace(
                structure,
                energy=float(structure.energy or 0.0) - float(energy.detach()),
                forces=np.asarray(structure.forces) + gradient.numpy(),
            )
        )
    return rest


FACTS: dict[str, Callable[[Sequence[LabelledStructure]], dict[str, Any]]] = {
    "phonon": phonon_facts,
    "electron": electron_facts,
}
"""Kind of network → its facts."""


def fill_facts(config: Any, facts: Mapping[str, Any]) -> Any:
    """Return a nested config with every null whose key is a fact replaced by the fact."""
    if isinstance(config, Mapping):
        return {
            key: facts[key] if value is None and key in facts else fill_facts(value, facts)
            for key, value in config.items()
        }
    if isinstance(config, list):
        return [fill_facts(value, facts) for value in config]
    return config


def extend_degrees(config: Any, shells: Mapping[Any, Sequence[int]]) -> Any:
    """Return the config of a network whose edge features hold all that blocks of a basis need.

    A block of shells a, b is made of degrees up to l_a + l_b: 2 of s and p, 4 with d, 6 with f.
    ``channels`` and ``pseudo_channels`` (copies of l = 0, 1, …, of natural and unnatural parity)
    are continued with their last number, and ``l_max`` of the harmonics beside them is raised; what
    is there already stays.

    Args:
        config: nested plain config.
        shells: atomic number → angular momenta.
    """
    natural, unnatural = largest_degrees(shells)
    if isinstance(config, list):
        return [extend_degrees(value, shells) for value in config]
    if not isinstance(config, Mapping):
        return config
    longer = {key: extend_degrees(value, shells) for key, value in config.items()}
    if not {"channels", "pseudo_channels"} <= set(config):
        return longer
    for key, degree in (("channels", natural), ("pseudo_channels", unnatural)):
        if config[key]:  # an empty list is a choice: on-site blocks come from elsewhere
            longer[key] = _continue(config[key], degree)
    if isinstance(config.get("l_max"), int):
        longer["l_max"] = max(config["l_max"], natural)
    if longer != dict(config):
        keys = ("channels", "pseudo_channels", "l_max")
        now = ", ".join(
            f"{key} {longer[key]}" for key in keys if longer.get(key) != config.get(key)
        )
        log.info("blocks of this basis need l up to %d: %s", natural, now)
    return longer


def _continue(numbers: Sequence[int], degree: int) -> list[int]:
    """Return copies of l = 0 … degree at least, further ones as many as of the last l."""
    return [*numbers, *[numbers[-1]] * (degree + 1 - len(numbers))]


def complete_model(
    kind: str,
    config: Mapping[str, Any],
    structures: Sequence[LabelledStructure],
    graphs: Sequence[AtomGraph],
    cutoffs: Mapping[str, float],
    partition: Partition = LAYERS,
) -> dict[str, Any]:
    """Return the config of a network with all facts of the training subset filled in.

    Besides the facts of its kind there are ``mean_neighbours`` (relation → number), ``cutoffs``
    (relation → Å), ``partition`` and ``relations`` (one sub-network for each of the partition).

    Args:
        kind: "phonon" or "electron".
        config: nested plain config with nulls where facts belong.
        structures: training subset.
        graphs: its graphs, in the same order.
        cutoffs: relation → Å.
        partition: how the graphs are divided.
    """
    if config.get("dispersion", "none") != "none":
        structures = subtract_dispersion(structures, graphs, float(config["dispersion_cutoff"]))
    facts = FACTS[kind](structures)
    facts["cutoffs"] = dict(cutoffs)
    facts["mean_neighbours"] = count_neighbours(graphs, partition)
    facts["partition"] = partition.to_dict()
    facts["relations"] = {name: [name] for name in partition.relations}
    filled: dict[str, Any] = fill_facts(config, facts)
    return filled if kind != "electron" else extend_degrees(filled, facts["shells"])
