"""Tables of augmented overlaps: GPAW's for boron nitride, and Gaussians for the tiny networks."""

from functools import cache
from pathlib import Path

import numpy as np
from tiny_networks import BASIS

from mlepi.physics.overlaps import (
    AugmentedOverlapTable,
    RadialOrbitals,
    read_augmented_orbitals,
    tabulate_overlaps,
)
from mlepi.physics.overlaps.augmented import PROJECTORS

RUN = Path(__file__).parent / "data" / "gpaw_bn"


@cache
def gpaw_table():
    """Return the table of what GPAW says of its orbitals, on fewer points than mlepi takes."""
    return read_augmented_orbitals(RUN / "orbitals.json", n_grid=257)


@cache
def gaussian_augmented_table(strength=0.1):
    """Return Gaussian orbitals of the basis of the tiny networks, with projectors s and p."""
    orbitals = []
    for z, shells in BASIS.shells.items():
        orbitals.append(_gaussians(z, shells, BASIS.radii[z], 9.0))
        orbitals.append(_gaussians(PROJECTORS + z, (0, 1), 0.5 * BASIS.radii[z], 8.0))
    rng = np.random.default_rng(3)
    random = {z: strength * rng.normal(size=(4, 4, 4)) for z in BASIS.elements}
    return AugmentedOverlapTable(
        tabulate_overlaps(orbitals, n_grid=257),
        {z: m[0] + m[0].T for z, m in random.items()},
        {z: m[1:] - m[1:].transpose(0, 2, 1) for z, m in random.items()},
    )


def _gaussians(number, shells, radius, exponent):
    grid = np.linspace(0.0, radius, 1501)
    values = []
    for n, l in enumerate(shells):
        radial = grid**l * np.exp(-(exponent + 3.0 * n) * (grid / radius) ** 2)
        values.append(radial / np.sqrt(np.trapezoid(radial**2 * grid**2, grid)))
    return RadialOrbitals(number, f"g{number}", radius, shells, grid, np.array(values))
