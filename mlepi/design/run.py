"""From a material to a folder of structures to be labelled.

``structures.extxyz`` is what ``mlepi label`` takes, ``design.json`` tells of every structure,
``README.md`` and ``design.png`` are for the eye, ``phonons.npz`` keeps the force constants. Every
file appears complete or not at all, ``design.json`` last: whoever finds it finds all of them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase.io.extxyz import write_xyz
from numpy.typing import NDArray

from mlepi.design.card import write_card
from mlepi.design.cost import Cost
from mlepi.design.descriptors import describe_environments, scale_descriptors
from mlepi.design.drawing import KINDS, TWIST, Drawer, Drawn, Ranges
from mlepi.design.figure import draw_design
from mlepi.design.material import Material
from mlepi.design.phonons import PhononSource, choose_supercell, find_force_constants
from mlepi.design.selection import select_diverse
from mlepi.design.shapes import choose_shapes
from mlepi.design.table import FORMAT, Design, Row
from mlepi.design.twists import list_twists
from mlepi.errors import ConfigError, DataError, message
from mlepi.figures import save_figure
from mlepi.labelling.job import to_plain
from mlepi.labelling.structure_files import NamedStructure
from mlepi.litter import remove_litter
from mlepi.project_files import write_json, write_whole
from mlepi.results import hash_data, hash_file
from mlepi.run_lock import acquire
from mlepi.stopping import stop_if_requested
from mlepi.untrusted import read_json, reading

STRUCTURES, TABLE, FIGURE = "structures.extxyz", "design.json", "design"


class Progress(Protocol):
    """Where a run says how far it is, ``mlepi.pipeline.progress.StageLine``."""

    def start(self, total: int, done: int = 0) -> None:
        """Tell how many structures are drawn."""

    def advance(self, note: str = "") -> None:
        """Count one more."""

    def tell(self, text: str) -> None:
        """Write one line."""


@dataclass(frozen=True)
class DesignSettings:
    """What decides a design, beside the material and its phonons.

    Attributes:
        n_structures: wanted.
        cpu_hours: that labelling them may cost; None for no bound.
        pool: structures drawn for each that is kept.
        shares: kind → weight.
        reach: Å, receptive field of the networks.
        n_shapes: different supercells.
        min_atoms: of a supercell.
        max_atoms: of a supercell.
        supercell: of the force constants; None for as many cells as the reach is wide.
        ranges: of what is drawn.
    """

    n_structures: int
    cpu_hours: float | None
    pool: float
    shares: Mapping[str, float]
    reach: float
    n_shapes: int
    min_atoms: int
    max_atoms: int
    supercell: tuple[int, int, int] | None
    ranges: Ranges


def design_structures(
    folder: Path,
    material: Material,
    phonon: PhononSource,
    settings: DesignSettings,
    progress: Progress,
    *,
    known: Sequence[NamedStructure] = (),
    cost: Cost | None = None,
) -> Design:
    """Propose structures, and write them.

    Args:
        folder: where they go; one that holds the same design stays as it is.
        material: the crystal.
        phonon: of its force constants.
        settings: of the structures.
        progress: where this is told.
        known: structures that are labelled already; the new ones differ from them too.
        cost: of labelling a structure; needed with ``settings.cpu_hours``.

    Raises:
        ConfigError: the settings leave nothing to draw.
        DataError: the folder holds another design.
        Stopped: a signal has asked for it; the phonons are kept.
    """
    if settings.cpu_hours is not None and cost is None:
        fix = "Give measured=FOLDER of a set by mlepi label, or estimate=[ATOMS,HOURS]."
        got = f"{settings.cpu_hours:g} CPU-hours, and not what a structure costs"
        raise ConfigError(message("cpu_hours", got, "both", fix))
    made_from = _describe_inputs(material, phonon, settings, known, cost)
    with acquire(folder):
        remove_litter(folder)
        stored = _read_design(folder, made_from)
        if stored is not None:
            progress.start(len(stored.rows), len(stored.rows))
            return stored
        drawer = _build_drawer(folder, material, phonon, settings, progress, cost)
        pool = _draw_pool(drawer, settings, progress)
        design, chosen = _select(pool, drawer, settings, known, cost)
        figure = draw_design(design)
        write_whole(folder / STRUCTURES, _write_frames(chosen, settings.ranges.seed))
        save_figure(figure, folder, FIGURE)
        write_card(folder, design)
        digest = hash_file(folder / STRUCTURES)
        content = {**design.to_plain(), "made_from": made_from, "structures_sha256": digest}
        write_json(folder / TABLE, content)
    return design


def _describe_inputs(
    material: Material,
    phonon: PhononSource,
    settings: DesignSettings,
    known: Sequence[NamedStructure],
    cost: Cost | None,
) -> dict[str, Any]:
    """Return all that decides a design, as plain data."""
    atoms = material.atoms
    geometry = to_plain(NamedStructure("material", atoms))
    plain: dict[str, Any] = asdict(settings)
    ranges = {**plain.pop("ranges"), "temperatures": list(settings.ranges.temperatures)}
    supercell = None if settings.supercell is None else list(settings.supercell)
    return {
        "material": hash_data({**geometry, "axes": list(material.axes)}),
        "phonon": phonon.fingerprint(),
        "known": hash_data([to_plain(one) for one in known]),
        "cost": None if cost is None else [cost.atoms, cost.hours, cost.power],
        **plain,
        "shares": dict(settings.shares),
        "supercell": supercell,
        **ranges,
    }


def _read_design(folder: Path, made_from: Mapping[str, Any]) -> Design | None:
    """Return the design that a folder holds; None where it holds none.

    Raises:
        DataError: it holds another one, or its files were changed.
    """
    path = folder / TABLE
    if not path.is_file():
        return None
    content = read_json(path)
    before = content.get("made_from") if isinstance(content, dict) else None
    fix = "Choose another folder, or remove it."
    if not isinstance(before, dict) or content.get("format") != FORMAT:
        raise DataError(message(str(path), "a damaged file", f"format {FORMAT}", fix))
    differ = [key for key in made_from if before.get(key) != made_from[key]]
    if differ:
        got = f"a design with other settings ({', '.join(differ)})"
        raise DataError(message(str(path), got, "the same", "Choose another folder."))
    if not (folder / STRUCTURES).is_file():
        return None
    if hash_file(folder / STRUCTURES) != content.get("structures_sha256"):
        got, fix = "structures that were changed since", "Choose another folder, or remove them."
        raise DataError(message(str(folder / STRUCTURES), got, "those of this design", fix))
    with reading(str(path), "a design", fix):
        return Design.from_plain(content)


def _build_drawer(
    folder: Path,
    material: Material,
    phonon: PhononSource,
    settings: DesignSettings,
    progress: Progress,
    cost: Cost | None,
) -> Drawer:
    """Choose supercells, and find the phonons."""
    largest = _bound_atoms(settings, cost, len(material.atoms))
    shapes = choose_shapes(
        material,
        reach=settings.reach,
        n_shapes=settings.n_shapes,
        min_atoms=min(settings.min_atoms, largest),
        max_atoms=largest,
    )
    twists = list_twists(material, largest // len(material.atoms))
    supercell = choose_supercell(material.atoms, material.axes, settings.supercell, settings.reach)

    def watch(done: int, total: int) -> None:
        stop_if_requested()
        if done in (0, total):
            progress.tell(f"forces of {done} of {total} displacements for the phonons")

    constants = find_force_constants(folder, material.atoms, phonon, supercell, watch)
    return Drawer(material, constants, shapes, twists, settings.ranges)


def _bound_atoms(settings: DesignSettings, cost: Cost | None, n_atoms: int) -> int:
    """Return how many atoms a supercell may have: fewer where the CPU-hours bound them.

    At least ``min_atoms`` and one primitive cell; then fewer structures are made.
    """
    if cost is None or settings.cpu_hours is None:
        return settings.max_atoms
    paid = cost.find_atoms(settings.cpu_hours / settings.n_structures)
    smallest = -(-max(settings.min_atoms, n_atoms) // n_atoms) * n_atoms
    return min(settings.max_atoms, max(paid, smallest))


def count_shares(
    shares: Mapping[str, float], present: Sequence[str], n_wanted: int
) -> dict[str, int]:
    """Divide a number of structures by shares, of the kinds that there are.

    Args:
        shares: kind → weight.
        present: kinds that the material has.
        n_wanted: structures.

    Returns:
        Kind → number, rounded up.

    Raises:
        ConfigError: no kind with a share is there.
    """
    own = {kind: shares[kind] for kind in present if shares.get(kind, 0.0) > 0.0}
    whole = sum(own.values())
    if not own:
        got, fix = f"{dict(shares)} for a material with {list(present)}", "Set shares.thermal=1."
        raise ConfigError(message("shares", got, "a share of a kind that it has", fix))
    return {kind: math.ceil(n_wanted * share / whole - 1e-9) for kind, share in own.items()}


def _draw_pool(drawer: Drawer, settings: DesignSettings, progress: Progress) -> list[Drawn]:
    """Draw more structures of every kind than are wanted."""
    numbers = count_shares(settings.shares, drawer.kinds, settings.n_structures)
    numbers = {kind: math.ceil(settings.pool * n) for kind, n in numbers.items()}
    progress.start(sum(numbers.values()))
    pool = []
    for kind in (kind for kind in KINDS if kind in numbers):
        for number in range(numbers[kind]):
            stop_if_requested()
            pool.append(drawer.draw(kind, number))
            progress.advance()
    return pool


def _select(
    pool: Sequence[Drawn],
    drawer: Drawer,
    settings: DesignSettings,
    known: Sequence[NamedStructure],
    cost: Cost | None,
) -> tuple[Design, list[Drawn]]:
    """Keep those that differ most, and tell of them."""
    elements = sorted(set(drawer.material.atoms.numbers.tolist()))
    vectors = np.array([describe_environments(one.atoms, elements) for one in pool])
    there = np.array([describe_environments(one.atoms, elements) for one in known])
    scaled = scale_descriptors(vectors)
    hours = None
    if cost is not None:
        hours = np.array([cost.estimate(len(one.atoms)) for one in pool])
    order = select_diverse(
        scaled,
        [one.kind for one in pool],
        settings.shares,
        settings.n_structures,
        costs=hours,
        budget=settings.cpu_hours,
        known=scale_descriptors(there, vectors) if len(there) else None,
    )
    if not order:
        got = f"{settings.cpu_hours} CPU-hours, less than one structure costs"
        fix = "Raise cpu_hours, or lower min_atoms."
        raise ConfigError(message("cpu_hours", got, "at least one structure", fix))
    chosen = [pool[k] for k in order]
    rows = [
        Row.of(one, settings.reach, None if hours is None else float(hours[k]))
        for k, one in zip(order, chosen, strict=True)
    ]
    imaginary, softest = drawer.measure_soft_modes()
    temperatures = sorted(set(settings.ranges.temperatures))
    plane = project(scaled)
    design = Design(
        material=drawer.material.describe(),
        reach=settings.reach,
        rows=rows,
        n_drawn=len(pool),
        n_known=len(known),
        absent=tuple(
            kind
            for kind, share in settings.shares.items()
            if share > 0.0 and kind not in drawer.kinds
        ),
        twist_angles=tuple(sorted({abs(math.degrees(t.angle)) for t in drawer.twists})),
        n_shapes=len(drawer.shapes),
        imaginary=imaginary,
        softest=softest,
        floor=settings.ranges.floor_frequency,
        cost="" if cost is None else cost.describe(),
        temperatures=temperatures,
        expected=[_expect_displacement(drawer, t) for t in temperatures],
        map_drawn=plane.tolist(),
        map_chosen=plane[order].tolist(),
    )
    return design, chosen


def _expect_displacement(drawer: Drawer, temperature: float) -> float:
    """Return the RMS displacement of an atom in theory, mean over the supercells, Å."""
    squares = []
    for shape in drawer.shapes:
        ensemble = drawer.find_ensemble(shape.matrix)[1]
        place = ensemble.temperatures.index(temperature)
        squares.append(ensemble.mean_square_displacements()[place].sum(axis=1).mean())
    return float(np.sqrt(np.mean(squares)))


def project(descriptors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project descriptors on their two largest principal components.

    Args:
        descriptors: (n, n_components).

    Returns:
        (n, 2); the largest entry of each is positive.
    """
    centred = descriptors - descriptors.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(descriptors), 2))
    found = (left * values)[:, :2]
    plane[:, : found.shape[1]] = found
    largest = plane[np.abs(plane).argmax(axis=0), [0, 1]]
    return np.where(largest < 0.0, -plane, plane)


def _write_frames(chosen: Sequence[Drawn], seed: int) -> str:
    """Return structures as extxyz, in the order of their selection."""
    frames = []
    for one in chosen:
        atoms = one.atoms.copy()
        atoms.info = {
            "name": one.name,
            "kind": one.kind,
            "temperature": one.temperature,
            "supercell": write_matrix(one.matrix),
            "design_seed": seed,
        }
        if TWIST in one.deformation:
            atoms.info["twist"] = float(one.deformation[TWIST])
        frames.append(atoms)
    text = io.StringIO()
    write_xyz(text, frames)
    return text.getvalue()


def write_matrix(matrix: NDArray[np.int64]) -> str:
    """Write the matrix of a supercell (3, 3), row by row: (3 1 0)(-1 4 0)(0 0 1)."""
    return "".join(f"({' '.join(map(str, row))})" for row in matrix.tolist())
