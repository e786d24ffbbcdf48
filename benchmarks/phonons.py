"""Phonons of AB bilayer graphene from a phonon checkpoint.

``python benchmarks/phonons.py CHECKPOINT``.

Two structures: "relaxed" (positions and in-plane cell, with the network) and "fixed" (a = 2.46 Å,
spacing 3.35 Å, as in experiment and in the DFT reference; its Hessian is that of a structure under
stress). Writes ``phonons.json``, ``phonons.md`` and a figure. Frequencies in cm⁻¹, imaginary ones
negative.

The fixed structure is compared with DFT of the training level at all q-points that are known, see
``phonon_reference.py``.

The modes at Γ are told apart by their eigenvectors: translations, shear and breathing (rigid layers
against each other, in plane and out of plane), ZO (sublattices against each other, out of plane), G
(the same in plane). At K the twelve modes fall, by energy, into groups of 4, 2, 4 and 2: ZA and ZO,
TA, LA and LO, TO of two weakly coupled layers.

The flexural branch of a bilayer obeys ω² = (T/ρ) q² + (2κ/ρ) q⁴ with ρ the mass per area, κ the
bending rigidity of a layer and an effective tension T = σ + ρ (ω_s d/2)²: σ is the in-plane stress
of the structure (negative when it is compressed), the other part the resistance of the layers to
sliding over each other when they bend (ω_s shear mode at Γ, d spacing; for q beyond 0.05 Å⁻¹, where
the layers do not stretch to avoid it). Both are known without a fit. "Quadratic in shape" is judged
by the exponent of what remains, √(ω² − T q²/ρ) ∝ qⁿ, by least squares for |q| between 0.15 and 0.3
of Γ–M and Γ–K; that of ω itself is reported too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from phonon_reference import compare_with_reference, format_comparison, read_targets

from mlepi.checkpoint import load_model
from mlepi.errors import MlepiError
from mlepi.figures import BLUE, COLUMN, RED, house_style, label_path, new_figure, save_figure
from mlepi.physics.vibrations.force_constants import ForceConstants, compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.phonon_bands import (
    PhononBands,
    compute_frequencies,
    compute_phonon_bands,
)
from mlepi.pipeline.stages.structure.relaxation import measure_spacings, relax_structure
from mlepi.predictors import PhononPredictor
from mlepi.structures import build_graphene
from mlepi.units import FORCE_CONSTANT_TO_THZ, THZ_TO_INVERSE_CM

LATTICE_CONSTANT, SPACING = 2.46, 3.35
"""Å, of the fixed structure and of the DFT reference."""

EXPONENT_WINDOW = (0.15, 0.3)
"""Fractions of Γ–M and Γ–K between which the exponents of ZA are fitted."""

RIGIDITY = "1.46 DFT, monolayer [4]"
"""Bending rigidity in the literature, eV."""

ZERO_TOLERANCE = 1.0
"""Largest |frequency| of a zero mode at Γ, cm⁻¹."""

GAMMA_MODES = {"translation": 3, "shear": 2, "breathing": 1, "ZO": 2, "G": 4}
K_MODES = {"ZA, ZO": 4, "TA": 2, "LA, LO": 4, "TO": 2}

REFERENCES: dict[str, dict[str, tuple[str, str]]] = {
    "Γ": {
        "shear": ("", "31 exp. [2]"),
        "breathing": ("", "81 exp. [3]"),
        "ZO": ("902", "881 PBE, monolayer [1]"),
        "G": ("1617", "1554 PBE, monolayer [1]"),
    },
    "K": {
        "ZA, ZO": ("534", "535 PBE, monolayer [1]"),
        "TA": ("1043", "997 PBE, monolayer [1]"),
        "LA, LO": ("1250, 1254", "1213 PBE, monolayer [1]"),
        "TO": ("1359", "1288 PBE, monolayer [1]"),
    },
}
"""Point → mode → DFT of the training level (OpenMX, small basis, AB, a = 2.46 Å, d = 3.35 Å, finite
differences of 0.01 Å in
the 3×3 cell; "" for shear and breathing, which stand with the other references) and literature,
cm⁻¹."""

SOURCES = """DFT: the level of the training data (data card), AB at a = 2.46 Å and d = 3.35 Å, \
to compare with "fixed".
[1] Mounet and Marzari, PRB 71, 205214 (2005), doi:10.1103/PhysRevB.71.205214. \
[2] Tan et al., Nature Materials 11, 294 (2012),
doi:10.1038/nmat3245, arXiv:1106.1146. \
[3] arXiv:1405.6735 (Raman of free-standing bilayers).
[4] Kudin, Scuseria, Yakobson, PRB 64, 235406 (2001), doi:10.1103/PhysRevB.64.235406."""


def list_references(point: str) -> dict[str, tuple[str, str]]:
    """Return mode → DFT of the training level and literature, cm⁻¹, of Γ or K."""
    rigid = read_targets()["rigid_layers"]
    return {
        mode: (dft or "–".join(f"{end:.0f}" for end in rigid[mode]["range"]), literature)
        for mode, (dft, literature) in REFERENCES[point].items()
    }


def classify_gamma_modes(force_constants: ForceConstants) -> dict[str, list[float]]:
    """Sort the modes at Γ of AB bilayer graphene by their eigenvectors.

    Args:
        force_constants: eV/Å², four atoms of one element, two per layer, layer by layer.

    Returns:
        Name of ``GAMMA_MODES`` → frequencies, cm⁻¹, ascending.
    """
    n = len(force_constants.atoms)
    masses = force_constants.atoms.get_masses()
    hessian = (
        force_constants.values.reshape(n, -1, n, 3, 3)
        .sum(axis=1)
        .transpose(0, 2, 1, 3)
        .reshape(3 * n, 3 * n)
    )
    values, vectors = np.linalg.eigh(
        hessian / np.sqrt(np.outer(np.repeat(masses, 3), np.repeat(masses, 3)))
    )
    frequencies = (
        np.sign(values) * np.sqrt(np.abs(values)) * FORCE_CONSTANT_TO_THZ * THZ_TO_INVERSE_CM
    )
    layers = np.where(force_constants.atoms.arrays["layer"] == 0, 1.0, -1.0)
    sublattices = np.array([1.0, -1.0, 1.0, -1.0])
    in_plane, out_of_plane = np.eye(3)[:2], np.eye(3)[2:]
    patterns = {
        "translation": [(np.ones(4), np.eye(3))],
        "shear": [(layers, in_plane)],
        "breathing": [(layers, out_of_plane)],
        "ZO": [(sublattices, out_of_plane), (layers * sublattices, out_of_plane)],
        "G": [(sublattices, in_plane), (layers * sublattices, in_plane)],
    }
    weights = {
        name: sum(
            np.square(np.kron(signs / 2.0, direction) @ vectors)
            for signs, along in parts
            for direction in along
        )
        for name, parts in patterns.items()
    }
    return {
        name: sorted(frequencies[np.argsort(-weights[name])[:count]].tolist())
        for name, count in GAMMA_MODES.items()
    }


def group_k_modes(frequencies: NDArray[np.float64]) -> dict[str, list[float]]:
    """Divide the twelve ascending frequencies at K into the groups of ``K_MODES``, cm⁻¹."""
    parts = np.split(frequencies, np.cumsum(list(K_MODES.values()))[:-1])
    return {name: part.tolist() for name, part in zip(K_MODES, parts, strict=True)}


def analyse_flexural_branch(
    force_constants: ForceConstants,
    stress: float,
    shear: float,
    spacing: float,
    target: NDArray[np.float64],
) -> dict[str, float]:
    """Divide the lowest branch into tension and bending, see the head of this file.

    Args:
        force_constants: eV/Å².
        stress: in-plane stress times the length of c, eV/Å².
        shear: frequency of the shear mode, cm⁻¹.
        spacing: of the layers, Å.
        target: (3,), zone-boundary point at the end of the line, fractional.

    Returns:
        "exponent" of ω; "bending_exponent"; "bending_rigidity" of one layer, eV; NaN where a
        frequency is not positive.
    """
    cell, scale = force_constants.atoms.cell.array, (FORCE_CONSTANT_TO_THZ * THZ_TO_INVERSE_CM) ** 2
    density = force_constants.atoms.get_masses().sum() / np.linalg.norm(np.cross(cell[0], cell[1]))
    fractions = np.linspace(*EXPONENT_WINDOW, 21)
    q = fractions * 2.0 * np.pi * np.linalg.norm(np.linalg.inv(cell) @ target)
    lowest = (
        compute_frequencies(force_constants, fractions[:, None] * target)[:, 0] * THZ_TO_INVERSE_CM
    )
    squares = np.sign(lowest) * lowest**2
    bending = squares - (stress / density * scale + (shear * spacing / 2.0) ** 2) * q**2

    def exponent(values: NDArray[np.float64]) -> float:
        return (
            0.5 * float(np.polyfit(np.log(q), np.log(values), 1)[0])
            if values.min() > 0
            else float("nan")
        )

    rigidity = float((bending * q**4).sum() / (q**8).sum()) * density / (2.0 * scale)
    return {
        "exponent": exponent(squares),
        "bending_exponent": exponent(bending),
        "bending_rigidity": rigidity,
    }


def special_points(atoms: Atoms) -> dict[str, NDArray[np.float64]]:
    """Return Γ, K and M of a hexagonal layer, (3,) fractional each."""
    path = atoms.cell.bandpath("GKM", npoints=3, pbc=(True, True, False)).special_points
    return {"Γ": path["G"], "K": path["K"], "M": path["M"]}


def measure_structure(
    atoms: Atoms, predictor: PhononPredictor, repeats: int
) -> tuple[dict[str, Any], PhononBands, ForceConstants]:
    """Compute the phonons of one structure.

    Args:
        atoms: AB bilayer graphene.
        predictor: forces.
        repeats: cells of the supercell along both in-plane vectors.

    Returns:
        Plain Python data, cm⁻¹, Å and eV, the bands, and the force constants behind them.
    """
    calculator = predictor.calculator()
    force_constants = compute_force_constants(atoms, calculator, (repeats, repeats, 1))
    bands = compute_phonon_bands(force_constants, "GMKG", n_points=181)
    modes = compute_modes(force_constants)
    points = special_points(atoms)
    frequencies = {
        name: (compute_frequencies(force_constants, q[None])[0] * THZ_TO_INVERSE_CM).tolist()
        for name, q in points.items()
    }
    atoms = atoms.copy()
    atoms.calc = calculator
    lowest = np.sort(modes.frequencies[~modes.translations].ravel()) * THZ_TO_INVERSE_CM
    gamma_modes, spacing = classify_gamma_modes(force_constants), float(measure_spacings(atoms)[0])
    stress = float(atoms.get_stress()[:2].mean() * atoms.cell[2, 2])
    return (
        {
            "lattice_constant": float(np.linalg.norm(atoms.cell[0])),
            "spacing": spacing,
            "in_plane_stress": stress,
            "energy": float(atoms.get_potential_energy()),
            "max_force": float(np.linalg.norm(atoms.get_forces(), axis=1).max()),
            "supercell": [repeats, repeats, 1],
            "raw_sum_rule_residual": force_constants.raw_sum_rule_residual,
            "frequencies": frequencies,
            "gamma_modes": gamma_modes,
            "k_modes": group_k_modes(np.array(frequencies["K"])),
            "lowest_commensurate": lowest[:4].tolist(),
            "n_imaginary_commensurate": int((lowest < 0).sum()),
            "lowest_interpolated": float(bands.frequencies.min() * THZ_TO_INVERSE_CM),
            "flexural": {
                name: analyse_flexural_branch(
                    force_constants, stress, gamma_modes["shear"][0], spacing, points[name]
                )
                for name in ("M", "K")
            },
        },
        bands,
        force_constants,
    )


def judge(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare one structure with what is required: "requirement", "value", "limit", "met"."""
    gamma = found["gamma_modes"]
    exponents = [values["bending_exponent"] for values in found["flexural"].values()]
    zero, g = np.abs(gamma["translation"]).max(), gamma["G"]
    lowest = found["lowest_commensurate"][0]
    rigid = {name: min(gamma[name]) for name in ("breathing", "shear")}
    rows = [
        ("no imaginary mode of the supercell", f"lowest {lowest:.1f} cm⁻¹", "> 0", lowest > 0),
        (
            "three zero modes at Γ",
            f"up to {zero:.0e} cm⁻¹",
            f"≤ {ZERO_TOLERANCE:g}",
            zero <= ZERO_TOLERANCE,
        ),
        (
            "G mode",
            f"{min(g):.0f}–{max(g):.0f} cm⁻¹",
            "1500–1620",
            min(g) >= 1500 and max(g) <= 1620,
        ),
        (
            "ZA quadratic in shape: exponent of the bending part towards M, K",
            ", ".join(f"{value:.2f}" for value in exponents),
            "1.7–2.3",
            all(1.7 <= value <= 2.3 for value in exponents),
        ),
        *(
            (f"{name} mode real", f"{value:.1f} cm⁻¹", "> 0", value > 0)
            for name, value in rigid.items()
        ),
    ]
    return [
        {"requirement": r, "value": v, "limit": limit, "met": bool(met)}
        for r, v, limit, met in rows
    ]


