"""From the composed config of an inference to a ``Run``.

Every mistake in it is found first and reported at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mlepi.config_check import (
    check_arguments,
    check_target,
    find_targets,
    list_missing_values,
    list_unknown_keys,
)
from mlepi.errors import ConfigError, MlepiError, message
from mlepi.physics.vibrations.samplers import Sampler
from mlepi.pipeline.bounds import list_out_of_bounds
from mlepi.pipeline.config_values import (
    CHECKS,
    are_sources,
    list_absent_keys,
    list_wrong_values,
    locate_overlap,
    overlap_files,
    overlap_program,
    read_level_shift,
)
from mlepi.pipeline.discovery import Stages, resolve_names
from mlepi.pipeline.engines import Engine
from mlepi.pipeline.networks import Networks
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.sources import TOY, TOYS, Source
from mlepi.pipeline.stage import Stage
from mlepi.pipeline.valence import fill_electrons, list_missing_electrons
from mlepi.project_files import locate_file
from mlepi.results import ResultsStore
from mlepi.setting_types import list_wrong_types
from mlepi.tracking import list_mistakes

GROUPS = ("stage", "sampler", "engine", "trainer", "logger")
"""Nodes of the config that hold more than one value."""

SOURCES = ("structure", "phonon", "electron")


@dataclass(frozen=True)
class Plan:
    """A config without mistakes.

    Attributes:
        plain: resolved, as plain data.
        names: stages of the run, in order.
        stages: all stages with their settings, by name.
        sampler: how snapshots are chosen.
        engine: where samples are computed.
    """

    plain: Mapping[str, Any]
    names: list[str]
    stages: Mapping[str, Stage]
    sampler: Sampler
    engine: Engine

    def needed_sources(self) -> set[str]:
        """Return which of "structure", "phonon" and "electron" the run cannot do without."""
        needed = {"structure"} if "structure" in self.names else set()
        return needed.union(*(self.stages[name].sources() for name in self.names))

    def build_run(self, folder: Path, local_rank: int = 0) -> Run:
        """Build the run, nothing computed yet.

        Args:
            folder: run folder.
            local_rank: number of this process on its machine; chooses among several devices.
        """
        plain = self.plain
        settings = Settings(
            temperatures=_list_temperatures(plain),
            n_samples=plain["n_samples"],
            seed=plain["seed"],
            supercell=tuple(plain["supercell"]),
            sampler=self.sampler,
            structure=Source("structure", plain["structure"]),
            phonon=Source("phonon", plain["phonon"], plain["committee"]),
            electron=Source("electron", plain["electron"], plain["committee"]),
            overlap=tuple(
                locate_overlap(file) or Path(file) for file in overlap_files(plain["overlap"])
            ),
            overlap_program=overlap_program(plain["overlap"]),
            dtype=plain["dtype"],
            device=f"cuda:{local_rank}" if plain["device"] == "cuda" else plain["device"],
            batch_size=plain["batch_size"],
            prefetch=plain["prefetch"],
            compiled=plain["compile"],
            radial_tables=plain["radial_tables"],
            tf32=plain["tf32"],
            reuse=plain["reuse"],
            level_shift=read_level_shift(plain["level_shift"]),
            check_units=plain["check_units"],
            config=plain,
        )
        return Run(settings, ResultsStore(folder), Networks(settings), self.stages)


def check_config(config: DictConfig, stages: Stages) -> Plan:
    """Look for every mistake in the config before anything is computed.

    Args:
        config: composed from ``conf/infer.yaml``.
        stages: all that there are.

    Returns:
        What is to be done.

    Raises:
        ConfigError: one text, a line per mistake.
    """
    problems = list_missing_values(config)
    config, without_electrons = fill_electrons(config)
    plain: Any = OmegaConf.to_container(config, resolve=not problems)
    problems += list_unknown_keys("", plain, (*CHECKS, *GROUPS, "folder"), "conf/infer.yaml")
    problems += list_absent_keys("", plain, (*CHECKS, *GROUPS))
    trainer, chosen = plain.get("trainer", {}), plain.get("stage", {})
    problems += list_unknown_keys("trainer", trainer, ("devices", "num_nodes"))
    problems += list_absent_keys("trainer.", trainer, ("devices", "num_nodes"))
    wrong = list_wrong_values(plain)
    named = {text.split(":")[0] for text in wrong}
    problems += wrong + list_out_of_bounds({k: x for k, x in plain.items() if k not in named})
    problems += list_mistakes(plain["logger"]) if "logger" in plain else []
    problems += list_unknown_keys("stage", chosen, ("run", "folder", *stages))
    committees = any(
        isinstance(plain.get(key), list) and len(plain[key]) > 1 for key in ("phonon", "electron")
    )
    added = [n for n, stage in stages.items() if plain.get(stage.added_by) is not None]
    names, wrong = _check_names(chosen.get("run"), stages, committees, added)
    problems += wrong
    for name in stages:
        problems += _check_settings(f"stage.{name}", stages[name], chosen.get(name))
    for name in ("sampler", "engine"):
        if name in plain:
            problems += _check_node(name, plain[name])
    built: dict[str, Any] = {}
    if not problems:
        built, problems = _build(plain, stages)
        chosen_stages = [built[name] for name in names if name in built]
        problems += list_missing_electrons(chosen_stages, without_electrons)
    needed = {"structure"}
    for name in names:
        needed |= built[name].sources() if name in built else set(stages[name].networks)
    for name in SOURCES:
        problems += _check_source(name, plain.get(name), needed=name in needed)
    if problems:
        raise ConfigError("\n".join(problems))
    sampler, engine = built.pop("sampler"), built.pop("engine")
    sampler.files(_list_temperatures(plain))  # says now which file is missing
    return Plan(plain, names, built, sampler, engine)


def _list_temperatures(plain: Mapping[str, Any]) -> tuple[float, ...]:
    given = plain["temperature"]
    return tuple(float(t) for t in (given if isinstance(given, list) else [given]))


def _check_names(
    chosen: Any, stages: Stages, committees: bool, added: list[str]
) -> tuple[list[str], list[str]]:
    """Return the stages of the run, and what is wrong with the choice.

    Without committees, a stage for them is left out unless it is asked for by its name; ``added``
    run whatever is chosen.
    """
    words = [chosen] if isinstance(chosen, str) else chosen
    if not isinstance(words, list) or not words:
        fix = "Choose with stage=all, stage=NAME or stage=[NAME,NAME]."
        return [], [message("stage.run", f"{chosen}", "a name or a list of names", fix)]
    try:
        names = resolve_names([*words, *added], stages)
    except ConfigError as error:
        return [], [str(error)]
    kept = [n for n in names if committees or n in words or not stages[n].for_committees]
    return kept, []


def _check_settings(where: str, stage: type[Stage], node: Any) -> list[str]:
    """Look for mistakes in the settings of a stage."""
    if not isinstance(node, Mapping):
        fix = f"Take it over from conf/stage/{stage.name}.yaml."
        return [message(where, repr(node), "the settings of the stage", fix)]
    problems = check_arguments(where, stage, node, complete=True)
    problems += list_wrong_types(where, stage, node)
    for path, inner in find_targets(node, where):
        problems += check_target(path, inner, complete=True)
    return problems


def _check_source(name: str, value: Any, needed: bool) -> list[str]:
    if not needed or not are_sources(value):
        return []
    if isinstance(value, list):
        return [text for item in value for text in _check_source(name, item, needed)]
    if value is None:
        return [message(name, "nothing", CHECKS[name][1], "This stage needs it.")]
    if isinstance(value, str):
        has_toy = name in TOYS
        if locate_file(value) or (has_toy and value == TOY):
            return []
        expected = "an existing file or toy" if has_toy else "an existing file"
        fix = "Give a file relative to the working folder or to the project."
        return [message(name, repr(value), expected, fix)]
    return _check_node(name, value)


def _check_node(where: str, node: Any) -> list[str]:
    """Look for mistakes in a node that must name a class or function and all that it needs."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        return [message(where, repr(node), "{_target_: …}", "Name a class.")]
    return check_target(where, node, complete=True)


def _build(plain: Mapping[str, Any], stages: Stages) -> tuple[dict[str, Any], list[str]]:
    """Build sampler, engine and stages from their settings; return them, and what is wrong."""
    nodes = {name: plain[name] for name in ("sampler", "engine")}
    for name, stage in stages.items():
        target = f"{stage.__module__}.{stage.__qualname__}"
        nodes[name] = {"_target_": target, **plain["stage"][name]}
    built, problems = {}, []
    for name, node in nodes.items():
        try:
            built[name] = instantiate(node, _convert_="all")
        except Exception as error:
            cause = error.__cause__ or error
            where = name if name in ("sampler", "engine") else f"stage.{name}"
            problems.append(
                str(cause)
                if isinstance(cause, MlepiError)
                else message(where, str(cause), "settings that fit", "See docs/config.md.")
            )
    return built, problems
