"""Crystals of every kind, drawers of structures, and settings, for the tests of designs."""

from __future__ import annotations

from ase import Atoms
from ase.build import bulk, mx2

from mlepi.design import DesignSettings, Drawer, Ranges, examine_material
from mlepi.design.shapes import choose_shapes
from mlepi.design.twists import list_twists
from mlepi.reference_systems.born_springs import build_born_constants
from mlepi.structures import build_graphene

VACUUM = 6.0


def build_mos2(n_layers: int = 1) -> Atoms:
    """MoS2, three atoms thick, the second layer turned by 180° about c."""
    single = mx2("MoS2", a=3.16, thickness=3.13, vacuum=10.0)
    single.pbc = True
    single.positions[:, 2] += 4.0 - single.positions[:, 2].min()
    atoms = single.copy()
    for layer in range(1, n_layers):
        other = single.copy()
        if layer % 2:
            other.positions[:, :2] *= -1.0
        other.positions[:, 2] += 6.15 * layer
        atoms += other
    cell = atoms.cell.array.copy()
    cell[2, 2] = 12.0 + 6.15 * n_layers
    atoms.set_cell(cell)
    return atoms


def build_hbn() -> Atoms:
    """Bilayer of hexagonal boron nitride, AA′."""
    atoms = build_graphene("AA", lattice_constant=2.50)
    atoms.numbers = [5, 7, 7, 5]
    return atoms


def crystals() -> dict[str, Atoms]:
    """One layer, two, three-atom-thick ones, bulk of layers, bulk without."""
    return {
        "graphene": build_graphene("monolayer"),
        "bilayer": build_graphene("AB"),
        "trilayer": build_graphene("ABA"),
        "graphite": build_graphene("AB", height=6.7),
        "hbn": build_hbn(),
        "mos2": build_mos2(),
        "mos2_bilayer": build_mos2(2),
        "silicon": bulk("Si"),
    }


def ranges(**given) -> Ranges:
    """Ranges with no bound on displacements."""
    settings = {
        "temperatures": (0.0, 300.0),
        "slide": 1.0,
        "spacing": 0.3,
        "strain": 0.015,
        "largest_displacement": None,
        "floor_frequency": 0.5,
        "seed": 3,
    }
    return Ranges(**{**settings, **given})


def drawer(atoms: Atoms, *, max_atoms: int = 48, n_shapes: int = 4, **given) -> Drawer:
    """A drawer of small supercells, by springs."""
    material = examine_material(atoms, VACUUM)
    supercell = tuple(3 if axis in material.axes else 1 for axis in range(3))
    shapes = choose_shapes(material, reach=6.0, n_shapes=n_shapes, min_atoms=8, max_atoms=max_atoms)
    twists = list_twists(material, max_atoms // len(atoms))
    constants = build_born_constants(material.atoms, supercell)
    return Drawer(material, constants, shapes, twists, ranges(**given))


def settings(**given) -> DesignSettings:
    """Settings of a small design."""
    chosen = {
        "n_structures": 6,
        "cpu_hours": None,
        "pool": 2.0,
        "shares": {"thermal": 0.5, "slide": 0.2, "spacing": 0.1, "strain": 0.1, "twist": 0.1},
        "reach": 6.0,
        "n_shapes": 4,
        "min_atoms": 8,
        "max_atoms": 32,
        "supercell": (3, 3, 1),
        "ranges": ranges(),
    }
    return DesignSettings(**{**chosen, **given})