def measure(
    checkpoint: str | Path, repeats: int = 6
) -> tuple[dict[str, Any], dict[str, PhononBands]]:
    """Compute the phonons of the relaxed and of the fixed structure.

    Returns:
        "relaxed" and "fixed" → data of ``measure_structure`` with "verdicts" and, of the fixed one,
        "reference" (``compare_with_reference``); and their bands.
    """
    predictor = load_model(checkpoint, kind="phonon")
    if not isinstance(predictor, PhononPredictor):
        raise TypeError(type(predictor).__name__)
    relaxed = build_graphene("AB", LATTICE_CONSTANT, SPACING)
    fixed = build_graphene("AB", LATTICE_CONSTANT, SPACING)
    relax_structure(
        relaxed, predictor.calculator(), in_plane_cell=True, max_force=2e-4, max_steps=500
    )
    relaxed.calc = None
    results: dict[str, Any] = {}
    bands = {}
    for name, atoms in (("relaxed", relaxed), ("fixed", fixed)):
        results[name], bands[name], found = measure_structure(atoms, predictor, repeats)
        results[name]["verdicts"] = judge(results[name])
        if name == "fixed":
            results[name]["reference"] = compare_with_reference(found, predictor.calculator())
    return results, bands


def format_modes(values: list[float]) -> str:
    """Write the smallest and the largest frequency, or one number when they agree."""
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low}–{high}"


