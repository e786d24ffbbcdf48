"""Labels of an OpenMX run, from its ``.scfout`` and, for energy and forces, its text ``.out``.

The orbital order of the matrices is "openmx" of ``OrbitalBasis``. Numbers are converted with the
CODATA values of ``units``; OpenMX's own constants differ by 7e-8 relative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.assembly import assemble_labels
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.openmx_scfout import FORMAT_CODE, read_scfout
from mlepi.structures.openmx_text import Species, find_block, read_log, read_species
from mlepi.structures.pair_lists import BlockList
from mlepi.units import BOHR, HARTREE
from mlepi.untrusted import guard, read_text


@guard("a .scfout of OpenMX")
def read_openmx(
    scfout: str | Path, out: str | Path | None = None, name: str | None = None
) -> LabelledStructure:
    """Read the labels of a non-spin-polarised OpenMX run.

    Hamiltonian, overlap and Fermi energy are in its ``.scfout``, energy and forces in its log.

    Args:
        scfout: binary file of OpenMX 3.9 or 4.0 (``HS.fileout on``), of either byte order.
        out: the ``.out`` of the same run; without it (and unless it was appended to the
            ``.scfout``) energy and forces are None.
        name: name of the structure; the stem of ``scfout`` when None.

    Returns:
        Labels in eV, Å and internal orbital order, both directions of every pair, exactly
        Hermitian. Positions and cell are those of the ``.scfout`` (not wrapped); ``fermi_energy``
        is OpenMX's chemical potential.

    Raises:
        DataError: wrong version, spin, damage, or any invariant of ``validation`` broken.
    """
    path = Path(scfout)
    where = str(path)
    raw = read_scfout(path)
    log = _read_text(Path(out)) if out is not None else raw.text
    text = raw.text if _has_species(raw.text) else log
    species, labels = read_species(where, text, len(raw.positions))
    numbers = np.array([species[label].number for label in labels])
    basis = _build_basis(where, species, labels)
    _check_orbitals(where, basis.counts(numbers), raw.orbital_counts, species, labels)
    atoms = Atoms(numbers=numbers, positions=raw.positions * BOHR, cell=raw.cell * BOHR, pbc=True)
    energy, forces = read_log(
        str(out) if out is not None else where,
        log,
        atoms,
        raw.chemical_potential,
        required=out is not None,
    )
    hamiltonian = BlockList(
        raw.hamiltonian.pairs, raw.hamiltonian.values * HARTREE, raw.hamiltonian.boundaries
    )
    return assemble_labels(
        where,
        name or path.stem,
        atoms,
        basis,
        order="openmx",
        overlap=raw.overlap,
        hamiltonian=hamiltonian,
        fermi_energy=raw.chemical_potential * HARTREE,
        energy=energy,
        forces=forces,
        provenance={
            "code": "OpenMX",
            "scfout": path.name,
            "scfout_format": FORMAT_CODE,
            "out": Path(out).name if out is not None else None,
            "pseudopotentials": sorted({s.pseudopotential for s in species.values()}),
        },
    )


def _check_orbitals(
    where: str,
    expected: NDArray[np.int64],
    found: NDArray[np.int64],
    species: Mapping[str, Species],
    labels: Sequence[str],
) -> None:
    """Check the numbers of orbitals of the atoms by their bases against those of the matrices."""
    if not np.array_equal(expected, found):
        atom = int(np.flatnonzero(expected != found)[0])
        raise DataError(
            message(
                where,
                f"{found[atom]} orbitals on atom {atom + 1} (Total_NumOrbs)",
                f"{expected[atom]} from its basis {species[labels[atom]].pao}",
                "The input text does not belong to the matrices.",
            )
        )


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise DataError(
            message(
                str(path),
                "no such file",
                "the .out file of the run",
                "Check the path, or leave `out` away.",
            )
        )
    return read_text(path)


def _has_species(text: str) -> bool:
    return find_block(text, "Definition.of.Atomic.Species") is not None


def _build_basis(where: str, species: dict[str, Species], labels: list[str]) -> OrbitalBasis:
    """Collect one basis per element; two different bases of one element are refused."""
    used = [species[label] for label in dict.fromkeys(labels)]
    shells: dict[int, tuple[int, ...]] = {}
    radii: dict[int, float] = {}
    names: dict[int, str] = {}
    for item in used:
        z = item.number
        if z in names and (shells[z], radii[z]) != (item.shells, item.radius):
            raise DataError(
                message(
                    where,
                    f"bases {names[z]} and {item.pao} for one element",
                    "one basis per element",
                    "Use the same basis for all atoms of an element.",
                )
            )
        shells[z], radii[z], names[z] = item.shells, item.radius, item.pao
    return OrbitalBasis(shells=shells, radii=radii, names=names)
