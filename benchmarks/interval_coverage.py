"""How often intervals hold the truth: every sampler, few and many groups, several estimates.

``python benchmarks/interval_coverage.py [--trials N]``.

Graphene by springs, 3×3 cell, 300 K. Half gaps of a bilayer's low bands at five |k − K| follow the
displacements by a polynomial of second order in the mode coordinates, with coefficients drawn once:
their averages are known as well as anybody likes. Estimates are the mean half gap at one k, the
ratio of two, v of a hyperbola through all five, the change of the mean from 0 to 300 K with common
random numbers, and the mean with a control variate.

Groups of samples of every sampler are made once (a sample of Monte Carlo, a pair, a replicate of 8
Sobol points, a pair of signs), and every trial draws some of them at random: the truth is the
estimate from all. A trajectory is made anew in every trial, an Ornstein–Uhlenbeck process of every
mode, and is cut into blocks by its own correlation time. Writes ``results/interval_coverage.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.averages.control_variate import apply_control
from mlepi.physics.averages.intervals import ONE_SIGMA, TWO_SIGMA, quantile
from mlepi.physics.averages.statistics import (
    SampleDesign,
    bootstrap_errors,
    bootstrap_weights,
    jackknife_errors,
    jackknife_weights,
    pseudo_values,
)
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
from mlepi.physics.vibrations.samplers.trajectory import BLOCK_LENGTH, block_length
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, mode_variance
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene

RESULT = Path(__file__).resolve().parent / "results" / "interval_coverage.md"
TEMPERATURES = (0.0, 300.0)
GROUPS = (4, 8, 24, 100)
"""Independent groups per estimate."""
DISTANCES = np.linspace(0.04, 0.10, 5)
"""1/Å, |k − K|."""
HBAR_VELOCITY, GAMMA_1 = 5.5, 0.35
"""eV·Å and eV, of the half gaps at rest."""
POINTS_PER_REPLICATE = 8
MEMORY = 0.8
"""Correlation of a mode's coordinate in consecutive frames of the trajectory."""
N_CHEAP = 2000
"""Groups of the cheap average of the control variate."""
PLAIN = "bootstrap alone"
"""Standard deviation of the resamples with the quantiles of the normal distribution."""
BOUNDS = {ONE_SIGMA: (0.65, 0.71), TWO_SIGMA: (0.93, 0.97)}
"""Coverage that is asked for."""

