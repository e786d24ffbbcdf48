"""Small electron networks from the package's configs, a structure for them, blocks by key."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from e3nn_oracle import wigner_d
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tiny_networks import gaussian_overlap_table

from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.predictors.electron import ElectronPredictor
from mlepi.structures.basis import OrbitalBasis

CONF = Path(__file__).parents[1] / "conf"
CUTOFFS = {"intra": 3.0, "inter": 4.2}
BASIS = OrbitalBasis({6: (0, 0, 1, 2), 1: (0, 1)}, {6: 2.1, 1: 1.5}, {6: "C-s2p1d1", 1: "H-s1p1"})
MODELS = {
    "deeph_e3": ["+model=deeph_e3"],
    "deeph_e3_6layer": ["+model=deeph_e3_6layer"],
    "hedgenet_late": ["+model=hedgenet_electron", "model.network.fusion=late"],
    "hedgenet_per_layer": ["+model=hedgenet_electron", "model.network.fusion=per_layer"],
    "structure_norm": ["+model=hedgenet_electron", "model.network.backbone.norm=structure"],
    "no_norm": ["+model=hedgenet_electron", "model.network.backbone.norm=none"],
    "no_baseline": [
        "+model=hedgenet_electron",
        "model.baseline=none",
        "model.network.backbone.message_decay=null",
    ],
    "deeph_e3_exact": ["+model=deeph_e3_exact"],
    "hedgenet_self_loops": ["+model=hedgenet_electron", "model.network.backbone.self_loops=true"],
    "mace_hamiltonian": ["+model=mace_hamiltonian"],
    "hedgenet_mace_late": ["+model=hedgenet_mace_hamiltonian", "model.network.fusion=late"],
    "hedgenet_mace_per_layer": [
        "+model=hedgenet_mace_hamiltonian",
        "model.network.fusion=per_layer",
        "model.baseline=none",
    ],
    "mace_vectors": ["+model=mace_hamiltonian", "model.network.backbone.l_max_out=1"],
    "deeph": ["+model=deeph"],
    "deeph_exact": ["+model=deeph_exact"],
    "hedgenet_deeph": [
        "+model=deeph",
        "~model.network.relations.all",
        "+model.network.relations.intra=[intra]",
        "+model.network.relations.inter=[inter]",
    ],
    "deeph_e3_wide": ["+model=deeph_e3_wide"],
    "deeph_e3_told": ["+model=deeph_e3_told"],
    "hedgenet_shared": ["+model=hedgenet_electron_shared"],
    "baseline_alone": ["+model=deeph_e3", "model.network.backbone.num_layers=1"],
}


def build_config(
    name: str, basis: OrbitalBasis = BASIS, channels: str = "[4,3,2,2,2]", pseudo: str = "[0,2,2,2]"
) -> dict:
    """Compose a model's own YAML at a small width and fill in what training would."""
    sizes = [
        f"electron.channels={channels}",
        f"electron.wide_channels={channels}",
        f"electron.pseudo_channels={pseudo}",
        "electron.l_max=4",
        "electron.num_radial=8",
        "electron.radial_hidden=[8]",
        "phonon.num_features=4",
        "phonon.l_max=2",
        "phonon.radial_widths=[8]",
        "deeph.num_layers=3",
        "deeph.node_features=6",
        "deeph.edge_features=20",
        "deeph.hidden=8",
    ]
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(
            overrides=[*MODELS[name], "+size=small", *(f"size.{size}" for size in sizes)]
        )
    OmegaConf.set_readonly(config, False)
    model = OmegaConf.to_container(config.model, resolve=True)
    backbone = model["network"]["backbone"]
    model["basis"], model["cutoffs"] = basis.to_dict(), CUTOFFS
    model["network"]["elements"] = backbone["elements"] = list(basis.elements)
    backbone["cutoffs"] = CUTOFFS
    backbone["mean_neighbours"] = backbone["mean_neighbours"] or {"intra": 3.0, "inter": 5.0}
    for key in ("elements", "cutoffs", "mean_neighbours"):
        if model["pair_features"] is not None:
            model["pair_features"][key] = backbone[key]
    return model


def randomise(model: torch.nn.Module) -> None:
    """Leave no bias or table at its initial zero, as if trained."""
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
        if model.baseline is None:
            return
        for table in (model.baseline.edge_coefficients, model.baseline.crystal_field):
            table.add_(0.2 * torch.randn_like(table))
        for element, row in np.ndindex(len(model.network.elements), len(model.targets.slots)):
            for l, a, b in zip(
                model.targets.slots, model.targets.slices, model.targets.slices[row:], strict=False
            ):
                if a.stop - a.start == b.stop - b.start:  # an isotropic block has no other element
                    model.baseline.on_site[element, a, b] = torch.randn(()) * torch.eye(2 * l + 1)


