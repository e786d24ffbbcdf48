"""What is told of the structure."""

from __future__ import annotations

import re

import numpy as np

from mlepi.figures import Fact, Presentation
from mlepi.pipeline.stages.structure.record import StructureRecord, format_layer_forces


def list_facts(record: StructureRecord) -> list[Fact]:
    """Return formula, lattice and, of a relaxation, what force is left."""
    a, b, c = record.atoms.cell.lengths()
    source = re.sub(r"^(\w+\.)+(?=\w+\()", "", record.source)  # a builder without its module
    relaxed = record.relaxation.replace("_", " ")
    facts = [
        ("structure", f"{record.atoms.get_chemical_formula()} from {source}"),
        ("lattice", f"a = {a:.4f} Å, b = {b:.4f} Å, c = {c:.2f} Å; relaxed: {relaxed}"),
    ]
    if record.max_force is not None:
        facts.append(("largest force on an atom", f"{record.max_force:.4f} eV/Å"))
    if record.residual_force is not None:
        facts.append(("… in the directions that relaxed", f"{record.residual_force:.1e} eV/Å"))
    if len(record.layer_forces):
        held = "which holds the spacing" if record.held_layers else "from bottom to top"
        facts.append(
            (
                f"out-of-plane force on a layer, {held}",
                f"{format_layer_forces(record)} eV/Å per atom",
            )
        )
    if len(record.in_plane_stress) and np.isfinite(record.in_plane_stress).all():
        xx, yy, xy = record.in_plane_stress
        facts.append(("in-plane stress xx, yy, xy", f"{xx:.1e}, {yy:.1e}, {xy:.1e} eV/Å²"))
    return facts


PRESENTATION = Presentation(facts=list_facts, atoms=lambda record: record.atoms, tab="phonons")
