"""Splits that are made where none is given: from the structures alone, the same every time.

The seed is that of the split and not of a training, so that networks of several seeds share their
subsets. Structures of one stratum are what their labels call one kind (``config_type`` or ``kind``
in the provenance, which extxyz keeps), of one composition and one number of layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mlepi.errors import ConfigError, DataError, message
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.layers import get_layers
from mlepi.structures.splits import make_split

SUBSETS = ("train", "val", "test")
FRACTIONS = (0.8, 0.1, 0.1)
"""Of the structures that go to each subset where nothing else is asked for."""

SEED = 0
KINDS = ("config_type", "kind")
"""Keys of the provenance that say what kind of structure it is."""


def find_stratum(structure: LabelledStructure, by_name: bool = False) -> str:
    """Return what a structure has in common with others of its stratum.

    Args:
        structure: its blocks are not looked at.
        by_name: where its labels name no kind, it is what the name has before its first "_".
    """
    named = structure.name.split("_")[0] if by_name else ""
    kind = next((str(structure.provenance[k]) for k in KINDS if k in structure.provenance), named)
    n_layers = int(get_layers(structure.atoms).max()) + 1
    formula = f"{structure.atoms.symbols.formula.reduce()[0]:hill}"
    layers = "1 layer" if n_layers == 1 else f"{n_layers} layers"
    return ", ".join(part for part in (kind, formula, layers) if part)


def read_fractions(where: str, given: Any) -> tuple[float, float, float] | None:
    """Check fractions of train, val and test as a user gives them; None stays None.

    Raises:
        ConfigError: not three positive numbers with sum 1.
    """
    if given is None:
        return None
    numbers = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
    fine = len(numbers) == len(SUBSETS) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and x > 0.0 for x in numbers
    )
    if not fine or abs(sum(numbers) - 1.0) > 1e-6:
        raise ConfigError(
            message(
                where,
                f"{given!r}",
                "a JSON file, null, or fractions of train, val and test with sum 1",
                "Give for example [0.8,0.1,0.1].",
            )
        )
    train, val, test = (float(x) / sum(numbers) for x in numbers)
    return train, val, test


def split_structures(
    structures: Iterable[LabelledStructure],
    fractions: Sequence[float] | None = None,
    seed: int = SEED,
    by_name: bool = False,
) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Divide structures over train, val and test, each stratum in the same proportions.

    Args:
        structures: of the data set, in any order; their blocks are not looked at.
        fractions: of train, val and test; None for ``FRACTIONS``, or as near to them as one
            structure in each subset allows.
        seed: any integer.
        by_name: see ``find_stratum``.

    Returns:
        Subset → sorted names, and the provenance for ``write_split``.

    Raises:
        DataError: fewer than three structures, or a subset stays empty.
        ConfigError: fractions that cannot be.
    """
    strata = {structure.name: find_stratum(structure, by_name) for structure in structures}
    n = len(strata)
    if n < len(SUBSETS):
        raise DataError(
            message(
                "split",
                f"{n} structures",
                "at least three, one each to train, validate and test on",
                "Add structures.",
            )
        )
    chosen = read_fractions("split", fractions)
    if chosen is None:
        few = max(FRACTIONS[1], 1.0 / n)
        chosen = (1.0 - 2.0 * few, few, few)
    split = make_split(strata, dict(zip(SUBSETS, chosen, strict=True)), seed, strata)
    counts: dict[str, dict[str, int]] = {}
    for subset, names in split.items():
        for name in names:
            row = counts.setdefault(strata[name], dict.fromkeys(SUBSETS, 0))
            row[subset] += 1
    provenance = {"fractions": list(chosen), "seed": seed, "strata": dict(sorted(counts.items()))}
    return split, provenance
