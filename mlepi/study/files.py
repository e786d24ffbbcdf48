"""The files that a study writes itself: structures, splits, labels as they were in a round."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io.extxyz import write_xyz

from mlepi.labelling.job import to_plain
from mlepi.labelling.structure_files import NamedStructure
from mlepi.project_files import write_whole
from mlepi.results import hash_data
from mlepi.study.settings import StudySettings
from mlepi.untrusted import read_json


def describe_settings(settings: StudySettings, atoms: Atoms) -> dict[str, Any]:
    """Return all that decides a study, as plain data; where it lies does not.

    Words that say only where calculations run may change, and candidates may join.
    """
    own = {
        key: plain(value)
        for key, value in vars(settings).items()
        if key not in ("folder", "label", "candidates")
    }
    words = [word for word in settings.label if word.lstrip("+~").startswith("dft")]
    geometry = to_plain(NamedStructure("material", atoms))
    return {"structure": hash_data(geometry), **own, "dft": words}


def plain(value: Any) -> Any:
    """Return settings as JSON gives them back, without the words that say how many threads."""
    if isinstance(value, dict):
        return {str(key): plain(x) for key, x in value.items()}
    if isinstance(value, tuple | list):
        return [plain(x) for x in value if not str(x).startswith("threads=")]
    return value


def write_structure(path: Path, atoms: Atoms) -> None:
    """Write the structure that all steps read."""
    write_structures(path, [NamedStructure("structure", atoms)])


def write_structures(path: Path, structures: Sequence[NamedStructure]) -> None:
    """Write structures with their names and notes as extxyz, complete or not at all."""
    frames = []
    for one in structures:
        atoms = one.atoms.copy()
        atoms.info = {"name": one.name, **one.notes}
        frames.append(atoms)
    text = io.StringIO()
    write_xyz(text, frames)
    write_whole(path, text.getvalue())


def list_split(path: Path) -> list[str]:
    """Return all names of a split."""
    return [name for members in read_json(path)["split"].values() for name in members]


def extend_split(
    split: Mapping[str, Sequence[str]], names: Sequence[str], fractions: Sequence[float]
) -> dict[str, list[str]]:
    """Divide further structures; those that are divided stay where they are.

    A network that starts from an earlier one must not be judged on what that was trained on.

    Args:
        split: subset → names.
        names: of all structures, in the order in which they came.
        fractions: of the subsets, in the order of ``split``; sum 1.

    Returns:
        Subset → names; a new one goes to the subset that lags most behind its fraction.
    """
    grown = {subset: list(members) for subset, members in split.items()}
    known = {name for members in grown.values() for name in members}
    for name in (name for name in names if name not in known):
        taken = sum(len(members) for members in grown.values()) + 1
        lags = {
            subset: fraction * taken - len(grown[subset])
            for subset, fraction in zip(grown, fractions, strict=True)
        }
        grown[max(lags, key=lambda subset: lags[subset])].append(name)
    return grown


def keep_file(source: Path, target: Path) -> None:
    """Keep a file as it is now under another name, of the same bytes where the disk can do that.

    Args:
        source: file that others replace as a whole, and never change.
        target: name; one that is there is replaced.
    """
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        os.link(source, unfinished)
    except OSError:
        shutil.copy2(source, unfinished)
    unfinished.replace(target)
