"""What averages of sorted levels and spectral functions make of a Dirac cone folded onto Γ.

Phonons of Γ and K couple the four states of K and K′ in a 3n×3n cell at first order, with matrix
elements of variance ∝ 1/N, N being the number of cells: sorted levels are pushed apart by ⟨|E|⟩ ∝
1/√N, the mean of the spectral function stays where it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.averages.statistics import bootstrap
from mlepi.physics.bands.lattice import build_line, hexagonal_points
from mlepi.physics.bands.spectra import compute_spectral_function, find_peaks
from mlepi.physics.bands.unfolding import band_weights, cell_major_map, unfold_states
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.vibrations.thermal import draw_normals
from mlepi.reference_systems import TightBinding
from mlepi.structures import build_graphene
from mlepi.verification.check import Check, at_least, statistical
from mlepi.verification.vibrations import ensemble_of, graphene_springs

DISTANCE = 0.05
"""Å⁻¹, from K towards Γ."""
ENERGIES = np.arange(-1.6, 1.6, 0.01)
WIDTH = 0.1
SMALL = 0.01
"""Fraction of the thermal amplitudes in the range of first order."""


class Samples:
    """Levels and spectra of displaced n×n cells at K and at K + 0.05 Å⁻¹.

    Attributes:
        middle: (n_samples, 2, 4), the four levels around the Dirac energy at either k, eV.
        spectra: (n_samples, 2, n_energies), A(k, E) of the conduction band, 1/eV.
        energies: (2,), of the conduction band at rest, eV.
    """

    def __init__(self, n: int, n_samples: int, scale: float) -> None:
        model, primitive = TightBinding(orbitals="s"), build_graphene("monolayer")
        points, cell = hexagonal_points(primitive.cell.array), primitive.cell.array
        kpoints = build_line(points["K"], points["Γ"], np.array([0.0, DISTANCE]), cell)
        rest = [
            m.dense_many(kpoints) for m in (model.hamiltonian(primitive), model.overlap(primitive))
        ]
        energies, vectors = solve_bands(*rest, vectors=True)
        atom_map, counts = cell_major_map(2, (n, n, 1)), np.ones(2, dtype=np.int64)
        ensemble = ensemble_of(graphene_springs(n=n), 0.0)
        displacements = scale * ensemble.displacements_at(
            0.0, draw_normals(31, range(n_samples), 2 * n * n)
        )
        self.energies = energies[:, 1]
        self.middle = np.empty((n_samples, 2, 4))
        self.spectra = np.empty((n_samples, 2, len(ENERGIES)))
        for sample, displacement in enumerate(displacements):
            atoms = primitive.repeat((n, n, 1))
            atoms.positions += displacement
            hamiltonian, overlap = model.hamiltonian(atoms), model.overlap(atoms)
            for point, kpoint in enumerate(kpoints):
                folded = atom_map.fold(kpoint)
                overlap_k = overlap.dense(folded)
                levels, states = solve_bands(hamiltonian.dense(folded), overlap_k, vectors=True)
                components = unfold_states(states, overlap_k, atom_map, counts, kpoint)
                weights = band_weights(components, vectors[point], rest[1][point])
                self.middle[sample, point] = levels[n * n - 2 : n * n + 2]
                # at K the two bands are degenerate, and only their sum is defined
                chosen = weights[1] if point else weights.mean(axis=0)
                self.spectra[sample, point] = compute_spectral_function(
                    ENERGIES, levels, chosen, WIDTH, "gaussian"
                )

    def gap(self) -> NDArray[np.float64]:
        """Return the mean |E| of the four levels at K: (n_samples,), eV."""
        return np.abs(self.middle[:, 0]).mean(axis=1)


def check_folded_cone() -> list[Check]:
    """First order: ⟨|E|⟩ of 3×3 is twice that of 6×6, Ḡ stays at 0.

    At full amplitude sorting takes slope, the peak does not.
    """
    small = {n: Samples(n, count, SMALL).gap() / SMALL for n, count in ((3, 400), (6, 200))}
    means = {n: gaps.mean() for n, gaps in small.items()}
    errors = {n: gaps.std(ddof=1) / np.sqrt(len(gaps)) / means[n] for n, gaps in small.items()}
    ratio = means[3] / means[6]
    sigma = ratio * np.hypot(errors[3], errors[6])
    samples = Samples(6, 64, 1.0)
    gaps = samples.gap()
    step = ENERGIES[1] - ENERGIES[0]
    centres = np.sum(samples.spectra[:, 0] * ENERGIES, axis=1) * step

    def slopes(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return E(K + 0.05 Å⁻¹) − E(K) over that at rest, by sorted levels and by the peak."""
        conduction = np.tensordot(weights, samples.middle[:, :, 2:].mean(axis=2), axes=1)
        peak = find_peaks(ENERGIES, np.tensordot(weights, samples.spectra[:, 1], axes=1))
        return np.array([conduction[1] - conduction[0], float(peak)]) / samples.energies[1]

    found = slopes(np.full(len(gaps), 1.0 / len(gaps)))
    spread = bootstrap(slopes, len(gaps), 100, 0)
    margin = float((spread[:, 1] - spread[:, 0]).std())
    return [
        statistical(
            "folded cone, first order: ⟨|E(K)|⟩ of 3×3 over that of 6×6", 2.0, ratio, sigma
        ),
        at_least(
            "folded cone 6×6, 0 K: ⟨|E(K)|⟩ of sorted levels, standard errors",
            10.0,
            _in_errors(gaps),
            "σ",
        ),
        statistical(
            "folded cone 6×6, 0 K: centre of A(K, E)",
            0.0,
            centres.mean(),
            centres.std(ddof=1) / np.sqrt(len(centres)),
            "eV",
        ),
        at_least(
            "folded cone 6×6, 0 K: slope lost by sorting alone, standard errors",
            3.0,
            float(found[1] - found[0]) / margin,
            "σ",
        ),
    ]


def _in_errors(values: NDArray[np.float64]) -> float:
    return float(values.mean() / (values.std(ddof=1) / np.sqrt(len(values))))
