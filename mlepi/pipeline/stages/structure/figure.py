"""What is told of the structure."""

from __future__ import annotations

from mlepi.figures import Fact, Presentation
from mlepi.pipeline.stages.structure.record import StructureRecord


def list_facts(record: StructureRecord) -> list[Fact]:
    """Return formula, lattice and, of a relaxation, what force is left."""
    a, b, c = record.atoms.cell.lengths()
    facts = [
        ("structure", f"{record.atoms.get_chemical_formula()} from {record.source}"),
        ("lattice", f"a = {a:.4f} Å, b = {b:.4f} Å, c = {c:.2f} Å; relaxed: {record.relaxation}"),
    ]
    if record.max_force is not None:
        facts.append(("largest force on an atom", f"{record.max_force:.4f} eV/Å"))
    return facts


PRESENTATION = Presentation(facts=list_facts)
