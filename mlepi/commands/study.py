"""A structure to an observable with the error asked for: ``mlepi study hbn.cif target=gap``.

All keys: ``conf/study.yaml`` and ``docs/config.md``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlepi.command_line import run_script
from mlepi.commands.study_words import (
    DRY,
    check_steps,
    compose,
    join_words,
    name_structure,
    open_run,
    split_words,
)
from mlepi.errors import ConfigError, message

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mlepi.study import Limits, StudySettings
    from mlepi.study.forecast import Rates

log = logging.getLogger(__name__)

Words = Sequence[str]

TYPES: Mapping[str, Any] = {
    "folder": str,
    "structure": str | Mapping[str, Any],
    "target": str | None,
    "temperature": float | Sequence[float],
    "target_error": float | None,
    "relative_error": float,
    "hours": float | None,
    "max_labels": int,
    "patience": int,
    "n_first": int,
    "n_more": int,
    "n_candidates": int,
    "candidates": str | Sequence[str] | None,
    "select": str,
    "phonon": str | Mapping[str, Any] | None,
    "electron": str | Mapping[str, Any] | None,
    "members": int,
    "fractions": tuple[float, float, float],
    "supercell": tuple[int, int, int],
    "n_samples": int,
    "max_samples": int,
    "n_compared": int,
    "design": Words,
    "label": Words,
    "train": Mapping[str, Words],
    "infer": Words,
    "estimate": tuple[float, float] | None,
    "seconds": Mapping[str, float],
    "threads": int | None,
    "seed": int,
}
"""Key of ``conf/study.yaml`` → what it may be."""

LOWEST: Mapping[str, float] = {
    "temperature": 0.0,
    "target_error": 1e-12,
    "relative_error": 1e-9,
    "hours": 1e-6,
    "max_labels": 3,
    "patience": 1,
    "n_first": 3,
    "n_more": 1,
    "n_candidates": 1,
    "members": 2,
    "fractions": 1e-3,
    "supercell": 1,
    "n_samples": 2,
    "max_samples": 2,
    "n_compared": 2,
    "estimate": 1e-9,
    "seconds": 0.0,
    "threads": 1,
    "seed": 0,
}
"""Key → the lowest number that makes sense."""

INNER: Mapping[str, tuple[str, ...]] = {
    "train": ("both", "electron", "phonon", "warm"),
    "seconds": ("electron", "phonon", "sample"),
}
"""Key → the keys in it."""

GROUPS = ("dft", "engine")
"""Groups of ``conf/study.yaml``, those of ``conf/label.yaml``."""


def main(arguments: Sequence[str]) -> int:
    """Do a study, or print its plan; errors end the process."""
    words = join_words(name_structure(arguments))
    if DRY in words:
        for line in plan([word for word in words if word != DRY]):
            print(line)
        return 0
    run_script(_run, config_name="study", arguments=words, announce=_announce)
    return 0


def _run(config: DictConfig, folder: Path) -> None:
    """Import what works only when there is something to do, so that ``--help`` is quick."""
    from hydra.core.hydra_config import HydraConfig

    from mlepi.observables import all_stages
    from mlepi.pipeline.sources import Source, load_structure
    from mlepi.study import Study

    words = list(HydraConfig.get().overrides.task)
    plain = check_config(config)
    settings, limits = build_settings(plain, folder, words)
    check_steps(settings)
    _announce(f"study            {folder}")
    atoms = load_structure(Source("structure", plain["structure"]))
    outcome = Study(settings, limits, atoms, all_stages(), open_run, _announce).run()
    for line in conclude(folder, outcome):
        _announce(line)


def plan(words: Sequence[str]) -> list[str]:
    """Return what a study would do next, and the hours that it takes; nothing is written.

    Args:
        words: of the command.

    Raises:
        ConfigError: the config has mistakes.
    """
    from mlepi.study.forecast import describe_plan, plan_study
    from mlepi.study.rounds import read_memory

    plain = check_config(compose("study", words))
    settings, limits = build_settings(plain, Path(plain["folder"]), words)
    check_steps(settings)
    rows = plan_study(
        settings, find_rates(plain, settings), read_memory(settings.folder), limits.max_labels
    )
    return describe_plan(rows, limits.hours)


def check_config(config: DictConfig) -> dict[str, Any]:
    """Look for every mistake in the config before anything is computed.

    Args:
        config: composed from ``conf/study.yaml``.

    Returns:
        The config as plain data.

    Raises:
        ConfigError: one text, a line per mistake.
    """
    from mlepi.config_check import check_target, list_unknown_keys, read_typed

    plain, problems = read_typed(config, TYPES, "conf/study.yaml", GROUPS)
    wrong = {text.split(":")[0] for text in problems}
    for key in (key for key in TYPES if key not in wrong):
        problems += _list_out_of_bounds(key, plain[key])
    for key in (key for key in INNER if key not in wrong):
        problems += list_unknown_keys(key, plain[key], INNER[key])
    for key in ("structure", "phonon", "electron", *GROUPS):
        if isinstance(plain.get(key), dict):
            problems += check_target(key, plain[key], complete=True)
    if not problems:
        problems += _list_contradictions(plain)
    if problems:
        raise ConfigError("\n".join(problems))
    return plain


def build_settings(
    plain: Mapping[str, Any], folder: Path, words: Sequence[str]
) -> tuple[StudySettings, Limits]:
    """Return what decides a study, and when it stops.

    Args:
        plain: checked config.
        folder: of the study.
        words: of the command; those of the groups go to ``mlepi label``.

    Raises:
        ConfigError: no stage knows the target.
    """
    from mlepi.observables import all_stages
    from mlepi.study import DEFAULT_TARGETS, Limits, StudySettings, find_stage

    def number(key: str) -> float | None:
        return None if plain[key] is None else float(plain[key])

    train, val, test = plain["fractions"]
    targets = DEFAULT_TARGETS if plain["target"] is None else (plain["target"],)
    for target in targets:
        find_stage(target, all_stages())
    pattern = rf"[+~]*({'|'.join(GROUPS)})([.=@/]|$)"
    threads = [] if plain["threads"] is None else [f"threads={plain['threads']}"]
    settings = StudySettings(
        folder=_shorten(folder),
        targets=targets,
        temperatures=tuple(float(t) for t in _list(plain["temperature"])),
        n_first=plain["n_first"],
        n_more=plain["n_more"],
        n_candidates=plain["n_candidates"],
        candidates=tuple(_list(plain["candidates"])),
        select=plain["select"],
        given={k: plain[k] for k in ("electron", "phonon") if plain[k] is not None},
        members=plain["members"],
        fractions=(float(train), float(val), float(test)),
        supercell=(*plain["supercell"],),
        n_samples=plain["n_samples"],
        n_compared=plain["n_compared"],
        design=tuple(plain["design"]),
        label=(*(word for word in words if re.match(pattern, word)), *threads, *plain["label"]),
        train={
            key: (*threads, *x) if key == "both" else tuple(x) for key, x in plain["train"].items()
        },
        infer=(*threads, *plain["infer"]),
        seed=plain["seed"],
    )
    limits = Limits(
        target_error=number("target_error"),
        relative_error=float(plain["relative_error"]),
        hours=number("hours"),
        max_labels=plain["max_labels"],
        max_samples=plain["max_samples"],
        patience=plain["patience"],
    )
    return settings, limits


def find_rates(plain: Mapping[str, Any], settings: StudySettings) -> Rates:
    """Return what the steps take before anything was measured.

    Args:
        plain: checked config.
        settings: built of it.
    """
    import math

    from mlepi.commands import design
    from mlepi.design import estimate_cost
    from mlepi.pipeline.sources import Source, load_structure
    from mlepi.study import settings as steps
    from mlepi.study.forecast import Rates

    proposed = design.check_config(compose(*split_words(steps.build_design(settings, 0))))
    epochs: dict[str, tuple[int, int]] = {}
    for kind in settings.trained:
        both = (
            next(s for s in steps.build_trainings(settings, number) if kind in s.name)
            for number in (0, 1)
        )
        first, warm = (int(compose(*split_words(step)).trainer.max_epochs) for step in both)
        epochs[kind] = (first, warm)
    given = plain["estimate"]
    n_atoms = len(load_structure(Source("structure", plain["structure"])))
    return Rates(
        cost=None if given is None else estimate_cost(given, float(proposed["power"])),
        n_atoms=proposed["max_atoms"],
        training={kind: float(plain["seconds"][kind]) for kind in settings.trained},
        epochs=epochs,
        sample=float(plain["seconds"]["sample"]),
        n_atoms_sample=n_atoms * math.prod(settings.supercell),
    )


def conclude(folder: Path, outcome: Any) -> list[str]:
    """Return the lines that end a study.

    Args:
        folder: of the study.
        outcome: how it stands.
    """
    from mlepi.study.card import CARD, list_totals

    lines = [f"{outcome.decision.action:<16} {outcome.decision.reason}"]
    if outcome.rounds:
        last = outcome.rounds[-1]
        found = zip(last.temperatures, last.values, list_totals(last), strict=True)
        lines += [f"{outcome.target:<16} {x:.5g} ± {size} at {t:g} K" for t, x, size in found]
    return [*lines, f"card             {folder / CARD}"]


def _list_out_of_bounds(key: str, value: Any) -> list[str]:
    """Return one text where a number of a key makes no sense."""
    low = LOWEST.get(key)
    if value is None or low is None:
        return []
    numbers = value.values() if isinstance(value, Mapping) else _list(value)
    if all(number >= low for number in numbers):
        return []
    return [message(key, repr(value), f"{low:g} or more", "See docs/config.md.")]


def _list_contradictions(plain: Mapping[str, Any]) -> list[str]:
    """Return one text per pair of settings that do not go together."""
    from mlepi.study import CHOICES

    problems = []
    if plain["select"] not in CHOICES:
        fix = "Choose one of them."
        problems.append(message("select", repr(plain["select"]), f"one of {list(CHOICES)}", fix))
    if plain["phonon"] is not None and plain["electron"] is not None:
        fix = "Leave out one of them; mlepi infer computes with given networks."
        got = "both given"
        problems.append(message("phonon, electron", got, "one at least to be trained", fix))
    if not _list(plain["temperature"]):
        problems.append(message("temperature", "[]", "one at least, K", "Set temperature=300."))
    if abs(sum(plain["fractions"]) - 1.0) > 1e-6:
        got = f"{plain['fractions']}"
        problems.append(message("fractions", got, "a sum of 1", "Set fractions=[0.8,0.1,0.1]."))
    if plain["n_compared"] > plain["n_samples"]:
        got, expected = f"{plain['n_compared']}", f"n_samples={plain['n_samples']} at most"
        problems.append(message("n_compared", got, expected, "Lower it, or raise n_samples."))
    if plain["n_samples"] > plain["max_samples"]:
        got, expected = f"{plain['n_samples']}", f"max_samples={plain['max_samples']} at most"
        problems.append(message("n_samples", got, expected, "Lower it, or raise max_samples."))
    if plain["n_first"] > plain["max_labels"]:
        got, expected = f"{plain['n_first']}", f"max_labels={plain['max_labels']} at most"
        problems.append(message("n_first", got, expected, "Lower it, or raise max_labels."))
    return problems


def _list(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def _shorten(folder: Path) -> Path:
    """Return a folder relative to the working folder, where it lies in that."""
    whole = folder.resolve()
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole


def _announce(line: str) -> None:
    """Write one line on the screen and in the log."""
    print(line, flush=True)
    log.info(line)
