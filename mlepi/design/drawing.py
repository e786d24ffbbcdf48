"""One structure after the other: kind, supercell, deformation, temperature, displacements.

Structure ``number`` of a kind depends on the seed, the kind and the number alone, beside the
material, its phonons and the ranges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.design.deformations import draw_strain, slide_layers, space_layers, strain_cell
from mlepi.design.material import Material
from mlepi.design.shapes import Shape
from mlepi.design.twists import Twist
from mlepi.errors import PhysicsError, StructureError, message
from mlepi.graphs.neighbours import check_distances, find_edges
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.samplers import MonteCarlo
from mlepi.physics.vibrations.shaped_modes import ShapedModes, compute_shaped_modes
from mlepi.physics.vibrations.supercell_shapes import build_shaped_supercell, measure_width
from mlepi.physics.vibrations.thermal import SOFTEST_FREQUENCY, HarmonicEnsemble
from mlepi.structures import assign_layers

THERMAL, SLIDE, SPACING, STRAIN, TWIST = "thermal", "slide", "spacing", "strain", "twist"
KINDS = (THERMAL, SLIDE, SPACING, STRAIN, TWIST)
"""Displacements alone, or on top of layers that slide, change their distance, are strained or
twisted."""

TRIES = 100
"""Draws of the displacements of one structure."""
NEAREST = 4.0
"""Å within which the shortest distance is looked for first."""


@dataclass(frozen=True)
class Ranges:
    """What is drawn from.

    Attributes:
        temperatures: K, taken in turn.
        slide: range of the slides in every direction, in lattice vectors; 1 reaches every registry.
        spacing: largest change of a distance between layers, Å.
        strain: largest component.
        largest_displacement: of an atom, Å; displacements beyond are drawn again. None for none.
        floor_frequency: softer modes, and imaginary ones, get this frequency, THz.
        seed: of everything random.
    """

    temperatures: tuple[float, ...]
    slide: float
    spacing: float
    strain: float
    largest_displacement: float | None
    floor_frequency: float
    seed: int


@dataclass(frozen=True)
class Drawn:
    """A structure that may be labelled.

    Attributes:
        name: kind and number.
        atoms: supercell, Å, with the layer of each atom.
        kind: one of ``KINDS``.
        temperature: K.
        matrix: (3, 3) int, of the supercell, of its lower layer where it is twisted.
        width: Å, shortest lattice translation, vacuum apart.
        displacements: (n_atoms, 3), Å, from the sites.
        tries: draws that it took.
        deformation: what was done to the crystal, as plain data.
    """

    name: str
    atoms: Atoms
    kind: str
    temperature: float
    matrix: NDArray[np.int64]
    width: float
    displacements: NDArray[np.float64]
    tries: int
    deformation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shortest(self) -> float:
        """Distance of the two nearest atoms, Å."""
        reach = NEAREST
        while True:
            (source, target), shift = find_edges(self.atoms, reach)
            if len(source):
                positions, cell = self.atoms.positions, self.atoms.cell.array
                vectors = positions[source] + shift @ cell - positions[target]
                return float(np.linalg.norm(vectors, axis=1).min())
            reach *= 2.0


@dataclass(frozen=True)
class Drawer:
    """Draws structures.

    Attributes:
        material: the crystal.
        force_constants: of its primitive cell.
        shapes: supercells.
        twists: of its layers; may be none.
        ranges: of what is drawn.
    """

    material: Material
    force_constants: ForceConstants
    shapes: Sequence[Shape]
    twists: Sequence[Twist]
    ranges: Ranges
    _known: dict[bytes, tuple[ShapedModes, HarmonicEnsemble]] = field(default_factory=dict)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Kinds that this material has."""
        layered = self.material.n_gaps > 0
        present = {SLIDE: layered, SPACING: layered, TWIST: bool(self.twists)}
        return tuple(kind for kind in KINDS if present.get(kind, True))

    def find_ensemble(self, matrix: NDArray[np.int64]) -> tuple[ShapedModes, HarmonicEnsemble]:
        """Return the modes of a supercell, and the distribution of its displacements."""
        key = np.asarray(matrix, dtype=np.int64).tobytes()
        if key not in self._known:
            shaped = compute_shaped_modes(self.force_constants, matrix)
            ensemble = HarmonicEnsemble(
                shaped.modes,
                tuple(dict.fromkeys(self.ranges.temperatures)),
                imaginary="floor",
                floor_frequency=self.ranges.floor_frequency,
            )
            self._known[key] = shaped, ensemble
        return self._known[key]

    def measure_soft_modes(self) -> tuple[int, float]:
        """Count imaginary modes of all supercells; return their number, and the softest, THz."""
        lowest, imaginary = math.inf, 0
        for shape in self.shapes:
            modes = self.find_ensemble(shape.matrix)[0].modes
            found = modes.frequencies[~modes.translations]
            imaginary += int(np.sum(found < SOFTEST_FREQUENCY))
            lowest = min(lowest, float(found.min(initial=math.inf)))
        return imaginary, lowest

    def draw(self, kind: str, number: int) -> Drawn:
        """Draw one structure.

        Args:
            kind: one of ``kinds``.
            number: of the structure, ≥ 0.

        Raises:
            PhysicsError: no displacements within the bounds were found.
        """
        numbers = [self.ranges.seed, KINDS.index(kind), number]
        generator = np.random.default_rng(np.random.SeedSequence(numbers))
        temperature = self.ranges.temperatures[number % len(self.ranges.temperatures)]
        if kind == TWIST:
            sites, matrices, rotation, told = self._twist(number)
        else:
            shape = self._choose_shape(kind, number)
            sites, told = self._deform(kind, shape, generator)
            matrices, rotation = (shape.matrix,), np.eye(3)
        first = (number * len(KINDS) + KINDS.index(kind)) * 2 * TRIES
        refused = ""
        for attempt in range(TRIES):
            moved = self._displace(matrices, rotation, temperature, first + 2 * attempt)
            atoms = sites.copy()
            atoms.positions += moved
            refused = self._refuse(kind, atoms, moved)
            if not refused:
                return Drawn(
                    name=f"{kind}_{number:05d}",
                    atoms=atoms,
                    kind=kind,
                    temperature=temperature,
                    matrix=matrices[0],
                    width=measure_width(atoms.cell.array, self.material.axes),
                    displacements=moved,
                    tries=attempt + 1,
                    deformation=told,
                )
        got = f"{TRIES} draws at {temperature:g} K that are all beyond it ({refused})"
        fix = "Lower temperature, or raise largest_displacement or floor_frequency."
        raise PhysicsError(message(f"{kind}_{number:05d}", got, "displacements in bounds", fix))

    def _choose_shape(self, kind: str, number: int) -> Shape:
        """Take the shapes in turn, every round in another order."""
        block, place = divmod(number, len(self.shapes))
        seeds = [self.ranges.seed, len(KINDS) + KINDS.index(kind), block]
        order = np.random.default_rng(np.random.SeedSequence(seeds)).permutation(len(self.shapes))
        return self.shapes[int(order[place])]

    def _deform(
        self, kind: str, shape: Shape, generator: np.random.Generator
    ) -> tuple[Atoms, dict[str, Any]]:
        """Return the sites of a supercell, and what was done to the crystal."""
        material, ranges = self.material, self.ranges
        told: dict[str, Any] = {}
        if kind == SLIDE:
            slides = ranges.slide * generator.uniform(-0.5, 0.5, (material.n_layers, 2))
            slides[0] = 0.0  # the lowest layer stays
            material = slide_layers(material, slides)
            told["slides"] = slides.tolist()
        if kind in (SLIDE, SPACING):
            changes = ranges.spacing * generator.uniform(-1.0, 1.0, material.n_gaps)
            material = space_layers(material, changes)
            told["spacing_changes"] = changes.tolist()
        sites = build_shaped_supercell(material.atoms, shape.matrix)
        if kind == STRAIN:
            strain = draw_strain(material, ranges.strain, generator)
            sites = strain_cell(sites, strain)
            told["strain"] = strain.tolist()
        if material.n_layers > 1 and not material.has_vacuum:
            sites.set_array("layer", assign_layers(sites))
        return sites, told

    def _twist(
        self, number: int
    ) -> tuple[Atoms, tuple[NDArray[np.int64], ...], NDArray[np.float64], dict[str, Any]]:
        """Return the sites of a twisted bilayer, the supercells of its layers, and the rotation."""
        twist = self.twists[number % len(self.twists)]
        rotation = turn_about(self.material.normal, twist.angle)
        layers = []
        for layer, matrix in enumerate((twist.lower, twist.upper)):
            single = self.material.atoms[self.material.atoms.arrays["layer"] == layer]
            layers.append(build_shaped_supercell(single, matrix))
        layers[1].positions = layers[1].positions @ rotation.T
        sites = layers[0] + layers[1]
        return sites, (twist.lower, twist.upper), rotation, {"twist": math.degrees(twist.angle)}

    def _displace(
        self,
        matrices: Sequence[NDArray[np.int64]],
        rotation: NDArray[np.float64],
        temperature: float,
        first: int,
    ) -> NDArray[np.float64]:
        """Return displacements of all atoms, (n_atoms, 3), Å.

        Of two supercells, those of the lower layer in the first, and those of the upper one,
        turned, in the second: each layer moves as in the crystal, and knows nothing of the other.
        """
        moved = []
        for extra, matrix in enumerate(matrices):
            shaped, ensemble = self.find_ensemble(matrix)
            drawn = MonteCarlo().displacements(
                ensemble, temperature, [first + extra], self.ranges.seed
            )[0, shaped.order]
            moved.append(drawn)
        if len(moved) == 1:
            return moved[0]
        layer = self.material.atoms.arrays["layer"]
        parts = [
            each[np.tile(layer == number, len(each) // len(layer))]
            for number, each in enumerate(moved)
        ]
        return np.vstack([parts[0], parts[1] @ rotation.T])

    def _refuse(self, kind: str, atoms: Atoms, moved: NDArray[np.float64]) -> str:
        """Say what is wrong with displaced atoms; empty where nothing is."""
        limit = self.ranges.largest_displacement
        largest = float(np.linalg.norm(moved, axis=1).max())
        if limit is not None and largest > limit:
            return f"an atom displaced by {largest:.2f} Å, largest_displacement={limit:g}"
        try:
            check_distances(kind, atoms)
        except StructureError as error:
            return str(error)
        return ""


def turn_about(normal: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Return the rotation about an axis, (3, 3): x → R x.

    Args:
        normal: (3,), unit vector.
        angle: radians.
    """
    x, y, z = normal
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross)
