"""Variance of a band energy at equal cost, sampler by sampler.

``python benchmarks/samplers.py [--repeats N]``.

Graphene by springs (``mlepi.reference_systems.HoneycombSprings``) and one orbital per atom, hopping
−2.7 eV·exp[−3.37 (d/d₀ − 1)] between first neighbours, 6×6 cell, 213 modes. E_k is the maximum of
the unfolded spectral function of the upper cone, averaged over n samples, Gaussian lines of 0.1 eV,
at |k − K| = 0.1 Å⁻¹: at one k, and averaged over the three k of a star. At one k a mode of Γ moves
the cone and shifts E_k at first order; the average over the star, like a Fermi velocity, has no
such term.

Every row repeats the estimate with other seeds; "less variance" is the variance of plain Monte
Carlo over that of the row, its relative uncertainty √(4/(repeats − 1)). Writes
``results/samplers.json`` and ``results/samplers.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.samplers import (
    ZG,
    Antithetic,
    HarmonicSampler,
    MonteCarlo,
    Sobol,
    ThermalLines,
)
from mlepi.physics.vibrations.thermal import HarmonicEnsemble
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene

RESULTS = Path(__file__).parent / "results"
REPEATS = 6
"""Cells along both vectors."""
TEMPERATURES = (0.0, 300.0)
SIZES = (64, 256)
"""Samples per estimate."""
HOPPING, DECAY = 2.7, 3.37
DISTANCE = 0.1
"""1/Å, |k − K|."""
WIDTH = 0.1
"""eV, of the lines whose maximum is E_k."""
ENERGIES = np.linspace(-0.25, 0.25, 101)
"""eV, from the energy at rest."""


class SobolByAmplitude(Sobol):
    """The leading coordinates go to the largest amplitudes instead."""

    def _order_modes(self, ensemble: HarmonicEnsemble) -> NDArray[np.int64]:
        return np.arange(ensemble.coordinates.n_coordinates)


SAMPLERS: Mapping[str, HarmonicSampler] = {
    "plain Monte Carlo": MonteCarlo(),
    "antithetic pairs": Antithetic(),
    "thermal lines (signs)": ThermalLines(),
    "ZG": ZG(),
    "Sobol, 8 replicates": Sobol(),
    "Sobol, 2 replicates": Sobol(n_replicates=2),
    "Sobol, 8, by amplitude": SobolByAmplitude(),
}


class Toy:
    """Energies of the upper cone near K in displaced supercells."""

    def __init__(self) -> None:
        atoms = build_graphene("monolayer")
        force_constants = compute_force_constants(
            atoms, HoneycombSprings(), (REPEATS, REPEATS, 1), displacement=1e-3
        )
        self.ensemble = HarmonicEnsemble(compute_modes(force_constants), TEMPERATURES)
        supercell = atoms.repeat((REPEATS, REPEATS, 1))
        self.positions = supercell.positions
        self.source, self.target, shifts = neighbor_list("ijS", supercell, 1.6)
        self.shifts = shifts @ supercell.cell.array
        grid = np.meshgrid(range(REPEATS), range(REPEATS), [0], indexing="ij")
        cells = np.repeat(np.stack(grid, axis=-1).reshape(-1, 3), len(atoms), axis=0)
        # phases of lattice vectors alone: Bloch sums of the cells are then constant over the
        # supercell
        self.hops = (cells[self.target] + shifts * REPEATS - cells[self.source]) @ atoms.cell.array
        self.bond = float(
            np.linalg.norm(self._vectors(np.zeros((1, len(supercell), 3)))[0], axis=1).mean()
        )
        reciprocal = 2.0 * np.pi * np.linalg.inv(atoms.cell.array).T
        corners = [
            np.array(corner) @ reciprocal for corner in ((1 / 3, 1 / 3, 0), (2 / 3, 1 / 3, 0))
        ]
        corner = min(corners, key=lambda k: abs(self._sum(k)))
        angles = (0.0, 2.0 * np.pi / 3.0, 4.0 * np.pi / 3.0)
        self.star = [corner + DISTANCE * np.array([math.cos(a), math.sin(a), 0.0]) for a in angles]

    def spectra(
        self, displacements: NDArray[np.float64], k: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the spectral functions on ``ENERGIES``: (n_samples, n_energies)."""
        factor = -HOPPING * self._sum(k)
        rest, n = abs(factor), len(self.positions)
        state = np.tile([1.0, np.conj(factor) / rest], n // 2) / math.sqrt(n)
        phases = np.exp(1j * self.hops @ k)
        parts = []
        for part in np.array_split(displacements, max(1, len(displacements) // 64)):
            lengths = np.linalg.norm(self._vectors(part), axis=2)
            matrices = np.zeros((len(part), n, n), dtype=np.complex128)
            matrices[:, self.source, self.target] = (
                -HOPPING * np.exp(-DECAY * (lengths / self.bond - 1.0)) * phases
            )
            values, vectors = np.linalg.eigh(matrices)
            weights = np.abs(state.conj() @ vectors) ** 2
            lines = np.exp(-0.5 * ((rest + ENERGIES - values[:, :, None]) / WIDTH) ** 2)
            parts.append(np.einsum("sn,sne->se", weights, lines))
        return np.concatenate(parts)

    def _vectors(self, displacements: NDArray[np.float64]) -> NDArray[np.float64]:
        positions = self.positions + displacements
        return np.asarray(positions[:, self.target] + self.shifts - positions[:, self.source])

    def _sum(self, k: NDArray[np.float64]) -> complex:
        return complex(np.exp(1j * self.hops[self.source == 0] @ k).sum())


def find_peak(spectrum: NDArray[np.float64]) -> float:
    """Return where a smooth spectrum on ``ENERGIES`` has its maximum, eV.

    By a fourth-order fit of seven points.
    """
    top = int(np.argmax(spectrum))
    points = slice(top - 3, top + 4)
    fit = np.polynomial.Polynomial.fit(ENERGIES[points], spectrum[points], 4)
    roots = fit.deriv().roots()
    real = roots[np.abs(roots.imag) < 1e-9].real
    return float(real[np.argmin(np.abs(real - ENERGIES[top]))])


def estimate(toy: Toy, sampler: HarmonicSampler, repeats: int) -> NDArray[np.float64]:
    """Return shifts of E_k, meV: (n_sizes, n_temperatures, n_k, repeats).

    Temperatures share their random numbers.
    """
    shifts = np.empty((len(SIZES), len(TEMPERATURES), len(toy.star), repeats))
    for seed in range(repeats):
        normals = sampler.normals(toy.ensemble, range(max(SIZES)), seed)
        for t, temperature in enumerate(TEMPERATURES):
            displacements = toy.ensemble.displacements_at(temperature, normals)
            for i, k in enumerate(toy.star):
                spectra = toy.spectra(displacements, k)
                for j, size in enumerate(SIZES):
                    shifts[j, t, i, seed] = 1e3 * find_peak(spectra[:size].mean(axis=0))
    return shifts


def measure(repeats: int) -> dict[str, Any]:
    """Measure every sampler; plain data, meV."""
    toy = Toy()
    rows: dict[str, Any] = {}
    for name, sampler in SAMPLERS.items():
        start = time.process_time()
        shifts = estimate(toy, sampler, repeats)
        star = shifts.mean(axis=2)
        rows[name] = {
            "mean": star[:, 1].mean(axis=1).tolist(),
            "star_sd": star[:, 1].std(axis=1, ddof=1).tolist(),
            "single_sd": np.sqrt(shifts[:, 1].var(axis=2, ddof=1).mean(axis=1)).tolist(),
            "difference_mean": (star[:, 1] - star[:, 0]).mean(axis=1).tolist(),
            "difference_sd": (star[:, 1] - star[:, 0]).std(axis=1, ddof=1).tolist(),
            "difference_single_sd": np.sqrt(
                (shifts[:, 1] - shifts[:, 0]).var(axis=2, ddof=1).mean(axis=1)
            ).tolist(),
            # independent random numbers: the temperatures of different repeats
            "independent_sd": (star[:, 1] - np.roll(star[:, 0], 1, axis=1))
            .std(axis=1, ddof=1)
            .tolist(),
            "independent_single_sd": np.sqrt(
                (shifts[:, 1] - np.roll(shifts[:, 0], 1, axis=2)).var(axis=2, ddof=1).mean(axis=1)
            ).tolist(),
            "cpu_seconds": time.process_time() - start,
        }
    return {
        "repeats": repeats,
        "sizes": list(SIZES),
        "n_modes": toy.ensemble.coordinates.n_coordinates,
        "rows": rows,
    }


def format_tables(results: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    rows, sizes, repeats = results["rows"], results["sizes"], results["repeats"]
    plain = rows["plain Monte Carlo"]
    uncertainty = math.sqrt(4.0 / (repeats - 1))
    lines = [
        "# Samplers",
        "",
        f"`python benchmarks/samplers.py --repeats {repeats}`: graphene toy, 6×6, "
        f"{results['n_modes']} modes, E_k at 300 K and",
        f"|k − K| = {DISTANCE} Å⁻¹. Standard deviations of one estimate in meV from {repeats} "
        "repeats; "
        f"ratios of variances are known to ±{100 * uncertainty:.0f} %.",
    ]
    for j, size in enumerate(sizes):
        lines += [
            "",
            f"## {size} samples",
            "",
            "| sampler | shift, star | sd, one k | less variance | sd, star | less variance |",
            "|---|---|---|---|---|---|",
        ]
        for name, row in rows.items():
            single, star = row["single_sd"][j], row["star_sd"][j]
            lines.append(
                f"| {name} | {row['mean'][j]:.2f} ± {star / math.sqrt(repeats):.2f} | {single:.2f} "
                f"| {ratio(plain['single_sd'][j], single)} | {star:.2f} | "
                f"{ratio(plain['star_sd'][j], star)} |"
            )
        lines += [
            "",
            f"E(300 K) − E(0 K), {size} samples, sd in meV:",
            "",
            "| sampler | difference, star | one k: common numbers | independent | less variance "
            "| star: common | independent | less variance |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, row in rows.items():
            one, other = row["difference_single_sd"][j], row["independent_single_sd"][j]
            common, independent = row["difference_sd"][j], row["independent_sd"][j]
            lines.append(
                f"| {name} | {row['difference_mean'][j]:.2f} ± {common / math.sqrt(repeats):.2f} "
                f"| {one:.3f} | {other:.2f} "
                f"| {ratio(other, one)} | {common:.3f} | {independent:.2f} | "
                f"{ratio(independent, common)} |"
            )
    return "\n".join(lines) + "\n"


def ratio(before: float, after: float) -> str:
    """Write a ratio of variances with two digits."""
    return f"{float(f'{(before / after) ** 2:.2g}'):g}×"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=48, help="estimates per sampler")
    results = measure(parser.parse_args(arguments).repeats)
    (RESULTS / "samplers.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "samplers.md").write_text(format_tables(results), encoding="utf-8")


if __name__ == "__main__":
    main()
