"""Honeycomb tight binding with hopping that depends on the distance, whose bands are known.

Every two-centre integral is V(d) = V₀ exp[−β(d/d₀ − 1)] times a smooth cutoff, with d₀ the bond
inside a layer and the spacing between layers. Inside a layer only first neighbours are in range,
between layers those within 4.15 Å, so that the textbook results hold exactly for flat layers.
Blocks of s and p orbitals follow Slater and Koster, with e the unit vector from i to j:

    ⟨s|H|s⟩ = V_ssσ,   ⟨s|H|p_b⟩ = e_b V_spσ = −⟨p_b|H|s⟩,   ⟨p_a|H|p_b⟩ = e_a e_b (V_ppσ − V_ppπ) +
    δ_ab V_ppπ.

Both orbital sets are rotation covariant; for flat layers one s orbital per atom is the p_z model of
graphene. Blocks are differentiable functions of the edge vectors, in torch and float64.

References:
    Slater, Koster, Phys. Rev. 94, 1498 (1954), doi:10.1103/PhysRev.94.1498. Saito, Dresselhaus,
    Dresselhaus, Physical Properties of Carbon Nanotubes (1998), doi:10.1142/p080 (first neighbours
        of graphene; there σ lobes point at each other, hence the other signs of H_spσ, H_ppσ, S_spσ
        and S_ppσ).
    Pereira, Castro Neto, Peres, Phys. Rev. B 80, 045401 (2009), doi:10.1103/PhysRevB.80.045401 (β =
    3.37 of the π bond). Harrison, Electronic Structure and the Properties of Solids (1980) (V ∝
    d⁻², whose logarithmic slope is β = 2, for σ bonds). Trambly de Laissardière, Mayou, Magaud,
    Nano Lett. 10, 804 (2010), doi:10.1021/nl902948m (decay between layers, 2.218 Å⁻¹).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import ConfigError, StructureError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.neighbours import find_edges
from mlepi.physics.overlaps import OverlapTable
from mlepi.physics.overlaps.angular import coupling_matrix, solid_harmonics
from mlepi.physics.overlaps.table import list_channels
from mlepi.reference_systems.cutoff import smooth_cutoff
from mlepi.structures import OrbitalBasis, get_layers
from mlepi.structures.builders import LATTICE_CONSTANT, SPACING
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND

BOND = LATTICE_CONSTANT / math.sqrt(3.0)
"""Å, bond of flat graphene; d₀ of the integrals inside a layer."""

Integrals = Mapping[str, Sequence[float]]
"""Name of a two-centre integral (sss, sps, pps, ppp) → V₀ (eV, or dimensionless for an overlap) and
β."""

NAMES = {"s": ("sss",), "sp": ("sss", "sps", "pps", "ppp")}
"""Orbital set → its two-centre integrals."""

ELECTRONS = {"s": 1.0, "sp": 4.0}
"""Orbital set → electrons per atom."""

INTRALAYER: Mapping[str, Integrals] = {
    "s": {"sss": (-2.7, 3.37)},
    "sp": {"sss": (-6.769, 2.0), "sps": (5.580, 2.0), "pps": (5.037, 2.0), "ppp": (-3.033, 3.37)},
}
INTERLAYER: Mapping[str, Integrals] = {
    "s": {"sss": (0.38, 7.43)},
    "sp": {"sss": (0.0, 7.43), "sps": (0.0, 7.43), "pps": (0.38, 7.43), "ppp": (0.0, 7.43)},
}
OVERLAP: Mapping[str, Integrals] = {
    "s": {"sss": (0.129, 3.37)},
    "sp": {"sss": (0.212, 2.0), "sps": (-0.102, 2.0), "pps": (-0.146, 2.0), "ppp": (0.129, 3.37)},
}
ONSITE: Mapping[str, Mapping[str, float]] = {"s": {"s": 0.0}, "sp": {"s": -8.868, "p": 0.0}}
"""eV."""

INTRALAYER_CUTOFF = (1.8, 2.3)
"""Å, onset and end: second neighbours, at 2.46 Å, are out of reach."""
INTERLAYER_CUTOFF = (3.4, 4.15)
"""Å: straight and slanted neighbours at 3.35 and 3.64 Å are inside, those at 4.16 Å are not."""

_TABLE_POINTS = 4151
_TABLE_START = (
    1.0  # Å; closer than this no two atoms are, and the table goes over to the on-site overlap
)


@dataclass(frozen=True)
class Edges:
    """Ordered pairs of atoms, on-site pairs first.

    Attributes:
        index: (2, n_edges) int, source j and target i.
        shift: (n_edges, 3) int.
        interlayer: (n_edges,) bool.
    """

    index: NDArray[np.int64]
    shift: NDArray[np.int64]
    interlayer: NDArray[np.bool_]


class TightBinding:
    """Tight binding of graphene layers.

    Stands in for the electron network (``electron={_target_: …}``).

    Args:
        orbitals: "s" (one orbital and one electron per atom) or "sp" (four of each).
        orthogonal: no overlap between atoms; false takes ``overlap``.
        intralayer: name → (V₀ in eV, β) inside a layer; None takes the published values of
            ``INTRALAYER``.
        interlayer: likewise between layers; d₀ is the spacing.
        overlap: name → (S₀, β) inside a layer.
        onsite: shell → eV.
        bond: d₀ inside a layer, Å.
        spacing: d₀ between layers, Å.

    Raises:
        ConfigError: the orbital set is unknown, or an integral is missing or unknown.
    """

    def __init__(
        self,
        *,
        orbitals: str = "sp",
        orthogonal: bool = True,
        intralayer: Integrals | None = None,
        interlayer: Integrals | None = None,
        overlap: Integrals | None = None,
        onsite: Mapping[str, float] | None = None,
        bond: float = BOND,
        spacing: float = SPACING,
    ) -> None:
        if orbitals not in NAMES:
            raise ConfigError(
                message(
                    "TightBinding.orbitals",
                    repr(orbitals),
                    f"one of {list(NAMES)}",
                    "Choose one of them.",
                )
            )
        self.orbitals = orbitals
        self.bond, self.spacing = float(bond), float(spacing)
        none = dict.fromkeys(NAMES[orbitals], (0.0, 0.0))
        self.intralayer = self._complete(
            "intralayer", INTRALAYER[orbitals] if intralayer is None else intralayer
        )
        self.interlayer = self._complete(
            "interlayer", INTERLAYER[orbitals] if interlayer is None else interlayer
        )
        self.overlaps = self._complete(
            "overlap", none if orthogonal else OVERLAP[orbitals] if overlap is None else overlap
        )
        self.onsite = dict(ONSITE[orbitals] if onsite is None else onsite)
        if set(self.onsite) != set(orbitals):
            raise ConfigError(
                message(
                    "TightBinding.onsite",
                    f"{sorted(self.onsite)}",
                    f"{list(orbitals)}",
                    "Name every shell.",
                )
            )
        shells = tuple(range(len(orbitals)))
        self.basis = OrbitalBasis(
            {6: shells},
            {6: 0.5 * INTERLAYER_CUTOFF[1]},
            {6: f"tight binding, {orbitals}"},
            {6: ELECTRONS[orbitals]},
        )

    def hamiltonian(
        self, atoms: Atoms, *, device: str | torch.device = "cpu", dtype: str = "float64"
    ) -> BlockMatrix:
        """Return the Hamiltonian, eV, computed in float64 whatever the network's ``dtype`` is."""
        return self._matrix(atoms, 0, device)

    def overlap(self, atoms: Atoms) -> BlockMatrix:
        """Return the overlap."""
        return self._matrix(atoms, 1, "cpu")

    def find_edges(self, atoms: Atoms) -> Edges:
        """List the pairs of a structure that have a block.

        Raises:
            StructureError: an atom is not carbon.
        """
        if np.any(atoms.numbers != 6):
            raise StructureError(
                message(
                    "reference system",
                    atoms.get_chemical_formula(),
                    "carbon only",
                    "Use graphene layers.",
                )
            )
        layer = get_layers(atoms)
        index, shift = find_edges(atoms, INTERLAYER_CUTOFF[1])
        lengths = np.linalg.norm(
            atoms.positions[index[0]] + shift @ atoms.cell.array - atoms.positions[index[1]], axis=1
        )
        interlayer = layer[index[0]] != layer[index[1]]
        near = interlayer | (lengths < INTRALAYER_CUTOFF[1])
        own = np.tile(np.arange(len(atoms)), (2, 1))
        return Edges(
            np.concatenate([own, index[:, near]], axis=1),
            np.concatenate([np.zeros((len(atoms), 3), dtype=np.int64), shift[near]]),
            np.concatenate([np.zeros(len(atoms), dtype=np.bool_), interlayer[near]]),
        )

    def edge_vectors(
        self, positions: torch.Tensor, cell: torch.Tensor, edges: Edges
    ) -> torch.Tensor:
        """Return r_j + shift·cell − r_i: (n_edges, 3), Å, differentiable in positions and cell."""
        source, target = torch.as_tensor(edges.index, device=positions.device)
        return (
            positions[source]
            + torch.as_tensor(edges.shift, device=positions.device).to(cell) @ cell
            - positions[target]
        )

    def blocks(
        self, vectors: torch.Tensor, interlayer: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluate H and S as differentiable functions of the edge vectors.

        Args:
            vectors: (n_edges, 3), Å, from target to source; on-site where zero.
            interlayer: (n_edges,) bool.

        Returns:
            (n_edges, n, n) eV and (n_edges, n, n), rows = orbitals of the target.
        """
        square = (vectors**2).sum(dim=1)
        own = square < 1e-16
        lengths = torch.where(own, 1.0, square).sqrt()  # no slope at zero, where the root has none
        directions = vectors / lengths[:, None]
        within = self._radial(self.intralayer, lengths)
        between = self._radial(self.interlayer, lengths, inter=True)
        radial = torch.where(interlayer[:, None], between, within)
        onsite = vectors.new_tensor([self.onsite["s"], *[self.onsite.get("p", 0.0)] * 3])[
            : self.basis.max_orbitals
        ]
        atom = own[:, None, None]
        hamiltonian = torch.where(atom, torch.diag(onsite), _slater_koster(radial, directions))
        shared = torch.where(interlayer[:, None], 0.0, self._radial(self.overlaps, lengths))
        overlap = torch.where(
            atom, torch.eye(len(onsite)).to(vectors), _slater_koster(shared, directions)
        )
        return hamiltonian, overlap

    @property
    def fermi_velocity(self) -> float:
        """v_F of the flat monolayer at the constructor's bond, √3·a·|t − E₀s|/2ħ, m/s."""
        name, shell = ("sss", "s") if self.orbitals == "s" else ("ppp", "p")
        hopping = self.intralayer[name][0] - self.onsite[shell] * self.overlaps[name][0]
        return (
            math.sqrt(3.0)
            / 2.0
            * math.sqrt(3.0)
            * self.bond
            * abs(hopping)
            * EV_ANGSTROM_TO_METRE_PER_SECOND
        )

    @property
    def gamma_1(self) -> float:
        """γ₁ of the flat bilayer, eV: half the splitting of the dimer states at K.

        Exact for "s", where all slanted hoppings cancel at K; in "sp" those between π and σ
        orbitals do not.
        """
        return abs(self.interlayer["sss" if self.orbitals == "s" else "pps"][0])

    def overlap_table(self) -> OverlapTable:
        """Tabulate the overlap as the radial functions that a checkpoint carries, above 1 Å."""
        distances = torch.linspace(0.0, INTERLAYER_CUTOFF[1], _TABLE_POINTS, dtype=torch.float64)
        far = distances.clamp(min=0.3)
        along = torch.stack([torch.zeros_like(far), torch.zeros_like(far), far], dim=1)
        blocks = self.blocks(along, torch.zeros(len(far), dtype=torch.bool))[1]
        weight = 1.0 - smooth_cutoff(distances, 0.0, _TABLE_START)
        shells = self.basis.shells[6]
        slices = self.basis.slices(6)
        values = []
        for channel in list_channels(shells, shells, same_element=True):
            la, lb = shells[channel.shell_1], shells[channel.shell_2]
            block = blocks[:, slices[channel.shell_1], slices[channel.shell_2]].reshape(
                len(far), -1
            )
            values.append(weight * _project(block, along, la, lb, channel.total))
            if la == lb and channel.total == 0:
                own = torch.eye(2 * la + 1, dtype=torch.float64).reshape(1, -1)
                values[-1] += (1.0 - weight) * _project(own, along[:1], la, lb, 0)
        table = torch.stack(values).numpy()
        return OverlapTable(self.basis.shells, self.basis.radii, self.basis.names, {(6, 6): table})

    def _matrix(self, atoms: Atoms, which: int, device: str | torch.device) -> BlockMatrix:
        edges = self.find_edges(atoms)
        positions, cell = (
            torch.tensor(a, dtype=torch.float64, device=device)
            for a in (atoms.positions, atoms.cell.array)
        )
        vectors = self.edge_vectors(positions, cell, edges)
        values = (
            self.blocks(vectors, torch.as_tensor(edges.interlayer, device=device))[which]
            .cpu()
            .numpy()
        )
        return BlockMatrix(
            np.asarray(atoms.numbers, dtype=np.int64), self.basis, edges.index, edges.shift, values
        ).symmetrised()

    def _radial(
        self, integrals: Integrals, lengths: torch.Tensor, inter: bool = False
    ) -> torch.Tensor:
        """Evaluate V(d) of every integral: (n_edges, n_integrals)."""
        rest, cutoff = (
            (self.spacing, INTERLAYER_CUTOFF) if inter else (self.bond, INTRALAYER_CUTOFF)
        )
        strengths, decays = lengths.new_tensor([integrals[name] for name in NAMES[self.orbitals]]).T
        return (
            strengths
            * torch.exp(-decays * (lengths[:, None] / rest - 1.0))
            * smooth_cutoff(lengths, *cutoff)[:, None]
        )

    def _complete(self, key: str, integrals: Integrals) -> dict[str, tuple[float, float]]:
        names = NAMES[self.orbitals]
        if set(integrals) != set(names) or any(len(pair) != 2 for pair in integrals.values()):
            raise ConfigError(
                message(
                    f"TightBinding.{key}",
                    f"{dict(integrals)}",
                    f"{{{', '.join(f'{n}: [V₀, β]' for n in names)}}}",
                    "Give all.",
                )
            )
        return {name: (float(integrals[name][0]), float(integrals[name][1])) for name in names}


def _slater_koster(radial: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Turn two-centre integrals (n_edges, 1 or 4) into blocks (n_edges, n, n).

    Orbitals are in the order s, p_y, p_z, p_x.
    """
    if radial.shape[1] == 1:
        return radial[:, :, None]
    sss, sps, pps, ppp = (radial[:, n, None, None] for n in range(4))
    e = directions[:, [1, 2, 0]]
    across = sps * e[:, None, :]
    pp = (pps - ppp) * e[:, :, None] * e[:, None, :] + ppp * torch.eye(3).to(radial)
    return torch.cat(
        [torch.cat([sss, across], dim=2), torch.cat([-across.transpose(1, 2), pp], dim=2)], dim=1
    )


def _project(
    block: torch.Tensor, vectors: torch.Tensor, la: int, lb: int, total: int
) -> torch.Tensor:
    """Return t_abL (n,) of flattened blocks (n, (2la+1)(2lb+1)) of edges along z."""
    rows, start = [], 0
    coupling = coupling_matrix(la, lb).to(block)
    momenta = range(abs(la - lb), la + lb + 1, 2)
    for momentum in momenta:
        rows.append(solid_harmonics(momentum, vectors) @ coupling[start : start + 2 * momentum + 1])
        start += 2 * momentum + 1
    patterns = torch.stack(rows, dim=2)  # n, elements, momenta
    if (
        patterns.shape[0] == 1 and total == 0
    ):  # on-site: every pattern but the isotropic one is to vanish
        return (block * patterns[:, :, 0]).sum(dim=1) / (patterns[:, :, 0] ** 2).sum(dim=1)
    solution = torch.linalg.lstsq(patterns, block[:, :, None]).solution[:, :, 0]
    return solution[:, list(momenta).index(total)]
