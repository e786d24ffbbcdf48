"""Training losses as sums and counts: means over the global batch however it is divided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.graphs.build import number_structures


@dataclass(frozen=True)
class Term:
    """One weighted mean of a loss: ``weight · total / count``.

    Attributes:
        total: (), sum of the elementwise losses.
        count: number of elements in the sum.
        weight: factor in front of the mean.
    """

    total: Tensor
    count: Tensor
    weight: float


def elementwise_loss(kind: str) -> Callable[[Tensor], Tensor]:
    """Return the elementwise loss of a dimensionless difference x.

    Args:
        kind: "mse" x²; "mae" |x|; "huber" x²/2 below 1 and |x| − 1/2 above; "l1_mse" |x| + x².

    Raises:
        ConfigError: the kind is unknown.
    """
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "mse": torch.square,
        "mae": torch.abs,
        "huber": lambda x: torch.nn.functional.huber_loss(x, torch.zeros_like(x), reduction="none"),
        "l1_mse": lambda x: x.abs() + x.square(),
    }
    if kind not in kinds:
        raise ConfigError(
            message("task.loss.kind", repr(kind), f"one of {sorted(kinds)}", "Edit the config.")
        )
    return kinds[kind]


def check_units(**units: float) -> None:
    """Refuse differences that cannot count as 1.

    Args:
        units: setting of a loss → its value.

    Raises:
        ConfigError: one is not positive.
    """
    for name, value in units.items():
        if not value > 0.0:
            expected, fix = "a positive difference, which counts as 1", "Edit the config."
            raise ConfigError(message(f"task.loss.{name}", f"{value:g}", expected, fix))


def global_loss(terms: Mapping[str, Term]) -> Tensor:
    """Add up the terms with counts over all processes.

    DistributedDataParallel averages gradients over processes; multiplied with their number, the
    local sum over the global count gives exactly the gradient of the mean over the global batch.
    """
    counts = torch.stack([term.count.to(torch.float64) for term in terms.values()])
    summed, n_processes = sum_over_processes(counts)
    return add_terms(terms, dict(zip(terms, summed, strict=True)), n_processes)


def sum_over_processes(counts: Tensor) -> tuple[Tensor, int]:
    """Add up counts over all processes, in place, and return them with the number of processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return counts, 1
    dist.all_reduce(counts)
    return counts, dist.get_world_size()


def add_terms(terms: Mapping[str, Term], counts: Mapping[str, Tensor], n_processes: int) -> Tensor:
    """Return the sum of all means, with the counts of the global batch; see ``global_loss``.

    Args:
        terms: of this process, or of a part of its batch.
        counts: name → (), elements in the global batch.
        n_processes: over which gradients are averaged.
    """
    means = [
        term.weight * n_processes * term.total / counts[name].clamp(min=1.0).to(term.total.dtype)
        for name, term in terms.items()
    ]
    return torch.stack(means).sum()


