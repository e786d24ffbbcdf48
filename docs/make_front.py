"""Write what the README shows: its picture and its table of numbers.

    make demo && python docs/make_front.py outputs/demo     # picture, numbers of the demo, table
    python docs/make_front.py                               # the table alone

The table stands between the comments ``<!-- numbers -->`` and ``<!-- /numbers -->``. Its numbers
come from the cards of the shipped networks, from the speed benchmark and from
``docs/pictures/demo.json``, which holds those of the last demo; a test compares it with them.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlepi.errors import DataError, message

if TYPE_CHECKING:  # the table alone needs none of them: they are imported where they are used
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mlepi.observables.fermi_velocity.record import FermiVelocityRecord

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
CARDS = ROOT / "data" / "checkpoints"
SPEED = ROOT / "benchmarks" / "results" / "latest.json"
MEASURES = (
    ("forces, MAE", "hedgenet_phonon", ("forces_mae_mev_per_angstrom",), "meV/Å"),
    ("H, MAE", "hedgenet_electron", ("hamiltonian_gauge_free_mae_mev",), "meV"),
    (
        "levels within 2 eV of E_F, RMS",
        "hedgenet_electron",
        ("bands_2ev_aligned_rms_mev", "bands_aligned_rms_mev"),
        "meV",
    ),
)
"""Words, network, names of the measure (the second in cards of 0.1) and unit."""

TESTED = "test"
"""Subset whose measures these are."""


def summarise_demo(record: FermiVelocityRecord) -> dict[str, Any]:
    """Return what the README says of the demo: slopes at K over those at rest, and their errors."""
    from mlepi.results.quantities import half_interval

    estimate = record.spectral
    return {
        "temperatures": record.temperatures.tolist(),
        "supercell": list(record.supercell),
        "n_samples": record.n_samples,
        "velocity_window": list(record.velocity_window),
        "equilibrium_slope": estimate.equilibrium_slope,
        "slope_ratios": estimate.slope_ratios.tolist(),
        "slope_ratio_intervals": half_interval(estimate, "slope_ratio_errors").tolist(),
    }


def plot_front(record: FermiVelocityRecord) -> Figure:
    """Draw A(k, E) at rest and at the highest temperature, and the slope at K by temperature."""
    from mlepi.figures import COLUMN, house_style, new_figure
    from mlepi.observables.fermi_velocity.figure import draw_spectrum

    with house_style():
        figure = new_figure(2.1 * COLUMN, 0.72 * COLUMN)
        panels = figure.subplots(1, 3, width_ratios=(1.0, 1.0, 1.5))
        spectra = (record.equilibrium_spectral_function, record.spectral_functions[-1])
        for axes, spectrum in zip(panels[:2], spectra, strict=True):
            image = draw_spectrum(axes, record, spectrum)
            ends = [record.map_distances[0], 0.0, record.map_distances[-1]]
            axes.set_xticks(ends, ["M ←" if axes is panels[0] else "", "K", "→ Γ"])
        panels[0].set_ylabel("E − E$_D$ (eV)")
        panels[0].set_title("A(k, E), undisplaced")
        panels[1].set_title(f"A(k, E), {record.temperatures[-1]:g} K")
        panels[1].set_yticklabels([])
        figure.colorbar(image, ax=panels[1], label="1/eV per spin")
        _draw_slopes(panels[2], record)
    return figure


def _draw_slopes(axes: Axes, record: FermiVelocityRecord) -> None:
    """Draw the mean slope by every estimator with 68 % intervals."""
    from mlepi.figures import GREY
    from mlepi.observables.fermi_velocity.figure import ESTIMATORS
    from mlepi.results.quantities import half_interval

    rest = 1e-5 * record.spectral.equilibrium_slope
    axes.axhline(rest, color=GREY, linestyle="--", label="undisplaced")
    for field, name, colour, marker in ESTIMATORS:
        estimate = getattr(record, field)
        axes.errorbar(
            record.temperatures,
            1e-5 * estimate.slopes,
            1e-5 * half_interval(estimate, "slope_errors"),
            color=colour,
            marker=marker,
            label=name,
        )
    axes.set_xlabel("temperature (K)")
    axes.set_title("slope of the bands at K (10⁵ m/s)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.93))


def build_table(
    cards: Mapping[str, Mapping[str, Any]],
    speed: Sequence[Mapping[str, Any]],
    demo: Mapping[str, Any],
) -> str:
    """Return the table of the README in Markdown.

    Args:
        cards: network → content of its card, ``data/checkpoints/NAME.json``.
        speed: rows of the speed benchmark.
        demo: of ``summarise_demo``.
    """
    lines = ["| | | measured on |", "|---|---|---|"]
    for words, network, names, unit in MEASURES:
        card_numbers = cards[network]
        accuracy = card_numbers.get("members", {network: card_numbers})[network]["accuracy"]
        value = next(accuracy["metrics"][name] for name in names if name in accuracy["metrics"])
        n_structures = accuracy["data"]["n_structures"][TESTED]
        tested = f"{n_structures} test structures of bilayer graphene"
        card = f"[card](data/checkpoints/{network}.md)"
        lines.append(f"| {words} | {value:.3g} {unit} | {tested}: {card} |")
    cell = "×".join(map(str, demo["supercell"][:2]))
    lines.append(
        f"| slope of the bands at K, {demo['temperatures'][0]:g} and "
        f"{demo['temperatures'][-1]:g} K, over that at rest | {_with_interval(demo, 0)}, "
        f"{_with_interval(demo, -1)} | the demo: {cell} cell, {demo['n_samples']} samples; "
        "[statistical error alone](docs/error_bars.md) |"
    )
    for words, work in (("forces", "energy_forces"), ("H", "hamiltonian")):
        row = _find_row(speed, work)
        lines.append(
            f"| {words} of 1,024 atoms, one core | {row['ours_seconds']:.1f} s, "
            f"{row['ratio']:.1f} times as fast as {_name_peer(row)} | [published sizes]"
            "(docs/speed.md) |"
        )
    return "\n".join(lines) + "\n"


def _with_interval(demo: Mapping[str, Any], index: int) -> str:
    """Return value ± half of the 68 % interval, three decimals."""
    return f"{demo['slope_ratios'][index]:.3f} ± {demo['slope_ratio_intervals'][index]:.3f}"


def _find_row(speed: Sequence[Mapping[str, Any]], work: str) -> Mapping[str, Any]:
    wanted = {"work": work, "n_atoms": 1024, "threads": 1}
    return next(row for row in speed if wanted.items() <= row.items())


def _name_peer(row: Mapping[str, Any]) -> str:
    return "mace-torch" if "mace" in row["peer"] else "a path-by-path DeepH-E3"


def read_table() -> str:
    """Build the table from the files of this clone."""
    names = {network for _, network, _, _ in MEASURES}
    cards = {name: json.loads((CARDS / f"{name}.json").read_text("utf-8")) for name in names}
    demo = json.loads((PICTURES / "demo.json").read_text("utf-8"))
    return build_table(cards, json.loads(SPEED.read_text("utf-8")), demo)


def replace_numbers(readme: str, table: str) -> str:
    """Put the table between its comments.

    Raises:
        DataError: the comments are missing.
    """
    pattern = re.compile(r"(<!-- numbers -->\n).*?(<!-- /numbers -->)", re.DOTALL)
    if not pattern.search(readme):
        raise DataError(
            message(
                "README.md",
                "no comments <!-- numbers --> and <!-- /numbers -->",
                "a place for the table",
                "Put both comments on lines of their own where the table belongs.",
            )
        )
    return pattern.sub(lambda found: found[1] + table + found[2], readme)


def main() -> None:
    """Renew picture and numbers of a demo, where a run folder is given, and the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", nargs="?", type=Path, help="run folder of `make demo`")
    folder = parser.parse_args().folder
    if folder is not None:
        from mlepi.observables.fermi_velocity.record import FermiVelocityRecord
        from mlepi.results import ResultsStore

        record = ResultsStore(folder).read("fermi_velocity", FermiVelocityRecord)
        PICTURES.mkdir(exist_ok=True)
        plot_front(record).savefig(PICTURES / "demo.png", dpi=160)
        text = json.dumps(summarise_demo(record), indent=1, ensure_ascii=False) + "\n"
        (PICTURES / "demo.json").write_text(text, encoding="utf-8")
    path = ROOT / "README.md"
    path.write_text(replace_numbers(path.read_text("utf-8"), read_table()), encoding="utf-8")


if __name__ == "__main__":
    main()
