"""Files and configs doctored on purpose: units, axes, types and names instead of single bits.

Every doctor changes one thing that no genuine file has. What reads it must say so.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from mutations import Outcome, measure, read_once
from omegaconf import DictConfig, OmegaConf
from small_files import Small, describe

from mlepi.command_line import compose_config
from mlepi.graphs.plausibility import check_forces, check_hamiltonians, check_structure
from mlepi.observables import all_stages
from mlepi.pipeline.configuration import check_config as check_inference
from mlepi.reference_systems import HoneycombSprings
from mlepi.reference_systems.generate import FORCES, SPLIT, DataSettings, generate
from mlepi.structures import build_graphene
from mlepi.structures.sources import find_sources, read_source
from mlepi.training.configuration import KNOWN_KEYS, SUPPLIED, check_config, check_values
from mlepi.training.initial_weights import read_initial_weights
from mlepi.training.run import build_data, build_task
from mlepi.units import BOHR, HARTREE

ROOT = Path(__file__).resolve().parents[2]
Doctor = Callable[[Any, np.random.Generator], Any]


# Structures with forces.


def write_bilayer(path: Path, change: Callable[[Atoms, np.ndarray], None] | None = None) -> None:
    """Write two displaced cells of bilayer graphene with the forces of springs.

    Args:
        path: extended xyz.
        change: doctors atoms and forces in place.
    """
    frames = []
    for seed in (0, 1):
        atoms = build_graphene(stacking="AB").repeat((3, 3, 1))
        atoms.rattle(0.05, seed=seed)
        atoms.calc = HoneycombSprings()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        if change is not None:
            change(atoms, forces)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")


def read_as_training(path: Path) -> list[dict[str, Any]]:
    """Read everything as a training does: with the checks of units."""
    found = [s for source in find_sources([path]) for s in read_source(source)]
    for structure in found:
        check_structure(structure.name, structure.atoms)
    check_forces(str(path), found)
    if all(s.hamiltonian_blocks is not None and s.overlap_blocks is not None for s in found):
        check_hamiltonians(str(path), found)
    return [describe(structure) for structure in found]


def _swap(atoms: Atoms, forces: np.ndarray) -> None:
    atoms.positions[:], forces[:] = forces.copy(), atoms.positions.copy()


def _scale(what: str, factor: float) -> Callable[[Atoms, np.ndarray], None]:
    def change(atoms: Atoms, forces: np.ndarray) -> None:
        if "cell" in what:
            atoms.set_cell(atoms.cell.array * factor)
        if "positions" in what:
            atoms.positions *= factor
        if "forces" in what:
            forces *= factor

    return change


def _place(value: float) -> Callable[[Atoms, np.ndarray], None]:
    def change(atoms: Atoms, forces: np.ndarray) -> None:
        atoms.positions[3, 0] = value

    return change


def _force(value: float) -> Callable[[Atoms, np.ndarray], None]:
    def change(atoms: Atoms, forces: np.ndarray) -> None:
        forces[3, 0] = value

    return change


def _onto(atoms: Atoms, forces: np.ndarray) -> None:
    atoms.positions[3] = atoms.positions[4]


def _cycle(atoms: Atoms, forces: np.ndarray) -> None:
    atoms.positions[:] = np.roll(atoms.positions, 1, axis=1)


STRUCTURES: Mapping[str, Callable[[Atoms, np.ndarray], None]] = {
    "positions and forces swapped": _swap,
    "cell in Bohr": _scale("cell", 1 / BOHR),
    "positions in Bohr": _scale("positions", 1 / BOHR),
    "lengths in Bohr": _scale("cell positions", 1 / BOHR),
    "lengths in nm": _scale("cell positions", 0.1),
    "forces in Hartree/Bohr": _scale("forces", BOHR / HARTREE),
    "forces in meV/Å": _scale("forces", 1000.0),
    "atom at 1e5 Å": _place(1e5),
    "atom at NaN": _place(math.nan),
    "infinite force": _force(math.inf),
    "two atoms in one place": _onto,
    "axes in another order": _cycle,
}
"""What is done to a structure, none of which a training may accept."""


def attack_structures(folder: Path) -> Iterator[Outcome]:
    """Read doctored structures."""
    path = folder / "bilayer.extxyz"
    write_bilayer(path)
    small = Small((path,), lambda: read_as_training(path))
    known = read_once(small)
    for name, change in STRUCTURES.items():
        label = ("structures", path.name, name)
        yield measure(label, small, lambda change=change: write_bilayer(path, change), known)


# Texts and tables of any format.


def list_nodes(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of everything inside of nested plain data."""
    if not isinstance(node, dict | list):
        return
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        yield from list_nodes(value, (*path, key))


