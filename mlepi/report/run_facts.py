"""What was run: material, networks, samples, command and versions, from provenance and folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlepi.pipeline.discovery import Stages
from mlepi.pipeline.precision import Precision, write_counts
from mlepi.report.page_parts import ShownTable
from mlepi.results import ResultsStore

Rows = list[tuple[str, str]]


def collect_provenance(store: ResultsStore, records: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance of every record of a run: stage → plain data."""
    return {name: store.provenance(name) for name in records}


def last_config(provenance: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings with which the last record was made."""
    known = [dict(each.get("config") or {}) for each in provenance.values()]
    return next((config for config in reversed(known) if config), {})


def find_target(provenance: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the name of the error bar that a run was asked for; empty where nobody says."""
    target = ""
    for each in provenance.values():
        sampling = ((each.get("config") or {}).get("stage") or {}).get("sampling") or {}
        target = str(sampling.get("target") or target)
    return target


def describe_run(
    store: ResultsStore, records: Mapping[str, Any], config: Mapping[str, Any], stages: Stages
) -> Rows:
    """Say what was run, a row each; what older files do not tell is left out."""
    rows: Rows = []
    if "structure" in records and "structure" in stages:
        presentation = stages["structure"].presentation()
        if presentation.facts is not None:
            rows += [(name, text) for name, text in presentation.facts(records["structure"])[:2]]
    for kind in ("phonon", "electron"):
        if config.get(kind):
            rows.append((f"{kind} network", describe_source(config[kind])))
    sizes = _sizes(records, config, count_samples(store, records))
    rows += [(name, text) for name, text in sizes if text]
    rows.append(("stages", ", ".join(name.replace("_", " ") for name in records)))
    rows.append(("folder", store.folder.resolve().name))
    return rows


def count_samples(store: ResultsStore, records: Mapping[str, Any]) -> str:
    """Return the samples per temperature: those that an error bar took, or all of the run."""
    for name in records:
        precision = Precision.from_provenance(store.provenance(name))
        if precision is not None:
            return write_counts(precision.n_samples)
    return str(getattr(records.get("sampling"), "n_samples", ""))


def _sizes(
    records: Mapping[str, Any], config: Mapping[str, Any], n_samples: str
) -> Iterator[tuple[str, str]]:
    sampling = records.get("sampling")
    if sampling is None:
        return
    cell = config.get("supercell")
    yield "supercell", "×".join(str(n) for n in cell) if isinstance(cell, list) else ""
    kelvin = ", ".join(f"{t:g}" for t in getattr(sampling, "temperatures", ()))
    yield "temperatures", f"{kelvin} K" if kelvin else ""
    kind = getattr(sampling, "sampler", "")
    yield "samples", f"{n_samples} per temperature, {kind}"
    yield "seed", str(getattr(sampling, "seed", ""))


def describe_source(source: Any) -> str:
    """Name a network or calculator as the config gives it: file, class, or a list of them."""
    if isinstance(source, str):
        return Path(source).name if source.endswith(".ckpt") else source
    if isinstance(source, Mapping):
        return str(source.get("_target_", "")).rpartition(".")[2] or json.dumps(dict(source))
    if isinstance(source, list | tuple):
        return ", ".join(describe_source(each) for each in source)
    return str(source)


def find_command(folder: Path) -> str:
    """Return the command line that made a run, as far as the folder has kept it; else empty."""
    overrides = read_overrides(folder)
    if overrides is None:
        return ""
    return " ".join(["python infer.py", *(shlex.quote(word) for word in overrides)])


def read_overrides(folder: Path) -> list[str] | None:
    """Return the overrides of a run as the folder has kept them; None where it has not."""
    path = folder / ".hydra" / "overrides.yaml"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_unquote(line[2:].strip()) for line in lines if line.startswith("- ")]


def _unquote(word: str) -> str:
    """Read one plain or quoted word of a YAML list."""
    if word.startswith('"'):
        return str(json.loads(word))
    return word[1:-1].replace("''", "'") if word.startswith("'") else word


def list_packages(
    provenance: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any]
) -> ShownTable:
    """Tabulate networks with their digests, and the versions of packages."""
    rows: Rows = []
    for kind in ("phonon", "electron"):
        if config.get(kind):
            given = config[kind]
            rows.append(
                (f"{kind} network", given if isinstance(given, str) else describe_source(given))
            )
    rows += [(f"digest: {name}", digest) for name, digest in _digests(provenance).items()]
    packages: dict[str, str] = {}
    for each in provenance.values():
        packages.update(each.get("packages") or {})
    rows += [(name, str(version)) for name, version in packages.items()]
    return ShownTable("packages", "Networks and packages", ("what", "which"), rows, "facts")


def _digests(provenance: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Find the digests of networks among the inputs of the stages that use them."""
    found: dict[str, str] = {}
    for each in provenance.values():
        inputs = each.get("inputs")
        settings = inputs.get("settings") if isinstance(inputs, Mapping) else None
        for key, value in settings.items() if isinstance(settings, Mapping) else ():
            named = key in ("phonon", "electron", "calculator", "network", "overlap")
            if named and value:  # a stage may list a committee, which is none in most runs
                found[key] = value if isinstance(value, str) else json.dumps(value)
    return found


def list_records(
    store: ResultsStore, provenance: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Return name, commit, content and the rest of the provenance of every record.

    Settings that are those of the whole run are not repeated.
    """
    made = []
    for name, each in provenance.items():
        own = {k: v for k, v in each.items() if k != "config" or v != config}
        made.append(
            {
                "name": name,
                "commit": str(each.get("commit", "unknown")),
                "content": str(store.content(name))[:16],
                "text": json.dumps(own, indent=2, ensure_ascii=False, sort_keys=True),
            }
        )
    return made