def compute_relative_layer_forces(
    forces: Tensor, layer: Tensor, structure: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the mean force on the atoms of every layer, relative to that of its structure.

    A layer that moves as a whole feels the sum of small forces on many atoms, on which shear and
    breathing modes rest, and of which a mean over components knows next to nothing. Labels have a
    net force of the whole structure from the real-space grid (about 1 meV/Å per atom), which the
    mean over the structure takes away.

    Args:
        forces: (n_atoms, 3), eV/Å.
        layer: (n_atoms,) int, layer of each atom in its structure.
        structure: (n_atoms,) int, structure of each atom in the batch.

    Returns:
        Those of all structures with more than one layer, (n_layers, 3), eV/Å, and the structure of
        each, (n_layers,) int.
    """
    keys, layer_of_atom = torch.unique(torch.stack([structure, layer]), dim=1, return_inverse=True)
    of_layer = _means(forces, layer_of_atom, keys.shape[1])
    n_structures = int(structure.max()) + 1
    of_structure = _means(forces, structure, n_structures)
    several = torch.bincount(keys[0], minlength=n_structures)[keys[0]] > 1
    return (of_layer - of_structure[keys[0]])[several], keys[0][several]


def _means(values: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """Average (n_atoms, 3) over groups of atoms: (n_groups, 3)."""
    sums = values.new_zeros(n_groups, values.shape[1]).index_add(0, group, values)
    return sums / torch.bincount(group, minlength=n_groups).clamp(min=1)[:, None]


class PhononLoss:
    """Weighted sum of the losses of energies per atom, force components and forces on layers.

    The published MACE training is ``kind="mse"``, ``energy_weight=1``, ``forces_weight=100``
    (Batatia et al. 2022, arXiv:2206.07697, and the defaults of its code).

    Args:
        energy_weight: weight of the energy per atom.
        forces_weight: weight of the forces.
        kind: elementwise loss, see ``elementwise_loss``.
        energy_unit: difference of energy per atom that counts as 1, eV.
        forces_unit: difference of a force component that counts as 1, eV/Å.
        layers_weight: weight of the relative forces on whole layers
            (``compute_relative_layer_forces``); 0 leaves the term out.
        layers_unit: difference of such a force per atom that counts as 1, eV/Å.
        late: arguments of ``LateStage``; None for no such stage.

    Raises:
        ConfigError: an unknown elementwise loss, or a unit that is not positive.
    """

    def __init__(
        self,
        *,
        energy_weight: float,
        forces_weight: float,
        kind: str,
        energy_unit: float = 1.0,
        forces_unit: float = 1.0,
        layers_weight: float = 0.0,
        layers_unit: float = 1.0,
        late: Mapping[str, float] | None = None,
    ) -> None:
        self.late = LateStage(**(late or {}))
        check_units(energy_unit=energy_unit, forces_unit=forces_unit, layers_unit=layers_unit)
        self.energy_weight = energy_weight
        self.forces_weight = forces_weight
        self.layers_weight = layers_weight
        self.layers_unit = layers_unit
        self.num_terms = 3 if layers_weight else 2
        self.energy_unit = energy_unit
        self.forces_unit = forces_unit
        self.elementwise = elementwise_loss(kind)

    def __call__(
        self,
        energy_per_atom_difference: Tensor,
        forces_difference: Tensor,
        layer: Tensor,
        structure: Tensor,
        progress: float = 1.0,
    ) -> dict[str, Term]:
        """Return the terms of one batch.

        Args:
            energy_per_atom_difference: (n_graphs,), eV.
            forces_difference: (n_atoms, 3), eV/Å.
            layer: (n_atoms,) int, layer of each atom in its structure.
            structure: (n_atoms,) int, structure of each atom in the batch.
            progress: part of the training that is done; 1 weighs as its end does.
        """
        factors = self.late.factors(progress)
        parts = {
            "energy": (energy_per_atom_difference / self.energy_unit, self.energy_weight),
            "forces": (forces_difference / self.forces_unit, self.forces_weight),
        }
        if self.layers_weight:
            on_layers, _ = compute_relative_layer_forces(forces_difference, layer, structure)
            parts["layers"] = (on_layers / self.layers_unit, self.layers_weight)
        return {
            name: Term(
                self.elementwise(x).sum(),
                torch.tensor(x.numel(), device=x.device),
                weight * factors.get(name, 1.0),
            )
            for name, (x, weight) in parts.items()
        }


@dataclass(frozen=True)
class LateStage:
    """Heavier energies and layers in the last part of a training, when forces are nearly learned.

    As in the second stage of MACE's trainings. Heavy from the start, they hold the forces back;
    light to the end, they leave the soft modes of layers wrong.

    Args:
        start: part of the training after which it begins; 1 for never.
        energy_factor: of the weight of energies from there on.
        layers_factor: of the weight of forces on layers from there on.

    Raises:
        ConfigError: a start that is no part of a training, or a negative factor.
    """

    start: float = 1.0
    energy_factor: float = 1.0
    layers_factor: float = 1.0

    def __post_init__(self) -> None:
        """Check what was given."""
        allowed = {
            "start": (0.0 <= self.start <= 1.0, "a part of the training, 0 ≤ start ≤ 1"),
            "energy_factor": (self.energy_factor >= 0.0, "a factor ≥ 0"),
            "layers_factor": (self.layers_factor >= 0.0, "a factor ≥ 0"),
        }
        for name, (fits, expected) in allowed.items():
            if not fits:
                where, got = f"task.loss.late.{name}", f"{getattr(self, name):g}"
                raise ConfigError(message(where, got, expected, "Edit the config."))

    @property
    def exists(self) -> bool:
        """Whether there is such a stage."""
        return self.start < 1.0

    def factors(self, progress: float) -> dict[str, float]:
        """Return name of a term → factor of its weight, when a part of the training is done."""
        if not self.exists or progress < self.start:
            return {}
        return {"energy": self.energy_factor, "layers": self.layers_factor}


@dataclass(frozen=True)
class BlockErrors:
    """Differences of the blocks of a batch between prediction and label, and what belongs to them.

    Every attribute maps "onsite", "intra" and "inter" to its part.

    Attributes:
        difference: (n_atoms or n_edges, p, p), eV; zero where there is no orbital.
        overlap: (n_atoms or n_edges, p, p).
        mask: (n_atoms or n_edges, p, p) bool, elements between orbitals that exist.
        graph: (n_atoms or n_edges,) int, structure of each block in the batch.
        n_graphs: number of structures.
    """

    difference: dict[str, Tensor]
    overlap: dict[str, Tensor]
    mask: dict[str, Tensor]
    graph: dict[str, Tensor]
    n_graphs: int

    @property
    def exists(self) -> Tensor:
        """Orbitals of every atom: (n_atoms, p) bool."""
        return self.mask["onsite"].diagonal(dim1=1, dim2=2)

    def labels(self, graph: Any) -> dict[str, Tensor]:
        """Return the labelled Hamiltonian of the batch by part: (…, p, p) float64, eV."""
        stores = {"onsite": graph[fields.ATOM]}
        stores |= {name: graph[fields.edge_type(name)] for name in fields.RELATIONS}
        return {
            name: store[fields.HAMILTONIAN_BLOCKS].to(torch.float64) * self.mask[name]
            for name, store in stores.items()
        }

    def shifted(self, mu: Tensor) -> BlockErrors:
        """Return the errors after a shift μ (n_graphs,), eV, of each structure, ΔH − μS."""
        difference = {
            name: value - mu[self.graph[name]][:, None, None].to(value.dtype) * self.overlap[name]
            for name, value in self.difference.items()
        }
        return BlockErrors(difference, self.overlap, self.mask, self.graph, self.n_graphs)


def compute_block_errors(
    prediction: Mapping[str, Any], graph: Any, orbital_mask: Tensor
) -> BlockErrors:
    """Compare predicted blocks with the labels of a batch, on existing orbitals only.

    Args:
        prediction: "onsite_blocks" (n_atoms, p, p) and "edge_blocks" {relation: (n_edges, p, p)},
            eV.
        graph: batch with Hamiltonian and overlap labels.
        orbital_mask: (largest atomic number + 1, p) bool, orbitals that an element has.
    """
    atoms = graph[fields.ATOM]
    batch = number_structures(graph)
    exists = orbital_mask[atoms[fields.NUMBERS]]
    places = {"onsite": (atoms, prediction["onsite_blocks"], slice(None), slice(None))}
    for relation in fields.RELATIONS:
        store = graph[fields.edge_type(relation)]
        source, target = store[fields.EDGE_INDEX]
        places[relation] = (store, prediction["edge_blocks"][relation], target, source)
    errors = BlockErrors({}, {}, {}, {}, int(batch.max()) + 1)
    for name, (store, blocks, rows, columns) in places.items():
        mask = exists[rows][:, :, None] & exists[columns][:, None, :]
        errors.mask[name] = mask
        errors.difference[name] = (blocks - store[fields.HAMILTONIAN_BLOCKS]) * mask
        errors.overlap[name] = store[fields.OVERLAP_BLOCKS] * mask
        errors.graph[name] = batch[rows]
    return errors


def least_squares_shift(errors: BlockErrors) -> Tensor:
    """Find the energy shift that minimises Σ|ΔH − μS|² of each structure, μ = ⟨ΔH, S⟩/⟨S, S⟩.

    The sums run over all blocks: on-site and both directions of every pair of both relations.

    Returns:
        (n_graphs,), eV.
    """
    first = next(iter(errors.difference.values()))
    projection, norm = first.new_zeros(errors.n_graphs), first.new_zeros(errors.n_graphs)
    for name, difference in errors.difference.items():
        overlap = errors.overlap[name]
        projection = projection.index_add(0, errors.graph[name], (difference * overlap).sum((1, 2)))
        norm = norm.index_add(0, errors.graph[name], overlap.square().sum((1, 2)))
    return projection / norm


class ElectronLoss:
    """Mean elementwise loss of the Hamiltonian, on-site and both directions of every pair.

    Args:
        kind: elementwise loss, see ``elementwise_loss``; the published DeepH-E3 training is a
            masked "mse".
        gauge_free: subtract, per structure, the energy shift μS that fits best in the least-squares
            sense, because H is defined only up to it.
        unit: difference that counts as 1, eV.
        balanced: average each block type (on-site, intra, inter) by itself and add up the three
            means, because the on-site blocks are few but shift whole bands; otherwise one mean over
            all elements (published).

    Raises:
        ConfigError: an unknown elementwise loss, or a unit that is not positive.
    """

    def __init__(self, *, kind: str, gauge_free: bool, unit: float, balanced: bool) -> None:
        check_units(unit=unit)
        self.elementwise = elementwise_loss(kind)
        self.gauge_free = gauge_free
        self.balanced = balanced
        self.num_terms = 1 + len(fields.RELATIONS) if balanced else 1
        self.unit = unit

    def __call__(self, errors: BlockErrors) -> dict[str, Term]:
        """Return the terms of one batch: one per block type when balanced, else a single one."""
        if self.gauge_free:
            errors = errors.shifted(least_squares_shift(errors))
        if self.balanced:
            return {
                name: Term(self.elementwise(value / self.unit).sum(), errors.mask[name].sum(), 1.0)
                for name, value in errors.difference.items()
            }
        total = torch.stack(
            [self.elementwise(value / self.unit).sum() for value in errors.difference.values()]
        ).sum()
        count = torch.stack([mask.sum() for mask in errors.mask.values()]).sum()
        return {"hamiltonian": Term(total, count, 1.0)}
