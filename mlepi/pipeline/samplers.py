"""Samplers that need files: the reader of the files joined to the physics of the samples."""

from __future__ import annotations

from mlepi.physics.vibrations.samplers import Trajectory
from mlepi.structures.trajectory_files import TrajectoryFiles


def build_trajectory(
    *,
    file: str,
    skip: int = 0,
    stride: int = 1,
    weights: str | None = None,
    block: int | None = None,
) -> Trajectory:
    """Take displaced supercells from the files of a simulation at each temperature.

    Args:
        file: path with {temperature} or {temperature:g} in place of the temperature in K; a pattern
            with * names the files of the beads of a path integral.
        skip: frames at the beginning that are left out as equilibration.
        stride: of the frames after those, one in so many is kept.
        weights: key of the frames' weights, e.g. in an extxyz file; None: all weigh the same.
        block: kept frames per group; None: see ``Trajectory``.

    Raises:
        ConfigError: skip, stride or block make no sense.
    """
    return Trajectory(source=TrajectoryFiles(file, skip, stride, weights), block=block)
