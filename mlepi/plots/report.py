"""From a run folder to figures and one self-contained HTML report.

Tables with units, statements, warnings, provenance.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mlepi.errors import DataError, message
from mlepi.plots.band_geometry import (
    list_geometry_facts,
    plot_band_geometry,
    plot_geometry_convergence,
    plot_geometry_maps,
)
from mlepi.plots.conductivity import (
    list_conductivity_facts,
    plot_conductivity,
    plot_conductivity_convergence,
)
from mlepi.plots.control import list_control_facts, plot_control, plot_tight_binding
from mlepi.plots.domain import list_domain_facts, plot_domain
from mlepi.plots.edges import plot_dos, plot_effective_masses, plot_gap
from mlepi.plots.electrons import (
    plot_bands,
    plot_convergence,
    plot_fermi_velocity,
    plot_low_bands,
    plot_spectral_functions,
)
from mlepi.plots.linear_response import (
    linear_response_section,
    list_decompositions,
    plot_decomposition,
    plot_second_order,
)
from mlepi.plots.moire import list_band_facts, plot_moire_bands
from mlepi.plots.phonons import plot_phonons, plot_sampling
from mlepi.plots.self_energy import plot_quasiparticles, plot_self_energies
from mlepi.plots.style import save_figure
from mlepi.plots.velocities import html_table, print_estimates, velocity_section
from mlepi.results import (
    BandGeometryRecord,
    BandsRecord,
    ConductivityRecord,
    ControlRecord,
    DomainRecord,
    DosRecord,
    EffectiveMassRecord,
    GapRecord,
    HamiltonianRecord,
    LinearResponseRecord,
    ObservablesRecord,
    PhononRecord,
    ResultsStore,
    SamplingRecord,
    SelfEnergyRecord,
    StructureRecord,
    TightBindingRecord,
)
from mlepi.units import THZ_TO_INVERSE_CM

RECORDS: dict[str, type] = {
    "structure": StructureRecord,
    "phonon": PhononRecord,
    "sampling": SamplingRecord,
    "hamiltonian": HamiltonianRecord,
    "observables": ObservablesRecord,
    "self_energy": SelfEnergyRecord,
    "gap": GapRecord,
    "effective_mass": EffectiveMassRecord,
    "dos": DosRecord,
    "linear_response": LinearResponseRecord,
    "conductivity": ConductivityRecord,
    "band_geometry": BandGeometryRecord,
    "domain": DomainRecord,
    "tight_binding": TightBindingRecord,
    "control": ControlRecord,
    "bands": BandsRecord,
}
"""Stages that the report knows, in its order, and their records."""

FIGURES: tuple[tuple[str, str, Callable[[Any], Figure], str], ...] = (
    (
        "phonon",
        "phonons",
        plot_phonons,
        "Phonon bands and density of states; imaginary frequencies below zero.",
    ),
    (
        "sampling",
        "sampling",
        plot_sampling,
        "⟨u²⟩ of the first n samples over that of the harmonic distribution.",
    ),
    (
        "observables",
        "bands",
        plot_bands,
        "Electron bands and density of states of the undisplaced structure.",
    ),
    (
        "observables",
        "spectral_function",
        plot_spectral_functions,
        "Unfolded spectral function along M–K–Γ, averaged over the samples; crosses: peaks of the "
        "low bands.",
    ),
    (
        "observables",
        "fermi_velocity",
        plot_fermi_velocity,
        "Fermi velocity against temperature; bars: bootstrap standard deviation.",
    ),
    (
        "observables",
        "low_bands",
        plot_low_bands,
        "Low bands in the fitted window by the estimators that follow energies.",
    ),
    (
        "self_energy",
        "self_energies",
        plot_self_energies,
        "Averaged spectral functions and self-energies of the bands near K; quasiparticles where "
        "Re Σ meets ω − ε.",
    ),
    (
        "self_energy",
        "quasiparticles",
        plot_quasiparticles,
        "Quasiparticle shifts, weights and widths near K; bars: bootstrap standard deviation.",
    ),
    (
        "gap",
        "gap",
        plot_gap,
        "Gap and shifts of the band edges against temperature; bars: bootstrap, own gaps "
        "jackknife.",
    ),
    (
        "effective_mass",
        "effective_mass",
        plot_effective_masses,
        "Bands along the line and effective masses; bars: bootstrap.",
    ),
    (
        "dos",
        "dos",
        plot_dos,
        "Density of states of the displaced supercells and its projections; bands: jackknife.",
    ),
    (
        "linear_response",
        "second_order",
        plot_second_order,
        "Second-order perturbation theory of the low bands: shift of half their gap term by term, "
        "and slope against temperature.",
    ),
    (
        "conductivity",
        "conductivity",
        plot_conductivity,
        "Optical conductivity and joint density of vertical transitions per layer; bands: "
        "bootstrap standard deviation.",
    ),
    (
        "conductivity",
        "conductivity_convergence",
        plot_conductivity_convergence,
        "Mean conductivity from the first n samples.",
    ),
    (
        "band_geometry",
        "band_geometry",
        plot_band_geometry,
        "Quantum metric and Berry curvature of the averaged Bloch Hamiltonian along M–K–Γ; bars: "
        "jackknife.",
    ),
    ("band_geometry", "geometry_maps", plot_geometry_maps, "Trace of the quantum metric around K."),
    (
        "band_geometry",
        "geometry_convergence",
        plot_geometry_convergence,
        "Quantum metric from the first n samples.",
    ),
    (
        "domain",
        "domain",
        plot_domain,
        "Geometry of the samples over the range of the training structures (grey).",
    ),
    (
        "bands",
        "moire_bands",
        plot_moire_bands,
        "States around the Fermi level of the large cell; lines: the continuum model.",
    ),
    (
        "tight_binding",
        "tight_binding",
        plot_tight_binding,
        "Levels of displaced supercells around the Dirac energy: fitted tight binding against the "
        "network.",
    ),
    (
        "control",
        "control",
        plot_control,
        "Fermi velocity from spectral peaks with the noise taken off that the tight binding "
        "shares; bars: jackknife.",
    ),
    ("observables", "convergence", plot_convergence, "Fermi velocity from the first n samples."),
)
"""Stage, file name, function and caption of every figure."""

COMPARISONS: tuple[tuple[str, str, Callable[[Any], Figure], str], ...] = (
    (
        "linear_response",
        "decomposition",
        plot_decomposition,
        "Slope of the low bands to second order, to all orders of the samples (bars: their "
        "errors), and corrected for phonon "
        "energies and size.",
    ),
)
"""Likewise, of all records of a run together."""

SMALL_OVERLAP = 1e-4
"""The report warns of ghost states when the smallest eigenvalue of S is below this."""

FEW_SAMPLES = 20
"""The report warns that error bars are themselves uncertain below this many samples."""

CSS = """body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#1a202c}
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em;border-bottom:1px solid #cbd5e0}table{border-collapse:collapse;margin:1em 0}
td,th{padding:.25em .8em;border-bottom:1px solid #e2e8f0;text-align:right}th:first-child,td:first-child{text-align:left}
figure{margin:1.5em 0}img{max-width:100%}figcaption{color:#4a5568;font-size:.9em}.warning{background:#fffaf0;border-left:4px solid
# dd6b20;padding:.5em 1em;margin:.5em
# 0}pre{overflow-x:auto;font-size:.8em;background:#f7fafc;padding:1em}"""


INTERPOLATION_NOISE = 2.0
"""Imaginary part of an interpolated band, cm⁻¹, that is not worth a warning."""


def plot_run(folder: str | Path) -> dict[str, Path]:
    """Draw every figure for which the run has a record, as PNG and PDF in ``figures/``.

    Args:
        folder: run folder.

    Returns:
        Name of the figure → path of its PNG.

    Raises:
        DataError: the folder holds no records, or they are damaged.
    """
    store = ResultsStore(folder)
    records = _read_records(store)
    drawn = {
        name: save_figure(plot(records[stage]), store.folder / "figures", name)
        for stage, name, plot, _ in FIGURES
        if stage in records
    }
    if list_decompositions(records):
        drawn |= {
            name: save_figure(plot(records), store.folder / "figures", name)
            for _, name, plot, _ in COMPARISONS
        }
    return drawn


def write_report(folder: str | Path) -> Path:
    """Draw the figures and write ``report.html``, one file without links to others.

    Args:
        folder: run folder.

    Returns:
        Path of the report.

    Raises:
        DataError: the folder holds no records, or they are damaged.
    """
    store = ResultsStore(folder)
    records = _read_records(store)
    images = plot_run(folder)
    parts = ["<h1>Electron-phonon report</h1>", f"<p>{html.escape(_subject(records))}</p>"]
    parts += [f'<div class="warning">{html.escape(text)}</div>' for text in list_warnings(records)]
    parts += velocity_section(records) + linear_response_section(records)
    for stage, name, _, caption in (*FIGURES, *COMPARISONS):
        if name in images:
            data = base64.b64encode(images[name].read_bytes()).decode()
            parts.append(
                f'<figure><img alt="{name} ({stage})" src="data:image/png;base64,{data}">'
                f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            )
    parts += _facts_section(records) + _provenance_section(store, records)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mlepi '
        f"report</title><style>{CSS}</style></head>"
    )
    path = store.folder / "report.html"
    path.write_text(page + "<body>" + "\n".join(parts) + "</body></html>\n", encoding="utf-8")
    return path


def list_warnings(records: dict[str, Any]) -> list[str]:
    """Say in words what a reader of the numbers must know.

    Args:
        records: stage → record, as many as there are.

    Returns:
        One text per reason for caution.
    """
    texts = []
    phonon, sampling = records.get("phonon"), records.get("sampling")
    hamiltonian, observables = records.get("hamiltonian"), records.get("observables")
    if phonon is not None and phonon.lowest_frequency < 0:
        texts.append(
            "The structure is unstable: lowest frequency "
            f"{phonon.lowest_frequency * THZ_TO_INVERSE_CM:.1f} cm⁻¹ (imaginary)."
        )
    elif (
        phonon is not None
        and phonon.band_frequencies.min() * THZ_TO_INVERSE_CM < -INTERPOLATION_NOISE
    ):
        cell = "×".join(str(n) for n in phonon.supercell)
        texts.append(
            f"Interpolated between the q-points of the {cell} supercell, the phonon bands dip to "
            f"{phonon.band_frequencies.min() * THZ_TO_INVERSE_CM:.1f} cm⁻¹ (imaginary). Samples "
            "of this cell do not contain such "
            "waves; a larger cell would: relax the lattice first, or expect an error there."
        )
    if sampling is not None and sampling.n_soft_modes > 0:
        texts.append(
            f"{sampling.n_soft_modes} soft modes were treated by imaginary={sampling.imaginary}; "
            "averages depend on that choice."
        )
    if hamiltonian is not None and hamiltonian.smallest_overlap_eigenvalues.min() < SMALL_OVERLAP:
        smallest = hamiltonian.smallest_overlap_eigenvalues.min()
        texts.append(
            f"The smallest eigenvalue of S is {smallest:.1e}: small errors of H may show as ghost "
            "states."
        )
    if observables is not None:
        if observables.n_samples < FEW_SAMPLES:
            texts.append(
                f"Only {observables.n_samples} samples per temperature: the error bars are "
                "themselves uncertain."
            )
        texts += [f"Observables: {text}" for text in observables.doubts()]
    if "self_energy" in records:
        texts += [f"Self-energy: {text}" for text in records["self_energy"].doubts()]
    if "linear_response" in records:
        texts += [f"Linear response: {text}" for text in records["linear_response"].doubts()]
    for stage in records.keys() & {"conductivity", "band_geometry", "domain"}:
        texts += [f"{stage.capitalize()}: {text}" for text in records[stage].doubts()]
    return texts


def _read_records(store: ResultsStore) -> dict[str, Any]:
    present = store.stages()
    records = {
        stage: store.read(stage, record_type)
        for stage, record_type in RECORDS.items()
        if stage in present
    }
    if not records:
        raise DataError(
            message(str(store.folder), "no records", "the folder of a run", "Run infer.py first.")
        )
    return records


def _subject(records: dict[str, Any]) -> str:
    structure: StructureRecord | None = records.get("structure")
    if structure is None:
        return ""
    lengths = structure.atoms.cell.lengths()
    return (
        f"{structure.atoms.get_chemical_formula()} from {structure.source}, relaxation: "
        f"{structure.relaxation}; "
        f"a = {lengths[0]:.4f} Å, b = {lengths[1]:.4f} Å, c = {lengths[2]:.2f} Å."
    )


def print_velocities(folder: str | Path) -> None:
    """Print v_F(T) of every estimator of a run as tables, with cell, window and number of samples.

    Args:
        folder: run folder; without observables nothing is printed.
    """
    print_estimates(_read_records(ResultsStore(folder)))


def _facts_section(records: dict[str, Any]) -> list[str]:
    rows: list[list[str]] = []
    if (structure := records.get("structure")) is not None and structure.max_force is not None:
        rows.append(["largest force on an atom", f"{structure.max_force:.4f} eV/Å"])
    if (phonon := records.get("phonon")) is not None:
        rows += [
            [
                "lowest frequency, translations apart",
                f"{phonon.lowest_frequency * THZ_TO_INVERSE_CM:.1f} cm⁻¹",
            ],
            [
                "highest frequency of the bands",
                f"{phonon.band_frequencies.max() * THZ_TO_INVERSE_CM:.1f} cm⁻¹",
            ],
            ["force constants", f"{phonon.method}; rules imposed: {phonon.sum_rules}"],
            [
                "sum-rule residual, before → after",
                f"{phonon.raw_sum_rule_residual:.1e} → {phonon.sum_rule_residual:.1e} eV/Å²",
            ],
        ]
        if math.isfinite(phonon.rotational_residual):
            rows += [
                [
                    "… rotational (Born–Huang)",
                    f"{phonon.raw_rotational_residual:.1e} → {phonon.rotational_residual:.1e} eV/Å",
                ],
                [
                    "… Huang, per cell",
                    f"{phonon.raw_huang_residual:.1e} → {phonon.huang_residual:.1e} eV",
                ],
            ]
    if (sampling := records.get("sampling")) is not None:
        rows += [
            ["statistics", f"{sampling.statistics}, seed {sampling.seed}"],
            [
                "samples",
                f"{sampling.sampler}, {sampling.n_samples} in {sampling.n_groups} independent "
                "groups, "
                f"effective sample size {sampling.effective_sample_size:.1f}",
            ],
            ["largest displacement of an atom", f"{sampling.max_displacements.max():.3f} Å"],
            [
                "ZA share of ⟨u²⟩" + (" (left out)" if sampling.project_out == "ZA" else ""),
                ", ".join(
                    f"{100 * s:.0f} % at {t:g} K"
                    for t, s in zip(sampling.temperatures, sampling.za_shares, strict=False)
                ),
            ],
        ]
    if (bands := records.get("bands")) is not None:
        rows += list_band_facts(bands)
    if (control := records.get("control")) is not None:
        rows += list_control_facts(control)
    if (conductivity := records.get("conductivity")) is not None:
        rows += list_conductivity_facts(conductivity)
    if (geometry := records.get("band_geometry")) is not None:
        rows += list_geometry_facts(geometry)
    if (domain := records.get("domain")) is not None:
        rows += list_domain_facts(domain)
    if (hamiltonian := records.get("hamiltonian")) is not None:
        rows.append(
            ["smallest eigenvalue of S", f"{hamiltonian.smallest_overlap_eigenvalues.min():.2e}"]
        )
    if (observables := records.get("observables")) is not None:
        rows += [
            [
                "Fermi energy, undisplaced",
                f"{observables.fermi_energy:.4f} eV at {observables.electronic_temperature:g} K "
                "smearing",
            ],
            ["Dirac energy, undisplaced", f"{observables.dirac_energy:.4f} eV"],
            [
                "weight of low bands inside the energy window",
                f"{100 * observables.captured_weights.min():.1f} % at least",
            ],
        ]
    return ["<h2>Facts</h2>", html_table(("quantity", "value"), rows)] if rows else []


def _provenance_section(store: ResultsStore, records: dict[str, Any]) -> list[str]:
    parts = ["<h2>Provenance</h2>"]
    for stage in records:
        provenance = store.provenance(stage)
        text = json.dumps(provenance, indent=2, ensure_ascii=False, sort_keys=True)
        commit = str(provenance.get("commit", "unknown"))
        parts.append(
            f"<details><summary>{html.escape(stage)}: commit {html.escape(commit)}, content "
            f"{html.escape(str(store.content(stage))[:16])}</summary><pre>{html.escape(text)}</pre></details>"
        )
    return parts
