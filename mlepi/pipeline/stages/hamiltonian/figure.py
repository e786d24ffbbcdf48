"""What is told of H and S of the structure."""

from __future__ import annotations

from mlepi.figures import Fact, Presentation
from mlepi.pipeline.stages.hamiltonian.record import HamiltonianRecord


def list_facts(record: HamiltonianRecord) -> list[Fact]:
    """Return how singular S is."""
    smallest = float(record.smallest_overlap_eigenvalues.min())
    return [("smallest eigenvalue of S", f"{smallest:.2e}")]


PRESENTATION = Presentation(facts=list_facts)
