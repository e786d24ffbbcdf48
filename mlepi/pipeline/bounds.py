"""Bounds of physical settings, each with its unit: a value beyond them is one in another unit.

They are wide, since they shall refuse nothing that has a meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mlepi.errors import message


class Bound(NamedTuple):
    """Smallest and largest value that makes sense, and the unit of both."""

    low: float
    high: float
    unit: str


LATTICE = Bound(0.0, 10_000.0, "K")
"""Everything that is known has melted long before."""
ELECTRONS = Bound(0.0, 100_000.0, "K")
STEP = Bound(1e-5, 0.5, "Å")
LENGTH = Bound(0.0, 1000.0, "Å")
FREQUENCY = Bound(0.0, 150.0, "THz")
"""Hydrogen molecules vibrate with 132 THz, and nothing faster."""
FORCE = Bound(1e-8, 10.0, "eV/Å")
WAVE_NUMBER = Bound(0.0, 10.0, "1/Å")
ENERGY = Bound(-1000.0, 1000.0, "eV")
WIDTH = Bound(0.0, 20.0, "eV")

BOUNDS: Mapping[str, Bound] = {
    "temperature": LATTICE,
    "sampler.temperature": LATTICE,
    "structure.spacing": LENGTH,
    "structure.a": LENGTH,
    "structure.vacuum": LENGTH,
    "level_shift.strength": ENERGY,
    "stage.structure.max_force": FORCE,
    "stage.phonon.displacement": STEP,
    "stage.phonon.dos_broadening": FREQUENCY,
    "stage.sampling.floor_frequency": FREQUENCY,
    "stage.hamiltonian.ghost_margin": ENERGY,
    "stage.linear_response.floor_frequency": FREQUENCY,
    "stage.linear_response.step": STEP,
    "stage.phonon_reference.rigid_steps": STEP,
    "stage.linear_response.chemical_potential": ENERGY,
    "stage.domain.openmx.electronic_temperature": ELECTRONS,
    **{
        f"stage.{name}.electronic_temperature": ELECTRONS
        for name in ("conductivity", "fermi_velocity", "sparse_bands")
    },
    **{
        f"stage.{name}.{key}": WAVE_NUMBER
        for name, keys in {
            "band_geometry": ("distances", "loop_radius", "map_radius"),
            "effective_mass": ("distances",),
            "fermi_velocity": ("distances", "velocity_window", "windows", "band_spacing"),
            "linear_response": ("distances", "velocity_window"),
            "self_energy": ("distances", "velocity_window", "windows"),
            "labelled_bands": ("spacing",),
            "sparse_bands": ("spacing",),
            "tight_binding": ("distances",),
        }.items()
        for key in keys
    },
    **{
        f"stage.{name}.{key}": ENERGY
        for name, keys in {
            "conductivity": ("max_energy", "window"),
            "dos": ("window",),
            "effective_mass": ("energy_window",),
            "fermi_velocity": ("dos_window", "energy_window"),
            "gap": ("energy_window",),
            "labelled_bands": ("window",),
            "self_energy": ("energy_window",),
            "sparse_bands": ("guess", "continuum_w_aa", "continuum_w_ab"),
        }.items()
        for key in keys
    },
    **{
        f"stage.{name}.{key}": WIDTH
        for name, keys in {
            "conductivity": ("energy_step", "line_width"),
            "dos": ("energy_step", "width"),
            "effective_mass": ("energy_step", "peak_width"),
            "fermi_velocity": ("dos_width", "energy_step", "line_width", "peak_width"),
            "gap": ("energy_step", "peak_width"),
            "labelled_bands": ("line_width",),
            "linear_response": ("broadening",),
            "self_energy": ("broadening", "energy_step", "tolerance"),
            "sparse_bands": ("tolerance",),
        }.items()
        for key in keys
    },
}
"""Dotted key of ``conf/infer.yaml`` → bounds; of lists they hold for every number."""


def list_out_of_bounds(plain: Mapping[str, Any]) -> list[str]:
    """Return one text per physical setting with a number beyond its bounds.

    Args:
        plain: resolved config of an inference.
    """
    problems = []
    for key, bound in BOUNDS.items():
        wrong = [x for x in _numbers(_find(plain, key)) if not bound.low <= x <= bound.high]
        if wrong:
            problems.append(
                message(
                    key,
                    f"{wrong[0]:g} {bound.unit}",
                    f"{bound.low:g} to {bound.high:g} {bound.unit}",
                    f"Give it in {bound.unit}.",
                )
            )
    return problems


def _find(plain: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(plain, Mapping) or name not in plain:
            return None
        plain = plain[name]
    return plain


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)
