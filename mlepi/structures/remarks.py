"""What is unusual about labels, how much, and what follows; what is impossible is an error.

A remark is a kind with a number. Those of a structure stand in its provenance under ``UNUSUAL``,
travel with it into data sets, and are told once, as a warning, when it is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlepi.errors import UnusualDataWarning, message

UNUSUAL = "unusual"
"""Key of ``LabelledStructure.provenance``: kind → how much."""


@dataclass(frozen=True)
class RemarkKind:
    """Wording of one kind.

    Attributes:
        got: what was found; ``{amount}`` is how much.
        expected: what is usual.
        follows: what it means for the user.
    """

    got: str
    expected: str
    follows: str


KINDS = {
    "normalisation": RemarkKind(
        "orbitals whose overlap with themselves is off 1 by up to {amount:.2g}",
        "normalised orbitals",
        "S is used as it is; tables of overlaps must be made from these data.",
    ),
    "shells_overlap": RemarkKind(
        "shells of one atom that overlap by up to {amount:.2g}",
        "orthogonal shells",
        "Numerical orbitals of equal l often do; S is used as it is.",
    ),
    "not_two_centre": RemarkKind(
        "overlaps that are not symmetric around their bonds, by up to {amount:.2g}",
        "less than 1e-4",
        "S comes from a coarse k-mesh, has three-centre terms (PAW), or belongs to a slightly "
        "different structure. Tables of orbitals alone will miss this much: predictions need S "
        "from the code, or a table with its projectors (GPAW).",
    ),
    "turned": RemarkKind(
        "a structure turned by {amount:.4g}° against its overlaps",
        "one set of axes",
        "Its cell comes from lengths and angles (dftio reads STRU.cif), which have no axes; cell "
        "and positions were turned onto those of the blocks.",
    ),
    "coarse_mesh": RemarkKind(
        "overlaps of up to {amount:.2g} at the border of the k-mesh",
        "less than 1e-3",
        "Orbitals reach further than the mesh can tell: levels between its points are off by about "
        "that part of the band width. Take a denser mesh.",
    ),
    "found_by_trial": RemarkKind(
        "no kmesh.json",
        "mesh, shells and orbital order in it",
        "The only ones that fit the files were taken; the provenance names them.",
    ),
    "no_total_energy": RemarkKind(
        "a total energy of {amount:g}",
        "that of a self-consistent calculation",
        "HamGNN writes 0 where it had no text of OpenMX, as in graphs for predictions: H of those "
        "is that of overlapping atoms (overlap.scfout), no label to train on; S is right.",
    ),
    "missing_pairs": RemarkKind(
        "pairs within reach that are not listed, with overlaps of up to {amount:.2g} by their "
        "distance",
        "every pair as far as the longest of its elements",
        "They are taken as zero, which moves levels by about that much of the band width.",
    ),
    "one_direction": RemarkKind(
        "{amount:.0f} pairs without their reverse",
        "both directions of every pair",
        "The transposed block was taken, as Hermiticity demands.",
    ),
    "duplicate_pairs": RemarkKind(
        "{amount:.0f} pairs listed more than once, with equal blocks",
        "every pair once",
        "One of each was taken.",
    ),
    "h_pairs_without_s": RemarkKind(
        "Hamiltonian blocks up to {amount:.2g} eV on pairs that the overlap does not list",
        "less than 0.1 eV there",
        "S was taken as zero on them; if it is not, levels are wrong.",
    ),
    "energy_zero": RemarkKind(
        "a Fermi energy of {amount:.2f} eV",
        "a value within 10 eV of zero",
        "The zero of energy of this code is not the vacuum: do not mix it with data of others.",
    ),
    "fermi_above_all": RemarkKind(
        "a Fermi energy {amount:.2f} eV above the highest level at the k-points tried",
        "a value among the levels",
        "Nothing is empty in this basis, or H and Fermi energy have different units or zeros.",
    ),
    "near_singular": RemarkKind(
        "an overlap matrix with smallest eigenvalue {amount:.1e}",
        "at least 1e-4",
        "Errors of H are multiplied by its inverse in the softest states: expect ghost states.",
    ),
    "unconverged_steps": RemarkKind(
        "{amount:.0f} steps whose electronic loop has not converged",
        "EDIFF reached in every step",
        "They are left out.",
    ),
    "frames_without_labels": RemarkKind(
        "{amount:.0f} structures without energy or forces",
        "both",
        "They are left out.",
    ),
    "harmonic_energy": RemarkKind(
        "{amount:.0f} structures with forces and no energies",
        "both",
        "Their energies are those of the harmonic crystal, −½ Σ u·F: do not mix them with energies "
        "of DFT.",
    ),
}


def describe_remark(where: str, kind: str, amount: float) -> str:
    """Write one remark in the house form."""
    words = KINDS[kind]
    return message(where, words.got.format(amount=amount), words.expected, words.follows)


def tell(where: str, remarks: Mapping[str, float]) -> None:
    """Warn of every remark, ``UnusualDataWarning``."""
    for kind, amount in remarks.items():
        warnings.warn(describe_remark(where, kind, amount), UnusualDataWarning, stacklevel=4)


def merge_remarks(many: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the largest amount of every kind over many structures (the smallest of S)."""
    merged: dict[str, float] = {}
    for remarks in many:
        for kind, amount in remarks.items():
            others = merged.get(kind, amount)
            if kind == "near_singular":
                merged[kind] = min(amount, others)
            else:
                merged[kind] = max(amount, others, key=abs)
    return merged
