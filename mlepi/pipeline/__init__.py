"""The pipeline from a structure to observables.

Stages that each write one record, and their runner.
"""

from mlepi.pipeline.hamiltonian import HamiltonianStage
from mlepi.pipeline.inference import infer
from mlepi.pipeline.phonon import PhononStage
from mlepi.pipeline.run import Run
from mlepi.pipeline.sampling import SamplingStage
from mlepi.pipeline.stage import SampledStage, SampleKey, Stage
from mlepi.pipeline.structure import StructureStage

__all__ = [
    "HamiltonianStage",
    "PhononStage",
    "Run",
    "SampleKey",
    "SampledStage",
    "SamplingStage",
    "Stage",
    "StructureStage",
    "infer",
]