STRANGE: Sequence[Any] = (
    *(None, "word", "", [], {}, [[]], -1, 0, 1e308, -1e308, math.nan, math.inf, 10**30, True),
    *({"a": {"b": [1]}}, ["x"] * 3, "\u202e\x00", 3.7),
)


def doctor_json(text: str, rng: np.random.Generator) -> tuple[str, str]:
    """Give one node of a JSON text another value, or remove it.

    Returns:
        What was done, and the new text.
    """
    content = json.loads(text)
    paths = list(list_nodes(content))
    path = paths[int(rng.integers(len(paths)))]
    place = content
    for key in path[:-1]:
        place = place[key]
    choice = int(rng.integers(len(STRANGE) + 2))
    where = ".".join(map(str, path))
    if choice < len(STRANGE):
        place[path[-1]] = STRANGE[choice]
        return f"{where} = {STRANGE[choice]!r}"[:120], json.dumps(content)
    if choice == len(STRANGE):
        del place[path[-1]]
        return f"without {where}", json.dumps(content)
    deep = "[" * 5000 + "]" * 5000
    return f"{where} nested", re.sub(r'"word"', deep, json.dumps({**{"a": "word"}, "b": content}))


def doctor_hdf5(path: Path, rng: np.random.Generator) -> str:
    """Change one data set or attribute of an HDF5 file grossly; return what was done."""
    with h5py.File(path, "r+") as file:
        arrays: list[str] = []
        holders: list[str] = ["/"]
        file.visititems(
            lambda name, item: (arrays if isinstance(item, h5py.Dataset) else holders).append(name)
        )
        attributes = [(h, name) for h in (*holders, *arrays) for name in file[h].attrs]
        if attributes and (not arrays or rng.random() < 0.3):
            holder, name = attributes[int(rng.integers(len(attributes)))]
            value = STRANGE[int(rng.integers(len(STRANGE)))]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if value is None or isinstance(value, (dict, list)) or value == 10**30:
                    del file[holder].attrs[name]
                else:
                    file[holder].attrs[name] = str(value).replace("\x00", "?")
            return f"attribute {name} of {holder}"
        name = arrays[int(rng.integers(len(arrays)))]
        values = file[name][()]
        del file[name]
        kinds = _array_doctors(np.asarray(values))
        kind = list(kinds)[int(rng.integers(len(kinds)))]
        changed = kinds[kind](np.asarray(values))
        if changed is not None:
            file[name] = changed
        return f"{kind} {name}"


