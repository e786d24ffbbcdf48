"""Checkpoints: what a file says about itself, loading it by that alone, upgrades of old files.

A checkpoint is a dict, written by ``torch.save`` and read with ``weights_only=True``: "state_dict"
holds the weights and "mlepi" the stamp, plain data and tensors from which the network is rebuilt.
Weights may be stored in half precision; a network is always rebuilt in double precision from them.
Training's own checkpoints carry the same two keys (with the weights under "model."), so that they
load as well. "checksums" holds the SHA-256 of the stamp and of every weight, which are verified
when a file is loaded; a file is read once, so that what was verified is what is loaded. Formats 1
and 2 had none: of these the CRC-32 that ``torch.save`` adds to every tensor is verified, as of all.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Set
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

import mlepi.models
from mlepi.checkpoint_formats import FORMAT, KEY, upgrade
from mlepi.checksums import (
    CHECKSUMS,
    check_finite_weights,
    compute_checksums,
    describe_damage,
    find_damage,
    verify_content,
)
from mlepi.errors import CheckpointError, MlepiError, message
from mlepi.physics.overlaps import RadialOverlaps, rebuild_overlaps
from mlepi.plugins import list_backbones
from mlepi.predictors import ElectronPredictor, PhononPredictor
from mlepi.predictors.storage import AS_TRAINED, round_weights
from mlepi.project_files import locate_file
from mlepi.structures.basis import OrbitalBasis
from mlepi.untrusted import LARGEST_RADIUS, check_size
from mlepi.untrusted.tensors import check_network_size, load_tensors

LARGEST = 2**34
"""Bytes of a checkpoint."""
REQUIRED = {"phonon": ("model", "cutoffs"), "electron": ("model", "cutoffs", "basis")}
"""Kind of checkpoint → keys that its stamp must have."""

_TRAINING_KEY = "pytorch-lightning_version"
_TRAINING_PREFIX = "model."
_PUBLIC_PREFIX = "mlepi.models."


def stamp(
    kind: str,
    model: Mapping[str, Any],
    cutoffs: Mapping[str, float],
    *,
    basis: OrbitalBasis | None = None,
    overlap_table: RadialOverlaps | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe a network so that the checkpoint alone rebuilds it.

    Args:
        kind: "phonon" or "electron".
        model: nested plain config with public ``_target_`` paths; all data-dependent values filled
            in.
        cutoffs: relation → Å.
        basis: orbitals of an electron network.
        overlap_table: their radial overlap functions.
        metadata: data, metrics, code version; plain Python data.

    Returns:
        Plain Python data and tensors.
    """
    result: dict[str, Any] = {
        "format": FORMAT,
        "version": version("mlepi"),
        "kind": kind,
        "model": dict(model),
        "cutoffs": dict(cutoffs),
    }
    if basis is not None:
        result["basis"] = basis.to_dict()
    if overlap_table is not None:
        result["overlap_table"] = _tensors(overlap_table.to_dict())
    result["metadata"] = dict(metadata or {})
    _check_stamp("stamp", result)
    return result


