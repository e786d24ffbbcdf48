"""The materials whose networks are shipped, and what their cards say of each.

A network belongs to the material that has its elements. Everything that differs between materials
stands here; ``model_card.py`` and ``make.py`` know none by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlepi.errors import DataError, message


@dataclass(frozen=True, kw_only=True)
class Material:
    """What the cards of one material's networks say beside measured numbers.

    Attributes:
        elements: symbols, sorted.
        name: in the first sentence of a card.
        folder: of its labels, below ``data``.
        atoms_per_layer: of the primitive cell.
        lattice_constant: Å, from which strains are counted; the text is printed as it stands.
        orbitals: names of the orbitals.
        reach: shells of the orbitals and range of a pair.
        overlap_table: radial overlap functions, for checkpoints that carry none.
        targets: metric → largest value that a shipped checkpoint should have.
        displaced: kind of a training structure → how its atoms were displaced.
        weaknesses: kind of network → sentences.
        not_tested: what no label of the data set tells.
        has_ab_phonons: ``benchmarks/phonons.py``, of AB bilayer graphene, applies.
    """

    elements: tuple[str, ...]
    name: str
    folder: str
    atoms_per_layer: int
    lattice_constant: str
    orbitals: str
    reach: str
    overlap_table: str
    targets: Mapping[str, float]
    displaced: Mapping[str, str]
    weaknesses: Mapping[str, tuple[str, ...]]
    not_tested: str
    has_ab_phonons: bool

    def predicts(self, kind: str) -> str:
        """Return what a network of a kind, "phonon" or "electron", predicts."""
        if kind == "phonon":
            return (
                f"Total energy (eV), forces (eV/Å) and stress of {self.name}, Grimme D2 included "
                "as in the labels."
            )
        return (
            f"The Kohn–Sham Hamiltonian of {self.name} in OpenMX's {self.orbitals} orbitals, as "
            "real-space blocks (eV). The overlap matrix does not come from the network but from "
            "radial tables of the orbitals, which the checkpoint carries."
        )


SHIFTED = (
    "A part of the error of the bands is a common shift of each structure: compare aligned and "
    "unaligned."
)
ILL_CONDITIONED = (
    "S is ill-conditioned (see its smallest eigenvalue): errors of H grow by its inverse in the "
    "worst direction, mostly in states far above E_F, which should not be used."
)
ENERGY_ZERO = (
    "H keeps the energy zero of the DFT code, which depends on the cell; differences within one "
    "structure have a meaning."
)

GRAPHENE = Material(
    elements=("C",),
    name="bilayer graphene",
    folder="blg_openmx",
    atoms_per_layer=2,
    lattice_constant="2.46",
    orbitals="C6.0-s2p2",
    reach="(s s p p), reach of a pair 6.35 Å",
    overlap_table="data/blg_openmx/overlap_C6.0-s2p2.h5",
    targets={
        "hamiltonian_gauge_free_mae_mev": 0.6,
        "ghosts_kpoints_percent": 1.0,
        "shifted_ghosts_kpoints_percent": 0.0,
        "shifted_bands_2ev_rms_mev": 10.0,
        "shifted_bands_2ev_aligned_rms_mev": 5.0,
        "slope_error": 0.04,
        "overlap_max": 2e-5,
        "energy_mae_mev_per_atom": 0.4,
        "forces_rmse_mev_per_angstrom": 12.0,
    },
    displaced={
        "slide": "none (rigid layers at any slide)",
        "random3": "Gaussian, in-plane 0.015–0.045 Å, out-of-plane 0.02–0.10 Å per component",
        "thermal3": "of phonons at 0–600 K in 3×3 cells",
        "shape": "of phonons at 0–600 K in cells of other shapes",
    },
    weaknesses={
        "phonon": (
            "The labels' small basis overbinds the layers (basis-set superposition), and the "
            "network with it: relaxed, they sit near "
            "3.15 Å instead of 3.35 Å. Fix the spacing when an experiment is meant, and say so.",
            "Forces of waves that no training cell contains are extrapolated, see the frequencies "
            "against DFT and the bending rigidity.",
        ),
        "electron": (SHIFTED, ILL_CONDITIONED, ENERGY_ZERO),
    },
    not_tested=(
        "other elements, defects, edges, adsorbates; bulk; fields, charge, spin; displacements "
        "beyond those of the training set, so temperatures far above 600 K. One layer, and twisted "
        "or thicker stacks, only as far as the table of test subsets says."
    ),
    has_ab_phonons=True,
)

BORON_NITRIDE = Material(
    elements=("B", "N"),
    name="bilayer hexagonal boron nitride",
    folder="hbn_openmx",
    atoms_per_layer=2,
    lattice_constant="2.504",
    orbitals="B7.0-s2p2 and N6.0-s2p2",
    reach="(s s p p), reach of a pair 6.35 (N–N) to 7.41 Å (B–B)",
    overlap_table="data/hbn_openmx/overlap_B7.0-s2p2_N6.0-s2p2.h5",
    targets={
        "hamiltonian_gauge_free_mae_mev": 1.5,
        "ghosts_kpoints_percent": 1.0,
        "shifted_ghosts_kpoints_percent": 0.0,
        "overlap_max": 2e-5,
        "forces_rmse_mev_per_angstrom": 25.0,
    },
    displaced={"hbn3": "Gaussian, of all atoms of a 3×3 cell; a third of the cells strained"},
    weaknesses={
        "phonon": (
            "Seventeen training structures of one shape of cell, 3×3: an atom and its images, "
            "7.5 Å away, move together, and longer waves were never seen.",
            "Short-ranged: the field of a longitudinal optical wave is missing, so LO does not "
            "rise above TO near Γ (docs/materials.md says by how much).",
        ),
        "electron": (
            "Seventeen training structures of one shape of cell, 3×3, whose side is the range of "
            "the blocks.",
            "The gap is that of PBE, far below experiment's.",
            SHIFTED,
            ILL_CONDITIONED,
            ENERGY_ZERO,
        ),
    },
    not_tested=(
        "other elements, defects, edges, adsorbates; bulk; fields, charge, spin; cells of other "
        "shapes and sizes than 3×3; one layer, twisted or thicker stacks; thermal displacements, "
        "which the random ones only enclose."
    ),
    has_ab_phonons=False,
)

MOLYBDENUM_DISULPHIDE = Material(
    elements=("Mo", "S"),
    name="one- and two-layer molybdenum disulphide",
    folder="mos2_openmx",
    atoms_per_layer=3,
    lattice_constant="3.16",
    orbitals="Mo7.0-s3p2d2 and S7.0-s2p2d1",
    reach="(s s s p p d d and s s p p d), reach of a pair 7.41 Å",
    overlap_table="data/mos2_openmx/overlap_Mo7.0-s3p2d2_S7.0-s2p2d1.h5",
    targets={
        "hamiltonian_gauge_free_mae_mev": 3.0,
        "ghosts_kpoints_percent": 1.0,
        "shifted_ghosts_kpoints_percent": 0.0,
        "overlap_max": 5e-5,
        "forces_rmse_mev_per_angstrom": 40.0,
    },
    displaced={
        "mos2b2": "Gaussian, 0.02–0.06 Å per component (0.75 of it for Mo, 1.1 for S), in 2×2 "
        "bilayers",
        "mos2m3": "the same in 3×3 monolayers",
    },
    weaknesses={
        "phonon": (
            "Nine training structures of two shapes of cell, 2×2 bilayers and 3×3 monolayers: an "
            "atom of a bilayer and its images, 6.3 Å away, move together, and longer waves of "
            "bilayers were never seen.",
            "Short-ranged: the field of a longitudinal optical wave is missing, so LO does not "
            "rise above TO near Γ.",
        ),
        "electron": (
            "Nine training structures of two shapes of cell; blocks of bilayers reach beyond the "
            "2×2 cell they were learned in.",
            "The gap is that of PBE without spin-orbit coupling, which splits the valence band at "
            "K.",
            SHIFTED,
            ILL_CONDITIONED,
            ENERGY_ZERO,
        ),
    },
    not_tested=(
        "other elements, defects, edges, adsorbates; bulk; fields, charge, spin; cells of other "
        "shapes and sizes; twisted or thicker stacks, octahedral layers (1T); thermal "
        "displacements, which the random ones only enclose."
    ),
    has_ab_phonons=False,
)

MATERIALS = (GRAPHENE, BORON_NITRIDE, MOLYBDENUM_DISULPHIDE)


def find_material(elements: Iterable[str]) -> Material:
    """Return the material of some elements.

    Args:
        elements: symbols, in any order.

    Raises:
        DataError: there is none.
    """
    wanted = tuple(sorted(set(elements)))
    for material in MATERIALS:
        if material.elements == wanted:
            return material
    known = ", ".join("-".join(material.elements) for material in MATERIALS)
    raise DataError(
        message(
            "material of the network",
            "-".join(wanted) or "no element",
            f"one of {known}",
            "Add what a card says of it to data/checkpoints/materials.py.",
        )
    )
