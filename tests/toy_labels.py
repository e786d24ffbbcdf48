"""Structures of graphene, and codes that stand in for DFT, for the tests of labelling."""

import numpy as np

from mlepi.labelling import Fake
from mlepi.labelling.structure_files import NamedStructure
from mlepi.structures import build_graphene


class Told:
    """Keeps what a run says of itself."""

    def __init__(self):
        self.total = self.done = 0
        self.lines = []

    def start(self, total, done=0):
        self.total, self.done = total, done

    def advance(self, note=""):
        self.done += 1

    def tell(self, text):
        self.lines.append(text)


def displaced(n_structures, seed=0):
    """Return flat graphene with displaced atoms, a, b, c …"""
    structures = []
    for number in range(n_structures):
        atoms = build_graphene("monolayer")
        rng = np.random.default_rng([seed, number])
        atoms.positions += rng.normal(0.0, 0.02, atoms.positions.shape)
        kind = {"kind": "thermal"}
        structures.append(NamedStructure(f"{chr(97 + number)}_{number}", atoms, kind))
    return structures


def fake(**given):
    """Return the toy code with its defaults."""
    settings = {
        "orbitals": "s",
        "orthogonal": False,
        "seconds": 0.0,
        "fails": [],
        "fails_once": [],
    }
    return Fake(**{**settings, **given})
