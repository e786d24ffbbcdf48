"""The jobs of a sweep, ``-m``: those that are finished are not repeated, others go on.

``job.json`` in the folder of a job says with which configuration it was started and how far it is.
It decides what the same command does when it is given again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from mlepi.errors import ConfigError, message
from mlepi.project_files import write_json
from mlepi.sweep_names import is_free
from mlepi.training.run import OWN, train
from mlepi.training.test_files import METRICS_FILE, finite
from mlepi.untrusted import read_json

log = logging.getLogger(__name__)

JOB_FILE = "job.json"
CONFIG_FILE = "config.yaml"
LAST = "last.ckpt"

State = Literal["running", "stopped", "failed", "finished"]
"""Of a job: "stopped" by a time limit; it goes on, as one that was killed or failed."""


def run_job(config: DictConfig, folder: Path, overrides: Sequence[str]) -> dict[str, float]:
    """Train one network of a sweep, or take what it left when it is finished.

    Args:
        config: composed from ``conf/train.yaml``.
        folder: of the job.
        overrides: of the job, KEY=VALUE.

    Returns:
        Metrics as ``train`` gives them; none while another process trains this job.

    Raises:
        ConfigError: the folder holds a job of another configuration.
    """
    plain = json.loads(json.dumps(OmegaConf.to_container(config, resolve=True)))
    with lock(folder) as mine:
        if not mine:
            log.info("%s: another process trains it", folder.name)
            return {}
        stored = read_job(folder)
        begun = (folder / "checkpoints" / LAST).is_file()
        if begun or stored.get("state") == "finished":  # else nothing is there that could be mixed
            check_same(folder, plain, stored)
        if stored.get("state") == "finished":
            log.info("%s: finished before", folder.name)
            found = stored["metrics"].items()
            return {name: math.nan if value is None else value for name, value in found}
        if begun or config.ckpt_path is None:
            config.ckpt_path = OWN
        record: dict[str, Any] = {"overrides": list(overrides), "config": plain}
        _write(folder, record, "running")
        try:
            metrics = train(config, folder, folder.parent.name)
        except Exception as error:
            _write(folder, {**record, "error": str(error)}, "failed")
            raise
        _write(folder, {**record, "metrics": finite(metrics)}, _reached(folder, plain))
        return metrics


def _reached(folder: Path, plain: Mapping[str, Any]) -> State:
    """Return whether a training that ended has come to its end."""
    if not plain["test"]:
        return "finished"
    table = read_json(folder / METRICS_FILE)
    return "finished" if table["complete"] else "stopped"


def _write(folder: Path, record: Mapping[str, Any], state: State) -> None:
    write_json(folder / JOB_FILE, {"state": state, **record})


def read_job(folder: Path) -> dict[str, Any]:
    """Return what ``job.json`` holds; of a folder without one the config alone, or nothing."""
    if (folder / JOB_FILE).is_file():
        content: dict[str, Any] = read_json(folder / JOB_FILE)
        return content
    if (folder / CONFIG_FILE).is_file():
        earlier = OmegaConf.to_container(OmegaConf.load(folder / CONFIG_FILE))
        return {"config": json.loads(json.dumps(earlier))}
    return {}


def check_same(folder: Path, plain: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Refuse a folder that was begun with another configuration.

    A folder without ``job.json`` may be older than some keys: then those of both are compared.

    Raises:
        ConfigError: it names every difference.
    """
    if "config" not in stored:
        return
    differences = [
        f"{key}: {before} → {now}"
        for key, before, now in list_differences(stored["config"], plain)
        if "state" in stored or ABSENT not in (before, now)
    ]
    if differences:
        raise ConfigError(
            message(
                str(folder),
                f"another configuration, {'; '.join(differences)}",
                "that with which this folder was begun",
                "Choose another folder, hydra.sweep.dir=…, or remove this one.",
            )
        )


ABSENT = "absent"
"""In place of a value that only one of two configurations has."""


def list_differences(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Return key, first and second value of every leaf that differs, free keys left out."""
    leaves = [dict(_flatten("", config)) for config in (first, second)]
    keys = dict.fromkeys(key for config in leaves for key in config)
    return [
        (key, before, now)
        for key in keys
        if not is_free(key)
        and (before := leaves[0].get(key, ABSENT)) != (now := leaves[1].get(key, ABSENT))
    ]


def _flatten(prefix: str, node: Any) -> Iterator[tuple[str, str]]:
    """Yield dotted key and value, as JSON, of every leaf."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _flatten(f"{prefix}.{key}".lstrip("."), value)
    else:
        yield prefix, json.dumps(node)


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Hold a folder for this process; gives False where another one holds it.

    The lock ends with the process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
