"""Labels as a network has learned them: with overlaps, potentials of layers, and its energy zero.

Whoever compares a network with labels completes them here first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, message
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.overlaps import RadialOverlaps
from mlepi.project_files import find_file, locate_file
from mlepi.structures.labelled_structure import LabelledStructure, subtract_fermi_energy
from mlepi.structures.layer_potentials import Potentials, add_to_labels


def trained_data(model: Any) -> dict[str, Any]:
    """Return the data config of the training of a network; {} where it names none.

    Args:
        model: a predictor, or a committee of them, of which the first one counts.
    """
    first = (getattr(model, "members", None) or (model,))[0]
    return dict(dict(getattr(first, "metadata", {})).get("config", {}).get("data", {}))


def is_own_data(model: Any, path: Path, keys: Sequence[str] = ("path", "extra")) -> bool:
    """Return whether a data set is one of those that the training of a network names.

    Args:
        model: a predictor, or a committee.
        path: data set.
        keys: of the data config that count.
    """
    trained = trained_data(model)
    files = [locate_file(str(given)) for key in keys if (given := trained.get(key))]
    return path.resolve() in {file.resolve() for file in files if file is not None}


def find_own_potentials(model: Any, path: Path) -> Path | None:
    """Return the file of potentials that a training has added to the labels of a data set.

    Args:
        model: a predictor, or a committee.
        path: data set; another one than the network's own has none.

    Raises:
        DataError: the file is missing.
    """
    given = trained_data(model).get("layer_potentials")
    if not given or not is_own_data(model, path):
        return None
    return find_file("data.layer_potentials of the checkpoint", str(given))


def complete_labels(
    structure: LabelledStructure,
    model: Any,
    potentials: Potentials | None = None,
    fix: str = "Give a table: overlap=TABLE.h5.",
) -> LabelledStructure:
    """Return labels on the energy zero of a network, with overlaps and potentials.

    Overlaps that a data set lacks come from the table of the network.

    Args:
        structure: with H.
        model: electron network, or a committee of them.
        potentials: of the layers of all structures, by name, eV; None adds none.
        fix: what to do where there are no overlaps.

    Raises:
        DataError: there are no overlaps, or no potentials of this structure, or the network counts
            energies from a Fermi energy that the labels lack.
    """
    first = (getattr(model, "members", None) or (model,))[0]
    table = getattr(first, "overlap_table", None)
    if isinstance(table, RadialOverlaps):
        structure = complete_overlaps(structure, table)
    if structure.overlap_blocks is None:
        got = "overlaps neither in the data nor as a table of the network"
        raise DataError(message(f"structure {structure.name!r}", got, "one of them", fix))
    if potentials is not None:
        structure = add_to_labels(structure, potentials)
    fermi = trained_data(model).get("energy_zero") == "fermi"
    return subtract_fermi_energy(structure) if fermi else structure
