"""A table of radial overlaps from orbitals: ``mlepi overlaps FILE … --out TABLE.h5``.

From OpenMX's ``.pao``, SIESTA's ``.ion.xml``, Gaussians in CP2K's format, and the ``orbitals.json``
of GPAW's orbitals and projectors. ``--like DATA`` takes shells and radii from labelled structures
and says how well the table meets their S.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlepi.errors import DataError, message

if TYPE_CHECKING:
    from mlepi.physics.overlaps import RadialOrbitals, RadialOverlaps
    from mlepi.structures.basis import OrbitalBasis
    from mlepi.structures.dataset import HamiltonianDataset


def main(arguments: Sequence[str]) -> int:
    """Tabulate, compare where there are data, and write.

    Raises:
        DataError: a file or an option is wrong or missing, or the orbitals are not those of the
            data.
    """
    from mlepi.physics.overlaps import write_overlap_table
    from mlepi.predictors.electron import check_overlap_table
    from mlepi.structures.dataset import HamiltonianDataset

    given = _parse(arguments)
    if given.out.exists():
        got, fix = f"existing file {given.out}", "Remove it or choose another name."
        raise DataError(message("--out", got, "a new file", fix))
    data = None if given.like is None else HamiltonianDataset(given.like)
    table = _tabulate(given, data.basis if data else None)
    for z, shells in table.shells.items():
        print(f"{_name(table, z)}: shells {list(shells)}, radius {table.radii[z]:.4f} Å")
    errors = None
    if data is not None:
        check_overlap_table(data.basis, table)
        errors = _compare(table, data, given.most)
        print(errors)
    write_overlap_table(
        given.out,
        table,
        {
            "orbitals": [_name(table, z) for z in table.shells],
            "orbitals_sha256": {
                p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in given.files
            },
            "compared": errors,
        },
    )
    print(f"{given.out}: use it as overlap={given.out}, or data.overlap_table={given.out}")
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mlepi overlaps", description="Tabulate the overlaps of the orbitals in files."
    )
    kinds = ".pao, .ion.xml, a file of CP2K, or orbitals.json"
    parser.add_argument("files", nargs="+", type=Path, help=kinds)
    parser.add_argument("--out", required=True, type=Path, metavar="TABLE.h5")
    parser.add_argument("--shells", metavar="s2p2", help="of .pao files; else those of --like")
    parser.add_argument("--set", metavar="SZV-GTH", help="basis set in a file of CP2K")
    parser.add_argument("--elements", metavar="Mg,O", help="of that set; else those of --like")
    parser.add_argument(
        "--like", type=Path, metavar="DATA.h5", help="labels with S to compare with"
    )
    parser.add_argument("--most", type=int, default=10, help="structures compared; %(default)s")
    return parser.parse_args(arguments)


def _tabulate(given: argparse.Namespace, basis: OrbitalBasis | None) -> RadialOverlaps:
    """Make the table of the files."""
    from mlepi.physics.overlaps import (
        find_k_max,
        read_augmented_orbitals,
        tabulate_overlaps,
    )

    if given.files[0].suffix == ".json":
        if len(given.files) > 1:
            got, fix = f"{len(given.files)} files", "Write all elements into one."
            raise DataError(message("orbitals.json", got, "one", fix))
        return read_augmented_orbitals(given.files[0])
    orbitals = [one for path in given.files for one in _read(path, given, basis)]
    if basis is not None:
        orbitals = [_widen(one, basis) for one in orbitals]
    return tabulate_overlaps(orbitals, k_max=find_k_max(orbitals))


def _name(table: RadialOverlaps, number: int) -> str:
    """Return the name of the orbitals of an element."""
    from mlepi.physics.overlaps import AugmentedOverlapTable

    radial = table.table if isinstance(table, AugmentedOverlapTable) else table
    return radial.names[number]


def _read(
    path: Path, given: argparse.Namespace, basis: OrbitalBasis | None
) -> list[RadialOrbitals]:
    """Read the orbitals of one file; of several elements where it is one of CP2K."""
    from ase.data import atomic_numbers, chemical_symbols

    from mlepi.physics.overlaps import read_gaussians, read_ion_xml, read_pao
    from mlepi.structures.basis import name_shells

    if path.name.endswith(".ion.xml"):
        return [read_ion_xml(path)]
    if path.suffix == ".pao":
        symbol = re.match(r"[A-Z][a-z]?", path.name)
        number = atomic_numbers.get(symbol.group() if symbol else "", 0)
        own = name_shells(basis.shells[number]) if basis and number in basis.shells else None
        shells = given.shells or own
        if not shells:
            got, fix = f"no shells for {path.name}", "Give --shells, such as s2p2, or --like."
            raise DataError(message("--shells", got, "those of the calculation", fix))
        return [read_pao(path, str(shells))]
    if not given.set:
        fix = "Give --set NAME and --elements."
        raise DataError(message("--set", "nothing", f"a basis set of {path.name}", fix))
    elements = [chemical_symbols[z] for z in basis.elements] if basis else []
    symbols = given.elements.split(",") if given.elements else elements
    wrong = [symbol for symbol in symbols if symbol not in chemical_symbols[1:]]
    if not symbols or wrong:
        got, fix = repr(given.elements), "Give --elements Mg,O, or --like."
        raise DataError(message("--elements", got, "symbols of elements", fix))
    radii = {chemical_symbols[z]: r for z, r in basis.radii.items()} if basis else {}
    return [read_gaussians(path, symbol, given.set, radii.get(symbol)) for symbol in symbols]


def _widen(orbitals: RadialOrbitals, basis: OrbitalBasis) -> RadialOrbitals:
    """Give orbitals the radius that the data state, which may be larger; they are zero there."""
    radius = basis.radii.get(orbitals.number, orbitals.radius)
    return replace(orbitals, radius=radius) if radius > orbitals.radius - 1e-3 else orbitals


def _compare(table: RadialOverlaps, data: HamiltonianDataset, most: int) -> str:
    """Say how well a table meets the overlaps of structures."""
    from mlepi.graphs.overlap_labels import measure_augmented_errors
    from mlepi.physics.overlaps import (
        AugmentedOverlapTable,
        OverlapSample,
        measure_overlap_errors,
    )
    from mlepi.structures.bonds import find_bonds

    if isinstance(table, AugmentedOverlapTable):
        several = (data[k] for k in range(min(most, len(data))))
        return measure_augmented_errors(table, several).describe()
    samples = []
    for structure in (data[k] for k in range(min(most, len(data)))):
        edges, shift = structure.edge_index, structure.edge_cell_shift
        if structure.overlap_blocks is None or edges is None or shift is None:
            got, fix = "no overlaps", "Leave --like out, or give data with S."
            raise DataError(message(f"--like, {structure.name}", got, "labels with S", fix))
        vectors = find_bonds(structure.atoms, edges, shift).vectors
        samples.append(
            OverlapSample(structure.atoms.numbers, edges, vectors, structure.overlap_blocks)
        )
    return measure_overlap_errors(table, samples).describe()