def _array_doctors(values: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray | None]]:
    """Return what can be done to an array that is always wrong."""
    doctors: dict[str, Callable[[np.ndarray], np.ndarray | None]] = {"no": lambda v: None}
    if values.dtype.kind not in "fiu" or not values.size:
        return doctors
    doctors |= {
        "short": lambda v: v.reshape(-1)[:-1],
        "text": lambda v: np.full(v.shape, b"x"),
        "huge": lambda v: v * 0 + (1e300 if v.dtype.kind == "f" else np.iinfo(v.dtype).max // 2),
    }
    if values.dtype.kind == "f":
        doctors |= {
            "NaN": lambda v: np.where(np.arange(v.size).reshape(v.shape) == v.size // 2, np.nan, v),
            "infinite": lambda v: v + np.inf,
        }
    return doctors


def attack_content(name: str, small: Small, rng: np.random.Generator, n: int) -> Iterator[Outcome]:
    """Doctor the JSON and HDF5 files of a format in turn, and read them.

    Args:
        name: of the format.
        small: its files and reader.
        rng: source of randomness.
        n: how often.
    """
    files = [f for f in small.files if f.suffix == ".json" or h5py.is_hdf5(f)]
    known = read_once(small)
    for _ in range(n if files else 0):
        file = files[int(rng.integers(len(files)))]
        whole = file.read_bytes()
        if file.suffix == ".json":
            kind, text = doctor_json(whole.decode(), rng)
            changed = text.encode(errors="surrogatepass")
        else:
            kind = doctor_hdf5(file, rng)
            changed = file.read_bytes()
        file.write_bytes(whole)
        label = (name, file.name, kind)
        yield measure(label, small, lambda f=file, c=changed: f.write_bytes(c), known)


# Configs.


def list_leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of everything that can be set."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from list_leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


WRONG: Mapping[str, Sequence[Any]] = {
    "number": (math.nan, math.inf, -math.inf, "abc", {"a": 1}, [[]], [], "", -1e30, 1e30),
    "switch": ("maybe", {"a": 1}, [True]),
    "text": ({"a": 1}, ["\x00"], "\x00"),
}
"""Kind of a setting → values without meaning, whatever it is about."""


UNTYPED: Mapping[str, Sequence[Any]] = {
    "number": (math.nan, math.inf, "abc", {"a": 1}, [[]], ""),
    "switch": ("maybe", {"a": 1}, [True]),
    "text": ({"a": 1}, ["\x00"]),
}
"""The same where values are looked at later, when networks and data are built."""
NOT_READ = ("size.", "optimizer.optimizer.")
"""Settings of a training that others take over by their names, or that belong to torch."""


def doctor_config(
    plain: Mapping[str, Any],
    resolved: Mapping[str, Any],
    rng: np.random.Generator,
    values: Mapping[str, Sequence[Any]],
) -> tuple[str, dict[str, Any]]:
    """Change one setting so that it has no meaning; return what was done, and the new config."""
    changed = deepcopy(dict(plain))
    leaves = [
        (key, value)
        for key, value in list_leaves(resolved)
        if not key.split(".")[-1].startswith("_") and not key.startswith(NOT_READ)
    ]
    key, value = leaves[int(rng.integers(len(leaves)))]
    *path, last = key.split(".")
    node: Any = changed
    source: Any = resolved
    for name in path:
        source = source[name]
        if not isinstance(node[name], dict):  # taken over as a whole
            node[name] = deepcopy(source)
        node = node[name]
    if rng.random() < 0.25:
        place = int(rng.integers(len(last)))
        wrong = last[:place] + last[place] * 2 + last[place + 1 :]
        node[wrong] = node.pop(last)
        return f"{key} → {wrong}", changed
    kind = "switch" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    choices = values[kind]
    node[last] = choices[int(rng.integers(len(choices)))]
    return f"{key} = {node[last]!r}", changed


def attack_configs(folder: Path, rng: np.random.Generator, n: int) -> Iterator[Outcome]:
    """Check doctored configs of inferences and trainings, up to the network and its data.

    Args:
        folder: gets a data set.
        rng: source of randomness.
        n: how many.
    """
    stages = all_stages()
    infer = compose_config(ROOT / "conf", "infer", ["phonon=toy", "electron=toy"])
    generate(folder, DataSettings(n_structures=10))
    small = [f"{key}={value}" for key, value in SMALL.items()]
    files = [f"data.path={folder / FORCES}", f"data.split={folder / SPLIT}"]
    words = ["experiment=toy_train_phonon", *small, *files]
    train = compose_config(ROOT / "conf", "train", words)
    bases: list[tuple[str, list[Any], Callable[[DictConfig], Any]]] = []
    for name, config, check in (
        ("config of an inference", infer, lambda c: check_inference(c, stages)),
        ("config of a training", train, _check_training),
    ):
        check(config)
        # of a training as it is written: what takes over a doctored setting is doctored as well
        ways = (config is not train, True)
        plains = [OmegaConf.to_container(config, resolve=resolve) for resolve in ways]
        bases.append((name, plains, check))
    for number in range(n):
        name, (plain, resolved), check = bases[number % 4 == 3]
        values = UNTYPED if name.endswith("training") else WRONG
        kind, changed = doctor_config(plain, resolved, rng, values)
        box: list[Any] = [plain]

        def read(check: Any = check, box: list[Any] = box, plain: Any = plain) -> str:
            check(OmegaConf.create(box[0]))
            return "accepted" if box[0] is plain else "accepted although it has no meaning"

        small = Small((), read)
        known: tuple[str, set[str]] = ("accepted", set())
        yield measure((name, "", kind), small, partial(box.__setitem__, 0, changed), known)


SMALL: Mapping[str, Any] = {
    "size.phonon.num_features": 2,
    "size.phonon.radial_widths": "[4]",
    "model.network.backbone.l_max": 1,
    "model.network.backbone.correlation": 2,
    "graph.cutoffs.intra": 2.0,
    "graph.cutoffs.inter": 4.0,
    "check_units": "false",
}
"""Of a network that is built quickly."""


def _check_training(config: DictConfig) -> None:
    check_config(config, KNOWN_KEYS, SUPPLIED)
    check_values(config)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    read_initial_weights(plain["init_from"], "phonon")
    build_task(plain, build_data(plain))
