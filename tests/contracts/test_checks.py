"""Every check of docs/data_formats.md on DFT of OpenMX: as it is, and with one thing changed.

The genuine file is slid bilayer graphene, OpenMX 4.0 (tests/data/openmx_slide.npz), as a legacy
DeepH folder; k-meshes are CP2K's of graphene, which lie beside the repository.
"""

from __future__ import annotations

import dataclasses
import json

import h5py
import numpy as np
import pytest
from foreign_files import foreign
from hamiltonian_samples import real_sample, write_legacy_folder

from mlepi.errors import DataError, UnusualDataWarning
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.kmesh_files import read_kmesh

RADIUS = {"C": 6.0 * 0.529177210903}
BOTH = ("hamiltonians.h5", "overlaps.h5")
NEAR = "[0, 0, 0, 1, 2]"
"""Key of a pair of nearest neighbours, atoms counted from 1."""


def find_weak_pair():
    """Key of a pair whose overlap is small beside the smallest eigenvalue of S, 2e-3."""
    s = real_sample()
    sizes = np.array([np.abs(block).max() for block in s.overlap])
    *cell, i, j = s.pairs[np.flatnonzero((sizes > 2e-4) & (sizes < 5e-4))[0]].tolist()
    return json.dumps([*cell, i + 1, j + 1])


WEAK = find_weak_pair()

pytestmark = pytest.mark.filterwarnings("ignore::mlepi.errors.UnusualDataWarning")


def read(folder, **options):
    return read_deeph_legacy(folder, **{"radii": RADIUS, **options})


@pytest.fixture
def folder(tmp_path):
    write_legacy_folder(tmp_path / "slide", real_sample())
    return tmp_path / "slide"


def test_the_genuine_file_passes_all_of_them(folder):
    assert "unusual" not in read(folder).provenance


def reversed_key(key):
    *cell, i, j = json.loads(key)
    return json.dumps([*(-c for c in cell), j, i])


def change(*files, **blocks):
    """Change blocks of files by their keys; None removes one."""

    def doctor(folder):
        for name in files:
            with h5py.File(folder / name, "a") as file:
                for key, function in blocks["by_key"].items():
                    new = function(np.array(file[key]))
                    del file[key]
                    if new is not None:
                        file[key] = new

    return doctor


def drop(*files, key=NEAR, directions=2):
    keys = [key, reversed_key(key)][:directions]
    return change(*files, by_key=dict.fromkeys(keys, lambda _: None))


def both(*doctors):
    return lambda folder: [doctor(folder) for doctor in doctors]


def add(key, function=lambda block: block):
    """Add a pair again under another spelling of its key."""

    def doctor(folder):
        for name in BOTH:
            with h5py.File(folder / name, "a") as file:
                file[key.replace(" ", "")] = function(np.array(file[key]))

    return doctor


def shift_entry(amount):
    def function(block):
        block[0, 3] += amount
        return block

    return function


def sample(**changes):
    """Write the folder again from a changed sample."""

    def doctor(folder):
        before = real_sample()
        new = {key: function(before) for key, function in changes.items()}
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        write_legacy_folder(folder, dataclasses.replace(before, **new))

    return doctor


def info(**values):
    def doctor(folder):
        path = folder / "info.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return doctor


def turn(matrix):
    """Other orbitals, |φ'⟩ = Σ T|φ⟩, in both matrices."""
    T = np.eye(8) + matrix

    def of(name):
        return lambda s: [T @ block @ T.T for block in getattr(s, name)]

    return sample(hamiltonian=of("hamiltonian"), overlap=of("overlap"))


def entries(**values):
    matrix = np.zeros((8, 8))
    for place, value in values.items():
        matrix[int(place[1]), int(place[2])] = value
    return matrix


def scale_offsite(factor):
    return lambda s: [
        block if not any(pair[:3]) and pair[3] == pair[4] else factor * block
        for pair, block in zip(s.pairs.tolist(), s.overlap, strict=True)
    ]


def invert_sizes(s):
    sizes = [max(float(np.linalg.norm(block)), 1e-6) for block in s.overlap]
    return [block / size**2 for block, size in zip(s.hamiltonian, sizes, strict=True)]


def reorder_p(s):
    places = [0, 1, 3, 4, 2, 6, 7, 5]
    return [block[places][:, places] for block in s.hamiltonian]


def moved(index, step):
    def positions(s):
        new = s.positions.copy()
        new[index] += step
        return new

    return positions


