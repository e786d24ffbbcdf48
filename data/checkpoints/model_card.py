"""The text of a model card."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from materials import Material, find_material

from mlepi.evaluation.labels import label, order
from mlepi.predictors.level_shifts import KEY as SHIFT_KEY
from mlepi.training import ElectronTask, PhononTask
from mlepi.training.level_shift import LARGEST_BIAS
from mlepi.training.test_table import format_markdown

BANDS_NOTE = """Levels at Γ, K and a generic k of each structure's own cell, plain H, paired by \
band index; less the median: of the differences in the
window, one constant per structure. Gauge-free: with the shift μ of each structure that minimises \
Σ|ΔH − μS|. In the metric of S:
√(Tr[(S⁻¹(ΔH − μS))²]/N) at one k-point; the soft directions of S, states of some hundred eV, are \
nearly all of it. Ghost: a level more than
1 eV below DFT's lowest at these k-points; there is none where the form bound, the largest \
eigenvalue of −ΔH against H raised by that energy, is
below 1. Slopes: ‖ΔH − ΔH_DFT‖/‖ΔH_DFT‖ between paired displacements ±u.
"""


def describe_displacements(kinds: Iterable[str], material: Material) -> str:
    """Return what the displacements of the training structures are."""
    return "; ".join(material.displaced.get(kind, f"those of `{kind}`") for kind in kinds)


def name_layers(numbers: Sequence[int]) -> str:
    """Write numbers of layers, ascending, as words."""
    words = {1: "one", 2: "two", 3: "three"}
    told = " or ".join(words.get(number, str(number)) for number in numbers)
    return f"{told} layer" + ("s" if numbers[-1] > 1 else "")


def describe_shift(shift: Mapping[str, float] | None, kind: str) -> list[str]:
    """Return the row of the card that tells the level shift against ghost states."""
    if kind != "electron":
        return []
    if shift is None:
        return ["| level shift | none |"]
    return [
        f"| level shift | τ = {shift['threshold']:g}, λ = {shift['strength']:g} eV, offset "
        f"{1e3 * shift['offset']:.2f} meV: moves levels of exact H and S within 2 eV of E_F by "
        f"less than {1e3 * LARGEST_BIAS:g} meV RMS over all training structures that were tried |"
    ]


def describe_potentials(file: str | None) -> list[str]:
    """Return the row of the card that tells what was added to H of the labels."""
    if not file:
        return []
    return [
        f"| potentials | those of `{file}` are added to H of the labels, in the training and in "
        "the tables below: what a denser k-mesh changes between the layers |"
    ]


def format_card(name: str, facts: Mapping[str, Any], tables: Mapping[str, str]) -> str:
    """Return the model card as Markdown.

    Args:
        name: of the checkpoint.
        facts: "kind", "command", "n_parameters", "metadata", "history", "covered", "size",
            "failed", and of a committee "members", rows of ``describe_member``.
        tables: "accuracy", for a phonon network "phonons", for a committee "committee".
    """
    kind = facts["kind"]
    metadata = facts["metadata"]
    covered = facts["covered"]
    history = facts["history"]
    data = metadata["config"]["data"]
    # "-modified" is how the first checkpoints say "+changes"
    commit, *changes = re.split(r"\+changes|-modified", metadata["commit"])
    counts = ", ".join(f"{number} {subset}" for subset, number in covered["n_structures"].items())
    kinds = ", ".join(f"{number} × `{label}`" for label, number in covered["kinds"].items())
    material = find_material(covered["elements"])
    low, high = covered["lattice_constant"]
    unstrained = float(material.lattice_constant)
    strains = f"{100 * (low / unstrained - 1):+.1f} to {100 * (high / unstrained - 1):+.1f} %"
    versions = ", ".join(f"{package} {number}" for package, number in metadata["versions"].items())
    sizes = covered["n_atoms"]
    cells = (
        " and ".join(f"{n} atoms" for n in sizes)
        if len(sizes) < 3
        else f"{sizes[0]} to {sizes[-1]} atoms"
    )
    layers = name_layers(covered.get("n_layers", (2,)))
    basis = f" Orbitals: {material.orbitals} {material.reach}." if kind == "electron" else ""
    lines = [
        f"# {name}",
        "",
        material.predicts(kind),
        "",
        "## Training",
        "| | |",
        "|---|---|",
        f"| data | `{data['path']}`: {kinds} in the training subset; see [its "
        f"card](../{material.folder}/README.md) |",
        *describe_potentials(data.get("layer_potentials")),
        f"| split | `{data['split']}`: {counts} |",
        f"| command | `{facts['command']}` |",
        f"| config | [{name}.yaml]({name}.yaml), also inside the checkpoint "
        '(`load_model(…).metadata["config"]`) |',
        f"| seed | {metadata['seed']} |",
        f"| epochs, wall time | {history['epochs']} (best: {history['best_epoch']}), "
        f"{history['wall_time']} |",
        f"| parameters, file | {facts['n_parameters']}, {facts['size'] / 1e6:.1f} MB |",
        f"| commit | `{commit}`" + (" with uncommitted changes" if changes else "") + " |",
        f"| versions | {versions} |",
        *describe_shift(metadata.get(SHIFT_KEY), kind),
        "",
        "## Accuracy",
        tables["accuracy"],
    ]
    if kind == "electron":
        lines.append(BANDS_NOTE)
    if "committee" in tables:
        lines += format_members(name, facts["members"], tables["committee"])
    if "phonons" in tables:
        lines += [
            "## Phonons of AB bilayer graphene",
            f"![phonons]({name}.png)",
            "",
            tables["phonons"],
        ]
    lines += [
        "## Domain of validity",
        f"- Elements: {', '.join(covered['elements'])}; {layers}.{basis}",
        f"- Layer spacings {covered['spacing'][0]:.2f}–{covered['spacing'][1]:.2f} Å (mean "
        "planes), any slide.",
        f"- Lattice constants {low:.3f}–{high:.3f} Å (strain {strains} from "
        f"{material.lattice_constant} Å).",
        f"- Displacements: {describe_displacements(covered['kinds'], material)}; largest "
        f"distance of an atom from the mean plane of its layer {covered['out_of_plane']:.2f} Å.",
        f"- Training cells of {cells}. Larger cells work as far as the table of sizes says; "
        "longer waves were never seen.",
        f"- Not tested: {material.not_tested}",
        "",
        "## Known weaknesses",
        *(f"- {text}" for text in (*facts["failed"], *material.weaknesses[kind])),
        "- Few structures: the test numbers above have sizeable statistical errors of their own.",
        "",
        "## Licence",
        "MIT, as the project. Trained on OpenMX calculations made for it; no file of OpenMX is "
        "contained"
        + (
            " (the overlap table holds two-centre integrals on a grid, not the orbitals)."
            if kind == "electron"
            else "."
        ),
        "",
        "Made by `python data/checkpoints/make.py RUN_FOLDER`"
        + (" of all runs" if "committee" in tables else "")
        + "; all numbers: "
        f"[{name}.json]({name}.json).",
        "",
    ]
    return "\n".join(lines)


COLUMNS = {"electron": ElectronTask.columns, "phonon": PhononTask.columns}
"""Kind of network → metrics in the tables of subsets and sizes."""


def format_accuracy(result: Mapping[str, Any], targets: Mapping[str, float]) -> str:
    """Return the metrics as a Markdown table with the targets, and those by subset and size.

    Args:
        result: of ``mlepi.evaluation.judge``; the metrics are those of its first subset.
        targets: metric → largest value that a shipped checkpoint should have.
    """
    data, metrics = result["data"], result["metrics"]
    subset, n_structures = next(iter(data["n_structures"].items()))
    added, medians = data.get("layer_potentials"), result["subsets"][subset].get("medians", {})
    lines = [
        f"{n_structures} structures: subset `{subset}` of `{data['split']}`, data "
        f"`{data['path']}`"
        + (f", with the potentials of `{added}` added" if added else "")
        + ". The median of single structures stands beside the value of all: one structure can "
        "decide a root mean square.",
        "",
        "| quantity | value | median structure | target | met |",
        "|---|---|---|---|---|",
    ]
    for name in order(metrics):
        value, target = metrics[name], targets.get(name)
        if value is None:
            continue
        verdict = (
            ("", "")
            if target is None
            else (f"≤ {target:g}", "yes" if value <= target else "**no**")
        )
        median = f"{medians[name]:.3g}" if name in medians else ""
        lines.append(f"| {label(name)} | {value:.3g} | {median} | {verdict[0]} | {verdict[1]} |")
    for title in ("subsets", "sizes"):
        lines += ["", *format_markdown(title, result[title], COLUMNS[result["kind"]])]
    return "\n".join(lines) + "\n"


def list_failures(results: Mapping[str, Any], table: str) -> list[str]:
    """Return what was required and is not met, and what the phonons show, as sentences."""
    rows = [line.split("|") for line in table.splitlines() if "**no**" in line]
    failed = [
        f"Target missed: {row[1].strip()} is {row[2].strip()}, wanted {row[4].strip()}."
        for row in rows
    ]
    fixed, relaxed = (
        results.get("phonons", {}).get(structure) for structure in ("fixed", "relaxed")
    )
    if fixed and relaxed and fixed["lowest_interpolated"] < -1.0:
        failed.append(
            f"At a = 2.46 Å and d = 3.35 Å the in-plane stress is {fixed['in_plane_stress']:.2f} "
            "eV/Å² (lattice constant of the "
            f"network's minimum: {relaxed['lattice_constant']:.3f} Å). The longest flexural waves "
            "are therefore imaginary, down "
            f"to {fixed['lowest_interpolated']:.0f} cm⁻¹, between the q-points of the 6×6 "
            "supercell."
        )
    for structure in ("relaxed", "fixed"):
        measured = results.get("phonons", {}).get(structure, {})
        verdicts = measured.get("verdicts", []) + measured.get("reference", {}).get("verdicts", [])
        failed += [
            f"Phonons, {structure} structure: {verdict['requirement']}: {verdict['value']}, "
            f"wanted {verdict['limit']}."
            for verdict in verdicts
            if not verdict["met"]
        ]
    return failed


MEMBER_METRICS = {
    "hamiltonian_gauge_free_mae_mev": "H, gauge-free MAE (meV)",
    "shifted_bands_2ev_aligned_rms_mev": "levels within ±2 eV less the median, RMS (meV)",
    "energy_mae_mev_per_atom": "energy, MAE (meV/atom)",
    "forces_rmse_mev_per_angstrom": "forces, RMSE (meV/Å)",
}
"""Metric → column of the table of members, where they have it."""


def describe_member(file: Path, numbers: Mapping[str, Any]) -> dict[str, str]:
    """Return the row of a member of a committee: column → cell.

    Args:
        file: its checkpoint.
        numbers: "accuracy", "training" and "command".
    """
    history, metrics = numbers["training"], numbers["accuracy"]["metrics"]
    return {
        "checkpoint": f"[{file.name}]({file.name}), {file.stat().st_size / 1e6:.2f} MB",
        "command": f"`{numbers['command']}`",
        "epochs (best), wall time": f"{history['epochs']} ({history['best_epoch']}), "
        f"{history['wall_time']}",
        **{title: f"{metrics[key]:.3g}" for key, title in MEMBER_METRICS.items() if key in metrics},
    }


def format_members(name: str, rows: Sequence[Mapping[str, str]], table: str) -> list[str]:
    """Return the part of a card on the members of a committee, as lines of Markdown."""
    return [
        "## Committee",
        f"{len(rows)} networks of one recipe and {len(rows)} seeds; the tables above are of the "
        "first. Each is made by its command:",
        "",
        "| " + " | ".join(rows[0]) + " |",
        "|---" * len(rows[0]) + "|",
        *("| " + " | ".join(row.values()) + " |" for row in rows),
        "",
        "How far their spread tells their error (`benchmarks/committee.py`; the checkpoints carry "
        "the factors):",
        "",
        table,
        f"![reliability]({name}_committee.png)",
        "",
    ]
