"""From the composed config of an inference to a ``Run``.

Every mistake in it is found first and reported at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mlepi.config_check import check_target, list_missing_values, list_unknown_keys
from mlepi.errors import ConfigError, MlepiError, message
from mlepi.physics.vibrations.samplers import Sampler
from mlepi.pipeline.run import Run
from mlepi.pipeline.sources import TOY, TOYS, Source
from mlepi.project_files import locate_file
from mlepi.results import ResultsStore

STAGES = (
    "structure",
    "phonon",
    "sampling",
    "hamiltonian",
    "observables",
    "self_energy",
    "gap",
    "effective_mass",
    "dos",
    "linear_response",
    "conductivity",
    "band_geometry",
    "domain",
    "tight_binding",
    "control",
    "bands",
)
"""In the order of the data flow."""

NETWORK_OF_STAGE = {
    "phonon": "phonon",
    "hamiltonian": "electron",
    "observables": "electron",
    "self_energy": "electron",
    "gap": "electron",
    "effective_mass": "electron",
    "dos": "electron",
    "linear_response": "electron",
    "conductivity": "electron",
    "band_geometry": "electron",
    "domain": "electron",
    "tight_binding": "electron",
    "control": "electron",
    "bands": "electron",
}
"""Stage → network that it cannot do without."""


def build_run(config: DictConfig, folder: Path, local_rank: int = 0) -> Run:
    """Check the config and build the run that it describes.

    Args:
        config: composed from ``conf/infer.yaml``.
        folder: run folder.
        local_rank: number of this process on its machine; chooses among several devices.

    Returns:
        The run, nothing computed yet.

    Raises:
        ConfigError: one text with every mistake.
    """
    plain = check_config(config)
    stages, sampler = _build_stages(config)
    temperatures = (
        plain["temperature"] if isinstance(plain["temperature"], list) else [plain["temperature"]]
    )
    sampler.files(tuple(float(t) for t in temperatures))  # says now which file is missing
    device = f"cuda:{local_rank}" if plain["device"] == "cuda" else plain["device"]
    return Run(
        store=ResultsStore(folder),
        stages=stages,
        sampler=sampler,
        temperatures=tuple(float(t) for t in temperatures),
        n_samples=plain["n_samples"],
        seed=plain["seed"],
        supercell=tuple(plain["supercell"]),
        structure=Source("structure", plain["structure"]),
        phonon=Source("phonon", plain["phonon"]),
        electron=Source("electron", plain["electron"]),
        overlap=tuple(locate_file(file) or Path(file) for file in _overlap_files(plain["overlap"])),
        dtype=plain["dtype"],
        device=device,
        batch_size=plain["batch_size"],
        prefetch=plain["prefetch"],
        compiled=plain["compile"],
        tf32=plain["tf32"],
        config=plain,
    )


def check_config(config: DictConfig) -> dict[str, Any]:
    """Look for every mistake in the config before anything is computed.

    Args:
        config: composed from ``conf/infer.yaml``.

    Returns:
        The resolved config as plain data.

    Raises:
        ConfigError: one text, a line per mistake.
    """
    problems = list_missing_values(config)
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=not problems)  # type: ignore[assignment]
    problems += list_unknown_keys(
        "", plain, (*_CHECKS, "stage", "sampler", "trainer", "folder"), "conf/infer.yaml"
    )
    problems += _list_absent_keys("", plain, (*_CHECKS, "stage", "sampler", "trainer"))
    for key, (check, expected) in _CHECKS.items():
        if key in plain and plain[key] != "???" and not check(plain[key]):
            problems.append(message(key, repr(plain[key]), expected, "Correct the value."))
    trainer, stage = plain.get("trainer", {}), plain.get("stage", {})
    problems += list_unknown_keys("trainer", trainer, ("devices", "num_nodes"))
    problems += _list_absent_keys("trainer.", trainer, ("devices", "num_nodes"))
    problems += [
        message(f"trainer.{key}", repr(value), "a positive integer", "Correct the value.")
        for key, value in trainer.items()
        if key in ("devices", "num_nodes") and not _is_integer(value, 1)
    ]
    problems += list_unknown_keys("stage", stage, ("run", "folder", *STAGES))
    problems += _check_stage_names(stage.get("run"))
    for name in STAGES:
        problems += _check_node(f"stage.{name}", stage.get(name))
    problems += _check_node("sampler", plain["sampler"]) if "sampler" in plain else []
    for name in ("structure", "phonon", "electron"):
        problems += _check_source(name, plain.get(name), needed=name in needed_sources(stage))
    if problems:
        raise ConfigError("\n".join(problems))
    return plain


def _list_absent_keys(where: str, node: Mapping[str, Any], needed: Iterable[str]) -> list[str]:
    return [
        message(where + key, "no such key", "a value", "Take it over from conf/infer.yaml.")
        for key in needed
        if key not in node
    ]


def _is_integer(value: Any, smallest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest


def _is_temperature(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )


def _are_temperatures(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return (
        bool(values)
        and all(_is_temperature(t) for t in values)
        and len({float(t) for t in values}) == len(values)
    )


def _is_supercell(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_integer(n, 1) for n in value)


def _is_source(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, str) and bool(value))
        or (isinstance(value, dict) and "_target_" in value)
    )


def _are_electrons(value: Any) -> bool:
    numbers = value.items() if isinstance(value, dict) else [(None, None)]
    return all(
        _is_integer(z, 1) and isinstance(n, (int, float)) and not isinstance(n, bool) and n > 0
        for z, n in numbers
    )


def _overlap_files(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _are_files(value: Any) -> bool:
    return all(
        isinstance(file, str) and locate_file(file) is not None for file in _overlap_files(value)
    )


_SWITCH = (lambda value: isinstance(value, bool), "true or false")
_SOURCE = (_is_source, "a path or {_target_: …}")
_MODEL = (_is_source, "a path, toy, or {_target_: …}")
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (_are_temperatures, "a number of kelvin ≥ 0, or a list of different ones"),
    "n_samples": (lambda value: _is_integer(value, 1), "a positive integer"),
    "seed": (lambda value: _is_integer(value, 0), "an integer ≥ 0"),
    "supercell": (_is_supercell, "three positive integers such as [6,6,1]"),
    "structure": _SOURCE,
    "phonon": _MODEL,
    "electron": _MODEL,
    "overlap": (_are_files, "null, an existing table, or existing .pao files"),
    "dtype": (lambda value: value in ("float32", "float64"), "float32 or float64"),
    "valence_electrons": (_are_electrons, "a number > 0 per atomic number, such as {6: 4}"),
    "report": _SWITCH,
    "batch_size": (
        lambda value: value is None or _is_integer(value, 1),
        "null or a positive integer",
    ),
    "prefetch": (lambda value: value is None or isinstance(value, bool), "null, true or false"),
    "compile": _SWITCH,
    "tf32": _SWITCH,
    "device": (
        lambda value: isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda"),
        "cpu, cuda or cuda:N",
    ),
}
"""Key at the top of the config → whether a value is acceptable, and what is."""


def _check_stage_names(names: Any) -> list[str]:
    if isinstance(names, list) and names and all(name in STAGES for name in names):
        return []
    return [
        message(
            "stage.run",
            f"{names}",
            f"a list of names among {', '.join(STAGES)}",
            "Choose with stage=all or stage=NAME.",
        )
    ]


def needed_sources(stage: Mapping[str, Any]) -> set[str]:
    """Return which of "structure", "phonon" and "electron" the chosen stages cannot do without.

    Args:
        stage: the node ``stage`` of the config, as plain data.
    """
    names = [name for name in stage.get("run") or [] if isinstance(name, str)]
    needed = {NETWORK_OF_STAGE[name] for name in names if name in NETWORK_OF_STAGE}
    if "structure" in names:
        needed.add("structure")
        settings = stage.get("structure")
        if isinstance(settings, Mapping) and settings.get("relax", "none") != "none":
            needed.add("phonon")
    return needed


def _check_source(name: str, value: Any, needed: bool) -> list[str]:
    if not needed or not _is_source(value):
        return []
    if value is None:
        return [message(name, "nothing", _CHECKS[name][1], "This stage needs it.")]
    if isinstance(value, str):
        has_toy = name in TOYS
        if locate_file(value) or (has_toy and value == TOY):
            return []
        return [
            message(
                name,
                repr(value),
                "an existing file or toy" if has_toy else "an existing file",
                "Correct the path.",
            )
        ]
    return _check_node(name, value)


def _check_node(where: str, node: Any) -> list[str]:
    """Look for mistakes in a node that must name a class or function and all that it needs."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        return [message(where, repr(node), "{_target_: …}", "Name a class.")]
    return check_target(where, node, complete=True)


def _build_stages(config: DictConfig) -> tuple[dict[str, Any], Sampler]:
    built, problems = {}, []
    for name in ("sampler", *(f"stage.{stage}" for stage in STAGES)):
        try:
            built[name] = instantiate(OmegaConf.select(config, name), _convert_="all")
        except Exception as error:
            cause = error.__cause__ or error
            problems.append(
                str(cause)
                if isinstance(cause, MlepiError)
                else message(name, str(cause), "settings", "Correct them.")
            )
    if problems:
        raise ConfigError("\n".join(problems))
    return {name: built[f"stage.{name}"] for name in STAGES}, built["sampler"]
