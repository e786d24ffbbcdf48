"""Whole runs with springs and a toy Hamiltonian in place of networks, in a folder of their own."""

from __future__ import annotations

import io

from toy_models import LevelsStage, OtherLevelsStage

from mlepi.pipeline import Networks, Run, Settings
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import ProgressReport
from mlepi.pipeline.runner import run_stages
from mlepi.pipeline.sources import Source
from mlepi.pipeline.stages.hamiltonian.stage import HamiltonianStage
from mlepi.pipeline.stages.phonon.stage import PhononStage
from mlepi.pipeline.stages.sampling.stage import SamplingStage
from mlepi.pipeline.stages.structure.stage import StructureStage
from mlepi.results import ResultsStore

PREPARATION = ("structure", "phonon", "sampling", "hamiltonian")
ALL = (*PREPARATION, "levels")


def toy_source(key, name, **arguments):
    return Source(key, {"_target_": f"toy_models.{name}", **arguments})


def make_run(folder, own_electron=None, own_calculator=None, **changes):
    """A run of a honeycomb; ``X_settings`` are those of stage X, other changes those of the run."""
    own = {
        key.removesuffix("_settings"): changes.pop(key)
        for key in list(changes)
        if key.endswith("_settings")
    }
    stages = {
        "structure": StructureStage(**own.get("structure", {})),
        "phonon": PhononStage(**{"dos_mesh": (6, 6, 1), "n_points": 20, **own.get("phonon", {})}),
        "sampling": SamplingStage(**own.get("sampling", {})),
        "hamiltonian": HamiltonianStage(**own.get("hamiltonian", {})),
        "levels": LevelsStage(**own.get("levels", {})),
        "other_levels": OtherLevelsStage(**own.get("other_levels", {})),
        **changes.pop("stages", {}),
    }
    settings = Settings(
        **{
            "temperatures": (0.0, 300.0),
            "n_samples": 3,
            "seed": 0,
            "supercell": (3, 3, 1),
            "structure": toy_source("structure", "build_honeycomb", a=1.42 * 3**0.5),
            "phonon": toy_source("phonon", "HoneycombSprings"),
            "electron": toy_source("electron", "ToyElectron"),
            **changes,
        }
    )
    networks = Networks(settings, own_calculator, own_electron)
    return Run(settings, ResultsStore(folder), networks, stages)


def execute(run, names=ALL):
    """Run stages and return what was said, doubts last; ``seen()`` then tells of the samples."""
    LevelsStage.seen.clear()
    stream = io.StringIO()
    report = ProgressReport(stream=stream)
    run_stages(run, names, Processes(), report)
    report.tell_doubts()
    return stream.getvalue()


def seen(name="levels"):
    """Return the samples that a toy stage has evaluated in the last ``execute``."""
    return LevelsStage.seen.get(name, [])
