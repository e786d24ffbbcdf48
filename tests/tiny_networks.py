"""Smallest networks of both kinds, as configs of checkpoints, and a corrugated bilayer."""

from __future__ import annotations

import copy

import numpy as np
import torch
from ase import Atoms
from hydra.utils import instantiate

from mlepi.physics.overlaps import OverlapTable, RadialOrbitals, tabulate_overlaps
from mlepi.structures.basis import OrbitalBasis

CUTOFFS = {"intra": 3.0, "inter": 4.2}
RELATIONS = {"intra": ["intra"], "inter": ["inter"]}
BASIS = OrbitalBasis({6: (0, 1), 7: (0, 0, 1)}, {6: 2.1, 7: 1.9}, {6: "C-s1p1", 7: "N-s2p1"})

PHONON = {
    "_target_": "mlepi.models.PhononNetwork",
    "atomic_energies": [-150.0, -270.0],
    "energy_scale": 2.0,
    "readout_width": 4,
    "network": {
        "_target_": "mlepi.models.HeteroNetwork",
        "elements": [6, 7],
        "relations": RELATIONS,
        "fusion": "late",
        "backbone": {
            "_target_": "mlepi.models.MACE",
            "_partial_": True,
            "elements": [6, 7],
            "cutoffs": CUTOFFS,
            "mean_neighbours": {"intra": 3.0, "inter": 5.0},
            "num_layers": 2,
            "num_features": 4,
            "l_max": 2,
            "l_max_hidden": 1,
            "l_max_out": 0,
            "correlation": 2,
            "num_bessel": 4,
            "cutoff_power": 5,
            "radial_widths": [8],
            "first_self_connection": "residual",
        },
    },
}

ELECTRON = {
    "_target_": "mlepi.models.ElectronNetwork",
    "basis": BASIS.to_dict(),
    "cutoffs": CUTOFFS,
    "envelope_width": 0.5,
    "baseline": "two_center",
    "baseline_knots": 8,
    "baseline_start": 1.0,
    "pair_features": None,
    "network": {
        "_target_": "mlepi.models.HeteroNetwork",
        "elements": [6, 7],
        "relations": RELATIONS,
        "fusion": "late",
        "backbone": {
            "_target_": "mlepi.models.DeepHE3",
            "_partial_": True,
            "elements": [6, 7],
            "cutoffs": CUTOFFS,
            "mean_neighbours": {"intra": 3.0, "inter": 5.0},
            "num_layers": 1,
            "channels": [4, 3, 2],
            "embedding_channels": 4,
            "pseudo_channels": [0, 2],
            "l_max": 2,
            "num_radial": 8,
            "radial_hidden": [8],
            "envelope_width": 1.0,
            "message_decay": None,
            "norm": "local",
            "l_max_out": None,
        },
    },
}

CONFIGS = {"phonon": PHONON, "electron": ELECTRON}

FACTS = {
    "elements": [6],
    "atomic_energies": [-155.0],
    "energy_scale": 1.0,
    "cutoffs": {"intra": 4.0, "inter": 6.0},
    "mean_neighbours": {"intra": 20.0, "inter": 20.0},
    "basis": {"shells": {"6": [0, 0, 1, 1]}, "radii": {"6": 3.175}, "names": {"6": "C6.0-s2p2"}},
}
"""What the training subset of carbon tells the networks of the shipped configs."""


def build_config(kind: str) -> dict:
    """Return a private copy of a config."""
    return copy.deepcopy(CONFIGS[kind])


def build_network(kind: str) -> torch.nn.Module:
    """Return a network with random weights, float32 as training makes it."""
    torch.manual_seed(4)
    network = instantiate(build_config(kind), _convert_="all")
    with torch.no_grad():
        for value in [
            *network.parameters(),
            *(b for b in network.buffers() if b.is_floating_point() and b.abs().max() == 0),
        ]:
            value.add_(0.3 * torch.randn_like(value))
    return network.eval()


def corrugated_bilayer() -> Atoms:
    """Return a distorted C/N bilayer with its layers marked."""
    a, spacing = 2.46, 3.35
    cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 18.0]])
    positions = np.array([[0, 0, 0], [1, 2, 0], [1, 2, 0], [2, 4, 0]]) / 3 @ cell
    positions[2:, 2] += spacing
    atoms = Atoms([6, 7, 6, 6], positions=positions, cell=cell, pbc=True)
    atoms.arrays["layer"] = np.array([0, 0, 1, 1])
    atoms = atoms.repeat((2, 2, 1))
    atoms.positions += np.random.default_rng(8).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


_TABLES: dict[str, OverlapTable] = {}


def gaussian_overlap_table(basis: OrbitalBasis = BASIS) -> OverlapTable:
    """Return the overlap table of Gaussian orbitals with the shells and radii of a basis."""
    key = repr(basis)
    if key not in _TABLES:
        _TABLES[key] = _tabulate_gaussians(basis)
    return copy.deepcopy(_TABLES[key])


def _tabulate_gaussians(basis: OrbitalBasis) -> OverlapTable:
    orbitals = []
    for number, shells in basis.shells.items():
        grid = np.linspace(0.0, basis.radii[number], 1501)
        values = []
        for n, l in enumerate(shells):
            radial = grid**l * np.exp(-(9.0 + 3.0 * n) * (grid / basis.radii[number]) ** 2)
            values.append(radial / np.sqrt(np.trapezoid(radial**2 * grid**2, grid)))
        orbitals.append(
            RadialOrbitals(
                number, basis.names[number], basis.radii[number], shells, grid, np.array(values)
            )
        )
    return tabulate_overlaps(orbitals, n_grid=257)
