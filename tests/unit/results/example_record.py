"""A record with a field of every kind."""

from dataclasses import dataclass, field

import numpy as np
from ase.build import bulk

from mlepi.results import unit


@dataclass(frozen=True)
class Inner:
    values: np.ndarray = field(metadata=unit("eV"))


@dataclass(frozen=True)
class Example:
    atoms: object
    inner: Inner
    table: dict
    name: str
    labels: tuple[str, ...]
    numbers: tuple[int, ...]
    count: int
    ratio: float = field(metadata=unit("Å"))
    flag: bool = True
    missing: float | None = None
    spectrum: np.ndarray | None = field(default=None, metadata=unit("1/eV"))


def example(scale=1.0):
    atoms = bulk("Si")
    atoms.arrays["layer"] = np.array([0, 1])
    atoms.set_masses([28.0, 29.5])
    return Example(
        atoms,
        Inner(np.arange(3.0) * scale),
        {"a": np.eye(2), "b": np.array([1, 2])},
        "K′ point, 0 → 1",
        ("Γ", "M"),
        (6, 6, 1),
        3,
        0.5,
        False,
        None,
        np.ones((2, 2)) * 1j,
    )
