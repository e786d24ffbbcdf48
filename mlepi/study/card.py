"""What a study tells: lines after every round, and the card of the folder, ``README.md``."""

from __future__ import annotations

from pathlib import Path

from mlepi.physics.averages.error_budget import NETWORK, STATISTICAL, SYSTEMATIC
from mlepi.project_files import write_whole
from mlepi.study.progress import Decision
from mlepi.study.rounds import Finished, Memory

CARD = "README.md"


def describe_round(number: int, target: str, done: Finished) -> list[str]:
    """Return the lines of a finished round.

    Args:
        number: of the round.
        target: observable.
        done: what it has found.
    """
    lines = [
        f"round {number:<2}         {done.n_labels} labels, {done.hours:.3g} h: {target} "
        + ", ".join(
            f"{value:.5g} ± {size} at {temperature:g} K"
            for temperature, value, size in zip(
                done.temperatures, done.values, map(str, list_totals(done)), strict=True
            )
        )
    ]
    for other, sizes in done.spreads.items():
        spread = ", ".join(f"{size:.2g}" for size in sizes)
        lines.append(f"                 the networks differ in {other} by {spread}")
    lines.append(f"                 {done.action}: {done.reason}")
    return lines


def list_totals(done: Finished) -> list[str]:
    """Return the half width of all measured parts together at every temperature, written."""
    totals = []
    for place in range(len(done.temperatures)):
        sizes = [part[place] for part in done.parts.values()]
        totals.append(sum(size**2 for size in sizes if size is not None) ** 0.5)
    return [f"{total:.2g}" for total in totals]


def write_card(folder: Path, memory: Memory, decision: Decision) -> None:
    """Write the card.

    Args:
        folder: of the study.
        memory: what it remembers.
        decision: how it stands.
    """
    measured = [
        part
        for part in (NETWORK, STATISTICAL, *SYSTEMATIC[1:])
        if any(part in done.parts for done in memory.rounds)
    ]
    header = ["round", "labels", "hours", "T (K)", memory.target or "target", "± 68 %", *measured]
    rows = [
        [
            f"{number}" if place == 0 else "",
            f"{done.n_labels}" if place == 0 else "",
            f"{done.hours:.3g}" if place == 0 else "",
            f"{temperature:g}",
            f"{done.values[place]:.6g}",
            list_totals(done)[place],
            *(_write(done, part, place) for part in measured),
        ]
        for number, done in enumerate(memory.rounds)
        for place, temperature in enumerate(done.temperatures)
    ]
    lines = [
        f"# Study: {folder.resolve().name}",
        "",
        f"{memory.target or 'No target yet'}: **{decision.action}**. {decision.reason}.",
        "",
        "Half widths of 68 % intervals, in the internal unit of the target; parts add in squares, "
        "and a part that nobody measured is missing, not zero. The part of the networks is what "
        "they differ by, not compared with labels unless their checkpoints are calibrated.",
        "",
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "`round_NN/steps` has the command, the words and the time of every step, `choice.json` why "
        "structures were chosen, `infer/report.html` the results.",
        "",
    ]
    write_whole(folder / CARD, "\n".join(lines))


def _write(done: Finished, part: str, place: int) -> str:
    size = done.parts.get(part, [None] * len(done.temperatures))[place]
    return "–" if size is None else f"{size:.3g}"
