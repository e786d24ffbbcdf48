"""The card of a labelled set, ``README.md``: what is in it, how it was made, what was checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.labelling.job import DONE, Job
from mlepi.labelling.labelled_set import (
    DATA,
    FRAMES,
    OVERLAP,
    REFUSED,
    LabelledSet,
    Written,
)
from mlepi.project_files import write_whole
from mlepi.structures import HamiltonianDataset, LabelledStructure, read_forces_dataset
from mlepi.structures.card import describe_forces, describe_hamiltonian
from mlepi.structures.remarks import UNUSUAL, describe_remark, merge_remarks

CARD = "README.md"

LOOKED_AT = 5
"""Structures whose S is diagonalised for the card."""

WORDS = {
    "version": "code",
    "basis": "basis set",
    "potential": "pseudopotential",
    "basis_file": "file of basis sets",
    "potential_file": "file of pseudopotentials",
    "functional": "functional",
    "dispersion": "dispersion, in energy and forces",
    "dispersion_reach": "reach of the dispersion (Å)",
    "cutoff": "cutoff of the grid (Ry)",
    "relative_cutoff": "relative cutoff (Ry)",
    "k_spacing": "distance of k-points at most (1/Å, with 2π)",
    "vacuum": "empty space from which an axis has one k-point (Å)",
    "electronic_temperature": "electronic temperature (K)",
    "criterion": "criterion of self-consistency",
    "accuracy": "accuracy of integrals",
    "orbital_threshold": "where the tails of orbitals are cut",
    "keywords": "keywords of its input",
    "grid_spacing": "distance of grid points at most (Å)",
}
"""Key of the settings → what a card calls it."""


@dataclass(frozen=True)
class Noise:
    """What a rigid shift changes in the labels of one structure, which it should not.

    Attributes:
        energy: eV per atom.
        forces: largest component, eV/Å.
        hamiltonian: root mean square and largest element, eV; None without matrices.
        overlap: largest element.
    """

    energy: float
    forces: float
    hamiltonian: tuple[float, float] | None
    overlap: float


def compare_labels(one: LabelledStructure, other: LabelledStructure) -> Noise:
    """Compare the labels of a structure with those of the same one shifted rigidly.

    Raises:
        ValueError: one of them is incomplete.
    """
    if one.forces is None or other.forces is None:
        raise ValueError(f"{one.name} has no forces")
    pairs = None
    if one.hamiltonian_blocks is not None and other.hamiltonian_blocks is not None:
        pairs = _pair_blocks(one, other)
    hamiltonian, overlap = None, 0.0
    if pairs is not None:
        h_difference, s_difference = (np.array([a[k] - b[k] for a, b in pairs]) for k in (0, 1))
        root = float(np.sqrt(np.mean(h_difference**2)))
        hamiltonian = (root, float(np.abs(h_difference).max()))
        overlap = float(np.abs(s_difference).max())
    return Noise(
        abs((one.energy or 0.0) - (other.energy or 0.0)) / len(one.atoms),
        float(np.abs(one.forces - other.forces).max()),
        hamiltonian,
        overlap,
    )


def _pair_blocks(one: LabelledStructure, other: LabelledStructure) -> list[tuple[Any, Any]]:
    """Return H and S of one pair of atoms after the other, of both; zero where one has none."""
    blocks: list[dict[tuple[int, ...], tuple[Any, Any]]] = []
    for s in (one, other):
        edges, shift, h = s.edge_index, s.edge_cell_shift, s.hamiltonian_blocks
        if edges is None or shift is None or h is None:
            raise ValueError(f"{s.name} has no Hamiltonian")
        overlap = np.zeros_like(h) if s.overlap_blocks is None else s.overlap_blocks
        keys = map(tuple, np.column_stack([edges.T, shift]).tolist())
        blocks.append(dict(zip(keys, zip(h, overlap, strict=True), strict=True)))
    nothing = tuple(np.zeros_like(x) for x in next(iter(blocks[0].values())))
    return [
        (blocks[0].get(key, nothing), blocks[1].get(key, nothing))
        for key in {*blocks[0], *blocks[1]}
    ]


def write_card(the_set: LabelledSet, common: Mapping[str, Any], written: Written) -> None:
    """Write the card of a set; to be locked.

    Args:
        the_set: with its data written.
        common: what all structures have in common.
        written: what the data were made of.
    """
    lines = [f"# Data card: {the_set.folder.resolve().name}", ""]
    lines += [
        f"{len(written.names)} structures, labelled by `mlepi label` with {common['version']}."
    ]
    if written.names:
        jobs = [the_set.job(name) for name in written.names]
        frames = read_forces_dataset(the_set.folder / FRAMES)
        has_matrices = (the_set.folder / DATA).is_file()
        outlines, few = _read_matrices(the_set.folder / DATA) if has_matrices else (frames, [])
        lines += _describe_files(written, has_matrices)
        lines += _describe_structures(frames, jobs)
        lines += _describe_calculation(common, outlines)
        lines += _describe_checks(frames, outlines, few, written, the_set.noise)
    if written.failed:
        lines += ["", "## Not labelled", "", "| structure | why |", "|---|---|"]
        lines += [f"| `{n}` | {why.replace('|', '/')} |" for n, why in written.failed.items()]
    write_whole(the_set.folder / CARD, "\n".join([*lines, ""]))


def _read_matrices(path: Path) -> tuple[list[LabelledStructure], list[LabelledStructure]]:
    """Return the outlines of all structures, and a few with H and S."""
    data = HamiltonianDataset(path)
    try:
        few = [data[k] for k in range(min(LOOKED_AT, len(data)))]
        return [data.outline(name) for name in data.names], few
    finally:
        data.close()


def _table(title: str, head: tuple[str, str], rows: Mapping[str, Any]) -> list[str]:
    body = [f"| {key} | {value} |" for key, value in rows.items()]
    return ["", f"## {title}", "", f"| {head[0]} | {head[1]} |", "|---|---|", *body]


def _describe_files(written: Written, has_matrices: bool) -> list[str]:
    matrices = {
        f"`{DATA}`": "H and S in real space, internal orbital order, with energies and forces"
    }
    rows = {
        **(matrices if has_matrices else {}),
        f"`{FRAMES}`": f"{'the same ' * has_matrices}structures with energies (eV), forces (eV/Å)",
        "`jobs`": "a folder per structure: as it was given, how far it is, input and output",
    }
    if written.overlaps is not None:
        rows[f"`{OVERLAP}`"] = "radial functions from which S of any structure follows"
    if written.failed:
        rows[f"`{REFUSED}`"] = "structures that are not labelled, and why"
    data = DATA if has_matrices else FRAMES
    both = f"`data={DATA}` or `data={FRAMES}`" if has_matrices else f"`data={FRAMES}`"
    use = f"Divide them by `mlepi split {data}`; train with {both}."
    return [*_table("Files", ("file", "what"), rows), "", use]


def _describe_structures(frames: Sequence[LabelledStructure], jobs: Sequence[Job]) -> list[str]:
    card = describe_forces(frames)
    kinds = Counter(str(frame.provenance.get("kind", "")) for frame in frames)
    seconds = [job.read_state().seconds for job in jobs]
    again = sum(len(job.read_state().attempts) > 1 for job in jobs)
    rows = {
        "formulas": ", ".join(f"{formula} ({n})" for formula, n in card.formulas.items()),
        "kinds": ", ".join(f"{kind} ({n})" for kind, n in kinds.items() if kind) or "not named",
        "atoms": _span(card.n_atoms),
        "nearest atoms": f"{card.shortest:.3f} Å",
        "largest force": f"{card.forces.max():.3f} eV/Å",
        "wall time": f"{sum(seconds):.0f} s, {max(seconds):.0f} s at most",
        "labelled at the second attempt": again,
    }
    return _table("Structures", ("", ""), rows)


def _describe_calculation(
    common: Mapping[str, Any], outlines: Sequence[LabelledStructure]
) -> list[str]:
    rows = {
        WORDS.get(key, key): "none" if value is None else _write(value)
        for key, value in common.items()
    }
    versions = Counter(str(o.provenance["code"]) for o in outlines if "code" in o.provenance)
    if versions and set(versions) != {str(common["version"])}:
        told = ", ".join(f"{name} ({n})" for name, n in versions.items())
        rows["version, as the outputs tell"] = told
    meshes = _collect(outlines, "k_mesh")
    if meshes:
        rows["k-meshes"] = ", ".join(
            f"{'×'.join(map(str, mesh))} ({n})" for mesh, n in Counter(meshes).most_common(8)
        )
    spacings = [
        length / n
        for outline in outlines
        if "grid" in outline.provenance
        for length, n in zip(outline.atoms.cell.lengths(), outline.provenance["grid"], strict=True)
    ]
    if spacings:
        rows["distance of grid points"] = f"{min(spacings):.4f} … {max(spacings):.4f} Å"
    return _table("Calculation", ("", "the same in every cell"), rows)


def _describe_checks(
    frames: Sequence[LabelledStructure],
    outlines: Sequence[LabelledStructure],
    few: Sequence[LabelledStructure],
    written: Written,
    noise: Job | None,
) -> list[str]:
    rows: dict[str, str] = {}
    asymmetry = [o.provenance.get("hermiticity", {}).get("Hamiltonian") for o in outlines]
    known = [x for x in asymmetry if x is not None]
    if known:
        rows["H not Hermitian as read, by at most"] = f"{max(known):.1e} eV"
    errors = [o.provenance["band_error"] for o in outlines if "band_error" in o.provenance]
    if errors:
        rows["bands of H and S against the code's own, at most"] = f"{max(errors):.1e} eV"
    cards = [describe_hamiltonian(structure) for structure in few]
    softest = [float(c.overlap_eigenvalues.min()) for c in cards if c.overlap_eigenvalues.size]
    if softest:
        rows[f"smallest eigenvalue of S, of {len(softest)} structures"] = f"{min(softest):.2e}"
    if cards:
        rows["longest pair"] = f"{max(card.longest for card in cards):.3f} Å"
    if written.overlaps is not None:
        rows["S from the table, largest error"] = (
            f"{written.overlaps.largest:.1e} (RMS {written.overlaps.rms:.1e})"
        )
    rows["net force, largest component"] = f"{describe_forces(frames).net_forces.max():.1e} eV/Å"
    rows["noise of the grid"] = _describe_noise(noise)
    lines = _table("Checks", ("", ""), rows)
    remarks = merge_remarks(outline.provenance.get(UNUSUAL, {}) for outline in outlines)
    if remarks:
        lines += ["", *(f"- {describe_remark('set', k, x)}" for k, x in remarks.items())]
    return lines


def _describe_noise(noise: Job | None) -> str:
    """Say what a shift by half a grid spacing changes."""
    if noise is None:
        return "not measured"
    state = noise.read_state()
    first = Job(noise.folder.parents[1] / "jobs" / noise.name)
    if state.status != DONE or first.read_state().status != DONE:
        return f"not measured ({state.reason or 'not labelled'})"
    found = compare_labels(first.read_labels(), noise.read_labels())
    text = (
        f"`{noise.name}` shifted by half a grid spacing: energy {1000.0 * found.energy:.3f} meV "
        f"per atom, forces {found.forces:.1e} eV/Å"
    )
    if found.hamiltonian is None:
        return text
    return (
        f"{text}, H {1000.0 * found.hamiltonian[0]:.3f} meV RMS "
        f"({1000.0 * found.hamiltonian[1]:.2f} at most), S {found.overlap:.0e}"
    )


def _collect(outlines: Iterable[LabelledStructure], key: str) -> list[tuple[int, ...]]:
    return [tuple(o.provenance[key]) for o in outlines if key in o.provenance]


def _span(ends: tuple[int, int]) -> str:
    return f"{ends[0]}" if ends[0] == ends[1] else f"{ends[0]} … {ends[1]}"


def _write(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {x}" for key, x in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