Estimator = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Averages (…, 15) → estimates (…,)."""


class Toy:
    """Half gaps, eV, as polynomials of mode coordinates."""

    def __init__(self) -> None:
        force_constants = compute_force_constants(
            build_graphene("monolayer"), HoneycombSprings(), (3, 3, 1)
        )
        self.ensemble = HarmonicEnsemble(compute_modes(force_constants), TEMPERATURES)
        coordinates, rng = self.ensemble.coordinates, np.random.default_rng(0)
        n = coordinates.n_coordinates
        common, single = rng.normal(size=(n, n)), rng.normal(size=(5, n, n))
        self.linear = 0.06 * rng.normal(size=(5, n)) / np.sqrt(n)
        self.quadratic = (0.1 * common + 0.03 * single) / n - 0.04 * np.eye(n) / n
        self.rest = half_gaps(HBAR_VELOCITY, GAMMA_1)
        cold, hot = (
            np.sqrt(mode_variance(coordinates.frequencies, t, "quantum")) for t in TEMPERATURES
        )
        self.cold = cold / hot

    def observe(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return half gaps at both temperatures, hot first, and those of the cheap Hamiltonian.

        Args:
            coordinates: (n_samples, n_coordinates), of common random numbers.

        Returns:
            (n_samples, 15), eV.
        """
        hot, cold = self._gaps(coordinates), self._gaps(self.cold * coordinates)
        # a cheap Hamiltonian misses what is special to one k
        cheap = hot.mean(axis=1, keepdims=True) * np.ones(5) + 0.2 * hot
        return np.concatenate([hot, cold, cheap], axis=1)

    def _gaps(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        second = np.einsum("ski,si->sk", np.einsum("si,kij->skj", z, self.quadratic), z)
        return np.asarray(self.rest * (1.0 + z @ self.linear.T + second))


def half_gaps(hbar_velocity: float, gamma_1: float) -> NDArray[np.float64]:
    """Return ½[√(γ₁² + 4ħ²v²k²) − γ₁] at ``DISTANCES``, eV."""
    return np.asarray(0.5 * (np.hypot(gamma_1, 2.0 * hbar_velocity * DISTANCES) - gamma_1))


def fit_hyperbolas(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit v and γ₁ to many sets of half gaps at once, as ``fit_cone`` does to one, and return ħv.

    Gauss–Newton from the fit of E² + γ₁E = ħ²v²k².

    Args:
        energies: (…, 5), eV.

    Returns:
        (…,), eV·Å.
    """
    flat = energies.reshape(-1, len(DISTANCES))
    k = np.broadcast_to(DISTANCES, flat.shape)
    start = _solve(np.stack([k**2, -flat], axis=-1), flat**2)
    v, gamma = np.sqrt(np.maximum(start[:, 0], 0.1)), np.maximum(start[:, 1], 0.05)
    for _ in range(12):
        root = np.hypot(gamma[:, None], 2.0 * v[:, None] * k)
        misfit = flat - 0.5 * (root - gamma[:, None])
        slopes = np.stack([2.0 * v[:, None] * k**2 / root, 0.5 * (gamma[:, None] / root - 1)], -1)
        step = _solve(slopes, misfit)
        step[:, 0] = np.clip(step[:, 0], -0.5 * v, 0.5 * v)
        v, gamma = v + step[:, 0], gamma + np.clip(step[:, 1], -0.5 * gamma, 0.5 * gamma)
    return np.asarray(v.reshape(energies.shape[:-1]))


def _solve(design: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve least squares of two parameters: (n, n_k, 2), (n, n_k) → (n, 2)."""
    normal = np.einsum("nki,nkj->nij", design, design)
    right = np.einsum("nki,nk->ni", design, values)
    determinant = normal[:, 0, 0] * normal[:, 1, 1] - normal[:, 0, 1] ** 2
    return np.stack(
        [
            (normal[:, 1, 1] * right[:, 0] - normal[:, 0, 1] * right[:, 1]) / determinant,
            (normal[:, 0, 0] * right[:, 1] - normal[:, 0, 1] * right[:, 0]) / determinant,
        ],
        axis=-1,
    )


ESTIMATORS: Mapping[str, Estimator] = {
    "mean": lambda y: y[..., 2],
    "ratio": lambda y: y[..., 0] / y[..., 4],
    "hyperbola": lambda y: fit_hyperbolas(y[..., :5]),
    "change with T": lambda y: y[..., 2] - y[..., 7],
}
"""The first and the last are linear."""

SAMPLERS: Mapping[str, HarmonicSampler] = {
    "Monte Carlo": MonteCarlo(),
    "antithetic pairs": Antithetic(),
    "Sobol replicates": Sobol(n_replicates=8),
    "ZG": ZG(),
    "thermal lines": ThermalLines(),
}


def make_groups(toy: Toy, sampler: HarmonicSampler, n_groups: int) -> NDArray[np.float64]:
    """Return the means of so many independent groups, (n_groups, 15), eV, from several seeds."""
    per_seed = POINTS_PER_REPLICATE * 8 if isinstance(sampler, Sobol) else 200
    found: list[NDArray[np.float64]] = []
    while sum(len(some) for some in found) < n_groups:
        normals = sampler.normals(toy.ensemble, range(per_seed), len(found))
        values = toy.observe(toy.ensemble.coordinates.coordinates(normals))
        design = SampleDesign(sampler.groups(per_seed))
        member = np.arange(design.n_groups)[:, None] == design.groups
        found.append(member @ values / member.sum(axis=1, keepdims=True))
    return np.concatenate(found)[:n_groups]


@dataclass(frozen=True)
class Drawn:
    """The groups of several trials of one design.

    Attributes:
        means: (n_trials, n_members, 15), eV: of the groups, or samples that belong to groups.
        design: of the members.
        n_resamples: of the bootstrap.
    """

    means: NDArray[np.float64]
    design: SampleDesign
    n_resamples: int

    @cached_property
    def whole(self) -> NDArray[np.float64]:
        """Averages over all groups, (n_trials, 15)."""
        return np.asarray(np.einsum("m,tmo->to", self.design.weights, self.means))

    @cached_property
    def without(self) -> NDArray[np.float64]:
        """Averages without one group at a time, (n_groups, n_trials, 15)."""
        return np.einsum("gm,tmo->gto", jackknife_weights(self.design), self.means, optimize=True)

    @cached_property
    def resampled(self) -> NDArray[np.float64]:
        """Averages over resampled groups, (n_resamples, n_trials, 15)."""
        weights = bootstrap_weights(self.design, self.n_resamples, 0)
        return np.einsum("rm,tmo->rto", weights, self.means, optimize=True)

    def find_hits(self, estimator: Estimator, truth: float) -> dict[str, NDArray[np.bool_]]:
        """Tell by method whether the 68 % and the 95 % interval hold the truth, (2, n_trials)."""
        value = estimator(self.whole)
        errors = {"jackknife": jackknife_errors(value, estimator(self.without), self.design)}
        plain = {}
        if self.n_resamples:
            resampled = estimator(self.resampled)
            errors["bootstrap"] = bootstrap_errors(resampled, self.design)
            plain[PLAIN] = self._hit(value - truth, resampled.std(axis=0), np.inf)
        hits = {name: self._hit(value - truth, error) for name, error in errors.items()}
        return {**hits, **plain}

    def find_controlled_hits(
        self, cheap: NDArray[np.float64], truth: float
    ) -> dict[str, NDArray[np.bool_]]:
        """Do the same for the mean with a control variate; its cheap average is another each time.

        Args:
            cheap: (n_pool,), eV, cheap half gaps of groups.
            truth: of the mean.
        """
        value, control = self.whole[:, 2], self.whole[:, 12]
        of_groups = (pseudo_values(self.whole[:, at], self.without[:, :, at]) for at in (2, 12))
        pseudo, control_pseudo = of_groups
        many = np.random.default_rng(5).choice(cheap, (N_CHEAP, len(value)))
        found = apply_control(value, pseudo, control, control_pseudo, many.mean(axis=0), many)
        return {"jackknife": self._hit(found.values - truth, found.errors)}

    def _hit(
        self,
        deviations: NDArray[np.float64],
        errors: NDArray[np.float64],
        degrees: float | None = None,
    ) -> NDArray[np.bool_]:
        degrees = self.design.degrees_of_freedom if degrees is None else degrees
        reach = [quantile(degrees, level) for level in BOUNDS]
        return np.array([np.abs(deviations) <= factor * errors for factor in reach])


def draw_trajectory(toy: Toy, n_groups: int, seed: int, n_resamples: int) -> Drawn:
    """Make one trajectory of about so many blocks and cut it by its own correlation time.

    Frames are averaged over their blocks at once.
    """
    coordinates, rng = toy.ensemble.coordinates, np.random.default_rng([seed, n_groups])
    # blocks of a very long trajectory, whose autocorrelation time is ½ + memory/(1 − memory)
    n_frames = round(n_groups * BLOCK_LENGTH * MEMORY / (1.0 - MEMORY))
    frames = rng.standard_normal((n_frames, coordinates.n_coordinates))
    for i in range(1, n_frames):
        frames[i] = MEMORY * frames[i - 1] + np.sqrt(1.0 - MEMORY**2) * frames[i]
    displacements = toy.ensemble.displacements_at(300.0, coordinates.normals(frames))
    block = block_length(displacements[:, None])
    design = SampleDesign(np.arange(n_frames) // block)
    member = np.arange(design.n_groups)[:, None] == design.groups
    means = member @ toy.observe(frames) / member.sum(axis=1, keepdims=True)
    of_blocks = SampleDesign(np.arange(design.n_groups), design.shares)
    return Drawn(means[None], of_blocks, n_resamples)


Coverages = dict[tuple[str, str, str], dict[int, NDArray[np.float64]]]
"""Sampler, estimate and method → number of groups → coverages of both intervals, (2,)."""


def measure(trials: int, n_resamples: int, n_pool: int) -> Coverages:
    """Measure the coverages of every sampler.

    Args:
        trials: per number of groups; a quarter for a trajectory, fewer for a long one.
        n_resamples: of the bootstrap; 0 leaves it out.
        n_pool: groups that are made of every sampler.
    """
    toy = Toy()
    found: Coverages = {}

    def take(name: str, n: int, drawn: Sequence[Drawn], pool: NDArray[np.float64]) -> None:
        hits: dict[tuple[str, str, str], list[NDArray[np.bool_]]] = {}
        for one in drawn:
            by_estimate = {
                estimate: one.find_hits(estimator, float(estimator(pool.mean(axis=0))))
                for estimate, estimator in ESTIMATORS.items()
            }
            if name == "Monte Carlo":
                truth = float(pool[:, 2].mean())
                by_estimate["mean, control variate"] = one.find_controlled_hits(pool[:, 12], truth)
            for estimate, by_method in by_estimate.items():
                for method, some in by_method.items():
                    hits.setdefault((name, estimate, method), []).append(some)
        for key, each in hits.items():
            found.setdefault(key, {})[n] = np.concatenate(each, axis=1).mean(axis=1)

    for name, sampler in SAMPLERS.items():
        pool = make_groups(toy, sampler, n_pool)
        for n in GROUPS:
            chosen = np.random.default_rng(n).integers(len(pool), size=(trials, n))
            take(name, n, [Drawn(pool[chosen], SampleDesign.independent(n), n_resamples)], pool)
    # single frames of a trajectory are distributed as independent samples
    pool = make_groups(toy, MonteCarlo(), 20 * n_pool)
    for n in GROUPS:
        n_trials = count_trials("trajectory", trials, n)
        take(
            "trajectory",
            n,
            [draw_trajectory(toy, n, i, n_resamples) for i in range(n_trials)],
            pool,
        )
    return found


def count_trials(name: str, trials: int, n_groups: int) -> int:
    """Return the number of trials of a row of the table."""
    return trials if name != "trajectory" else max(20, round(trials / max(4, n_groups / 3)))


def format_table(found: Coverages, trials: int, n_resamples: int, n_pool: int) -> str:
    """Return the coverages as Markdown."""
    uncertainty = np.sqrt(0.68 * 0.32 / trials)
    last = count_trials("trajectory", trials, GROUPS[-1])
    lines = [
        "# Coverage of the intervals",
        "",
        f"`python benchmarks/interval_coverage.py --trials {trials} --resamples {n_resamples} "
        f"--pool {n_pool}`: share of trials in which",
        "the 68 % and the 95 % interval hold the truth, against the number of independent groups "
        "of samples. "
        f"The first is known to ±{uncertainty:.3f}; a trajectory has a quarter of the trials, "
        f"{last} of the longest (±{np.sqrt(0.68 * 0.32 / last):.3f}).",
        "",
        "| sampler | estimate | error bar | " + " | ".join(f"{n} groups" for n in GROUPS) + " |",
        "|" + "---|" * (3 + len(GROUPS)),
    ]
    for key, row in found.items():
        cells = [f"{one[0]:.3f}, {one[1]:.3f}" for one in (row[n] for n in GROUPS)]
        lines.append("| " + " | ".join([*key, *cells]) + " |")
    inside = [
        low <= value <= high
        for (_, _, method), row in found.items()
        for one in row.values()
        if method != PLAIN
        for value, (low, high) in zip(one, BOUNDS.values(), strict=True)
    ]
    lines += [
        "",
        f"{sum(inside)} of {len(inside)} lie within 0.65–0.71 and 0.93–0.97, without the rows "
        f'"{PLAIN}": these are',
        "the standard deviation of the resamples, without √(n/(n − 1)), with normal quantiles.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=1000, help="per number of groups")
    parser.add_argument("--resamples", type=int, default=100, help="of every bootstrap")
    parser.add_argument("--pool", type=int, default=1000, help="groups made of every sampler")
    given = parser.parse_args(arguments)
    settings = (given.trials, given.resamples, given.pool)
    table = format_table(measure(*settings), *settings)
    RESULT.write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