def format_tables(results: Mapping[str, Any]) -> str:
    """Return structures, verdicts and frequencies as Markdown."""
    relaxed, fixed = results["relaxed"], results["fixed"]
    lines = ["| | relaxed | fixed | experiment, literature |", "|---|---|---|---|"]
    flexural = {
        key: [
            ", ".join(f"{values[key]:.2f}" for values in result["flexural"].values())
            for result in (relaxed, fixed)
        ]
        for key in ("exponent", "bending_rigidity")
    }
    lines += [
        f"| lattice constant (Å) | {relaxed['lattice_constant']:.4f} | "
        f"{fixed['lattice_constant']:.4f} | 2.46 |",
        f"| spacing (Å) | {relaxed['spacing']:.3f} | {fixed['spacing']:.3f} | 3.35 |",
        f"| largest force (eV/Å) | {relaxed['max_force']:.1e} | {fixed['max_force']:.1e} | |",
        "| in-plane stress (eV/Å²), negative: compressed "
        f"| {relaxed['in_plane_stress']:.4f} | {fixed['in_plane_stress']:.4f} | |",
        f"| lowest interpolated frequency on Γ–M–K–Γ (cm⁻¹) | {relaxed['lowest_interpolated']:.1f} "
        f"| {fixed['lowest_interpolated']:.1f} | |",
        f"| ZA: exponent of ω towards M, K, tension included | {' | '.join(flexural['exponent'])} "
        "| |",
        "| bending rigidity of a layer towards M, K (eV) | "
        f"{' | '.join(flexural['bending_rigidity'])} | {RIGIDITY} |",
        "",
        "| requirement | limit | relaxed | met | fixed | met |",
        "|---|---|---|---|---|---|",
    ]
    for first, second in zip(relaxed["verdicts"], fixed["verdicts"], strict=True):
        yes = ["yes" if row["met"] else "**no**" for row in (first, second)]
        lines.append(
            f"| {first['requirement']} | {first['limit']} | {first['value']} | {yes[0]} | "
            f"{second['value']} | {yes[1]} |"
        )
    lines += [
        "",
        "| frequencies (cm⁻¹) | relaxed | fixed | DFT | literature |",
        "|---|---|---|---|---|",
    ]
    for point, key in (("Γ", "gamma_modes"), ("K", "k_modes")):
        for mode, (dft, literature) in list_references(point).items():
            values = [format_modes(result[key][mode]) for result in (relaxed, fixed)]
            lines.append(f"| {point} {mode} | {values[0]} | {values[1]} | {dft} | {literature} |")
    shown = [
        ", ".join(f"{value:.0f}" for value in result["frequencies"]["M"])
        for result in (relaxed, fixed)
    ]
    lines += [f"| M | {shown[0]} | {shown[1]} | | |", "", SOURCES, ""]
    lines += [format_comparison(fixed["reference"])]
    return "\n".join(lines) + "\n"


