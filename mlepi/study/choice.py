"""The choice of a round: which candidates lower the networks' error of the target most.

On the samples of the last run every network has said what it makes of the target, sample by sample.
How far the networks differ on a sample, in H or in forces, and what that does to the target there,
gives the effect; it is carried to the candidates, on which the networks differ by what they say of
them. Then ``select_informative`` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.design import describe_environments, scale_descriptors
from mlepi.errors import DataError, message
from mlepi.labelling.structure_files import NamedStructure
from mlepi.observables.domain.training_domain import force_spread, hamiltonian_spread
from mlepi.pipeline import Run
from mlepi.pipeline.stages.sampling.stage import EXPORT_FOLDER
from mlepi.structures.ase_files import read_frames
from mlepi.study.informative import (
    carry_effects,
    choose_length,
    correlate_errors,
    divide_variance,
    measure_squares,
    select_informative,
)
from mlepi.study.targets import Look


@dataclass(frozen=True)
class Chosen:
    """Structures that are to be labelled, and why.

    Attributes:
        order: places of the candidates, the most helpful first.
        variances: of the target by the networks before, and after each label as is expected;
            summed over temperatures, squares of its unit. None where chance has chosen.
        spreads: kind of networks → (n_candidates,), standard deviation of the networks, eV of H and
            eV/Å of forces.
        effects: kind → (n_candidates,), of the target with it, in its unit over that.
        samples: kind → (n_temperatures, n_samples), part of every sample in the variance of the
            target by the networks.
    """

    order: Sequence[int]
    variances: Sequence[float] = ()
    spreads: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    effects: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    samples: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def to_plain(self, names: Sequence[str]) -> dict[str, Any]:
        """Return it as plain data.

        Args:
            names: of the candidates.
        """
        rows = [
            {
                "name": names[place],
                "spread": {kind: float(x[place]) for kind, x in self.spreads.items()},
                "effect": {kind: float(x[place]) for kind, x in self.effects.items()},
            }
            for place in self.order
        ]
        return {
            "chosen": rows,
            "variances": [float(x) for x in self.variances],
            "samples": {kind: x.tolist() for kind, x in self.samples.items()},
        }


def choose_at_random(n_candidates: int, n_wanted: int, seed: Sequence[int]) -> Chosen:
    """Leave the choice to chance.

    Args:
        n_candidates: to choose from.
        n_wanted: structures.
        seed: of the choice.
    """
    order = np.random.default_rng(list(seed)).permutation(n_candidates)[:n_wanted]
    return Chosen([int(place) for place in order])


def choose_informative(
    run: Run,
    look: Look,
    candidates: Sequence[NamedStructure],
    n_wanted: int,
    n_compared: int,
    watch: Callable[[], None],
) -> Chosen:
    """Choose the candidates whose labels lower the error of the target most.

    Args:
        run: with the networks, and its samples exported.
        look: at the target in it.
        candidates: to choose from.
        n_wanted: structures.
        n_compared: first samples per temperature on which all networks were tried.
        watch: called after every structure.
    """
    samples = read_samples(run, n_compared)
    n_temperatures = len(look.temperatures)
    n_samples = len(samples) // n_temperatures
    structures = [*samples, *(one.atoms for one in candidates)]
    elements = sorted({int(z) for atoms in structures for z in atoms.numbers})
    points = scale_descriptors(np.array([describe_environments(a, elements) for a in structures]))
    length = choose_length(points)
    squares = measure_squares(points[len(samples) :], points[: len(samples)])
    spreads = measure_spreads(run, structures, watch)
    covariances, noises = [], []
    parts, effects = {}, {}
    for kind in look.values:
        of_samples = spread_over_samples(look.contributions[kind], look.values[kind], n_samples)
        weights = np.full(n_samples, 1.0 / n_samples)
        parts[kind] = np.array(
            [divide_variance(of_samples[:, :, t], weights) for t in range(n_temperatures)]
        )
        amplitudes = find_amplitudes(of_samples).T.ravel()  # temperature by temperature
        own = spreads[kind][: len(samples)]
        slopes = np.where(own > 0.0, amplitudes / np.where(own > 0.0, own, 1.0), 0.0)
        effects[kind] = carry_effects(own, amplitudes, squares, length)
        every = np.concatenate([slopes, effects[kind]])
        covariances.append(correlate_errors(spreads[kind], every, points, length))
        noises.append(np.sqrt(np.mean(amplitudes**2)))
    shares = np.zeros((n_temperatures, len(structures)))
    for t in range(n_temperatures):
        shares[t, t * n_samples : (t + 1) * n_samples] = 1.0 / n_samples
    choice = select_informative(
        np.array(covariances),
        shares,
        n_wanted,
        noise=np.array(noises),
        allowed=np.arange(len(structures)) >= len(samples),
    )
    return Chosen(
        [place - len(samples) for place in choice.order],
        [float(x) for x in choice.variances],
        {kind: x[len(samples) :] for kind, x in spreads.items()},
        effects,
        parts,
    )


def read_samples(run: Run, n_compared: int) -> list[Atoms]:
    """Return the first samples of every temperature of a run, temperature by temperature.

    Raises:
        DataError: they were not exported.
    """
    found: list[Atoms] = []
    for temperature in run.settings.temperatures:
        path = run.store.folder / EXPORT_FOLDER / f"T{temperature:g}.extxyz"
        if not path.is_file():
            fix = "Run it again with stage.sampling.export=true."
            raise DataError(message(str(path), "no file", "the samples of the run", fix))
        found += read_frames(path)[: min(n_compared, run.settings.n_samples)]
    return found


def measure_spreads(
    run: Run, structures: Sequence[Atoms], watch: Callable[[], None]
) -> dict[str, NDArray[np.float64]]:
    """Measure how far the networks of a run differ on structures.

    Args:
        run: with its networks.
        structures: Å.
        watch: called after every structure.

    Returns:
        Kind of which there are several → (n,), RMS over the elements of H, eV, or over the force
        components, eV/Å.
    """
    networks, settings = run.networks, run.settings
    found: dict[str, list[float]] = {kind: [] for kind in settings.committees}
    for atoms in structures:
        if "electron" in found:
            predicted = [
                member.hamiltonian(atoms, device=settings.device, dtype=settings.dtype)
                for member in networks.electron_members
            ]
            overlap = networks.electron.overlap(atoms)
            found["electron"].append(hamiltonian_spread(predicted, overlap))
        if "phonon" in found:
            forces = [member.get_forces(atoms) for member in networks.phonon_members]
            found["phonon"].append(force_spread(forces))
        watch()
    return {kind: np.array(values) for kind, values in found.items()}


def spread_over_samples(
    contributions: NDArray[np.float64], values: NDArray[np.float64], n_samples: int
) -> NDArray[np.float64]:
    """Give every sample what its group contributes to the target.

    Args:
        contributions: (n_members, n_groups, n_temperatures); groups hold samples one after the
            other. Without groups all samples contribute alike.
        values: (n_members, n_temperatures), of the target.
        n_samples: per temperature.

    Returns:
        (n_members, n_samples, n_temperatures).
    """
    n_groups = contributions.shape[1]
    if n_groups == 0 or not np.isfinite(contributions).all():
        return np.repeat(values[:, None], n_samples, axis=1)
    return np.asarray(contributions[:, np.arange(n_samples) * n_groups // n_samples])


def find_amplitudes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the networks differ in what samples contribute, signed.

    Negative where a sample is wrong the other way than the target as a whole.

    Args:
        values: (n_members, n_samples, n_temperatures).

    Returns:
        (n_samples, n_temperatures), in the unit of the target.
    """
    deviations = values - values.mean(axis=0)
    together = np.sum(deviations * deviations.mean(axis=1, keepdims=True), axis=0)
    return np.asarray(np.where(together < 0.0, -1.0, 1.0) * values.std(axis=0, ddof=1))
