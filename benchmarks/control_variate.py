"""Variance of a band energy at temperature with and without a control variate, for known H.

    OMP_NUM_THREADS=1 python benchmarks/control_variate.py

Monolayer graphene, 6×6 cells, springs, 300 K, half the gap between the low bands at K + 0.1 Å⁻¹.
The Hamiltonian that stands for the network is Slater-Koster tight binding of s and p orbitals with
overlap; the cheap one has one orbital per atom, its hopping and decay fitted to the levels of four
other displaced cells. Variances are those of 24 repeats with independent samples; the error of the
cheap average is part of them. Writes ``benchmarks/results/control_variate.md``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.near_k.reference_bands import ReferenceBands, build_near_k
from mlepi.observables.near_k.unfold_sample import unfold_sample
from mlepi.physics.averages.control_variate import apply_control
from mlepi.physics.bands.lattice import build_line, hexagonal_points
from mlepi.physics.bands.unfolding import cell_major_map
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.thermal import sample_displacements
from mlepi.reference_systems import HoneycombSprings, TightBinding
from mlepi.reference_systems.fit import fit_tight_binding
from mlepi.structures import build_graphene

RESULT = Path(__file__).resolve().parent / "results" / "control_variate.md"
SUPERCELL = (6, 6, 1)
TEMPERATURE = 300.0
DISTANCE = 0.1
WINDOW = 1.6
N_SAMPLES, N_REPEATS, N_CHEAP = 32, 24, 4096


def half_gap(reference: ReferenceBands, model: TightBinding, atoms: Any) -> float:
    """Return half the distance of the two low bands' mean energies at the only k-point, eV."""
    found = unfold_sample(reference, model.hamiltonian(atoms), model.overlap(atoms), WINDOW)
    levels, weights = found["levels"][0], found["weights"][0]
    inside = np.isfinite(levels)
    middle = (weights.shape[0] - 1) // 2
    valence, conduction = (
        np.average(levels[inside], weights=weights[band, inside]) for band in (middle - 1, middle)
    )
    return 0.5 * float(conduction - valence)


def main() -> None:
    """Measure and write the table."""
    atoms = build_graphene(stacking="monolayer")
    atoms.arrays["layer"] = np.zeros(2, dtype=int)
    network = TightBinding(orbitals="sp", orthogonal=False)
    force_constants = compute_force_constants(atoms, HoneycombSprings(), SUPERCELL)

    def displaced(seed: int, n_samples: int) -> list[Any]:
        structures = []
        samples = sample_displacements(force_constants, (TEMPERATURE,), n_samples, seed)
        for displacement in samples[0]:
            structures.append(atoms.repeat(SUPERCELL))
            structures[-1].positions += displacement
        return structures

    cell, points = atoms.cell.array, hexagonal_points(atoms.cell.array)
    line = build_line(points["K"], points["Γ"], np.array([0.0, DISTANCE]), cell)
    kpoints = np.array([cell_major_map(2, SUPERCELL).fold(k) for k in line])
    fitted = displaced(seed=1, n_samples=4)
    middle = 2 * len(fitted[0])  # four electrons per atom, two per state
    levels = [
        solve_bands(
            network.hamiltonian(s).dense_many(kpoints),
            network.overlap(s).dense_many(kpoints),
            subset=(middle - 2, middle + 1),
        )
        for s in fitted
    ]
    fit = fit_tight_binding(fitted, kpoints, np.array(levels), network.bond, network.spacing)
    cheap = TightBinding(**fit.arguments())
    references = {}
    for name, model, electrons in (("network", network, 4), ("cheap", cheap, 1)):
        references[name] = build_near_k(
            atoms,
            model.hamiltonian(atoms),
            model.overlap(atoms),
            SUPERCELL,
            (DISTANCE,),
            {6: electrons},
        )

    def evaluate(
        name: str, model: TightBinding, structures: list[Any]
    ) -> tuple[NDArray[np.float64], float]:
        start = time.process_time()
        values = np.array([half_gap(references[name], model, s) for s in structures])
        return values[:, None], (time.process_time() - start) / len(structures)

    reference, cheap_seconds = evaluate("cheap", cheap, displaced(seed=2, n_samples=N_CHEAP))
    plain, controlled, reported, correlations, seconds = [], [], [], [], 0.0
    for repeat in range(N_REPEATS):
        structures = displaced(seed=100 + repeat, n_samples=N_SAMPLES)
        y, seconds = evaluate("network", network, structures)
        x, _ = evaluate("cheap", cheap, structures)
        estimate = apply_control(
            y.mean(axis=0), y, x.mean(axis=0), x, reference.mean(axis=0), reference
        )
        plain.append(y.mean())
        controlled.append(estimate.values[0])
        reported.append(estimate.errors[0])
        correlations.append(estimate.correlations[0])
    _write(
        plain,
        controlled,
        reported,
        correlations,
        fit,
        reference,
        seconds,
        cheap_seconds,
        lambda v: 1e3 * float(np.std(v, ddof=1)),
    )


def _write(
    plain: list[float],
    controlled: list[float],
    reported: list[float],
    correlations: list[float],
    fit: Any,
    reference: NDArray[np.float64],
    seconds: float,
    cheap_seconds: float,
    spread: Callable[[list[float]], float],
) -> None:
    cheap_error = 1e3 * float(reference.std(ddof=1)) / np.sqrt(len(reference))
    reduction = (spread(plain) / spread(controlled)) ** 2
    # the cheap average is the same in all repeats: its error does not show in their spread and is
    # added
    whole = spread(plain) ** 2 / (spread(controlled) ** 2 + cheap_error**2)
    lines = [
        "# Control variate on tight binding",
        "",
        f"`python benchmarks/control_variate.py`, {os.uname().machine}, one core; {N_REPEATS} "
        f"repeats of {N_SAMPLES} samples, "
        f"{N_CHEAP} cheap samples.",
        "",
        "| quantity | value |",
        "|---|---|",
        f"| half gap at K + {DISTANCE} Å⁻¹, {TEMPERATURE:g} K | {np.mean(controlled):.5f} eV |",
        f"| standard deviation of the mean of {N_SAMPLES} samples | {spread(plain):.3f} meV |",
        f"| with the control variate | {spread(controlled):.3f} meV |",
        f"| error bars that it reports, mean | {1e3 * float(np.mean(reported)):.3f} meV |",
        f"| error of the cheap average | {cheap_error:.3f} meV |",
        f"| correlation | {np.mean(correlations):.4f} |",
        f"| variance reduction for an exact cheap average | {reduction:.0f} |",
        f"| variance reduction with the error of {N_CHEAP} cheap samples | {whole:.0f} |",
        f"| misfit of the levels | {1e3 * fit.rms:.1f} meV |",
        f"| processor seconds per sample, Slater-Koster and cheap | {seconds:.3f}, "
        f"{cheap_seconds:.3f} |",
        "",
    ]
    RESULT.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
