"""The crystal for which training structures are proposed: its layers, and where it is periodic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import StructureError, message
from mlepi.structures import get_layers
from mlepi.structures.cp2k_input import find_gap

STACKING = 2
"""Lattice vector along which layers are stacked."""
APART = 0.5
"""Å between the planes of the nearest atoms of two layers, at least."""


@dataclass(frozen=True)
class Material:
    """A primitive cell, and what can be done to it.

    Attributes:
        atoms: primitive cell, Å, with the layer of each atom.
        axes: lattice vectors along which it is repeated; the others cross vacuum.
        n_layers: 1 for a crystal that is bonded in three dimensions.
    """

    atoms: Atoms
    axes: tuple[int, ...]
    n_layers: int

    @property
    def has_vacuum(self) -> bool:
        """Whether the lattice vector along which layers are stacked crosses vacuum."""
        return STACKING not in self.axes

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit normal of the plane of a and b, (3,), on the side of c."""
        a, b, c = self.atoms.cell.array
        normal = np.cross(a, b)
        return np.asarray(normal / np.linalg.norm(normal) * np.sign(normal @ c))

    @property
    def n_gaps(self) -> int:
        """Distances between layers that can change; in a bulk crystal that to the image as well."""
        if self.n_layers == 1:
            return 0
        return self.n_layers - 1 if self.has_vacuum else self.n_layers

    def describe(self) -> str:
        """Say in a few words what it is."""
        directions = {1: "a wire", 2: "a slab", 3: "a bulk crystal"}[len(self.axes)]
        layers = f", {self.n_layers} layers" if self.n_layers > 1 else ""
        return f"{self.atoms.get_chemical_formula()}, {directions}{layers}"


def examine_material(atoms: Atoms, vacuum: float) -> Material:
    """Find along which lattice vectors a crystal is periodic, and its layers.

    Args:
        atoms: primitive cell, Å; a supplied layer of each atom wins.
        vacuum: Å of empty space from which a lattice vector crosses vacuum.

    Raises:
        StructureError: it is a molecule, or its layers are not stacked along the third vector.
    """
    fractions = atoms.cell.scaled_positions(atoms.positions)
    heights = 1.0 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    gaps = [find_gap(fractions[:, axis])[1] * heights[axis] for axis in range(3)]
    axes = tuple(axis for axis in range(3) if len(atoms) == 1 or gaps[axis] < vacuum)
    if not axes:
        got, fix = "empty space in all three directions", "Give a crystal, or raise vacuum."
        raise StructureError(message("structure", got, "a periodic structure", fix))
    layer = get_layers(atoms)
    n_layers = int(layer.max()) + 1
    if n_layers > 1 and not _are_stacked(fractions[:, STACKING], layer, heights[STACKING]):
        got = f"{n_layers} layers whose atoms are at equal heights along c"
        fix = "Exchange the lattice vectors, or give all atoms the layer 0 in an extxyz file."
        raise StructureError(message("structure", got, "layers stacked along c", fix))
    material = atoms.copy()
    material.set_array("layer", layer)
    material.calc = None
    material.set_constraint()
    return Material(material, axes, n_layers)


def _are_stacked(fractions: NDArray[np.float64], layer: NDArray[np.int64], height: float) -> bool:
    """Tell whether layers are apart along an axis: seen along it, each is met once.

    Args:
        fractions: (n_atoms,), along the axis.
        layer: (n_atoms,) int.
        height: Å, of the cell along the axis.
    """
    places = np.mod(fractions, 1.0)
    order = np.argsort(places, kind="stable")
    met = layer[order]
    changes = met != np.roll(met, -1)
    steps = np.append(np.diff(places[order]), places[order[0]] + 1.0 - places[order[-1]]) * height
    return int(changes.sum()) == int(layer.max()) + 1 and bool(steps[changes].min() > APART)
