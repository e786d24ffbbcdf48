"""Stacks of graphene, boron nitride and MoS2, twisted bilayers, supercells, random distortions.

All cells are periodic in three directions, hexagonal with a₁ ∥ x and 60° between a₁ and a₂, the
slab centred along c. A stacking is told by the shift of each layer in units of (a₁, a₂): 0 for A,
⅓(1, 1) for B, ⅔(1, 1) for C, ½(1, 1) for SP.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import StructureError, message
from mlepi.structures.layers import assign_layers, get_layers

LATTICE_CONSTANT = 2.46
"""Å, graphene; bonds of 1.4203 Å."""

SPACING = 3.35
"""Å, experimental distance of layers in graphite."""

HEIGHT = 18.0
"""Å, default length of c."""

BORON_NITRIDE_LATTICE_CONSTANT, BORON_NITRIDE_SPACING = 2.504, 3.33
"""Å, hexagonal boron nitride."""

HETERO_LATTICE_CONSTANT = 0.5 * (LATTICE_CONSTANT + BORON_NITRIDE_LATTICE_CONSTANT)
"""Å, of graphene on boron nitride in one cell: 0.9 % more and 0.9 % less than each has alone."""

DISULPHIDE_LATTICE_CONSTANT, DISULPHIDE_SPACING, DISULPHIDE_THICKNESS = 3.16, 6.15, 3.126
"""Å, molybdenum disulphide: distance of Mo planes of two layers, and of S planes of one."""

DISULPHIDE_HEIGHT = 24.0
"""Å, default length of c for molybdenum disulphide."""

REGISTRIES = {"A": 0.0, "B": 1.0 / 3.0, "C": 2.0 / 3.0}
"""Shift of a layer along (a₁ + a₂) for each letter of a stacking."""

STACKINGS = {"monolayer": (0.0,), "SP": (0.0, 0.5)}
"""Stackings that are not written in letters."""

HEXAGONAL = np.array([[1.0, 0.0], [0.5, math.sqrt(0.75)]])
"""Lattice vectors in plane, rows, for a lattice constant of 1."""

SUBLATTICES = np.array([[0.0, 0.0], [1.0, 1.0]]) / 3.0
"""Fractional positions of the two atoms of graphene."""


def build_graphene(
    stacking: str = "AB",
    lattice_constant: float = LATTICE_CONSTANT,
    spacing: float = SPACING,
    height: float = HEIGHT,
    slide: Sequence[float] | None = None,
) -> Atoms:
    """Build the primitive cell of stacked graphene.

    Args:
        stacking: "monolayer", "SP", or a letter A, B, C per layer from bottom to top, e.g. "AA",
            "AB", "ABA", "ABC".
        lattice_constant: Å.
        spacing: distance between neighbouring layers, Å.
        height: length of c, Å; ``n_layers·spacing`` gives the bulk crystal.
        slide: (2,) additional shift of the uppermost layer in units of (a₁, a₂).

    Returns:
        2·n_layers atoms, layer by layer from bottom to top.

    Raises:
        StructureError: the stacking is unknown or the layers do not fit into the cell.
    """
    if stacking in STACKINGS:
        along = STACKINGS[stacking]
    elif stacking and set(stacking) <= set(REGISTRIES):
        along = tuple(REGISTRIES[letter] for letter in stacking)
    else:
        expected = f"one of {sorted(STACKINGS)} or letters of {''.join(REGISTRIES)}, one per layer"
        raise StructureError(
            message("build_graphene, stacking", repr(stacking), expected, "For example AB or ABC.")
        )
    shifts = np.repeat(np.array(along)[:, None], 2, axis=1)
    if slide is not None:
        shifts[-1] += np.asarray(slide, dtype=np.float64)
    cell = lattice_constant * HEXAGONAL
    return _stack([SUBLATTICES + shift for shift in shifts], cell, spacing, height)


def build_boron_nitride(
    stacking: str = "AA'",
    lattice_constant: float = BORON_NITRIDE_LATTICE_CONSTANT,
    spacing: float = BORON_NITRIDE_SPACING,
    height: float = HEIGHT,
) -> Atoms:
    """Build the primitive cell of stacked hexagonal boron nitride.

    Args:
        stacking: a letter A, B, C per layer from bottom to top, with a prime where boron and
            nitrogen are exchanged: "AA'" (every B over an N, the stable one), "AB", "A" for one
            layer.
        lattice_constant: Å.
        spacing: distance between neighbouring layers, Å.
        height: length of c, Å.

    Returns:
        2·n_layers atoms, layer by layer from bottom to top; B first in a layer without a prime.

    Raises:
        StructureError: the stacking is unknown or the layers do not fit into the cell.
    """
    found = _read_primed("build_boron_nitride", stacking)
    cell = lattice_constant * HEXAGONAL
    layers = [SUBLATTICES + REGISTRIES[letter] for letter, _ in found]
    atoms = _stack(layers, cell, spacing, height)
    atoms.symbols = "".join("NB" if prime else "BN" for _, prime in found)
    return atoms


def build_graphene_on_boron_nitride(
    registry: str = "C",
    lattice_constant: float = HETERO_LATTICE_CONSTANT,
    spacing: float = SPACING,
    height: float = HEIGHT,
) -> Atoms:
    """Build the primitive cell of a layer of graphene on a layer of hexagonal boron nitride.

    Both have one lattice: graphene is stretched and boron nitride compressed.

    Args:
        registry: shift of the graphene: "A", carbon over both B and N; "B", over N and over the
            middle of a hexagon; "C", over B and over the middle of a hexagon, the stable one.
        lattice_constant: Å, of both.
        spacing: distance of the layers, Å.
        height: length of c, Å.

    Returns:
        4 atoms: B, N, then the two C of the upper layer.

    Raises:
        StructureError: the registry is unknown or the layers do not fit into the cell.
    """
    if registry not in REGISTRIES:
        where, got = "build_graphene_on_boron_nitride, registry", repr(registry)
        raise StructureError(message(where, got, f"one of {sorted(REGISTRIES)}", "Take C."))
    cell = lattice_constant * HEXAGONAL
    layers = [SUBLATTICES, SUBLATTICES + REGISTRIES[registry]]
    atoms = _stack(layers, cell, spacing, height)
    atoms.symbols = "BNCC"
    return atoms


def build_molybdenum_disulphide(
    stacking: str = "AA'",
    lattice_constant: float = DISULPHIDE_LATTICE_CONSTANT,
    spacing: float = DISULPHIDE_SPACING,
    thickness: float = DISULPHIDE_THICKNESS,
    height: float = DISULPHIDE_HEIGHT,
) -> Atoms:
    """Build the primitive cell of stacked molybdenum disulphide, all layers of prisms (1H).

    Args:
        stacking: a letter A, B, C per layer from bottom to top, with a prime where the sites of Mo
            and S are exchanged: "AA'" for 2H (every Mo over S, the stable one), "AB" for 3R, "A"
            for a monolayer.
        lattice_constant: Å.
        spacing: distance of the Mo planes of neighbouring layers, Å.
        thickness: distance of the S planes of a layer, Å.
        height: length of c, Å.

    Returns:
        3·n_layers atoms, layer by layer from bottom to top; Mo, the upper S, the lower S.

    Raises:
        StructureError: the stacking is unknown, the S planes of two layers meet, or the layers do
            not fit into the cell.
    """
    found = _read_primed("build_molybdenum_disulphide", stacking)
    if not 0.0 < thickness < spacing:
        raise StructureError(
            message(
                "build_molybdenum_disulphide, thickness",
                f"{thickness} Å",
                f"more than 0 and less than the spacing, {spacing} Å",
                "Layers may not run into each other.",
            )
        )
    cell = lattice_constant * HEXAGONAL
    sites = SUBLATTICES[[0, 1, 1]], SUBLATTICES[[1, 0, 0]]
    layers = [sites[bool(prime)] + REGISTRIES[letter] for letter, prime in found]
    atoms = _stack(layers, cell, spacing, height, thickness)
    atoms.symbols = "MoS2" * len(found)
    atoms.positions[1::3, 2] += 0.5 * thickness
    atoms.positions[2::3, 2] -= 0.5 * thickness
    return atoms


def build_twisted_bilayer(
    m: int,
    r: int,
    lattice_constant: float = LATTICE_CONSTANT,
    spacing: float = SPACING,
    height: float = HEIGHT,
) -> Atoms:
    """Build the commensurate twisted bilayer (m, r), turned about an atom of AA stacking.

    With r not divisible by 3 the lower layer has the superlattice vector m·a₁ + (m + r)·a₂ and the
    upper one, of equal length, (m + r)·a₁' + m·a₂'; with r divisible by 3 (m + r/3)·a₁ + (r/3)·a₂
    and (m + 2r/3)·a₁' − (r/3)·a₂'. It is put along x; the other superlattice vector is the same
    turned by 60°. (31, 1) has 1.05°, (30, 1) 1.08° and 11,164 atoms.

    Args:
        m: positive integer.
        r: positive integer without a common divisor with m.
        lattice_constant: Å.
        spacing: distance of the layers, Å.
        height: length of c, Å.

    Returns:
        4(3m² + 3mr + r²) atoms, or a third of it when 3 divides r; flat layers, the lower one
        first.

    Raises:
        StructureError: m and r are not positive integers without a common divisor, or the layers do
            not fit into the cell.

    References:
        Lopes dos Santos, Peres, Castro Neto (2012), doi:10.1103/PhysRevB.86.155449, Eqs. 2 and 5–8.
    """
    _check_twist(m, r)
    lower, upper = (
        ((m, m + r), (m + r, m)) if r % 3 else ((m + r // 3, r // 3), (m + 2 * r // 3, -r // 3))
    )
    p, q = lower
    length = lattice_constant * math.sqrt(p * p + p * q + q * q)
    cell = length * HEXAGONAL
    return _stack([_fill_supercell(*lower), _fill_supercell(*upper)], cell, spacing, height)


def build_supercell(atoms: Atoms, repeats: Sequence[int]) -> Atoms:
    """Repeat a cell along its lattice vectors.

    Args:
        atoms: structure, Å.
        repeats: (3,) positive integers.

    Returns:
        The supercell in the order of ``ase.Atoms.repeat``: all atoms of the first cell, then all of
        the next; the third lattice vector runs fastest. Layers are those of the cell; when the cell
        is repeated along c they are found anew.

    Raises:
        StructureError: repeats are not three positive integers.
    """
    if len(repeats) != 3 or any(int(n) != n or n < 1 for n in repeats):
        raise StructureError(
            message(
                "build_supercell, repeats",
                f"{list(repeats)}",
                "three positive integers",
                "For example 3 3 1.",
            )
        )
    primitive = atoms.copy()
    primitive.set_array("layer", get_layers(atoms))
    supercell = primitive.repeat([int(n) for n in repeats])
    if repeats[2] > 1:
        supercell.set_array("layer", assign_layers(supercell))
    return supercell


def perturb_structure(
    atoms: Atoms,
    rng: np.random.Generator,
    in_plane: float = 0.0,
    out_of_plane: float = 0.0,
    slide: float = 0.0,
    spacing_change: float = 0.0,
    strain: float = 0.0,
) -> Atoms:
    """Strain a structure, slide and space its layers, and displace its atoms at random.

    The plane is that of the first two lattice vectors. All random numbers are drawn whatever the
    amplitudes, so that one seed gives the same directions for every amplitude.

    Args:
        atoms: structure, Å; not changed.
        rng: source of the random numbers.
        in_plane: standard deviation of each of the two in-plane displacements of every atom, Å.
        out_of_plane: standard deviation of the displacement of every atom along the normal, Å.
        slide: every layer but the lowest is shifted by ``slide·(u₁·a₁ + u₂·a₂)``, u uniform in [0,
            1); 1 reaches every registry.
        spacing_change: every distance between neighbouring layers changes by up to ± this,
            uniformly, Å.
        strain: each of ε_xx, ε_yy, ε_xy of the cell is uniform in ± this.

    Returns:
        The distorted copy with its layers.

    Raises:
        StructureError: an amplitude is negative or not finite.
    """
    amplitudes = np.array([in_plane, out_of_plane, slide, spacing_change, strain])
    if not (np.isfinite(amplitudes).all() and (amplitudes >= 0.0).all()):
        raise StructureError(
            message(
                "perturb_structure",
                f"amplitudes {amplitudes.tolist()}",
                "numbers ≥ 0",
                "Give zero for what shall not be distorted.",
            )
        )
    layer = get_layers(atoms)
    n_gaps = int(layer.max())
    epsilon = strain * rng.uniform(-1.0, 1.0, 3)
    slides = np.vstack([np.zeros(2), slide * rng.uniform(0.0, 1.0, (n_gaps, 2))])
    lifts = np.concatenate([[0.0], np.cumsum(spacing_change * rng.uniform(-1.0, 1.0, n_gaps))])
    noise = rng.standard_normal((len(atoms), 3)) * np.array([in_plane, in_plane, out_of_plane])
    distorted = atoms.copy()
    distorted.set_array("layer", layer)
    frame = _plane_frame(atoms.cell.array)
    tensor = np.array(
        [[epsilon[0], epsilon[2], 0.0], [epsilon[2], epsilon[1], 0.0], [0.0, 0.0, 0.0]]
    )
    distorted.set_cell(atoms.cell.array @ (np.eye(3) + frame.T @ tensor @ frame), scale_atoms=True)
    rigid = slides[layer] @ distorted.cell.array[:2] + lifts[layer, None] * frame[2]
    distorted.positions += rigid + noise @ frame
    return distorted


def _read_primed(where: str, stacking: str) -> list[tuple[str, str]]:
    """Return letter and prime, or nothing, of every layer; ``where`` names the caller."""
    found: list[tuple[str, str]] = re.findall(r"([ABC])('?)", stacking)
    if not found or "".join(letter + prime for letter, prime in found) != stacking:
        expected = "letters of ABC, one per layer, each with a prime or without"
        raise StructureError(
            message(f"{where}, stacking", repr(stacking), expected, "For example AA'.")
        )
    return found


def _stack(
    layers: Sequence[NDArray[np.float64]],
    cell: NDArray[np.float64],
    spacing: float,
    height: float,
    thickness: float = 0.0,
) -> Atoms:
    """Put flat layers of carbon, given as in-plane fractions, above each other in mid-cell.

    The cell has to be higher than the stack, of whose layers each is ``thickness`` thick.
    """
    n_layers = len(layers)
    if not (height > 0.0 and spacing > 0.0 and (n_layers - 1) * spacing + thickness < height):
        got = f"{n_layers} layers at {spacing} Å in a cell of {height} Å"
        raise StructureError(
            message("stack of layers", got, "a cell higher than the stack", "Increase the height.")
        )
    z = 0.5 * height + spacing * (np.arange(n_layers) - 0.5 * (n_layers - 1))
    positions = np.vstack(
        [
            np.column_stack([fractions @ cell, np.full(len(fractions), z[k])])
            for k, fractions in enumerate(layers)
        ]
    )
    full_cell = np.zeros((3, 3))
    full_cell[:2, :2], full_cell[2, 2] = cell, height
    atoms = Atoms("C" * len(positions), positions=positions, cell=full_cell, pbc=True)
    atoms.set_array(
        "layer", np.repeat(np.arange(n_layers), [len(fractions) for fractions in layers])
    )
    return atoms


def _fill_supercell(p: int, q: int) -> NDArray[np.float64]:
    """Return the fractions (n_atoms, 2) of a graphene layer in a larger cell.

    It is spanned by p·a₁ + q·a₂ and the same turned by 60°. Lattice points are chosen in integers:
    n·adj(M) modulo det M, so that none is lost or doubled at the edge of the cell.
    """
    # of M = ((p, q), (−q, p + q)), rows = superlattice vectors
    adjugate = np.array([[p + q, -q], [q, p]])
    determinant = p * p + p * q + q * q
    reach = np.arange(-abs(p) - abs(q), 2 * (abs(p) + abs(q)) + 1)
    points = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    numerators = points @ adjugate
    inside = points[((numerators >= 0) & (numerators < determinant)).all(axis=1)]
    atoms = inside[:, None, :] + SUBLATTICES[None, :, :]
    return np.asarray(atoms.reshape(-1, 2) @ adjugate / determinant)


def _check_twist(m: int, r: int) -> None:
    if m < 1 or r < 1 or math.gcd(m, r) != 1:
        expected = "positive integers without a common divisor"
        raise StructureError(
            message("twisted bilayer (m, r)", f"({m}, {r})", expected, "For example (30, 1).")
        )


def _plane_frame(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the frame (3, 3) along a₁, across it in the layer, and normal towards c."""
    first = cell[0] / np.linalg.norm(cell[0])
    normal = np.cross(cell[0], cell[1])
    normal = normal / np.linalg.norm(normal) * math.copysign(1.0, float(normal @ cell[2]))
    return np.array([first, np.cross(normal, first), normal])
