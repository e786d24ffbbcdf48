"""What Sobol sequences, common random numbers and a control variate gain, 6×6 graphene.

The observable is a band energy at temperature: half the gap between the low bands at K + 0.1 Å⁻¹
towards Γ, each the mean energy of its unfolded weight within 1.6 eV of the Dirac point.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.observables.near_k.reference_bands import build_near_k
from mlepi.observables.near_k.unfold_sample import unfold_sample
from mlepi.physics.averages.control_variate import apply_control
from mlepi.physics.bands.lattice import build_line, hexagonal_points
from mlepi.physics.bands.unfolding import cell_major_map
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.vibrations.samplers import MonteCarlo, Sobol
from mlepi.physics.vibrations.thermal import HarmonicEnsemble
from mlepi.reference_systems import TightBinding
from mlepi.reference_systems.fit import fit_tight_binding
from mlepi.structures import build_graphene
from mlepi.verification.check import Check, at_least, statistical
from mlepi.verification.vibrations import ensemble_of, graphene_springs

SUPERCELL = (6, 6, 1)
DISTANCE = 0.1
WINDOW = 1.6
TEMPERATURES = (0.0, 300.0)


class HalfGap:
    """The observable of one displaced supercell, for a model.

    Args:
        model: of H and S.
        valence_electrons: per atom.
    """

    def __init__(self, model: TightBinding, valence_electrons: int) -> None:
        self.model, self.primitive = model, build_graphene("monolayer")
        matrices = model.hamiltonian(self.primitive), model.overlap(self.primitive)
        self.reference = build_near_k(
            self.primitive, *matrices, SUPERCELL, (DISTANCE,), {6: valence_electrons}
        )
        self.towards_gamma = int(np.argmax(self.reference.distances))

    @cached_property
    def ensemble(self) -> HarmonicEnsemble:
        """The thermal distribution of the toy's springs."""
        return ensemble_of(graphene_springs(n=SUPERCELL[0]), *TEMPERATURES)

    def displaced(self, displacements: NDArray[np.float64]) -> list[Atoms]:
        """Return the supercells of displacements (n_samples, n_atoms, 3), Å."""
        structures = []
        for displacement in displacements:
            structures.append(self.primitive.repeat(SUPERCELL))
            structures[-1].positions += displacement
        return structures

    def __call__(self, displacements: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the half gaps of displacements (n_samples, n_atoms, 3), Å: (n_samples,), eV."""
        return np.array([self._evaluate(atoms) for atoms in self.displaced(displacements)])

    def _evaluate(self, atoms: Atoms) -> float:
        found = unfold_sample(
            self.reference, self.model.hamiltonian(atoms), self.model.overlap(atoms), WINDOW
        )
        point = self.towards_gamma
        levels, weights = found["levels"][self.reference.index[point]], found["weights"][point]
        inside = np.isfinite(levels)
        middle = (len(weights) - 1) // 2  # the last row is that of all bands together
        valence, conduction = (
            np.average(levels[inside], weights=weights[band][inside])
            for band in (middle - 1, middle)
        )
        return 0.5 * float(conduction - valence)


def check_common_numbers() -> list[Check]:
    """E(300 K) − E(0 K) with the same normals against independent ones.

    At least a hundredth of the variance.
    """
    observable, n_samples = HalfGap(TightBinding(orbitals="s"), 1), 128
    cold, hot = (
        observable(
            MonteCarlo().displacements(observable.ensemble, temperature, range(n_samples), 41)
        )
        for temperature in TEMPERATURES
    )
    reduction = (cold.var(ddof=1) + hot.var(ddof=1)) / (hot - cold).var(ddof=1)
    return [
        at_least("common numbers, E(300 K) − E(0 K): variance divided by", 100.0, float(reduction))
    ]


def check_sobol() -> list[Check]:
    """The mean of 64 Sobol points against 64 independent ones.

    At most a third of the variance, and the same mean.
    """
    observable, n_samples, n_replicates = HalfGap(TightBinding(orbitals="s"), 1), 64, 24
    hot = TEMPERATURES[1]
    plain = observable(MonteCarlo().displacements(observable.ensemble, hot, range(512), 42))
    sampler = Sobol(n_replicates=n_replicates)
    indices = range(n_samples * n_replicates)
    points = observable(sampler.displacements(observable.ensemble, hot, indices, 43))
    means = np.array(
        [
            points[sampler.groups(len(points)) == replicate].mean()
            for replicate in range(n_replicates)
        ]
    )
    reduction = plain.var(ddof=1) / n_samples / means.var(ddof=1)
    sigma = np.hypot(
        plain.std(ddof=1) / np.sqrt(len(plain)), means.std(ddof=1) / np.sqrt(n_replicates)
    )
    return [
        at_least("Sobol, 64 points: variance divided by", 3.0, float(reduction)),
        statistical(
            "Sobol against Monte Carlo: mean half gap",
            plain.mean(),
            means.mean(),
            float(sigma),
            "eV",
        ),
    ]


def check_control_variate() -> list[Check]:
    """Slater–Koster s and p orbitals by a fitted single orbital.

    A fiftieth of the variance, and the same mean.
    """
    expensive, n_expensive, n_cheap = TightBinding(orbitals="sp", orthogonal=False), 32, 4096
    network = HalfGap(expensive, 4)
    hot = TEMPERATURES[1]

    def draw(count: int, seed: int) -> NDArray[np.float64]:
        return MonteCarlo().displacements(network.ensemble, hot, range(count), seed)

    cheap = HalfGap(_fit_cheap(network, network.displaced(draw(4, 44))), 1)
    many = draw(256, 45)
    values, controls, reference = network(many), cheap(many), cheap(draw(n_cheap, 46))
    correlation = float(np.corrcoef(values, controls)[0, 1])
    reduction = 1.0 / (1.0 - correlation**2 * (1.0 - n_expensive / n_cheap))
    n = n_expensive
    estimate = apply_control(
        values[:n].mean(keepdims=True),
        values[:n, None],
        controls[:n].mean(keepdims=True),
        controls[:n, None],
        reference.mean(keepdims=True),
        reference[:, None],
    )
    brute = values[n:]  # independent of the samples of the estimate
    sigma = float(np.hypot(estimate.errors[0], brute.std(ddof=1) / np.sqrt(len(brute))))
    return [
        at_least("control variate, 32 and 4,096 samples: variance divided by", 50.0, reduction),
        statistical(
            "control variate against brute force: mean half gap",
            brute.mean(),
            float(estimate.values[0]),
            sigma,
            "eV",
        ),
    ]


def _fit_cheap(network: HalfGap, structures: list[Atoms]) -> TightBinding:
    """Fit one orbital per atom to the low levels of a few displaced supercells."""
    model, cell = network.model, network.primitive.cell.array
    points, atom_map = hexagonal_points(cell), cell_major_map(2, SUPERCELL)
    line = build_line(points["K"], points["Γ"], np.array([0.0, DISTANCE]), cell)
    kpoints = np.array([atom_map.fold(kpoint) for kpoint in line])
    middle = 2 * len(structures[0])  # four electrons per atom, two per state
    levels = [
        solve_bands(
            model.hamiltonian(atoms).dense_many(kpoints),
            model.overlap(atoms).dense_many(kpoints),
            subset=(middle - 2, middle + 1),
        )
        for atoms in structures
    ]
    fit = fit_tight_binding(structures, kpoints, np.array(levels), model.bond, model.spacing)
    return TightBinding(**fit.arguments())
