"""Which code a result rests on: what must be the same for it to serve again."""

from __future__ import annotations

from collections.abc import Iterable

from mlepi.graphs.shifted_matrix import shift_hamiltonian
from mlepi.pipeline.networks import Networks
from mlepi.pipeline.run import Run
from mlepi.pipeline.stage import Stage
from mlepi.results.source_code import fingerprint_code

WITHOUT_NUMBERS = (
    "mlepi.errors",
    "mlepi.former_names",
    "mlepi.results",
    "mlepi.project_files",
    "mlepi.plugins",
    "mlepi.checksums",
    "mlepi.default_folder",
    "mlepi.run_lock",
    "mlepi.pipeline.progress",
    "mlepi.pipeline.run",
    "mlepi.pipeline.fingerprints",
    "mlepi.pipeline.stage",
    "mlepi.pipeline.sources",
    "mlepi.checkpoint",
)
"""Modules whose code cannot change a number: they are no part of its fingerprint.

Sources and checkpoints import every network; that of a run is asked for its own modules.
"""


def fingerprint_modules(modules: Iterable[str]) -> str:
    """Digest the code of modules and of all that they import, as far as it decides numbers."""
    return fingerprint_code(modules, WITHOUT_NUMBERS)


def stage_modules(networks: Networks, stage: Stage) -> set[str]:
    """Return the modules whose code decides the results of a stage: its own, networks, sampler."""
    needed = sorted(stage.sources() - {"structure"})
    modules = {type(stage).__module__, *stage.further_modules(), *networks.modules(needed)}
    if "sampling" in stage.requires or stage.name == "sampling":
        modules.add(type(networks.settings.sampler).__module__)
    if stage.solves and "electron" in stage.networks and networks.level_shift is not None:
        modules.add(shift_hamiltonian.__module__)
    return modules


def fingerprint_stage(run: Run, stage: Stage) -> str:
    """Digest the code that decides the results of a stage."""
    return fingerprint_modules(stage_modules(run.networks, stage))
