"""The Bistritzer–MacDonald continuum model of a twisted bilayer.

Two Dirac cones and three momentum-conserving hoppings.

One valley; the other follows from time reversal, E₋(k) = E₊(−k). Momenta are measured from the
centre Γ of the moiré zone, in the frame of the commensurate cells of
``mlepi.structures.build_twisted_bilayer`` (K on the x axis). References: Bistritzer and MacDonald,
PNAS 108, 12233 (2011), doi:10.1073/pnas.1108174108; w_AA ≠ w_AB: Koshino et al., Phys. Rev. X 8,
031087 (2018), doi:10.1103/PhysRevX.8.031087; the chiral limit w_AA = 0: Tarnopolsky, Kruchkov and
Vishwanath, Phys. Rev. Lett. 122, 106405 (2019), doi:10.1103/PhysRevLett.122.106405.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message

SHELLS = 5
"""Default reach of the plane waves, in moiré reciprocal vectors; flat bands are converged to 1e-6
of ħ v k_θ at α < 0.7."""

PAULI_X, PAULI_Y = (
    np.array([[0.0, 1.0], [1.0, 0.0]], dtype=complex),
    np.array([[0.0, -1.0j], [1.0j, 0.0]]),
)


@dataclass(frozen=True)
class ContinuumModel:
    """Parameters of the model.

    Attributes:
        twist: degrees.
        velocity: ħ v_F of one layer, eV·Å.
        w_aa: interlayer hopping in AA regions, eV.
        w_ab: interlayer hopping in AB and BA regions, eV; γ₁ of a Bernal bilayer is 3 w_AB.
        lattice_constant: of graphene, Å.
        rotated: turn the Pauli matrices of either layer with it, which breaks the electron-hole
            symmetry; the paper neglects it.
        shells: reach of the plane waves, in moiré reciprocal vectors.
    """

    twist: float
    velocity: float
    w_aa: float
    w_ab: float
    lattice_constant: float = 2.46
    rotated: bool = False
    shells: int = SHELLS

    def __post_init__(self) -> None:
        """Refuse parameters without meaning."""
        if not (
            0.0 < self.twist < 30.0
            and self.velocity > 0.0
            and self.lattice_constant > 0.0
            and self.shells >= 1
        ):
            raise PhysicsError(
                message(
                    "continuum model",
                    f"twist {self.twist}°, velocity {self.velocity} eV·Å, {self.shells} shells",
                    "a twist in (0, 30)°, a velocity > 0 and at least one shell",
                    "Use for example 1.1°, 5.8 eV·Å and 4 shells.",
                )
            )

    @property
    def k_theta(self) -> float:
        """Distance of the Dirac points of the two layers, Å⁻¹: 2 (4π/3a) sin(θ/2)."""
        return (
            8.0 * math.pi / (3.0 * self.lattice_constant) * math.sin(math.radians(0.5 * self.twist))
        )

    @property
    def alpha(self) -> float:
        """w_AB / (ħ v k_θ), with w_AA / w_AB (and a twist, if rotated) the only parameter."""
        return self.w_ab / (self.velocity * self.k_theta)

    @property
    def hoppings(self) -> NDArray[np.float64]:
        """Momenta q₁, q₂, q₃ that hopping from layer 1 to layer 2 transfers: (3, 2), Å⁻¹.

        K − Γ of layer 1 is q₂.
        """
        angles = 2.0 * np.pi / 3.0 * np.arange(3)
        return self.k_theta * np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def points(self) -> dict[str, NDArray[np.float64]]:
        """Return Γ, M and the Dirac points K (layer 1) and K' (layer 2) on one edge of the zone.

        Name → (2,), Å⁻¹.
        """
        q = self.hoppings
        return {"Γ": np.zeros(2), "K": q[1], "K'": -q[2], "M": 0.5 * (q[1] - q[2])}

    def hamiltonian(self, momentum: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the Hamiltonian of one valley at a momentum (2,), Å⁻¹ from Γ.

        (n, n), eV, n = 2 · plane waves.
        """
        waves, layers = self._waves()
        momenta = momentum - waves
        blocks = np.zeros((len(waves), 2, len(waves), 2), dtype=np.complex128)
        signs = np.where(layers == 0, 1.0, -1.0) if self.rotated else np.zeros(len(layers))
        angles = np.arctan2(momenta[:, 1], momenta[:, 0]) - 0.5 * math.radians(self.twist) * signs
        # frame of the cone: turned by −90°, so that the phases of the hoppings are those of the
        # paper
        cones = (
            self.velocity * np.linalg.norm(momenta, axis=1) * np.exp(-1j * (angles - 0.5 * np.pi))
        )
        own = np.arange(len(waves))
        blocks[own, 0, own, 1], blocks[own, 1, own, 0] = cones, cones.conj()
        first, second = np.flatnonzero(layers == 0), np.flatnonzero(layers == 1)
        for j, transfer in enumerate(self.hoppings):
            phase = 2.0 * np.pi * j / 3.0
            hop = self.w_aa * np.eye(2) + self.w_ab * (
                math.cos(phase) * PAULI_X + math.sin(phase) * PAULI_Y
            )
            gaps = np.linalg.norm(waves[second][None] - waves[first][:, None] - transfer, axis=2)
            for i, k in np.argwhere(gaps < 1e-6 * self.k_theta):
                blocks[first[i], :, second[k], :] = hop
                blocks[second[k], :, first[i], :] = hop.conj().T
        return blocks.reshape(2 * len(waves), 2 * len(waves))

    def bands(self, momenta: NDArray[np.float64], n_bands: int = 2) -> NDArray[np.float64]:
        """Compute the bands of one valley nearest to the Dirac energy.

        Args:
            momenta: (n_k, 2) Å⁻¹ from Γ.
            n_bands: even; half of them below neutrality.

        Returns:
            (n_k, n_bands) ascending, eV from the Dirac energy of a single layer.
        """
        rows = []
        for momentum in np.asarray(momenta, dtype=np.float64):
            energies = np.linalg.eigvalsh(self.hamiltonian(momentum))
            middle = len(energies) // 2
            rows.append(energies[middle - n_bands // 2 : middle + n_bands // 2])
        return np.array(rows)

    def dirac_velocity(self) -> float:
        """Compute the velocity of the flat bands at K by degenerate perturbation theory.

        It is relative to that of a single layer.
        """
        point = self.points()["K"]
        middle = len(self._waves()[0])
        _, vectors = np.linalg.eigh(self.hamiltonian(point))
        dirac = vectors[:, middle - 1 : middle + 1]
        step = 1e-3 * self.k_theta * np.array([1.0, 0.0])
        slope = (self.hamiltonian(point + step) - self.hamiltonian(point - step)) / (
            2e-3 * self.k_theta
        )
        projected = dirac.conj().T @ slope @ dirac
        return float(np.ptp(np.linalg.eigvalsh(projected)) / (2.0 * self.velocity))

    def _waves(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """List the plane waves of both layers.

        Returns:
            Momenta to subtract, (n, 2) Å⁻¹, and the layer of each, (n,).
        """
        q = self.hoppings
        reach = np.arange(-2 * self.shells, 2 * self.shells + 1)
        m, n = (grid.reshape(-1, 1) for grid in np.meshgrid(reach, reach, indexing="ij"))
        lattice = m * (q[1] - q[0]) + n * (q[2] - q[0])
        # Dirac points of layer 1 at q₂ + G and of layer 2 at q₁ + q₂ + G = −q₃ + G from Γ
        waves = np.concatenate([lattice + q[1], lattice - q[2]])
        layers = np.repeat([0, 1], len(lattice))
        near = np.linalg.norm(waves, axis=1) < (math.sqrt(3.0) * self.shells + 1e-6) * self.k_theta
        return waves[near], layers[near]


def find_magic_angle(model: ContinuumModel, largest_alpha: float = 0.8) -> float:
    """Find the largest twist at which the velocity at K vanishes, all other parameters kept.

    Args:
        model: velocity, hoppings, lattice constant; its twist does not matter.
        largest_alpha: end of the search, which begins at α = 0.4.

    Returns:
        Degrees.

    Raises:
        PhysicsError: the velocity does not vanish in between.
    """

    def velocity(alpha: float) -> float:
        return replace(model, twist=_twist_of(model, alpha)).dirac_velocity()

    grid = np.linspace(0.4, largest_alpha, 21)
    values = np.array([velocity(float(alpha)) for alpha in grid])
    inner = np.flatnonzero((values[1:-1] <= values[:-2]) & (values[1:-1] <= values[2:])) + 1
    for place in inner:
        bounds = float(grid[place - 1]), float(grid[place + 1])
        found = scipy.optimize.minimize_scalar(
            velocity, bounds=bounds, method="bounded", options={"xatol": 1e-7}
        )
        if found.fun < 1e-4:
            return _twist_of(model, float(found.x))
    raise PhysicsError(
        message(
            "magic angle",
            f"a velocity of at least {values.min():.3f} of the single layer's",
            f"a zero between α = 0.4 and {largest_alpha}",
            "Check the ratio w_AA / w_AB.",
        )
    )


def _twist_of(model: ContinuumModel, alpha: float) -> float:
    """Return the twist in degrees at which w_AB / (ħ v k_θ) = α."""
    k_theta = model.w_ab / (model.velocity * alpha)
    return 2.0 * math.degrees(math.asin(k_theta * 3.0 * model.lattice_constant / (8.0 * math.pi)))