def save_checkpoint(
    path: str | Path, stamp: Mapping[str, Any], state_dict: Mapping[str, torch.Tensor]
) -> None:
    """Write a checkpoint; the file appears complete or not at all.

    Args:
        path: file to write.
        stamp: result of ``stamp``.
        state_dict: weights of the network.

    Raises:
        CheckpointError: the stamp could not be loaded again.
    """
    path = Path(path)
    _check_stamp(path.name, stamp)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    weights = {name: value.detach().cpu().clone() for name, value in state_dict.items()}
    try:
        checksums = compute_checksums(stamp, weights)
        content = {KEY: dict(stamp), "state_dict": weights, CHECKSUMS: checksums}
        packed = io.BytesIO()  # a full disk is then an error of the system, not one of a zip file
        torch.save(content, packed)
        partial.write_bytes(packed.getbuffer())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(
    path: str | Path, data: bytes | None = None
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read a checkpoint of mlepi or of its training, upgraded to the present format.

    Args:
        path: file, relative to the working folder or to the project folder.
        data: its content, where that has been read before.

    Returns:
        The stamp and the weights of the network.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, incomplete or from a newer version.
    """
    path = locate_file(path) or Path(path)
    if data is None:
        if not path.is_file():
            text = message(str(path), "no such file", "a checkpoint", "Check the path.")
            raise CheckpointError(text)
        check_size(path, limit=LARGEST)
        data = path.read_bytes()
    if damaged := find_damage(str(path), data):
        raise CheckpointError(describe_damage(str(path), [damaged]))
    content = load_tensors(str(path), data)
    if (
        not isinstance(content, dict)
        or not isinstance(content.get(KEY), dict)
        or not isinstance(content.get("state_dict"), dict)
    ):
        raise CheckpointError(
            message(
                str(path),
                "a file without the stamp of mlepi",
                "a checkpoint of mlepi",
                "Use one written by train.py.",
            )
        )
    content = upgrade(content, where=str(path))
    _check_stamp(str(path), content[KEY])
    verify_content(str(path), content[KEY], content["state_dict"], content.get(CHECKSUMS))
    weights = content["state_dict"]
    if _TRAINING_KEY in content:
        n = len(_TRAINING_PREFIX)
        weights = {
            name[n:]: value for name, value in weights.items() if name.startswith(_TRAINING_PREFIX)
        }
    check_finite_weights(str(path), weights)
    return content[KEY], weights


def load_model(
    path: str | Path, kind: str | None = None, data: bytes | None = None
) -> PhononPredictor | ElectronPredictor:
    """Rebuild a trained network from a checkpoint alone.

    Args:
        path: checkpoint of mlepi, or best.ckpt / last.ckpt of a training.
        kind: "phonon" or "electron" when only that will do.
        data: content of the file, where that has been read before.

    Returns:
        The predictor of the checkpoint's kind.

    Raises:
        CheckpointError: the file cannot be used, or holds the other kind.
    """
    content, weights = load_checkpoint(path, data)
    if kind is not None and content["kind"] != kind:
        raise CheckpointError(
            message(
                str(path),
                f"a checkpoint of kind {content['kind']!r}",
                f"{kind!r}",
                "Pass the other checkpoint.",
            )
        )
    network = _build_network(str(path), content["model"], weights)
    settings = {"cutoffs": content["cutoffs"], "metadata": content.get("metadata", {})}
    try:
        if content["kind"] == "phonon":
            return PhononPredictor(
                network, elements=content["model"]["network"]["elements"], **settings
            )
        table = content.get("overlap_table")
        return ElectronPredictor(
            network,
            basis=OrbitalBasis.from_dict(content["basis"]),
            overlap_table=None if table is None else rebuild_overlaps(table),
            **settings,
        )
    except (MlepiError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            message(
                str(path),
                f"a stamp that does not fit ({error})",
                "a consistent checkpoint",
                "Train it again.",
            )
        ) from error


def export_checkpoint(
    source: str | Path,
    destination: str | Path,
    *,
    overlap_table: RadialOverlaps | None = None,
    metadata: Mapping[str, Any] | None = None,
    storage: str = AS_TRAINED,
) -> None:
    """Reduce a training checkpoint to the network, and add what a user of it needs.

    Args:
        source: checkpoint of a training.
        destination: file to write.
        overlap_table: radial overlap functions of the basis, for an electron network.
        metadata: entries added to the metadata, e.g. metrics on the test split.
        storage: "as trained", or "float16" for half the size: learned weights are rounded to 11
            bits, buffers (baselines, reference energies) are kept as they are. Whatever loads the
            file computes in the precision that is asked for.

    Raises:
        CheckpointError: the source cannot be used, the table belongs to another basis, the storage
            is unknown, or a weight is too large for it.
    """
    content, weights = load_checkpoint(source)
    result = {**content, "version": version("mlepi")}
    result["metadata"] = {**content.get("metadata", {}), **(metadata or {})}
    if overlap_table is not None:
        result["overlap_table"] = _tensors(overlap_table.to_dict())
    if storage != AS_TRAINED:
        network = _build_network(str(source), content["model"], weights)
        weights = round_weights(network, weights, storage)
    partial = Path(destination).with_name(f".{Path(destination).name}.{os.getpid()}.export")
    try:
        save_checkpoint(partial, result, weights)
        load_model(partial)
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)


def _check_stamp(where: str, content: Mapping[str, Any]) -> None:
    """Refuse a stamp that lacks something or names other than public networks of ``mlepi``."""
    kind = content.get("kind")
    if kind not in REQUIRED:
        raise CheckpointError(
            message(
                where,
                f"kind {kind!r}",
                f"one of {sorted(REQUIRED)}",
                "Use a checkpoint of this package.",
            )
        )
    missing = [key for key in REQUIRED[kind] if not isinstance(content.get(key), dict)]
    if missing:
        raise CheckpointError(
            message(
                where,
                f"no {' and no '.join(missing)}",
                "a complete stamp",
                "Train or export it again.",
            )
        )
    known = {_PUBLIC_PREFIX + name for name in mlepi.models.__all__} | list_backbones()
    _check_targets(where, content["model"], known)
    check_network_size(where, content["model"])
    wrong = {k: c for k, c in content["cutoffs"].items() if not _is_cutoff(c)}
    if wrong:
        fix = "Train it again."
        raise CheckpointError(message(where, f"cutoffs {wrong}", "lengths in Å", fix))


def _is_cutoff(value: Any) -> bool:
    return type(value) in (int, float) and 0.0 < value <= LARGEST_RADIUS


def _check_targets(where: str, config: Any, known: Set[str]) -> None:
    """Walk a nested config: a checkpoint may build networks, and do nothing else."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key == "_target_" and value not in known:
                raise CheckpointError(
                    message(
                        where,
                        f"_target_ {value!r}",
                        f"a public class of {_PUBLIC_PREFIX}*, or a backbone of a plug-in",
                        "Do not use files that you do not trust; else install the plug-in.",
                    )
                )
            _check_targets(where, value, known)
    elif isinstance(config, list | tuple):
        for value in config:
            _check_targets(where, value, known)
    elif isinstance(config, str) and "${" in config:
        raise CheckpointError(
            message(
                where,
                f"an unresolved value {config!r}",
                "plain data",
                "Resolve the config before saving.",
            )
        )


def _build_network(
    where: str, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]
) -> nn.Module:
    """Instantiate a network in float64, which rounds no constant table, and load its weights."""
    try:
        network: nn.Module = instantiate(dict(config), _convert_="all").double()
        network.load_state_dict(weights)
    except (InstantiationException, RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:400]
        raise CheckpointError(
            message(
                where,
                f"a network that cannot be rebuilt ({reason})",
                "config and weights that match this version",
                "Train it again.",
            )
        ) from error
    return network


def _tensors(data: Any) -> Any:
    """Turn the arrays of nested plain data into tensors, which ``weights_only`` can load."""
    if isinstance(data, Mapping):
        return {key: _tensors(value) for key, value in data.items()}
    return torch.from_numpy(data.copy()) if hasattr(data, "__array__") else data
