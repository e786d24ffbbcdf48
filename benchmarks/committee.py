"""Calibrate a committee: the spread of its networks against their errors on labelled structures.

``python benchmarks/committee.py CHECKPOINT CHECKPOINT … [--store]``.

The factor of every quantity, √(⟨error²⟩/⟨spread²⟩), comes from one subset of the split ("val" by
default: structures that were never trained on; the checkpoint of the lowest validation error was
kept, so errors there are slightly too small). With it, true over predicted error is measured on all
other subsets, named ones too. Structures unlike those of the training are to show a larger spread;
where the ratio leaves 0.8–1.25 all the same, the spread is no measure of the error there.

Writes ``committee.json`` (all numbers), ``committee.md`` (tables) and ``committee.png`` (the
reliability plot) into the output folder. With ``--store`` the calibration goes into the metadata of
every checkpoint; ``infer.py`` uses it for exactly this list. Nothing is random.

Electron networks: elements of H by block type, up to the energy zero, and levels within 2 eV of the
Fermi energy, with the level shift of the first checkpoint, up to a shift of each structure. Phonon
networks: force components, energies per atom.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlepi.checkpoint import export_checkpoint, load_model
from mlepi.errors import DataError, MlepiError, message
from mlepi.figures import BLUE, COLUMN, GREY, house_style, new_figure, save_figure
from mlepi.graphs.own_labels import complete_labels, find_own_potentials
from mlepi.physics.averages.calibration import (
    Agreement,
    bin_errors,
    compare_spread,
    join_agreements,
)
from mlepi.predictors import ElectronPredictor, PhononPredictor
from mlepi.predictors.calibration import KEY, Calibration
from mlepi.predictors.committee import (
    check_electron_members,
    check_phonon_members,
    digest_weights,
)
from mlepi.project_files import find_file, locate_file
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.layer_potentials import read_layer_potentials
from mlepi.structures.splits import read_named_subsets, read_split
from mlepi.training.committee_errors import (
    MemberErrors,
    measure_electron_errors,
    measure_force_errors,
)

MOST_ELEMENTS = 20_000
"""Elements of one structure and quantity that go into the reliability plot."""

UNITS = {"forces": ("meV/Å", 1e3), "energy": ("meV/atom", 1e3)}
"""Quantity → unit and factor of tables and figures; meV for all others."""

LOW, HIGH = 0.8, 1.25
"""True over predicted error of a committee that can be believed."""


class Subset(NamedTuple):
    """What was found on the structures of one subset.

    Attributes:
        names: of the structures.
        agreements: quantity → spread and errors.
        errors: quantity → (n_elements,), of the networks together, thinned out.
        spreads: quantity → (n_elements,), of the same elements.
        n_haunted: k-points that were left out of "bands", since a network has a ghost there.
    """

    names: list[str]
    agreements: dict[str, Agreement]
    errors: dict[str, NDArray[np.float64]]
    spreads: dict[str, NDArray[np.float64]]
    n_haunted: int


def load_members(files: Sequence[Path]) -> list[ElectronPredictor] | list[PhononPredictor]:
    """Load the networks of a committee.

    Raises:
        DataError: they do not belong together.
        CheckpointError: a file cannot be used, or holds another kind than the first.
    """
    kind = load_model(files[0]).kind
    members: Any = [load_model(file, kind=kind) for file in files]
    if kind == "electron":
        check_electron_members(members)
    else:
        check_phonon_members([member.calculator() for member in members])
    return cast("list[ElectronPredictor] | list[PhononPredictor]", members)


def read_subsets(
    member: ElectronPredictor | PhononPredictor, path: Path, split: Path, extra: Path | None
) -> dict[str, list[LabelledStructure]]:
    """Read the structures of all subsets but "train", named ones too.

    Those of named subsets that no file holds are left out.

    Args:
        member: a network; labels are completed as it has learned them.
        path: data set.
        split: JSON file.
        extra: data set with further structures of named subsets.
    """

    def read(file: Path) -> dict[str, LabelledStructure]:
        if isinstance(member, PhononPredictor):
            return {structure.name: structure for structure in read_forces_dataset(file)}
        every = HamiltonianDataset(file)
        return {s.name: complete_labels(s, member, potentials) for s in every}

    added = find_own_potentials(member, path)
    potentials = None if added is None else read_layer_potentials(added)

    own = read(path)
    found = own if extra is None else {**read(extra), **own}
    chosen, named = read_split(split, own), read_named_subsets(split)
    subsets = {**{n: m for n, m in chosen.items() if n != "train"}, **named.val, **named.test}
    present = {n: [found[name] for name in m if name in found] for n, m in subsets.items()}
    return {name: structures for name, structures in present.items() if structures}


def measure_subset(
    members: list[ElectronPredictor] | list[PhononPredictor],
    structures: Sequence[LabelledStructure],
) -> Subset:
    """Compare the spread of the networks with their errors on some structures."""
    n_haunted = 0
    agreements: dict[str, list[Agreement]] = {}
    errors: dict[str, list[Any]] = {}
    spreads: dict[str, list[Any]] = {}
    for structure in structures:
        found: dict[str, MemberErrors]
        if isinstance(members[0], ElectronPredictor):
            electrons = cast("list[ElectronPredictor]", members)
            found, lost = measure_electron_errors(electrons, structure, electrons[0].level_shift)
            n_haunted += lost
        else:
            found = measure_force_errors(cast("list[PhononPredictor]", members), structure)
        for name, (each, together) in found.items():
            agreements.setdefault(name, []).append(compare_spread(each, together))
            thinned = slice(None, None, 1 + len(together) // MOST_ELEMENTS)
            errors.setdefault(name, []).append(together[thinned])
            spreads.setdefault(name, []).append(np.std(each[:, thinned], axis=0, ddof=1))
    return Subset(
        [structure.name for structure in structures],
        {name: join_agreements(parts) for name, parts in agreements.items()},
        {name: np.concatenate(parts) for name, parts in errors.items()},
        {name: np.concatenate(parts) for name, parts in spreads.items()},
        n_haunted,
    )


def calibrate(
    members: list[ElectronPredictor] | list[PhononPredictor],
    subsets: Mapping[str, Subset],
    chosen: str,
    data: Mapping[str, Any],
) -> Calibration:
    """Take the factors from one subset and try them on the others."""
    quantities = subsets[chosen].agreements
    checks = {
        subset: {
            name: found.factor_of_mean / quantities[name].factor_of_mean
            for name, found in measured.agreements.items()
            if name in quantities
        }
        for subset, measured in subsets.items()
        if subset != chosen
    }
    return Calibration(
        members=tuple(digest_weights(member) for member in members),
        quantities=quantities,
        data={**data, "subset": chosen, "n_structures": len(subsets[chosen].names)},
        checks=checks,
    )


def format_tables(calibration: Calibration, subsets: Mapping[str, Subset]) -> str:
    """Return the factors, and true over predicted errors of all subsets, as Markdown."""
    data = calibration.data
    lines = [
        f"{len(calibration.members)} networks, calibrated on {data['n_structures']} structures: "
        f"subset `{data['subset']}` of `{data['split']}`, data `{data['path']}`. Root mean "
        "squares; the factor is error over spread.",
        "",
        "| quantity | spread | error, mean | error, one network | factor, mean | factor, one |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in calibration.quantities.items():
        unit, scale = UNITS.get(name, ("meV", 1e3))
        sizes = (found.rms_spread, found.rms_error_of_mean, found.rms_error_of_one)
        lines.append(
            f"| {name} ({unit}) | {' | '.join(f'{scale * x:.3g}' for x in sizes)} | "
            f"{found.factor_of_mean:.2f} | {found.factor_of_one:.2f} |"
        )
    names = list(calibration.quantities)
    lines += [
        "",
        "True over predicted error of the mean on other structures (believable between "
        f"{LOW:g} and {HIGH:g}); in brackets the error and the predicted error.",
        "",
        f"| subset | structures | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    for subset, ratios in calibration.checks.items():
        cells = []
        for name in names:
            found, scale = subsets[subset].agreements.get(name), UNITS.get(name, ("", 1e3))[1]
            if found is None:
                cells.append("")
                continue
            predicted = calibration.factor(name, "mean") * found.rms_spread
            sizes = f"{scale * found.rms_error_of_mean:.3g}, {scale * predicted:.3g}"
            cells.append(f"{ratios[name]:.2f} ({sizes})")
        lines.append(f"| {subset} | {len(subsets[subset].names)} | {' | '.join(cells)} |")
    haunted = {name: found.n_haunted for name, found in subsets.items() if found.n_haunted}
    if haunted:
        counts = ", ".join(f"{count} of {name}" for name, count in haunted.items())
        lines += [
            "",
            f"Left out of the bands, since a network has a ghost there: k-points {counts}.",
        ]
    return "\n".join(lines) + "\n"


def plot_reliability(calibration: Calibration, subsets: Mapping[str, Subset]) -> Figure:
    """Draw true against predicted errors of every quantity, in bins of the prediction."""
    names = list(calibration.quantities)
    n_columns = min(3, len(names))
    n_rows = -(-len(names) // n_columns)
    with house_style():
        figure = new_figure(0.85 * COLUMN * n_columns, 0.8 * COLUMN * n_rows)
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes, name in zip(grid.flat, names, strict=False):
            unit, scale = UNITS.get(name, ("meV", 1e3))
            factor = scale * calibration.factor(name, "mean")
            ends = []
            for number, (subset, measured) in enumerate(subsets.items()):
                if name not in measured.errors:
                    continue
                bins = bin_errors(scale * measured.errors[name], factor * measured.spreads[name])
                first = subset == calibration.data["subset"]
                axes.plot(
                    bins.predicted,
                    bins.found,
                    color=BLUE if first else f"C{number + 1}",
                    marker="o",
                    label=f"{subset} (calibration)" if first else subset,
                )
                positive = np.concatenate([bins.predicted, bins.found])
                ends += list(positive[positive > 0])
            axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=GREY, linestyle="--")
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(f"{name}, predicted error ({unit})")
            axes.set_ylabel(f"true error ({unit})")
        for axes in list(grid.flat)[len(names) :]:
            axes.set_axis_off()
        grid.flat[0].legend(fontsize=6)
    return figure


def measure(
    files: Sequence[Path],
    path: str | None = None,
    split: str | None = None,
    extra: str | None = None,
    subset: str = "val",
) -> tuple[Calibration, dict[str, Subset]]:
    """Calibrate a committee.

    Args:
        files: checkpoints of one kind.
        path: data set; None for the one of the training.
        split: JSON file; None for the one of the training.
        extra: further data set; None for the one of the training, where it is there.
        subset: on which the factors are measured.

    Raises:
        DataError: data set or split are not known, or there is no such subset.
    """
    members = load_members(files)
    trained = members[0].metadata.get("config", {}).get("data", {})
    path, split = path or trained.get("path"), split or trained.get("split")
    if not path or not split:
        raise DataError(
            message(
                str(files[0]),
                "no data set or split in its metadata",
                "both",
                "Give --data and --split.",
            )
        )
    extra = extra or trained.get("extra")
    structures = read_subsets(
        members[0],
        find_file("--data", path),
        find_file("--split", split),
        None if extra is None else locate_file(extra),
    )
    if subset not in structures:
        fix = "Choose one of them with --subset."
        raise DataError(message("--subset", repr(subset), f"one of {sorted(structures)}", fix))
    subsets = {name: measure_subset(members, chosen) for name, chosen in structures.items()}
    data = {"path": Path(path).name, "split": Path(split).name}
    return calibrate(members, subsets, subset, data), subsets


def store_calibration(files: Sequence[Path], calibration: Calibration) -> None:
    """Write a calibration into the metadata of every checkpoint of its committee."""
    for file in files:
        export_checkpoint(file, file, metadata={KEY: calibration.to_dict()})


def write_results(folder: Path, calibration: Calibration, subsets: Mapping[str, Subset]) -> str:
    """Write ``committee.json``, ``.md`` and ``.png``; return the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = format_tables(calibration, subsets)
    numbers = {
        name: {
            "structures": measured.names,
            "quantities": {n: found._asdict() for n, found in measured.agreements.items()},
            "n_haunted": measured.n_haunted,
        }
        for name, measured in subsets.items()
    }
    content = {"calibration": calibration.to_dict(), "subsets": numbers}
    (folder / "committee.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "committee.md").write_text(tables, encoding="utf-8")
    save_figure(plot_reliability(calibration, subsets), folder, "committee")
    return tables


def main() -> None:
    """Read the command line, measure, and write."""
    parser = argparse.ArgumentParser(
        description="Calibrate the spread of several networks against errors on labels."
    )
    parser.add_argument("checkpoints", type=Path, nargs="+", help="at least two of one kind")
    parser.add_argument("--data", help="data set; by default the one of the training")
    parser.add_argument("--split", help="its split; by default the one of the training")
    parser.add_argument("--extra", help="data set of further named subsets")
    parser.add_argument("--subset", default="val", help="on which the factors are measured")
    parser.add_argument(
        "--store", action="store_true", help="write the calibration into the checkpoints"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/committee"))
    chosen = parser.parse_args()
    try:
        calibration, subsets = measure(
            chosen.checkpoints, chosen.data, chosen.split, chosen.extra, chosen.subset
        )
        tables = write_results(chosen.output, calibration, subsets)
        if chosen.store:
            store_calibration(chosen.checkpoints, calibration)
    except MlepiError as error:
        sys.exit(f"error: {error}")
    print(tables)


if __name__ == "__main__":
    main()