def build_model(name: str, dtype=torch.float64, seed=1, **options):
    torch.manual_seed(seed)
    model = instantiate(build_config(name, **options), _convert_="all").to(dtype).eval()
    randomise(model)
    if name == "baseline_alone":
        model.edge_scale.zero_()
        model.on_site_scale.zero_()
    return model


def build_smooth_predictor(name: str = "hedgenet_late") -> ElectronPredictor:
    """Smooth cutoffs, as derivatives demand, whatever the published network does."""
    model = build_model(name)
    model.envelope_width = 0.5
    for backbone in model.network.sub_networks.values():
        backbone.envelope_width = 0.5
    table = gaussian_overlap_table(BASIS)
    return ElectronPredictor(model, basis=BASIS, cutoffs=CUTOFFS, overlap_table=table)


def bilayer(seed=0) -> Atoms:
    """Rattled AB-like bilayer of four atoms in a sheared cell, the layer of each atom given."""
    cell = np.array([[2.5, 0.1, 0.0], [-1.2, 2.2, 0.05], [0.1, 0.0, 14.0]])
    fractional = np.array(
        [[0, 0, 0.3], [1 / 3, 2 / 3, 0.3], [1 / 3, 2 / 3, 0.53], [2 / 3, 1 / 3, 0.53]]
    )
    atoms = Atoms(numbers=[6, 1, 6, 6], cell=cell, scaled_positions=fractional, pbc=True)
    atoms.positions += 0.05 * np.random.default_rng(seed).normal(size=(4, 3))
    atoms.arrays["layer"] = np.array([0, 0, 1, 1])
    return atoms


def directed_edges(atoms):
    """All (j → i, R) within the cutoff by brute force, self-loops included.

    Source, target, shift, vector.
    """
    layer, cell = atoms.arrays["layer"], atoms.cell.array
    rows = []
    for i, j, *shift in itertools.product(
        range(len(atoms)), range(len(atoms)), range(-3, 4), range(-3, 4), [0]
    ):
        vector = atoms.positions[j] + shift @ cell - atoms.positions[i]
        if np.linalg.norm(vector) < CUTOFFS["intra" if layer[i] == layer[j] else "inter"]:
            rows.append((j, i, shift, vector))
    return [np.array(column) for column in zip(*rows, strict=True)]


def cluster(positions, layer, numbers=None) -> Atoms:
    atoms = Atoms(
        numbers=numbers or [6] * len(positions), positions=positions, cell=[20, 20, 20], pbc=True
    )
    atoms.arrays["layer"] = np.array(layer)
    return atoms


def edge_keys(graph) -> list[tuple[int, ...]]:
    """(target, source, shift) of on-site blocks and edges, in the order of ``flat_blocks``."""
    keys = [(i, i, 0, 0, 0) for i in range(graph[fields.ATOM].num_nodes)]
    for relation in fields.RELATIONS:
        store = graph[fields.edge_type(relation)]
        source, target = store[fields.EDGE_INDEX].numpy()
        keys += [
            (int(i), int(j), *map(int, r))
            for i, j, r in zip(target, source, store[fields.EDGE_CELL_SHIFT], strict=True)
        ]
    return keys


def flat_blocks(out) -> torch.Tensor:
    return torch.cat(
        [out["onsite_blocks"], *(out["edge_blocks"][relation] for relation in fields.RELATIONS)]
    )


def predict(model, atoms: Atoms, dtype=torch.float64) -> dict[tuple[int, ...], np.ndarray]:
    """(i, j, R1, R2, R3) → block ⟨i,0|H|j,R⟩, eV."""
    graph = build_graph(atoms, CUTOFFS, dtype=dtype)
    with torch.no_grad():
        blocks = flat_blocks(model(graph)).double().numpy()
    return dict(zip(edge_keys(graph), blocks, strict=True))


def assert_same(actual, expected, atol=1e-9):
    assert set(actual) == set(expected)
    for key, block in expected.items():
        np.testing.assert_allclose(actual[key], block, rtol=0, atol=atol, err_msg=str(key))


def largest_difference(first, second) -> float:
    """A missing block is zero."""
    zero = np.zeros((BASIS.max_orbitals,) * 2)
    return max(
        np.abs(first.get(key, zero) - second.get(key, zero)).max()
        for key in set(first) | set(second)
    )


def orbital_rotation(number: int, matrix: np.ndarray, basis: OrbitalBasis = BASIS) -> np.ndarray:
    result = np.zeros((basis.max_orbitals,) * 2)
    for l, shell in zip(basis.shells[number], basis.slices(number), strict=True):
        result[shell, shell] = wigner_d(l, matrix)
    return result
