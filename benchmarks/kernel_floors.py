"""Operations and bytes that the main kernels cannot avoid, against the machine's own rates.

A kernel cannot be faster than its multiply-adds at the speed of a large matrix product, nor than
reading its inputs and writing its results once at the speed of the memory; its floor is the larger
of the two. Counted per call at the given widths: operations are 2 per multiply-add; bytes are those
of activations and parameters in float32, everything in between assumed to stay in the cache.
Activations, gates and norms are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from workers.client import Worker

BYTES = 4
"""Of a float32."""

FLOOR_ATOMS = 64
KERNELS = ("NodeUpdate", "EdgeUpdate", "Interaction", "SymmetricContraction")
"""Classes of the modules that are timed."""


@dataclass(frozen=True)
class Floor:
    """Least work of one call of a kernel.

    Attributes:
        operations: floating-point operations.
        bytes: read and written.
    """

    operations: float
    bytes: float

    def seconds(self, gflop_per_second: float, gbyte_per_second: float) -> float:
        """Return the time that the machine needs at least."""
        return max(1e-9 * self.operations / gflop_per_second, 1e-9 * self.bytes / gbyte_per_second)


def components(channels: Sequence[int]) -> int:
    """Return the number of components of features."""
    return sum((2 * l + 1) * count for l, count in enumerate(channels))


def linear_operations(inputs: Sequence[int], outputs: Sequence[int]) -> int:
    """Return the operations of a linear map degree by degree, for one row."""
    return sum(
        2 * (2 * l + 1) * a * b for l, (a, b) in enumerate(zip(inputs, outputs, strict=False))
    )


def so2_operations(inputs: Sequence[int], outputs: Sequence[int]) -> int:
    """Return the operations per edge of one matrix per |m| between all channels with l ≥ |m|.

    Both signs of m are counted.
    """
    orders = range(min(len(inputs), len(outputs)))
    return sum((1 if m == 0 else 2) * 2 * sum(inputs[m:]) * sum(outputs[m:]) for m in orders)


def rotation_operations(channels: Sequence[int]) -> int:
    """Return the operations of turning one row of features by its Wigner matrices."""
    return sum(2 * (2 * l + 1) ** 2 * count for l, count in enumerate(channels) if l)


def mlp_operations(widths: Sequence[int]) -> int:
    """Return the operations of a fully connected network, for one row."""
    return sum(2 * a * b for a, b in pairwise(widths))


def count_electron_update(
    n_atoms: int, n_edges: int, size: Mapping[str, Any], on_nodes: bool
) -> Floor:
    """Count a middle node or edge update of DeepH-E3 in SO(2) form.

    Args:
        n_atoms: number of atoms.
        n_edges: number of directed edges.
        size: widths as in conf/size, electron.
        on_nodes: node update, else edge update.
    """
    channels, pair = size["channels"], [2 * count for count in size["channels"]]
    outputs = [channels[0] + sum(channels[1:]), *channels[1:]]
    radial = [size["num_radial"], *size["radial_hidden"], sum(channels)]
    edge = (
        so2_operations(pair, outputs)
        + so2_operations(channels, outputs)
        + mlp_operations(radial)
        + rotation_operations(pair)
    )
    rows = n_atoms if on_nodes else n_edges
    edge += rotation_operations(channels) if on_nodes else 0
    # before, after, self-connection
    operations = n_edges * edge + rows * 3 * linear_operations(channels, channels)
    wigner = sum((2 * l + 1) ** 2 for l in range(1, len(channels)))
    numbers = n_atoms * components(channels) * (2 if on_nodes else 1)
    numbers += n_edges * (
        components(channels) * (1 if on_nodes else 2) + wigner + size["num_radial"]
    )
    return Floor(float(operations), float(BYTES * numbers))


def count_mace_interaction(
    n_atoms: int, n_edges: int, size: Mapping[str, Any], l_max_in: int
) -> Floor:
    """Count the messages of one layer of MACE.

    Senders × radial weights × (Clebsch–Gordan · Y), summed, mixed.

    Args:
        n_atoms: number of atoms.
        n_edges: number of directed edges.
        size: widths as in conf/size, phonon.
        l_max_in: largest l of the senders.
    """
    count, l_max = size["num_features"], size["l_max"]
    paths = [
        (l1, l3)
        for l3 in range(l_max + 1)
        for l1 in range(l_max_in + 1)
        for l2 in range(abs(l1 - l3), min(l1 + l3, l_max) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]
    edge = mlp_operations([8, *size["radial_widths"], len(paths) * count])
    edge += sum(2 * count * (2 * l1 + 1) * (2 * l3 + 1) + count * (2 * l1 + 1) for l1, l3 in paths)
    atom = (
        sum(2 * count * count * (2 * l3 + 1) for _, l3 in paths)
        + 2 * count * count * (l_max_in + 1) ** 2
    )
    couplings = sum((2 * l1 + 1) * (2 * l3 + 1) for l1, l3 in paths)
    numbers = n_edges * (8 + couplings) + n_atoms * count * ((l_max_in + 1) ** 2 + (l_max + 1) ** 2)
    return Floor(float(n_edges * edge + n_atoms * atom), float(BYTES * numbers))


def count_contraction(
    n_atoms: int, size: Mapping[str, Any], l_max_out: int, correlation: int = 3
) -> Floor:
    """Count the symmetric contraction of one layer of MACE.

    Every surviving monomial once, then its terms of every output.

    Args:
        n_atoms: number of atoms.
        size: widths as in conf/size, phonon.
        l_max_out: largest l of the result.
        correlation: largest degree.
    """
    monomials, terms = count_monomials(size["l_max"], l_max_out, correlation)
    count = size["num_features"]
    numbers = n_atoms * count * ((size["l_max"] + 1) ** 2 + (l_max_out + 1) ** 2) + terms * count
    return Floor(float(n_atoms * count * (monomials + 2 * terms)), float(BYTES * numbers))


def count_monomials(l_max: int, l_max_out: int, correlation: int) -> tuple[int, int]:
    """Count the monomials of degree ≥ 2 that reach any output, and the terms of all outputs.

    The terms include those of degree 1.
    """
    from mlepi.models.symmetric_contraction import symmetric_couplings

    monomials: set[tuple[int, ...]] = set()
    terms = 0
    for degree in range(1, correlation + 1):
        for l in range(l_max_out + 1):
            present = symmetric_couplings(l_max, l, degree).abs().sum(0) > 1e-9
            found = {(int(o), *sorted(int(i) for i in rest)) for o, *rest in present.nonzero()}
            monomials |= {entry[1:] for entry in found if degree > 1}
            terms += len(found)
    return len(monomials), terms


def compare(
    floor: Floor, seconds: float | None, rates: Mapping[str, float]
) -> dict[str, float | None]:
    """Put a floor beside a measured time.

    Returns:
        Operations, bytes, floor in seconds, seconds, fraction reached.
    """
    least = floor.seconds(rates["gflop_per_second"], rates["gbyte_per_second"])
    return {
        "gflop": 1e-9 * floor.operations,
        "mbyte": 1e-6 * floor.bytes,
        "floor_seconds": least,
        "seconds": seconds,
        "fraction": least / seconds if seconds else None,
    }


def time_kernels(
    requests: Mapping[str, Mapping[str, Any]], structure: Path, repeats: int
) -> tuple[dict[str, list[list[float]]], dict[str, int]]:
    """Return kernel → seconds of its calls, run by run, and work → number of edges."""
    calls: dict[str, list[list[float]]] = {name: [] for name in KERNELS}
    edges: dict[str, int] = {}
    for work, request in requests.items():
        with Worker("ours", 1) as ours:
            changed = {
                "structure": str(structure),
                "dtype": "float32",
                "device": "cpu",
                "warmup": 2,
                "weights": None,
            }
            edges[work] = ours.ask("prepare", **{**request, **changed})["n_edges"]
            for _ in range(repeats):
                for name, seconds in ours.ask("kernels", names=list(KERNELS)).items():
                    calls[name].append(seconds)
    return calls, edges


def measure_floors(
    requests: Mapping[str, Mapping[str, Any]], structure: Path, n_atoms: int, repeats: int = 5
) -> dict[str, Any]:
    """Measure the machine and the main kernels of middle layers, with floors beside them.

    On one core, in float32.

    Args:
        requests: "energy_forces" and "hamiltonian" → what a worker with our network is asked to
            prepare.
        structure: file of the structure.
        n_atoms: its atoms.
        repeats: runs, of which medians are taken.

    Returns:
        "machine" → rates, "kernels" → name → see ``compare``; seconds are None where a network has
        no module of that class.
    """
    with Worker("machine", 1) as machine:
        machine.ask("prepare", warmup=1)
        rates = machine.ask("check")
    calls, edges = time_kernels(requests, structure, repeats)

    def measured(name: str, call: int) -> float | None:
        found = [seconds[call] for seconds in calls[name] if -len(seconds) <= call < len(seconds)]
        return float(np.median(found)) if found else None

    phonon, electron = requests["energy_forces"]["size"], requests["hamiltonian"]["size"]
    n_phonon = edges["energy_forces"]
    n_electron = edges["hamiltonian"]
    hidden = phonon["l_max_hidden"]
    nodes, updates = (
        count_electron_update(n_atoms, n_electron, electron, on_nodes) for on_nodes in (True, False)
    )
    floors = {
        "DeepH-E3, second node update": (nodes, measured("NodeUpdate", 1)),
        "DeepH-E3, second edge update": (updates, measured("EdgeUpdate", 1)),
        "MACE, messages of the last layer": (
            count_mace_interaction(n_atoms, n_phonon, phonon, hidden),
            measured("Interaction", -1),
        ),
        "MACE, symmetric contraction of the first layer": (
            count_contraction(n_atoms, phonon, hidden),
            measured("SymmetricContraction", 0),
        ),
    }
    return {
        "machine": rates,
        "kernels": {
            name: compare(floor, seconds, rates) for name, (floor, seconds) in floors.items()
        },
    }