def plot_bands(bands: Mapping[str, PhononBands], folder: Path, name: str) -> Path:
    """Draw the bands of both structures with the DFT frequencies at Γ and K; write PNG and PDF."""
    with house_style():
        figure = new_figure(1.5 * COLUMN, 0.95 * COLUMN)
        axes = figure.subplots()
        for colour, (structure, values) in zip((BLUE, RED), bands.items(), strict=True):
            scale = values.label_distances[-1]  # lattice constants differ a little
            lines = axes.plot(
                values.distances / scale, values.frequencies * THZ_TO_INVERSE_CM, color=colour
            )
            lines[0].set_label(structure)
        labels, places = values.labels, values.label_distances / scale
        for point, letter in (("Γ", "G"), ("K", "K")):
            numbers = [
                float(np.mean([float(end) for end in value.split("–")]))
                for dft, _ in list_references(point).values()
                for value in dft.split(",")
            ]
            for place, label in zip(places, labels, strict=True):
                if label == letter:
                    axes.plot(
                        [place] * len(numbers),
                        numbers,
                        "o",
                        color="black",
                        markerfacecolor="none",
                        clip_on=False,
                    )
        axes.plot([], [], "o", color="black", markerfacecolor="none", label="DFT, fixed")
        axes.axhline(0.0, color="0.5", linewidth=0.6, zorder=0)
        label_path(axes, places, labels)
        axes.set_ylabel("frequency (cm⁻¹)")
        axes.legend(loc="lower center")
    return save_figure(figure, folder, name)


def main() -> None:
    """Read the command line, compute and write."""
    parser = argparse.ArgumentParser(
        description="Phonons of AB bilayer graphene from a phonon checkpoint."
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--repeats",
        type=int,
        default=6,
        help="cells of the supercell along a and b; multiples of 6 contain all q of the reference",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/phonons"),
        help="folder for phonons.{json,md,png,pdf}",
    )
    chosen = parser.parse_args()
    try:
        results, bands = measure(chosen.checkpoint, chosen.repeats)
    except MlepiError as error:
        sys.exit(f"error: {error}")
    tables = format_tables(results)
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "phonons.json").write_text(
        json.dumps(results, indent=1) + "\n", encoding="utf-8"
    )
    (chosen.output / "phonons.md").write_text(tables, encoding="utf-8")
    plot_bands(bands, chosen.output, "phonons")
    print(tables)


if __name__ == "__main__":
    main()