IMPOSSIBLE = {
    "indices": (
        sample(pairs=lambda s: s.pairs + np.array([0, 0, 0, 1, 1])),
        {},
        "atom indices from 2 to 5 for 4 atoms",
    ),
    "sizes": (sample(shells=lambda s: {6: [0, 0, 1]}), {}, "a block of shape"),
    "NaN in H": (
        change("hamiltonians.h5", by_key={NEAR: shift_entry(np.nan)}), {}, "1 Hamiltonian values"
    ),
    "NaN in S": (change("overlaps.h5", by_key={NEAR: shift_entry(np.nan)}), {}, "1 overlap values"),
    "no on-site block of H": (
        change("hamiltonians.h5", by_key={"[0, 0, 0, 3, 3]": lambda _: None}),
        {},
        "a Hamiltonian with no on-site block for 1 atoms .first: atom 2",
    ),
    "no on-site block of S": (
        change("overlaps.h5", by_key={"[0, 0, 0, 3, 3]": lambda _: None}),
        {},
        "an overlap with no on-site block for 1 atoms .first: atom 2",
    ),
    "two blocks of a pair": (
        add(NEAR, shift_entry(1e-3)), {}, "pair listed twice, .* differ by 0.001"
    ),
    "H not Hermitian": (
        change("hamiltonians.h5", by_key={NEAR: shift_entry(2e-3)}),
        {},
        "Hamiltonian blocks that differ from their transposed reverse by up to 0.002",
    ),
    "S not Hermitian": (
        change("overlaps.h5", by_key={NEAR: shift_entry(2e-4)}),
        {},
        "overlap blocks that differ from their transposed reverse by up to 0.0002",
    ),
    "an orbital that hardly overlaps with itself": (
        change("overlaps.h5", by_key={"[0, 0, 0, 1, 1]": lambda block: 0.4 * block}),
        {},
        r"an on-site overlap of 0\.(4|39)",
    ),
    "a pair beyond the radii": (lambda _: None, {"radii": {"C": 2.0}}, "sum of the orbital radii"),
    "another order of functions": (lambda _: None, {"order": "e3nn"}, "s–p overlaps that deviate"),
    "cells reversed": (
        sample(pairs=lambda s: s.pairs * np.array([-1, -1, -1, 1, 1])),
        {},
        "bond direction|sum of the orbital radii|symmetric around|correlate",
    ),
    "another structure": (
        sample(positions=moved(1, [1.0, 0.8, 0.5])), {}, "deviate from the bond direction|radii"
    ),
    "H in another order": (sample(hamiltonian=reorder_p), {}, "% of which is not symmetric"),
    "H of other sizes": (sample(hamiltonian=invert_sizes), {}, "whose sizes hardly correlate"),
    "S not positive definite": (
        sample(overlap=scale_offsite(1.3)), {}, "an overlap matrix with smallest eigenvalue -"
    ),
    "Fermi energy below all levels": (info(fermi_level=-300.0), {}, "Fermi energy -300"),
    "spin": (info(isspinful=True), {}, "spinful data"),
}  # fmt: skip

UNUSUAL = {
    "normalisation": (turn(entries(e00=0.01)), {"normalisation": 0.02}),
    "shells_overlap": (turn(entries(e01=0.01)), {"shells_overlap": 0.01}),
    "not_two_centre": (sample(positions=moved(1, [0.0, 0.0, 0.01])), {"not_two_centre": None}),
    "missing_pairs": (drop(*BOTH, key=WEAK), {"missing_pairs": None}),
    "one_direction": (drop(*BOTH, directions=1), {"one_direction": 1.0}),
    "duplicate_pairs": (add(NEAR), {"duplicate_pairs": 1.0}),
    "h_pairs_without_s": (
        both(
            drop("overlaps.h5", key=WEAK),
            change("hamiltonians.h5", by_key=dict.fromkeys(
                [WEAK, reversed_key(WEAK)], lambda block: 300 * block)),
        ),
        {"h_pairs_without_s": None, "missing_pairs": None},
    ),
    "energy_zero": (
        sample(
            hamiltonian=lambda s: [
                h + 20.0 * o for h, o in zip(s.hamiltonian, s.overlap, strict=True)
            ],
            fermi_energy=lambda s: s.fermi_energy + 20.0,
        ),
        {"energy_zero": None},
    ),
    "fermi_above_all": (info(fermi_level=300.0), {"fermi_above_all": None, "energy_zero": 300.0}),
    "near_singular": (
        turn(entries(e11=-0.95, e10=1.0)), {"near_singular": None, "shells_overlap": None}
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("doctor", "options", "text"), [pytest.param(*case, id=k) for k, case in IMPOSSIBLE.items()]
)
def test_what_cannot_be_is_refused(folder, doctor, options, text):
    doctor(folder)
    with pytest.raises(DataError, match=text):
        read(folder, **options)


@pytest.mark.parametrize(
    ("doctor", "expected"), [pytest.param(*case, id=kind) for kind, case in UNUSUAL.items()]
)
def test_what_is_unusual_is_remarked(folder, doctor, expected):
    doctor(folder)
    with pytest.warns(UnusualDataWarning):
        remarks = read(folder).provenance["unusual"]
    assert set(expected) <= set(remarks)
    for kind, amount in expected.items():
        assert amount is None or remarks[kind] == pytest.approx(amount, rel=0.05)


def test_settings_that_were_found_by_trial_are_remarked():
    found = read_kmesh(foreign("graphene-E2g"), 10)
    assert found.provenance["unusual"]["found_by_trial"] == 1.0
    assert (found.provenance["mesh"], found.provenance["order"]) == ([8, 8, 1], "pyscf")
