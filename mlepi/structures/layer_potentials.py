"""Potentials of layers that the H of a label lacks, one file for a data set.

The k-mesh of a calculation decides how many electrons of a semimetal stand on which layer; what a
denser one changes is a potential per layer (``mlepi.graphs.layer_charges``). It is added to H as it
is read: H_ij + ½(φ_i + φ_j)S_ij.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.labelled_structure import LabelledStructure

Potentials = Mapping[str, NDArray[np.float64]]
"""Name of a structure → (n_layers,) eV."""


def read_layer_potentials(path: Path) -> Potentials:
    """Read the potentials of a data set.

    Args:
        path: JSON, ``{"structures": {NAME: {"potentials": [eV, …]}}}``.

    Raises:
        DataError: it is no such file.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["structures"]
        found = {
            str(name): np.array(each["potentials"], dtype=np.float64)
            for name, each in stored.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _refuse(path, f"{type(error).__name__}: {error}") from error
    for name, potentials in found.items():
        if potentials.ndim != 1 or not np.isfinite(potentials).all():
            raise _refuse(path, f"potentials of {name!r}: {potentials.tolist()}")
    return found


def add_to_labels(structure: LabelledStructure, potentials: Potentials) -> LabelledStructure:
    """Return a structure whose H has the potentials of its layers.

    Args:
        structure: with Hamiltonian and overlap blocks on the same edges.
        potentials: by name.

    Raises:
        DataError: it has none, or another number of layers.
    """
    found, layers = potentials.get(structure.name), structure.atoms.arrays.get("layer")
    n_layers = 0 if layers is None else int(np.max(layers)) + 1
    edges, blocks, overlaps = (
        structure.edge_index,
        structure.hamiltonian_blocks,
        structure.overlap_blocks,
    )
    if edges is None or blocks is None or overlaps is None:
        got, fix = "no blocks", "Use a data set of Hamiltonians, with overlaps or a table of them."
        raise DataError(message(f"structure {structure.name!r}", got, "H and S", fix))
    if found is None or layers is None or len(found) != n_layers:
        got = "none" if found is None else f"those of {len(found)} layers"
        raise DataError(
            message(
                f"potentials of structure {structure.name!r}",
                got,
                f"one for each of its {n_layers} layers",
                "Compute them (data/blg_openmx/make_layer_potentials.py shows how), or leave them "
                "out (data.layer_potentials=null; mlepi eval --layer-potentials none).",
            )
        )
    of_atom = found[np.asarray(layers)]
    means = 0.5 * (of_atom[edges[0]] + of_atom[edges[1]])
    shifted = blocks + means[:, None, None] * overlaps
    return replace(structure, hamiltonian_blocks=shifted.astype(blocks.dtype))


def _refuse(path: Path, got: str) -> DataError:
    expected = '{"structures": {NAME: {"potentials": [eV, …]}}}'
    return DataError(
        message(str(path), got, expected, "Give the file that the data set came with.")
    )
