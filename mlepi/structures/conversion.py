"""Many sources to one data set: in parallel, in steps that survive an interruption, atomically.

Every source becomes a part of its own, named after what it was made from, in a folder beside the
output; parts that are there are not made again. When all sources are through, the parts are joined
and the folder goes. A source that cannot be read is left out and told.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, MlepiError, message
from mlepi.structures.ase_files import find_unfit_keys, read_forces_dataset, write_extxyz
from mlepi.structures.common_basis import find_other_bases
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dataset_merge import merge_hamiltonian_datasets
from mlepi.structures.dataset_writer import write_hamiltonian_dataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.layers import get_layers
from mlepi.structures.remarks import UNUSUAL, merge_remarks
from mlepi.structures.sources import FORMATS, Source, find_sources, read_source
from mlepi.structures.valence import find_valence_electrons, read_symbols
from mlepi.untrusted import note_own, read_json, strip_compression

FORCES = (".extxyz", ".xyz")
HAMILTONIANS = (".h5", ".hdf5")
PARTS_VERSION = 2
"""Raise it when parts of earlier versions must not serve again."""


@dataclass(frozen=True)
class Outcome:
    """What became of one source.

    Attributes:
        source: the source.
        n_structures: that were written.
        remarks: kind → how much, over its structures.
        refusal: why nothing was written; None where it was.
        made: its part was written now, and not by an earlier command.
    """

    source: Source
    n_structures: int = 0
    remarks: dict[str, float] | None = None
    refusal: str | None = None
    made: bool = False


def convert(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    source_format: str | None = None,
    radii: dict[str, float] | None = None,
    electrons: Mapping[str, float] | None = None,
    note: str = "",
    n_workers: int = 1,
    progress: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Read every source and write one data set.

    Args:
        paths: files and folders, as for ``find_sources``.
        out: ``.h5`` for Hamiltonians, ``.extxyz`` for energies and forces; must not exist.
        source_format: of all of them; None to recognise each.
        radii: chemical symbol → orbital radius, Å, for formats that do not hold them; without, the
            largest that any structure shows is used for all.
        electrons: chemical symbol → electrons of its pseudopotential; of elements that are not
            named they are counted below the Fermi energy (``valence``).
        note: text for the provenance: functional, basis, code version, licence.
        n_workers: processes.
        progress: called with every outcome as it comes.

    Returns:
        Outcomes in the order of the sources.

    Raises:
        DataError: there is nothing to convert, all sources are refused, two have one name, or the
            output exists.
    """
    out = Path(out)
    if out.exists():
        fix = "Remove it or choose another name."
        raise DataError(message("--out", f"existing file {out}", "a new file", fix))
    if out.suffix not in (*HAMILTONIANS, *FORCES):
        fix = "Name it .h5 for Hamiltonians, .extxyz for energies and forces."
        raise DataError(message("--out", repr(out.name), ".h5 or .extxyz", fix))
    if not out.parent.is_dir():
        got, fix = f"no folder {out.parent}", "Make it first."
        raise DataError(message("--out", got, "an existing folder", fix))
    sources = find_sources(paths, source_format)
    _check_names(sources)
    folder = out.with_name(f".{out.name}.parts")
    folder.mkdir(exist_ok=True)
    jobs = [(source, _part(folder, source, out.suffix, radii), radii) for source in sources]
    parts = {source.name: part for source, part, _ in jobs}
    outcomes: dict[str, Outcome] = {}
    for outcome in _run(jobs, n_workers):
        outcomes[outcome.source.name] = outcome
        if outcome.made:
            note_own(parts[outcome.source.name])
        if progress is not None:
            progress(outcome)
    ordered = [outcomes[source.name] for source in sources]
    good = {name: part for name, part in parts.items() if not outcomes[name].refusal}
    if not good:
        shutil.rmtree(folder, ignore_errors=True)
        text = "; ".join(sorted({outcome.refusal or "" for outcome in ordered})[:3])
        raise DataError(
            text if len(ordered) == 1 else f"all {len(ordered)} sources refused: {text}"
        )
    if out.suffix in FORCES:
        _separate_names(good)
        join_frames(list(good.values()), out)
    else:
        datasets = {name: _open(part) for name, part in good.items()}
        ordered = _refuse_other_bases(ordered, datasets, _describe(ordered, radii, note))
        kept = [datasets[o.source.name] for o in ordered if not o.refusal]
        _join(kept, out, _describe(ordered, radii, note), read_symbols(electrons or {}))
    shutil.rmtree(folder, ignore_errors=True)
    return ordered


