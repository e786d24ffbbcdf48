"""The pipeline from a structure to H and S of its samples: what a stage is, and their runner."""

from mlepi.pipeline.discovery import find_stages
from mlepi.pipeline.ensemble import Ensemble, Equilibrium, Sample, SampleKey
from mlepi.pipeline.inference import infer
from mlepi.pipeline.networks import Networks
from mlepi.pipeline.plain_stage import NestedStage, PlainStage
from mlepi.pipeline.run import Run
from mlepi.pipeline.sampled_stage import Part, SampledStage
from mlepi.pipeline.settings import Settings

__all__ = [
    "Ensemble",
    "Equilibrium",
    "NestedStage",
    "Networks",
    "Part",
    "PlainStage",
    "Run",
    "Sample",
    "SampleKey",
    "SampledStage",
    "Settings",
    "find_stages",
    "infer",
]
