"""What a run takes from its electron network: valence electrons, and the names of its orbitals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ase.data import chemical_symbols
from omegaconf import DictConfig, OmegaConf

from mlepi.errors import DataError, MlepiError, message
from mlepi.pipeline.config_values import are_sources
from mlepi.pipeline.sources import Source
from mlepi.pipeline.stage import Stage
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.valence import name_electrons, read_symbols, suggest_electrons

KEY = "valence_electrons"


def read_basis(source: Source) -> OrbitalBasis | None:
    """Return the orbitals of an electron network, the first of a list; None where it tells none.

    Args:
        source: checkpoint, or a model with an attribute ``basis``.

    Raises:
        MlepiError: it cannot be read or built.
    """
    first = source.members[0]
    if first.value is None:
        return None
    if first.path is None:
        basis = getattr(first.build(), "basis", None)
        return basis if isinstance(basis, OrbitalBasis) else None
    from mlepi.checkpoint import load_checkpoint

    stamp, _ = load_checkpoint(first.path, first.content[0])
    if stamp.get("kind", "electron") != "electron":
        expected, fix = "an electron network", "Give a checkpoint of an electron network."
        raise DataError(
            message(
                f"{source.key}={first.path}",
                f"a checkpoint of kind {stamp['kind']!r}",
                expected,
                fix,
            )
        )
    return OrbitalBasis.from_dict(stamp["basis"]) if "basis" in stamp else None


def known_electrons(basis: OrbitalBasis | None) -> dict[int, float]:
    """Return atomic number → valence electrons that a network carries, or its names tell."""
    return {} if basis is None else {**name_electrons(basis), **basis.valence_electrons}


def fill_electrons(config: DictConfig) -> tuple[DictConfig, tuple[int, ...] | None]:
    """Fill in the valence electrons that the electron network of a config carries.

    Elements may be named by symbols; what a user gives wins. Values that are no such table stay,
    for the checks.

    Args:
        config: composed; not modified.

    Returns:
        The config, and elements of the network whose electrons nobody knows; None where the network
        does not tell its elements. What is wrong with a network that cannot be read is said where
        it is used.
    """
    if any(OmegaConf.is_missing(config, key) for key in (KEY, "electron")):
        return config, ()
    given, electron = _plain(config.get(KEY)), _plain(config.get("electron"))
    try:
        read = read_symbols(given or {})
    except (ValueError, AttributeError):
        return config, ()
    basis: OrbitalBasis | None = None
    missing: tuple[int, ...] | None = ()
    if are_sources(electron):
        try:
            basis = read_basis(Source("electron", electron))
            missing = None if basis is None else basis.elements
        except (MlepiError, OSError):
            pass
    every = {**{z: _whole(n) for z, n in known_electrons(basis).items()}, **read}
    filled = config.copy()
    OmegaConf.update(filled, KEY, dict(sorted(every.items())), merge=False, force_add=True)
    return filled, None if missing is None else tuple(z for z in missing if z not in every)


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def list_missing_electrons(stages: Iterable[Stage], missing: tuple[int, ...] | None) -> list[str]:
    """Return what is wrong where a stage counts electrons that nobody knows.

    Args:
        stages: of the run.
        missing: as of ``fill_electrons``.
    """
    asked = [getattr(stage, KEY, None) for stage in stages]
    counted = [electrons for electrons in asked if electrons is not None]
    if not counted or not (missing or (missing is None and not all(counted))):
        return []
    elements = missing or (42, 16)
    names = ", ".join(chemical_symbols[z] for z in missing or ())
    return [
        message(
            KEY,
            f"none for {names}" if names else "none",
            "the electrons that the pseudopotential of every element leaves, which the electron "
            "network does not tell",
            f"Give them as in '{KEY}={suggest_electrons(elements)}'.",
        )
    ]


def _whole(number: float) -> float:
    """Return a whole number as an integer, as users write it."""
    return int(number) if float(number).is_integer() else float(number)