def _check_names(sources: Sequence[Source]) -> None:
    names = [source.name for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        got, fix = f"the names {twice[:3]} twice", "Give every path once."
        raise DataError(message("sources", got, "unique names of files or folders", fix))


def _part(folder: Path, source: Source, suffix: str, radii: dict[str, float] | None) -> Path:
    """Name the part of a source by its path and when its files were last changed."""
    files = [source.path] if source.path.is_file() else sorted(source.path.iterdir())
    stamps = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
    what = [PARTS_VERSION, source.source_format, str(source.path.resolve()), source.frame]
    text = json.dumps([*what, source.name, stamps, sorted((radii or {}).items())])
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}{suffix}"


def _run(jobs: Sequence[tuple[Source, Path, dict[str, float] | None]], n_workers: int) -> Any:
    """Yield the outcome of every job as it comes."""
    if n_workers < 2 or len(jobs) < 2:
        yield from (_make_part(*job) for job in jobs)
        return
    method = "forkserver" if os.name == "posix" else "spawn"
    with ProcessPoolExecutor(n_workers, mp_context=get_context(method)) as pool:
        for future in as_completed([pool.submit(_make_part, *job) for job in jobs]):
            yield future.result()


def _make_part(source: Source, part: Path, radii: dict[str, float] | None) -> Outcome:
    """Read one source and write its part, unless it is there."""
    note = part.with_suffix(".json")
    if part.exists() and note.exists():
        stored = read_json(note)
        return Outcome(source, stored["n_structures"], stored["remarks"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structures = read_source(source, radii)
        _check_labels(source, structures, part.suffix in HAMILTONIANS)
        if part.suffix in HAMILTONIANS:
            for structure in structures:
                structure.atoms.set_array("layer", get_layers(structure.atoms))
            write_hamiltonian_dataset(part, structures, {}, compression="lzf")
        else:
            structures = _renamed(source, structures)
            write_extxyz(part, structures)
    except MlepiError as error:
        return Outcome(source, refusal=str(error))
    except Exception as error:  # one broken file must not end the conversion of a thousand others
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        fix = "Report it with the file: a reader should have said more."
        return Outcome(source, refusal=message(source.where, reason, "a file of its format", fix))
    remarks = merge_remarks(s.provenance.get(UNUSUAL, {}) for s in structures)
    names = [structure.name for structure in structures]
    stored = {"n_structures": len(structures), "remarks": remarks, "names": names}
    note.write_text(json.dumps(stored), encoding="utf-8")
    return Outcome(source, len(structures), remarks, made=True)


def _check_labels(
    source: Source, structures: Sequence[LabelledStructure], wants_hamiltonian: bool
) -> None:
    """Refuse a source that has other labels than those of the output."""
    first = structures[0]
    has_forces = all(s.energy is not None and s.forces is not None for s in structures)
    if wants_hamiltonian and any(s.hamiltonian_blocks is None for s in structures):
        got = "forces" if has_forces else "neither Hamiltonian nor forces"
        got = "an overlap without Hamiltonian" if first.overlap_blocks is not None else got
        fix = "Leave it out, or name the output .extxyz." if has_forces else "Leave it out."
        raise DataError(message(source.where, got, "a Hamiltonian and an overlap", fix))
    if not wants_hamiltonian and not has_forces:
        known = [name for name in ("energy", "forces") if getattr(first, name) is not None]
        got = f"only {' and '.join(known)}" if known else "neither energy nor forces"
        fix = "Leave it out"
        fix += ", or name the output .h5." if first.hamiltonian_blocks is not None else "."
        raise DataError(message(source.where, got, "an energy and forces", fix))


def _renamed(source: Source, structures: list[LabelledStructure]) -> list[LabelledStructure]:
    """Name structures of files of forces after the source; drop keys that extxyz cannot hold."""
    if source.source_format != "forces":
        return structures
    stem = f"{Path(strip_compression(source.path)).stem}_"
    renamed = []
    for structure in structures:
        name, provenance = structure.name, dict(structure.provenance)
        if name.startswith(stem):
            name = f"{source.name}_{name.removeprefix(stem)}"
        for key in find_unfit_keys(provenance):
            del provenance[key]
        renamed.append(replace(structure, name=name, provenance=provenance))
    return renamed


def _separate_names(parts: Mapping[str, Path]) -> None:
    """Put the name of the source before names that several files of forces use."""
    names = {
        source: read_json(part.with_suffix(".json"))["names"] for source, part in parts.items()
    }
    counts = Counter(name for own in names.values() for name in own)
    for source, part in parts.items():
        if any(counts[name] > 1 for name in names[source]):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                structures = read_forces_dataset(part)
            renamed = [
                replace(structure, name=f"{source}_{structure.name}")
                if counts[structure.name] > 1
                else structure
                for structure in structures
            ]
            write_extxyz(part, renamed)


def _describe(
    outcomes: Sequence[Outcome], radii: dict[str, float] | None, note: str
) -> dict[str, Any]:
    """Return the provenance of the data set."""
    read = [outcome for outcome in outcomes if outcome.refusal is None]
    formats = sorted({outcome.source.source_format for outcome in read})
    inferred = any(name in FORMATS and FORMATS[name].infers_radii for name in formats)
    how = "given" if radii else "inferred from the longest pairs" if inferred else "in the files"
    remarks = merge_remarks(outcome.remarks or {} for outcome in read)
    return {
        "converted_from": ", ".join(formats),
        "radii": how,
        "note": note,
        **({UNUSUAL: remarks} if remarks else {}),
    }


def _refuse_other_bases(
    outcomes: Sequence[Outcome],
    datasets: Mapping[str, HamiltonianDataset],
    provenance: Mapping[str, Any],
) -> list[Outcome]:
    """Refuse sources in another basis than most."""
    bases = {
        outcome.source.where: datasets[outcome.source.name].basis
        for outcome in outcomes
        if outcome.source.name in datasets
    }
    others = find_other_bases(bases, same_radii=not provenance["radii"].startswith("inferred"))
    return [
        replace(outcome, n_structures=0, remarks=None, refusal=others[outcome.source.where])
        if outcome.source.where in others
        else outcome
        for outcome in outcomes
    ]


def _count(datasets: Sequence[HamiltonianDataset], given: set[int]) -> Mapping[int, float]:
    """Return the valence electrons that parts show; nothing where all elements are given."""
    places = [(dataset, name) for dataset in datasets for name in dataset.names]
    given = given.union(*(dataset.basis.valence_electrons for dataset in datasets))
    if given >= {z for dataset in datasets for z in dataset.basis.elements}:
        return {}
    outlines = []
    for dataset in datasets:  # one file at a time is open
        outlines += [dataset.outline(name) for name in dataset.names]
        dataset.close()
    found = find_valence_electrons(outlines, lambda k: places[k][0][places[k][1]])
    return found.electrons or {}


def _open(part: Path) -> HamiltonianDataset:
    """Verify the tables of a part; its file is opened again when it is read."""
    dataset = HamiltonianDataset(part)
    dataset.close()
    return dataset


def _join(
    datasets: Sequence[HamiltonianDataset],
    out: Path,
    provenance: dict[str, Any],
    electrons: Mapping[int, float],
) -> None:
    """Join parts to the data set, complete or not at all."""
    inferred = provenance["radii"].startswith("inferred")
    known = {**_count(datasets, set(electrons)), **electrons}
    merge_hamiltonian_datasets(
        out, datasets, provenance, largest_radii=inferred, electrons=known or None
    )


def join_frames(parts: Sequence[Path], out: Path) -> None:
    """Write files of forces as one, complete or not at all; their names must differ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # told when the parts were made
        structures = [structure for part in parts for structure in read_forces_dataset(part)]
    write_extxyz(out, structures)
