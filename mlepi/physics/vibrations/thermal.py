"""Thermal displacements of a harmonic crystal: u = M^{-1/2} C(T)^{1/2} z with z ~ N(0, 1).

C = f(D) is a function of the mass-scaled dynamical matrix of the supercell, with the variance of a
mode of angular frequency ω (Wang, Duan, Lin, arXiv:2602.23084, Eq. 2)

    σ²(T) = ħ/(2ω) · coth(ħω / 2k_BT)   (quantum),   k_BT/ω²   (classical),

in amu·Å². The root is the symmetric one: it does not depend on the choice of degenerate
eigenvectors and is smooth in T, and because z is the same at every temperature, differences between
temperatures have little noise. By translation symmetry C is block-diagonal in the wave vectors
commensurate with the supercell, and is applied by fast Fourier transforms.

The out-of-plane acoustic branch of a layered crystal, with the projector Q of ``flexural_waves``,
can be measured and left out. The ZA share of ⟨u²⟩ is Σ_q tr(Q C) / Σ_q tr C (mass-weighted), and
"project_out: ZA" gives u = M^{-1/2} (1 − Q)^{1/2} C^{1/2} z, the same samples without exactly this
share. "project_out: interlayer_gamma" likewise freezes the rigid-layer modes of Γ, with the
projector P of ``rigid_layers``: u = M^{-1/2} (1 − P) C^{1/2} z.

Atoms of the supercell are in the order of ``atoms.repeat`` (see ``phonopy_order``). A sampler is
anything that makes normals z (see ``samplers``); ``draw_normals`` is plain Monte Carlo with one
seed per snapshot, so that an ensemble grows without changing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.physics.vibrations.flexural_waves import flexural_projectors
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.mode_coordinates import ModeCoordinates, build_mode_coordinates
from mlepi.physics.vibrations.normal_modes import NormalModes, compute_modes
from mlepi.physics.vibrations.rigid_layers import interlayer_projectors, mean_square_motion
from mlepi.units import BOLTZMANN, HBAR2_PER_AMU, PLANCK, THZ_TO_INVERSE_CM

Statistics = Literal["quantum", "classical"]

ImaginaryModes = Literal["error", "freeze", "floor"]

ProjectedOut = Literal["none", "ZA", "interlayer_gamma"]

SOFTEST_FREQUENCY = 1e-3
"""THz; a mode below this that is not a translation has no finite harmonic amplitude and counts as
imaginary."""


def mode_variance(
    frequencies: NDArray[np.float64], temperature: float, statistics: Statistics = "quantum"
) -> NDArray[np.float64]:
    """Return the thermal variance of harmonic modes, ⟨Q²⟩, in mass-scaled coordinates.

    Args:
        frequencies: THz, positive.
        temperature: K; 0 is the zero-point limit (quantum) or no motion (classical).
        statistics: "quantum" (Bose–Einstein with zero point) or "classical" (equipartition).

    Returns:
        Array of the same shape, amu·Å².

    Raises:
        ConfigError: the temperature is negative or the statistics unknown.
    """
    if not (np.isfinite(temperature) and temperature >= 0):
        raise ConfigError(
            message(
                "temperature", f"{temperature} K", "0 K or more", "Give temperatures in kelvin."
            )
        )
    quanta = PLANCK * np.asarray(frequencies, dtype=np.float64)
    thermal = BOLTZMANN * temperature
    if statistics == "classical":
        return HBAR2_PER_AMU * thermal / quanta**2
    if statistics != "quantum":
        raise ConfigError(
            message(
                "stage.sampling.statistics",
                repr(statistics),
                "'quantum' or 'classical'",
                "Choose one of the two.",
            )
        )
    zero_point = HBAR2_PER_AMU / (2.0 * quanta)
    # dividing by the smallest positive float where k_BT = 0 would overflow; the limit of coth is 1
    return zero_point if thermal == 0.0 else zero_point / np.tanh(quanta / (2.0 * thermal))


@dataclass(frozen=True)
class HarmonicEnsemble:
    """The Gaussian distribution of harmonic displacements at several temperatures.

    Attributes:
        modes: normal modes of the supercell.
        temperatures: K, in the order of the first axis of every result.
        statistics: "quantum" or "classical".
        imaginary: what to do with modes that have no positive frequency: "error" raises, "freeze"
            leaves them at rest, "floor" gives every mode below ``floor_frequency`` that frequency.
        floor_frequency: THz; used by "floor" only.
        project_out: "none", "ZA" to leave out the rigid out-of-plane waves of the stack of layers,
            or "interlayer_gamma" to freeze shear and breathing of rigid layers at Γ.
        device: where displacements are computed.
    """

    modes: NormalModes
    temperatures: tuple[float, ...]
    statistics: Statistics = "quantum"
    imaginary: ImaginaryModes = "error"
    floor_frequency: float = 0.5
    project_out: ProjectedOut = "none"
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Evaluate the amplitudes, so that a bad choice or an imaginary mode stops at once."""
        object.__setattr__(self, "temperatures", tuple(float(t) for t in self.temperatures))
        if self.project_out not in get_args(ProjectedOut):
            raise ConfigError(
                message(
                    "stage.sampling.project_out",
                    repr(self.project_out),
                    "'none' or 'ZA' or 'interlayer_gamma'",
                    "Choose one of the three.",
                )
            )
        self._amplitudes  # noqa: B018

    @cached_property
    def frequencies(self) -> NDArray[np.float64]:
        """Frequencies that move, (n_qpoints, 3 n_atoms), THz; infinite for modes at rest."""
        frequencies, moving = _effective_frequencies(
            self.modes, self.imaginary, self.floor_frequency
        )
        return np.where(moving, frequencies, np.inf)

    @cached_property
    def coordinates(self) -> ModeCoordinates:
        """Real coordinates of the modes that move, those of the largest amplitude first."""
        return build_mode_coordinates(
            self.modes.supercell, self.frequencies, self.modes.eigenvectors
        )

    @cached_property
    def _amplitudes(self) -> NDArray[np.float64]:
        """σ of every mode: (n_temperatures, n_qpoints, 3 n_atoms), √amu·Å."""
        moving = np.isfinite(self.frequencies)
        frequencies = np.where(moving, self.frequencies, 1.0)
        return (
            np.sqrt([mode_variance(frequencies, t, self.statistics) for t in self.temperatures])
            * moving
        )

    @cached_property
    def _symmetric_roots(self) -> NDArray[np.complex128]:
        """C(q)^{1/2}: (n_temperatures, n_qpoints, 3 n_atoms, 3 n_atoms), √amu·Å."""
        vectors = self.modes.eigenvectors
        return np.asarray(
            (vectors * self._amplitudes[:, :, None, :]) @ vectors.conj().swapaxes(1, 2)
        )

    @cached_property
    def _roots(self) -> NDArray[np.complex128]:
        """What turns waves of normals into displacements: C(q)^{1/2}, less what is left out."""
        roots = self._symmetric_roots
        return roots if self.project_out == "none" else np.asarray(self.kept_motion @ roots)

    @cached_property
    def kept_motion(self) -> NDArray[np.complex128]:
        """What is kept, (1 − Q)^{1/2}, 1 − P or 1: (n_qpoints, 3 n_atoms, 3 n_atoms)."""
        one = np.broadcast_to(
            np.eye(3 * len(self.modes.masses), dtype=np.complex128), self.modes.eigenvectors.shape
        )
        if self.project_out == "none":
            return one
        if self.project_out == "interlayer_gamma":
            return np.asarray(one - interlayer_projectors(self.modes.atoms, self.modes.qpoints))
        shares, vectors = np.linalg.eigh(flexural_projectors(self.modes.atoms, self.modes.qpoints))
        kept = np.sqrt(np.clip(1.0 - shares, 0.0, 1.0))
        return np.asarray((vectors * kept[:, None, :]) @ vectors.conj().swapaxes(1, 2))

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        """The roots and, (n_supercell,), the masses in amu, on the device."""
        masses = np.tile(self.modes.masses, int(np.prod(self.modes.supercell)))
        return torch.as_tensor(self._roots, device=self.device), torch.as_tensor(
            masses, device=self.device
        )

    def displacements(self, normals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn standard normals into displacements, the same normals at every temperature.

        Args:
            normals: (n_samples, n_supercell, 3), dimensionless.

        Returns:
            (n_temperatures, n_samples, n_supercell, 3), Å; the centre of mass of each sample is at
            rest.

        Raises:
            PhysicsError: the normals have the wrong shape.
        """
        return np.stack([self.displacements_at(t, normals) for t in self.temperatures])

    def displacements_at(
        self, temperature: float, normals: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Turn normals into displacements at one temperature: (n_samples, n_supercell, 3), Å.

        Raises:
            PhysicsError: the normals have the wrong shape.
        """
        modes = self.modes
        normals = np.asarray(normals, dtype=np.float64)
        if normals.ndim != 3 or normals.shape[1:] != (modes.n_supercell, 3):
            raise PhysicsError(
                message(
                    "normals",
                    f"shape {normals.shape}",
                    f"(n_samples, {modes.n_supercell}, 3)",
                    "Draw one number per coordinate.",
                )
            )
        roots, masses = self._tensors
        root = roots[self.temperatures.index(float(temperature))]
        grid = torch.as_tensor(normals, device=self.device).reshape(
            len(normals), *modes.supercell, -1
        )
        waves = torch.fft.fftn(grid, dim=(1, 2, 3)).reshape(len(normals), len(root), -1)
        moved = (root @ waves.permute(1, 2, 0)).permute(2, 0, 1).reshape(grid.shape)
        scaled = torch.fft.ifftn(moved, dim=(1, 2, 3)).real.reshape(len(normals), -1, 3)
        result = scaled / masses.sqrt()[:, None]
        # the roots hold no translation; this removes the round-off of the transforms as well
        result = result - torch.einsum("a,sax->sx", masses / masses.sum(), result)[:, None]
        return np.asarray(result.cpu().numpy())

    def covariance(self) -> NDArray[np.float64]:
        """Return ⟨u uᵀ⟩ of a small cell: (n_temperatures, 3 n_supercell, 3 n_supercell), Å²."""
        size = 3 * self.modes.n_supercell
        root = self.displacements(np.eye(size).reshape(size, -1, 3)).reshape(
            len(self.temperatures), size, size
        )
        return root.swapaxes(1, 2) @ root

    def mean_square_displacements(self) -> NDArray[np.float64]:
        """Return ⟨u_x²⟩, ⟨u_y²⟩, ⟨u_z²⟩ of atoms: (n_temperatures, n_atoms, 3), Å²."""
        squares = np.sum(np.abs(self._roots) ** 2, axis=(1, 3)) / int(np.prod(self.modes.supercell))
        return np.asarray(
            squares.reshape(len(self.temperatures), -1, 3) / self.modes.masses[:, None]
        )

    def interlayer_motion(self) -> NDArray[np.float64]:
        """Return the mean square motion of neighbouring layers against each other, cell by cell.

        (n_temperatures, n_layers − 1, 2), Å²: shear and spacing, as ``mean_square_motion``.
        """
        vectors = self.modes.eigenvectors
        kept = vectors if self.project_out == "none" else self.kept_motion @ vectors
        return mean_square_motion(self.modes.atoms, kept, self._amplitudes**2)

    def za_shares(self) -> NDArray[np.float64]:
        """Return rigid out-of-plane waves' share of ⟨u²⟩ before projection, (n_temperatures,).

        Mass-weighted.
        """
        projectors = flexural_projectors(self.modes.atoms, self.modes.qpoints)
        roots = self._symmetric_roots
        along = np.einsum("qij,tqjk,tqik->t", projectors, roots, roots.conj(), optimize=True).real
        whole = np.sum(self._amplitudes**2, axis=(1, 2))
        return np.asarray(along / np.where(whole > 0, whole, 1.0))


def draw_normals(
    seed: int, indices: Sequence[int] | NDArray[np.integer], n_atoms: int
) -> NDArray[np.float64]:
    """Draw the standard normals of given snapshots, each from its own seed.

    Args:
        seed: of the ensemble, ≥ 0.
        indices: numbers of the snapshots; snapshot i depends on the seed and on i alone.
        n_atoms: atoms of the supercell.

    Returns:
        (n_samples, n_atoms, 3), dimensionless.
    """
    draws = [
        np.random.default_rng(np.random.SeedSequence([seed, int(i)])).standard_normal((n_atoms, 3))
        for i in indices
    ]
    return np.array(draws).reshape(len(draws), n_atoms, 3)


def sample_displacements(
    force_constants: ForceConstants,
    temperatures: Sequence[float],
    n_samples: int,
    seed: int,
    *,
    statistics: Statistics = "quantum",
    imaginary: ImaginaryModes = "error",
    floor_frequency: float = 0.5,
) -> NDArray[np.float64]:
    """Sample thermal displacements with common random numbers over the temperatures.

    Args:
        force_constants: eV/Å².
        temperatures: K.
        n_samples: snapshots per temperature.
        seed: of the ensemble.
        statistics: "quantum" or "classical".
        imaginary: "error", "freeze" or "floor".
        floor_frequency: THz, for "floor".

    Returns:
        (n_temperatures, n_samples, n_supercell, 3), Å.
    """
    ensemble = HarmonicEnsemble(
        compute_modes(force_constants), tuple(temperatures), statistics, imaginary, floor_frequency
    )
    return ensemble.displacements(draw_normals(seed, range(n_samples), ensemble.modes.n_supercell))


def _effective_frequencies(
    modes: NormalModes, imaginary: str, floor_frequency: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Decide the fate of modes without a positive frequency.

    Returns:
        Positive frequencies, THz, and which modes move; both (n_qpoints, 3 n_atoms). A mode at rest
        has frequency 1.
    """
    bad = ~modes.translations & (modes.frequencies < SOFTEST_FREQUENCY)
    moving = ~modes.translations
    frequencies = modes.frequencies
    if imaginary == "floor":
        if not floor_frequency > 0:
            raise ConfigError(
                message(
                    "stage.sampling.floor_frequency",
                    f"{floor_frequency}",
                    "a positive frequency in THz",
                    "Use 0.5.",
                )
            )
        frequencies = np.maximum(frequencies, floor_frequency)
    elif imaginary == "freeze":
        moving = moving & ~bad
    elif imaginary != "error":
        raise ConfigError(
            message(
                "stage.sampling.imaginary",
                repr(imaginary),
                "'error', 'freeze' or 'floor'",
                "Choose one of the three.",
            )
        )
    elif bad.any():
        q, mode = np.unravel_index(np.argmin(np.where(bad, modes.frequencies, np.inf)), bad.shape)
        lowest = modes.frequencies[q, mode]
        raise PhysicsError(
            message(
                "phonon modes of the supercell",
                f"{int(bad.sum())} without a positive frequency, the lowest {lowest:.3f} THz "
                f"({lowest * THZ_TO_INVERSE_CM:.1f} cm⁻¹) at q = "
                f"{np.round(modes.qpoints[q], 4).tolist()}",
                "a stable structure",
                "Relax it with the same phonon network (stage.structure.relax=positions), or "
                "choose "
                "stage.sampling.imaginary=freeze or floor.",
            )
        )
    return np.where(moving, frequencies, 1.0), moving
