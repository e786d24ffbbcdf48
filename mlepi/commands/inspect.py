"""What is in files of other programs, or in a data set: ``mlepi inspect ANYTHING``.

Text on the screen, and a figure with ``--figure FILE.png``.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlepi.errors import DataError, MlepiError, NoLabelsError, message

if TYPE_CHECKING:
    from mlepi.structures.card import ForcesCard, HamiltonianCard
    from mlepi.structures.labelled_structure import LabelledStructure


def main(arguments: Sequence[str]) -> int:
    """Print the card of what a path holds, and draw it where asked.

    Raises:
        DataError: nothing that is known is there, or nothing of it can be read.
    """
    from mlepi.structures.ase_files import read_structure
    from mlepi.structures.labelled_structure import LabelledStructure
    from mlepi.structures.sources import FORMATS, find_sources, list_formats

    parser = argparse.ArgumentParser(
        prog="mlepi inspect",
        description="Say what is in a file or folder of any format that mlepi reads.",
    )
    parser.add_argument("path", type=Path, help="file or folder; folders are searched")
    parser.add_argument("--format", choices=list_formats(), help="without, it is recognised")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the card as well")
    parser.add_argument(
        "--most", type=int, default=20, help="structures with H that are read; %(default)s"
    )
    given = parser.parse_args(arguments)
    if given.format is None and (structure := _read_bare(given.path)) is not None:
        print("\n".join([f"{given.path}: a structure, no labels", *_bare_lines(structure)]))
        return 0
    sources = find_sources([given.path], given.format)
    kinds = sorted({source.source_format for source in sources})
    title = ", ".join(FORMATS[kind].title if kind in FORMATS else kind for kind in kinds)
    print(f"{given.path}: {title}; {len(sources)} sources")
    chosen = sources if kinds == ["forces"] else sources[: given.most]
    structures, refusals = _read(chosen)
    for refusal in refusals:
        print(f"  refused: {refusal}")
    if given.path.is_file() and any(isinstance(error, NoLabelsError) for error in refusals):
        last = LabelledStructure(given.path.stem, read_structure(given.path))
        print("\n".join(_bare_lines(last)))
        return 0
    if not structures:
        got, fix = "nothing that can be read", "See what was refused."
        raise DataError(message(str(given.path), got, "labels", fix))
    card = _describe(structures)
    if len(chosen) < len(sources):
        print(f"  the first {len(chosen)}; --most N reads more")
    if given.figure is not None and card is None:
        got, fix = "neither Hamiltonians nor forces", "Give the complete folder."
        raise DataError(message("--figure", got, "something to draw", fix))
    if given.figure is not None and card is not None:
        _draw(card, given.figure)
        print(f"  drawn: {given.figure}")
    return 0


def _read_bare(path: Path) -> LabelledStructure | None:
    """Read a structure without labels, such as POSCAR or cif; None for everything else."""
    from mlepi.structures.ase_files import read_structure
    from mlepi.structures.labelled_structure import LabelledStructure
    from mlepi.structures.sources import find_sources

    if not path.is_file():
        return None
    try:
        find_sources([path])
    except DataError as unknown:
        try:
            return LabelledStructure(path.stem, read_structure(path))
        except MlepiError:
            raise unknown from None
    return None


def _read(sources: Sequence[Any]) -> tuple[list[LabelledStructure], list[MlepiError]]:
    from mlepi.structures.sources import read_source

    structures: list[LabelledStructure] = []
    refusals: list[MlepiError] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in sources:
            try:
                structures += read_source(source)
            except MlepiError as error:
                refusals.append(error)
    return structures, refusals


def _describe(
    structures: Sequence[LabelledStructure],
) -> HamiltonianCard | ForcesCard | None:
    """Print the cards and return the one to draw: the first structure with H, or the forces."""
    from mlepi.structures.card import describe_forces, describe_hamiltonian

    with_matrices = [s for s in structures if s.hamiltonian_blocks is not None]
    cards = [describe_hamiltonian(structure) for structure in with_matrices]
    for card in cards:
        print("\n".join(_hamiltonian_lines(card)))
    if cards:
        print(_electrons_line(with_matrices))
        print("\n".join(_together_lines(with_matrices, cards)), end="")
    others = [s for s in structures if s.hamiltonian_blocks is None]
    with_forces = [s for s in others if s.forces is not None]
    for structure in (s for s in others if s.forces is None):
        print("\n".join(_bare_lines(structure)))
    if not with_forces:
        return cards[0] if cards else None
    forces = describe_forces(with_forces)
    print("\n".join(_forces_lines(forces)))
    return cards[0] if cards else forces


def _bare_lines(structure: LabelledStructure) -> list[str]:
    """Describe what has neither Hamiltonian nor forces: an overlap alone, a text of a run."""
    from mlepi.structures.card import find_shortest
    from mlepi.structures.layers import get_layers

    atoms = structure.atoms
    rows = {"structure": f"{structure.name}: {atoms.get_chemical_formula()}, {len(atoms)} atoms"}
    if set(atoms.arrays) - {"numbers", "positions"}:
        rows["arrays"] = ", ".join(sorted(set(atoms.arrays) - {"numbers", "positions"}))
    lengths, angles = atoms.cell.lengths(), atoms.cell.angles()
    rows["cell"] = ", ".join(f"{x:.4f}" for x in lengths) + " Å; "
    rows["cell"] += ", ".join(f"{x:.2f}" for x in angles) + "°"
    rows["distances"] = f"nearest atoms {find_shortest(atoms):.3f} Å"
    rows["layers"] = str(len(set(get_layers(atoms).tolist())))
    rows["has"] = (
        "an overlap, no Hamiltonian" if structure.overlap_blocks is not None else "no matrices"
    )
    if structure.energy is not None:
        rows["energy"] = f"{structure.energy:.6f} eV; no forces"
    if structure.fermi_energy is not None:
        rows["Fermi energy"] = f"{structure.fermi_energy:.4f} eV"
    return _lines(rows, structure.name, {})


def _hamiltonian_lines(card: HamiltonianCard) -> list[str]:
    rows = {
        "structure": f"{card.name}: {card.formula}, {card.n_atoms} atoms, "
        f"{card.n_orbitals} orbitals",
        "shells": "; ".join(f"{symbol} {words}" for symbol, words in card.shells.items()),
        "pairs": f"{card.n_pairs}, up to {card.longest:.3f} Å; nearest atoms {card.shortest:.3f} Å",
    }
    if card.asymmetry:
        off = [f"{quantity} {amount:.1e}" for quantity, amount in card.asymmetry.items()]
        rows["not Hermitian"] = "by " + ", ".join(off) + " as read, then symmetrised"
    if card.overlap_eigenvalues.size:
        low = float(card.overlap_eigenvalues.min())
        rows["S(k)"] = (
            f"eigenvalues {low:.2e} … {card.overlap_eigenvalues.max():.3g} at "
            f"{len(card.overlap_eigenvalues)} k-points: an error of H grows up to {1.0 / low:.0f} "
            "times in the softest state"
        )
    if card.levels.size:
        rows["levels"] = f"{card.levels[0]:.3f} … {card.levels[-1]:.3f} eV at Γ"
    if card.fermi_energy is not None:
        rows["Fermi energy"] = f"{card.fermi_energy:.4f} eV, H not shifted to it"
    return _lines(rows, card.name, card.remarks)


def _electrons_line(structures: Sequence[LabelledStructure]) -> str:
    """Tell the electrons below the Fermi energy, and what that says of every element."""
    from mlepi.structures.valence import find_valence_electrons

    found = find_valence_electrons(structures)
    if not found.cells:
        text = "not counted: no overlap, no Fermi energy, or too many orbitals"
    elif found.electrons is None:
        text = f"{', '.join(found.cells)}; which elements they belong to is for you to say"
    else:
        text = f"{', '.join(found.cells)} below the Fermi energy: {found.suggestion}"
    return f"  {'electrons':<14} {text}"


def _together_lines(
    structures: Sequence[LabelledStructure], cards: Sequence[HamiltonianCard]
) -> list[str]:
    """Tell what is only seen when structures with H are compared."""
    from mlepi.structures.card import find_duplicates, find_outliers

    rows = _duplicates_row(find_duplicates(structures))
    outliers = [f"{name} ({what})" for name, what in find_outliers(cards).items()]
    if outliers:
        rows["outliers"] = f"{len(outliers)}: {', '.join(outliers[:5])}"
    return [*_lines(rows, "", {}), ""] if rows else []


def _duplicates_row(duplicates: Sequence[tuple[str, str]]) -> dict[str, str]:
    pairs = ", ".join(f"{a} = {b}" for a, b in duplicates[:5])
    return {"duplicates": f"{len(duplicates)}: {pairs}"} if duplicates else {}


def _forces_lines(card: ForcesCard) -> list[str]:
    kinds = ", ".join(f"{formula} ({n})" for formula, n in list(card.formulas.items())[:8])
    spread = float(card.energies.std())
    rows = {
        "structures": f"{card.n_structures}: {kinds}",
        "atoms": f"{card.n_atoms[0]} … {card.n_atoms[1]}; nearest {card.shortest:.3f} Å",
        "energies": f"spread {1000.0 * spread:.1f} meV/atom around the mean of each formula",
        "forces": f"up to {card.forces.max():.3f} eV/Å, median of the largest "
        f"{sorted(card.forces)[len(card.forces) // 2]:.3f}",
        "net forces": f"up to {card.net_forces.max():.1e} eV/Å",
    }
    if card.outliers:
        rows["outliers"] = f"{len(card.outliers)}: {', '.join(card.outliers[:5])}"
    rows |= _duplicates_row(card.duplicates)
    return _lines(rows, "forces", card.remarks)


def _lines(rows: dict[str, str], where: str, remarks: dict[str, float]) -> list[str]:
    from mlepi.structures.remarks import describe_remark

    lines = [f"  {name:<14} {text}" for name, text in rows.items()]
    return lines + [
        f"  unusual: {describe_remark(where, kind, amount)}" for kind, amount in remarks.items()
    ]


def _draw(card: HamiltonianCard | ForcesCard, path: Path) -> None:
    """Draw a card; the file appears complete or not at all."""
    from mlepi.figures.data_card import draw_forces_card, draw_hamiltonian_card
    from mlepi.structures.card import HamiltonianCard

    if path.suffix not in (".png", ".pdf", ".svg"):
        fix = "Name the file card.png."
        raise DataError(message("--figure", repr(path.name), ".png, .pdf or .svg", fix))
    if isinstance(card, HamiltonianCard):
        figure = draw_hamiltonian_card(card)
    else:
        figure = draw_forces_card(card)
    unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    try:
        figure.savefig(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
