"""A force field for flat graphene layers with phonons of the right size and a known minimum.

The energy is a sum of squares about the flat honeycomb and depends on relative positions only, so
that it is smooth and exactly invariant under rotations and translations:

    E = ¼ k_b Σ (d − d₀)²                           bonds, every one from both ends
      + ½ k_a Σ (cos θ + ½)²                        angles between the bonds of an atom + ½ k_n Σ [n
      · Σ_j r_ij]²                     height of an atom over its three neighbours, n the normal of
      their plane + ¼ Σ w [k_h (h − h₀)² + k_s (ρ² − d₀²)²]     pairs of neighbouring layers, from
      both ends

with h = |n·r| and ρ² = r² − h² of a pair, and w a smooth cutoff of ρ and r. Between AB layers ρ is
0 or d₀, so that forces and stress vanish at the lattice constant and the spacing of the
constructor; AB is the most stable stacking. The bending modes are quadratic in q by rotation
invariance. With m the mass of an atom,

    m ω² = k_n (3 ∓ |1 + e^{iq·a₁} + e^{iq·a₂}|)²   out-of-plane modes of a layer,
    m ω² = 3 k_b + 27 k_a/(2 d₀²)                   its in-plane optical mode at Γ,
    m ω² = 16 k_s d₀²   and   10 k_h                shear and breathing of an AB bilayer at Γ.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from mlepi.errors import StructureError, message
from mlepi.graphs.neighbours import find_edges
from mlepi.reference_systems.cutoff import smooth_cutoff
from mlepi.structures import get_layers
from mlepi.structures.builders import LATTICE_CONSTANT, SPACING

LONGEST_BOND = 1.9
"""Å; every atom has exactly three neighbours of its layer within this."""
LATERAL_CUTOFF = (1.9, 2.3)
"""Å, onset and end in ρ: second rings, at 2.46 Å, are out of reach."""
PAIR_CUTOFF = (4.5, 5.0)
"""Å, onset and end in the distance of a pair of different layers."""

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


class HoneycombSprings(Calculator):
    """Springs of graphene layers; stands in for the phonon network (``phonon={_target_: …}``).

    Energies, forces and stress.

    The defaults give 1,580 cm⁻¹ for the optical mode of the layer at Γ, 31 and 90 cm⁻¹ for shear
    and breathing of the bilayer.

    Args:
        lattice_constant: Å, of the flat layer at rest.
        spacing: Å, of two layers at rest.
        bond: k_b, eV/Å².
        angle: k_a, eV.
        normal: k_n, eV/Å².
        breathing: k_h, eV/Å².
        shear: k_s, eV/Å⁴.
    """

    implemented_properties: ClassVar[list[str]] = [  # type: ignore[misc]
        "energy",
        "forces",
        "stress",
    ]

    def __init__(
        self,
        *,
        lattice_constant: float = LATTICE_CONSTANT,
        spacing: float = SPACING,
        bond: float = 24.5,
        angle: float = 5.5,
        normal: float = 0.95,
        breathing: float = 0.0358,
        shear: float = 0.001315,
    ) -> None:
        super().__init__()
        self.bond_length, self.spacing = lattice_constant / math.sqrt(3.0), spacing
        self.bond = bond
        self.angle = angle
        self.normal = normal
        self.breathing = breathing
        self.shear = shear

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Compute energy (eV), forces (eV/Å) and stress (eV/Å³, Voigt order) of a structure.

        Raises:
            StructureError: an atom has not exactly three neighbours in its layer.
        """
        super().calculate(atoms, properties, system_changes)
        structure = self.atoms
        bonds, pairs = find_springs(structure)
        positions = torch.tensor(structure.positions, dtype=torch.float64, requires_grad=True)
        strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        cell = torch.tensor(structure.cell.array, dtype=torch.float64)
        deformation = torch.eye(3, dtype=torch.float64) + strain
        vectors = [
            (positions[source] + shift @ cell - positions[target]) @ deformation
            for source, target, shift in (bonds, pairs)
        ]
        energy = self.energy(vectors[0], vectors[1], pairs[1])
        gradient, virial = torch.autograd.grad(energy, (positions, strain), materialize_grads=True)
        stress = (0.5 * (virial + virial.T) / structure.get_volume()).numpy()
        self.results = {
            "energy": float(energy.detach()),
            "forces": -gradient.numpy(),
            "stress": np.array([stress[a, b] for a, b in VOIGT]),
        }

    def energy(
        self, bonds: torch.Tensor, pairs: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """Evaluate the energy as a differentiable function of the edge vectors.

        Args:
            bonds: (3 n_atoms, 3), Å, the three bonds of every atom in turn.
            pairs: (n_pairs, 3), Å, between layers, both directions, from atom i to atom j.
            targets: (n_pairs,) int, atom i.

        Returns:
            Scalar, eV.
        """
        triples = bonds.reshape(-1, 3, 3)
        lengths = triples.norm(dim=2)
        units = triples / lengths[:, :, None]
        first, second, third = triples.unbind(dim=1)
        normals = torch.linalg.cross(first - third, second - third)
        normals = normals / normals.norm(dim=1, keepdim=True)
        energy = 0.25 * self.bond * ((lengths - self.bond_length) ** 2).sum()
        cosines = torch.stack(
            [(units[:, a] * units[:, b]).sum(dim=1) for a, b in ((0, 1), (0, 2), (1, 2))]
        )
        energy = energy + 0.5 * self.angle * ((cosines + 0.5) ** 2).sum()
        energy = energy + 0.5 * self.normal * ((normals * triples.sum(dim=1)).sum(dim=1) ** 2).sum()
        height = (pairs * normals[targets]).sum(dim=1).abs()
        square = (pairs**2).sum(dim=1)
        lateral = square - height**2
        onset, end = LATERAL_CUTOFF
        window = smooth_cutoff(lateral, onset**2, end**2) * smooth_cutoff(
            square, PAIR_CUTOFF[0] ** 2, PAIR_CUTOFF[1] ** 2
        )
        squares = (
            self.breathing * (height - self.spacing) ** 2
            + self.shear * (lateral - self.bond_length**2) ** 2
        )
        return energy + 0.25 * (window * squares).sum()


Springs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Source and target atoms, (n,) int each, and cell shifts (n, 3) of ordered pairs."""


def find_springs(atoms: Atoms) -> tuple[Springs, Springs]:
    """Find the bonds and the pairs of different layers of a structure.

    Returns:
        Bonds, three per atom in the order of the atoms, and pairs within ``PAIR_CUTOFF``; both
        directions of each.

    Raises:
        StructureError: an atom has not exactly three neighbours in its layer.
    """
    layer = get_layers(atoms)
    index, shift = find_edges(atoms, PAIR_CUTOFF[1])
    lengths = np.linalg.norm(
        atoms.positions[index[0]] + shift @ atoms.cell.array - atoms.positions[index[1]], axis=1
    )
    between = layer[index[0]] != layer[index[1]]
    bonded = ~between & (lengths < LONGEST_BOND)
    counts = np.bincount(index[1, bonded], minlength=len(atoms))
    if np.any(counts != 3):
        atom = int(np.flatnonzero(counts != 3)[0])
        raise StructureError(
            message(
                f"HoneycombSprings, atom {atom}",
                f"{counts[atom]} neighbours of its layer within {LONGEST_BOND} Å",
                "three, as in graphene",
                "These springs describe graphene layers only.",
            )
        )

    def select(chosen: NDArray[np.bool_]) -> Springs:
        source, target = torch.as_tensor(index[:, chosen])
        return source, target, torch.as_tensor(shift[chosen]).double()

    return select(bonded), select(between)
