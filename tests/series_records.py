"""Runs of cells of several sizes, written by hand for tables and reports of a series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from pipeline_records import sampling_record, structure_record

from mlepi.pipeline.ghosts import PROVENANCE, GhostSummary
from mlepi.results import ResultsStore


def of_size(record, n, **changes):
    """Return a record of N × N cells, whose velocities are larger in larger ones."""
    fields = [
        name
        for name in ("spectral", "sorted_average", "velocity_operator", "velocity")
        if hasattr(record, name)
    ]
    moved = {
        name: replace(
            getattr(record, name),
            velocities=getattr(record, name).velocities - 1e5 / n - 50.0 * record.temperatures,
            velocity_errors=np.full(3, 0.01e5 * n),
        )
        for name in fields
    }
    return replace(record, **{"supercell": (n, n, 1), "n_samples": 4, **moved, **changes})


def system_of(**changes):
    """Return the provenance of the records that say what a run is a run of."""
    return {
        stage: {"inputs": {"settings": {**settings, **changes.get(stage, {})}}}
        for stage, settings in {
            "structure": {"structure": "a digest", "relax": "none", "note": "why"},
            "sampling": {"statistics": "quantum", "seed": 3, "temperature": [0.0, 150.0, 300.0]},
            "fermi_velocity": {"window": 1.2, "supercell": [3, 3, 1]},
        }.items()
    }


def write_whole(folder: Path, records, relaxation="none", project_out="none", **changes):
    """Write runs with their structures and samples, and the provenance of all of it."""
    for n, (velocities, _) in records.items():
        store = ResultsStore(folder / f"{n}x{n}_{relaxation}_{project_out}")
        told = system_of(
            structure={"relax": relaxation, "note": f"for {n}"},
            sampling={"project_out": project_out},
            fermi_velocity={"supercell": [n, n, 1]},
            **changes,
        )
        ghosts = GhostSummary(4, (0.0, 150.0, 300.0), (1, 2, 3), (0, 0, 1), 0, (2,), None)
        told["fermi_velocity"] |= {
            PROVENANCE: ghosts.to_dict(),
            "config": {"electron": "e.ckpt", "phonon": "p.ckpt"},
        }
        motion = np.full((3, 1, 2), 0.04 if project_out == "none" else 0.002)
        sampling = sampling_record(
            project_out=project_out,
            interlayer_motion=motion,
            harmonic_interlayer_motion=motion,
            mesh_interlayer_motion=np.full((3, 1, 2), 0.004),
        )
        structure = structure_record(
            relaxation=relaxation,
            spacings=np.array([3.35]),
            residual_force=4e-4,
            layer_forces=np.array([0.012, -0.012]),
        )
        for stage, record in (
            ("fermi_velocity", velocities),
            ("sampling", sampling),
            ("structure", structure),
        ):
            store.write(stage, record, "digest", told[stage])
