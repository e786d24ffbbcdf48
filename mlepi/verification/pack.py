"""The list of all verifications, and how they are run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlepi.config_check import suggest
from mlepi.errors import ConfigError, message
from mlepi.verification import averages, cone_average, electrons, perturbation, targets, vibrations
from mlepi.verification.check import Check
from mlepi.verification.loop import check_bilayer_hamiltonian, check_full_loop


@dataclass(frozen=True)
class Verification:
    """One or a few checks that share their work.

    Attributes:
        name: for ``--only``.
        run: does the work.
        quick: belongs to the part that takes seconds.
    """

    name: str
    run: Callable[[], list[Check]]
    quick: bool = True


PACK = (
    Verification("oscillator", vibrations.check_oscillator),
    Verification("gaussian_modes", vibrations.check_gaussian_modes),
    Verification("einstein_solid", vibrations.check_einstein_solid),
    Verification("equipartition", vibrations.check_equipartition),
    Verification("chain", vibrations.check_chain),
    Verification("layer_chain", vibrations.check_layer_chain),
    Verification("flexural_scaling", vibrations.check_flexural_scaling),
    Verification("phonopy_displacements", vibrations.check_phonopy_displacements),
    Verification("rigid_shift", vibrations.check_rigid_shift),
    Verification("exponential_hopping", averages.check_exponential_hopping),
    Verification("bond_lengthening", averages.check_bond_lengthening),
    Verification("single_level", averages.check_single_level),
    Verification("bose_einstein", averages.check_bose_einstein),
    Verification("quadratic_functions", averages.check_quadratic_functions),
    Verification("thermal_line_bias", averages.check_thermal_line_bias),
    Verification("fermi_velocity", electrons.check_fermi_velocity),
    Verification("unfolding", electrons.check_unfolding),
    Verification("moments", electrons.check_moments),
    Verification("symmetry", electrons.check_symmetry),
    Verification("allen_heine", perturbation.check_allen_heine),
    Verification("folded_cone", cone_average.check_folded_cone),
    Verification("common_numbers", targets.check_common_numbers),
    Verification("sobol", targets.check_sobol, quick=False),
    Verification("control_variate", targets.check_control_variate, quick=False),
    Verification("full_loop", check_full_loop, quick=False),
    Verification("bilayer_hamiltonian", check_bilayer_hamiltonian, quick=False),
)
"""In the order in which they are run."""


def select(quick: bool = False, only: str | None = None) -> tuple[Verification, ...]:
    """Choose verifications.

    Args:
        quick: those that take seconds.
        only: the one of this name.

    Raises:
        ConfigError: there is none of this name.
    """
    if only is not None:
        chosen = tuple(verification for verification in PACK if verification.name == only)
        if not chosen:
            names = [verification.name for verification in PACK]
            raise ConfigError(
                message("--only", repr(only), "the name of a verification", suggest(only, names))
            )
        return chosen
    return tuple(verification for verification in PACK if verification.quick or not quick)


def run_pack(chosen: Sequence[Verification], tell: Callable[[str], None] = print) -> list[Check]:
    """Run verifications one after the other.

    Args:
        chosen: of ``select``.
        tell: takes one line per verification.
    """
    checks: list[Check] = []
    for number, verification in enumerate(chosen, start=1):
        begin = time.monotonic()
        found = verification.run()
        failed = sum(not check.passed for check in found)
        seconds = time.monotonic() - begin
        result = f"{failed} of {len(found)} FAILED" if failed else f"{len(found)} passed"
        tell(f"[{number}/{len(chosen)}] {verification.name:<24} {seconds:6.1f} s  {result}")
        checks += found
    return checks
