"""A structure to a folder of structures to label: ``mlepi design structure=hbn.cif``.

All keys: ``conf/design.yaml`` and ``docs/config.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlepi.command_line import run_script
from mlepi.errors import ConfigError, message

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mlepi.design import Cost, Design, DesignSettings

log = logging.getLogger(__name__)

Files = str | Sequence[str]

TYPES: Mapping[str, Any] = {
    "folder": str,
    "structure": str | Mapping[str, Any],
    "phonon": str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],
    "n_structures": int,
    "cpu_hours": float | None,
    "measured": str | None,
    "cores": int,
    "estimate": tuple[float, float] | None,
    "power": float,
    "labelled": Files | None,
    "temperature": float | Sequence[float],
    "shares": Mapping[str, float],
    "slide": float,
    "spacing": float,
    "strain": float,
    "largest_displacement": float | None,
    "floor_frequency": float,
    "reach": float | Files,
    "n_shapes": int,
    "min_atoms": int,
    "max_atoms": int,
    "pool": float,
    "supercell": tuple[int, int, int] | None,
    "vacuum": float,
    "seed": int,
}
"""Key of ``conf/design.yaml`` → what it may be."""

LOWEST: Mapping[str, float] = {
    "n_structures": 1,
    "cpu_hours": 1e-9,
    "cores": 1,
    "estimate": 1e-9,
    "power": 0.1,
    "temperature": 0.0,
    "shares": 0.0,
    "slide": 0.0,
    "spacing": 0.0,
    "strain": 0.0,
    "largest_displacement": 1e-3,
    "floor_frequency": 1e-3,
    "reach": 0.1,
    "n_shapes": 1,
    "min_atoms": 1,
    "max_atoms": 1,
    "pool": 1.0,
    "supercell": 1,
    "vacuum": 1.0,
    "seed": 0,
}
"""Key → the lowest number that makes sense."""

HIGHEST: Mapping[str, float] = {"slide": 1.0, "strain": 0.2, "vacuum": 1e3, "pool": 100.0}
"""Key → the highest one."""


def main(arguments: Sequence[str]) -> int:
    """Propose structures, or do what else Hydra is asked for; errors end the process."""
    run_script(_run, config_name="design", arguments=arguments, announce=_announce)
    return 0


def _run(config: DictConfig, folder: Path) -> None:
    """Import what computes only when there is something to do, so that ``--help`` is quick."""
    from mlepi.design import PhononSource, design_structures, examine_material
    from mlepi.labelling import read_structures
    from mlepi.pipeline.progress import ProgressReport
    from mlepi.pipeline.sources import Source, load_structure

    plain = check_config(config)
    material = examine_material(
        load_structure(Source("structure", plain["structure"])), plain["vacuum"]
    )
    settings, cost = build_settings(plain), find_cost(plain)
    known = read_structures(_list(plain["labelled"]))
    _announce(f"design           {folder}")
    _announce(f"material         {material.describe()}")
    with ProgressReport().stage("design") as line:
        design = design_structures(
            folder,
            material,
            PhononSource(plain["phonon"]),
            settings,
            line,
            known=known,
            cost=cost,
        )
        line.note = f"{len(design.rows)} structures"
    for text in conclude(folder, design, settings):
        _announce(text)


def check_config(config: DictConfig) -> dict[str, Any]:
    """Look for every mistake in the config before anything is computed.

    Args:
        config: composed from ``conf/design.yaml``.

    Returns:
        The config as plain data.

    Raises:
        ConfigError: one text, a line per mistake.
    """
    from mlepi.config_check import check_target, read_typed

    plain, problems = read_typed(config, TYPES, "conf/design.yaml")
    wrong = {text.split(":")[0] for text in problems}
    for key in (key for key in TYPES if key not in wrong):
        problems += _list_out_of_bounds(key, plain[key])
    for key in ("structure", "phonon"):
        value = plain.get(key)
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, dict):
                problems += check_target(key, node, complete=True)
    if not problems:
        problems += _list_contradictions(plain)
    if problems:
        raise ConfigError("\n".join(problems))
    return plain


def build_settings(plain: Mapping[str, Any]) -> DesignSettings:
    """Return the settings of a design.

    Args:
        plain: checked config.

    Raises:
        MlepiError: a checkpoint that should tell its reach cannot be read.
    """
    from mlepi.design import DesignSettings, Ranges

    given, limit = plain["temperature"], plain["largest_displacement"]
    temperatures = given if isinstance(given, list) else [given]
    hours, supercell = plain["cpu_hours"], plain["supercell"]
    return DesignSettings(
        n_structures=plain["n_structures"],
        cpu_hours=None if hours is None else float(hours),
        pool=float(plain["pool"]),
        shares={kind: float(share) for kind, share in plain["shares"].items()},
        reach=_find_reach(plain["reach"]),
        n_shapes=plain["n_shapes"],
        min_atoms=plain["min_atoms"],
        max_atoms=plain["max_atoms"],
        supercell=None if supercell is None else (supercell[0], supercell[1], supercell[2]),
        ranges=Ranges(
            temperatures=tuple(float(t) for t in temperatures),
            slide=float(plain["slide"]),
            spacing=float(plain["spacing"]),
            strain=float(plain["strain"]),
            largest_displacement=None if limit is None else float(limit),
            floor_frequency=float(plain["floor_frequency"]),
            seed=plain["seed"],
        ),
    )


def find_cost(plain: Mapping[str, Any]) -> Cost | None:
    """Return what a label costs; None where nothing is known of it.

    Args:
        plain: checked config.

    Raises:
        DataError: the set that should tell it has no labels.
    """
    from mlepi.design import estimate_cost, measure_cost

    if plain["measured"] is not None:
        return measure_cost(Path(plain["measured"]), float(plain["power"]), plain["cores"])
    if plain["estimate"] is not None:
        return estimate_cost(plain["estimate"], float(plain["power"]))
    return None


def conclude(folder: Path, design: Design, settings: DesignSettings) -> list[str]:
    """Return the lines that end a run.

    Args:
        folder: of the design.
        design: what it holds.
        settings: that were asked for.
    """
    rows = design.rows
    widths = [row.width for row in rows]
    lines = [
        f"{design.n_narrow} of {len(rows)} cells are narrower than the receptive field, "
        f"{design.reach:g} Å ({min(widths):.1f} … {max(widths):.1f} Å)"
    ]
    if len(rows) < settings.n_structures:
        why = "the CPU-hours are spent" if settings.cpu_hours is not None else "no more were drawn"
        lines.append(f"{len(rows)} of {settings.n_structures} structures: {why}")
    if design.absent:
        lines.append(f"this material has no kind {', '.join(design.absent)}")
    if design.imaginary:
        lines.append(f"{design.imaginary} imaginary modes move as if they had floor_frequency")
    if design.hours is not None:
        lines.append(f"labels cost about {design.hours:.3g} CPU-hours")
    return [
        *lines,
        f"structures       {folder / 'structures.extxyz'}",
        f"card             {folder / 'README.md'}",
    ]


def _list_out_of_bounds(key: str, value: Any) -> list[str]:
    """Return one text where a number of a key makes no sense."""
    low, high = LOWEST.get(key), HIGHEST.get(key)
    if value is None or isinstance(value, str) or low is None:
        return []
    numbers = value.values() if isinstance(value, Mapping) else value
    numbers = [value] if isinstance(value, int | float) else list(numbers)
    numbers = [x for x in numbers if not isinstance(x, str)]
    if all(x >= low and (high is None or x <= high) for x in numbers):
        return []
    expected = f"{low:g} or more" + ("" if high is None else f", {high:g} at most")
    return [message(key, repr(value), expected, "See docs/config.md.")]


def _list_contradictions(plain: Mapping[str, Any]) -> list[str]:
    """Return one text per pair of settings that do not go together."""
    from mlepi.config_check import list_unknown_keys
    from mlepi.design.drawing import KINDS

    problems = list_unknown_keys("shares", plain["shares"], KINDS)
    if not any(plain["shares"].values()):
        problems.append(message("shares", "no share", "one above 0", "Set shares.thermal=1."))
    if not plain["temperature"] and plain["temperature"] != 0:
        problems.append(message("temperature", "[]", "one at least, K", "Set temperature=300."))
    if plain["min_atoms"] > plain["max_atoms"]:
        got, fix = f"{plain['min_atoms']}", "Lower it, or raise max_atoms."
        problems.append(message("min_atoms", got, f"max_atoms={plain['max_atoms']} at most", fix))
    given = [key for key in ("measured", "estimate") if plain[key] is not None]
    if len(given) > 1:
        problems.append(message("estimate", "one, beside measured", "one of them", "Leave one."))
    if plain["cpu_hours"] is not None and not given:
        fix = "Give measured=FOLDER of a set by mlepi label, or estimate=[ATOMS,HOURS]."
        problems.append(message("cpu_hours", f"{plain['cpu_hours']}", "what a label costs", fix))
    return problems


def _find_reach(given: Any) -> float:
    """Return the receptive field, of the checkpoints where they are named, Å."""
    if isinstance(given, int | float):
        return float(given)
    from mlepi.checkpoint import load_model
    from mlepi.project_files import find_file

    models = [load_model(find_file("reach", file)) for file in _list(given)]
    return max(float(model.reach) for model in models)


def _list(given: Any) -> list[str]:
    return [] if given is None else [given] if isinstance(given, str) else list(given)


def _announce(line: str) -> None:
    """Write one line on the screen and in the log."""
    print(line, flush=True)
    log.info(line)
