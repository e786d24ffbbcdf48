"""Formats of records and of part files: what changed from one to the next, and how old ones read.

One pure function per step vN → vN+1 turns what a file of format N holds into format N + 1; files on
the disk stay as they are. A field that is new and has a default needs no step: the default is read
in its place. A file of a newer format is refused with the version that reads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mlepi.errors import DataError, message
from mlepi.former_names import FORMER_STAGE_NAMES
from mlepi.results.provenance import find_version

RECORD_FORMAT = 3
PART_FORMAT = 2

FORMER_VERSIONS: Mapping[str, int] = {"observables": 3, "phonon": 2, "sampling": 2}
"""Stage, by its former name → version in its inputs in files of format 1; 1 for all others."""


class StoredResult(NamedTuple):
    """What a file holds of one record, or of one sample in a part file.

    Attributes:
        stage: name of the stage that made it.
        fields: name → value; nested records and mappings are dicts again.
    """

    stage: str
    fields: dict[str, Any]


Step = Callable[[StoredResult], StoredResult]


def rename_stages(stored: StoredResult) -> StoredResult:
    """Give a result of format 1 the name that its stage has from format 2 on."""
    return stored._replace(stage=current_stage(stored.stage, 1))


BOOTSTRAPPED = tuple(
    f"{name}_errors"
    for name in (
        *("energy", "velocity", "ratio", "change", "gamma_1", "slope", "slope_ratio"),
        *("quasiparticle", "weight", "width"),
    )
)
"""Fields of format 2 with standard deviations of a bootstrap, in records that tell their groups."""


def complete_bootstrap(stored: StoredResult) -> StoredResult:
    """Give records of format 2 the factor √(n/(n − 1)) that their bootstrap errors lacked.

    Records with one pseudo-value per group, ``pseudo_velocities``, somewhere inside tell how many
    groups there were; others stay as they are, without degrees of freedom: their intervals are not
    known. Errors of the first samples have other numbers of groups, which are not stored.
    """
    n_groups = _count_groups(stored.fields)
    if n_groups is None:
        return stored
    return stored._replace(fields=_complete_errors(stored.fields, n_groups))


def _count_groups(fields: Mapping[str, Any]) -> int | None:
    """Return the number of groups of samples that a record tells, or None."""
    if "pseudo_velocities" in fields:
        return len(fields["pseudo_velocities"])
    counts = (_count_groups(value) for value in fields.values() if isinstance(value, dict))
    return next((count for count in counts if count is not None), None)


def _complete_errors(fields: Mapping[str, Any], n_groups: int) -> dict[str, Any]:
    factor = math.sqrt(n_groups / (n_groups - 1.0))
    changed: dict[str, Any] = {"degrees_of_freedom": n_groups - 1.0}
    for name, value in fields.items():
        if isinstance(value, dict):
            changed[name] = _complete_errors(value, n_groups)
        else:
            changed[name] = factor * value if name in BOOTSTRAPPED else value
    return changed


RECORD_UPGRADES: Mapping[int, Step] = {1: rename_stages, 2: complete_bootstrap}
"""Format N → pure function that turns a record of format N into format N + 1."""

PART_UPGRADES: Mapping[int, Step] = {1: rename_stages}
"""The same for the result of one sample."""


def upgrade(
    stored: StoredResult, found: int, *, upgrades: Mapping[int, Step] = RECORD_UPGRADES
) -> StoredResult:
    """Bring a result to the present format, one step at a time.

    Args:
        stored: as it lies in the file; it is not modified.
        found: its format, no newer than the present one (``refuse_newer``).
        upgrades: format → step to the next one, for every format that was ever written.

    Returns:
        The result in the format after the last step.
    """
    for step in (upgrades[number] for number in sorted(upgrades) if number >= found):
        stored = step(stored)
    return stored


def current_stage(name: str, found: int) -> str:
    """Return the present name of a stage that a file of some format names.

    Args:
        name: in the file.
        found: format of the record or of the part file.
    """
    return FORMER_STAGE_NAMES.get(name, name) if found == 1 else name


def former_stage(name: str) -> str:
    """Return the name that a stage has in files of format 1."""
    former = {stage: old for old, stage in FORMER_STAGE_NAMES.items()}
    return former.get(name, name)


FORMER_OPENMX = {
    "bases": {"6": "C6.0-s2p2"},
    "pseudopotentials": {"6": "C_PBE19"},
    "valence_electrons": {"6": 4},
    "functional": "GGA-PBE",
    "grid_cutoff": 200.0,
    "electronic_temperature": 300.0,
    "criterion": 1e-8,
    "dispersion": True,
    "primitive_kgrid": [18, 18, 1],
}
"""Settings of inputs for labelling that format 1 had for every material and every network."""


def former_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Describe inputs as format 1 did, so that digests in old files can be compared.

    Args:
        inputs: what decides a record or the result of one sample; "stage" and the keys of
            "records" are names of stages, where they are there.

    Returns:
        The same with the former names of stages and with the version that the stage then had.
    """
    former = {**inputs, "version": 1}
    settings = inputs.get("settings")
    if isinstance(settings, Mapping) and settings.get("openmx", ()) is None:
        former["settings"] = {**settings, "openmx": FORMER_OPENMX}
    if "stage" in inputs:
        former["stage"] = former_stage(inputs["stage"])
        former["version"] = FORMER_VERSIONS.get(former["stage"], 1)
    if "records" in inputs:
        former["records"] = {former_stage(name): x for name, x in inputs["records"].items()}
    return former


def refuse_newer(where: str, found: int, readable: int, writer: str | None) -> None:
    """Refuse what a newer version of this package wrote.

    Args:
        where: file, and the place in it.
        found: format.
        readable: newest format that can be read.
        writer: version that wrote it, if the file says so.

    Raises:
        DataError: the format is newer than the readable one; the text names the version to install.
    """
    if found <= readable:
        return
    own = find_version()
    fix = f"Install mlepi {writer} or newer." if writer else "Install a newer mlepi."
    if writer == own:
        fix = f"Install mlepi {writer} or newer, from its newest source: both have one number."
    raise DataError(
        message(
            where,
            f"data written by mlepi {writer or 'of an unknown version'} (format {found}); "
            f"this is mlepi {own}, which reads up to format {readable}",
            f"format {readable} or older",
            fix,
        )
    )
