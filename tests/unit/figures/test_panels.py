"""Panels hold what they are given; structures are drawn to scale."""

import re

import numpy as np
import pytest
from ase import Atoms

from mlepi.figures.panels import Choice, Vibrations, build_map, build_modes, build_plot
from mlepi.figures.structure_view import describe_structure, draw_structure
from mlepi.structures import build_graphene


def test_a_choice_of_one_is_none():
    choices = (Choice("model", ("slope",)), Choice("window", ("a", "b")))
    traces = [{"x": [0.0], "y": [1.0], "panel": 1, "choose": {"window": "a"}}]
    content = build_plot(traces, (("T", "v"), ("k", "")), choices).content
    assert [choice["name"] for choice in content["choices"]] == ["window"]
    assert content["data"][0]["xaxis"] == "x2"
    assert content["layout"]["xaxis2"]["anchor"] == "y2"


def test_maps_are_stored_with_rows_of_the_vertical_axis():
    values = np.arange(6.0).reshape(3, 2)
    content = build_map(
        np.arange(3.0),
        np.arange(2.0),
        {"0 K": values},
        ("k", "E", "A"),
        {"0 K": (np.array([1.0]), np.array([[0.1, 0.2]]))},
    ).content
    (frame,) = content["frames"]
    assert frame["z"] == values.T.tolist()
    assert frame["points"] == {"x": [1.0, 1.0], "y": [0.1, 0.2]}
    assert content["top"] == 5.0


def test_the_atom_that_moves_most_moves_by_one():
    """Light atoms move more than heavy ones with the same eigenvector."""
    atoms = Atoms("HC", [(0, 0, 0), (1, 0, 0)], cell=np.eye(3) * 5, pbc=True)
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0][None].astype(complex)
    found = Vibrations(
        atoms=atoms,
        distances=np.zeros(1),
        qpoints=np.zeros((1, 3)),
        frequencies=np.arange(6.0)[None],
        vectors=vectors,
        ticks=((0.0, "Γ"),),
        dos=(np.zeros(2), np.zeros(2)),
        labels=("f", "d"),
    )
    content = build_modes(found).content
    moves = unpack_moves(content).reshape(6, 2, 3, 2)
    lengths = np.sqrt((moves**2).sum(axis=(2, 3)))
    np.testing.assert_allclose(lengths.max(axis=1), 1.0, atol=1e-5)
    shape = vectors[0].T.reshape(6, 2, 3) / np.sqrt(atoms.get_masses())[None, :, None]
    expected = np.linalg.norm(shape, axis=2)
    np.testing.assert_allclose(lengths, expected / expected.max(axis=1)[:, None], atol=1e-5)


def unpack_moves(content):
    import base64

    packed = content["moves"]
    return np.frombuffer(base64.b64decode(packed["bdata"]), "<f4")


@pytest.mark.parametrize("stacking", ["monolayer", "AB"])
def test_structures_are_drawn_from_above_and_from_the_side(stacking):
    atoms = build_graphene(stacking=stacking)
    drawn = draw_structure(atoms)
    above, beside = drawn.split("<svg")[1:]
    dots = re.search(r'class="atoms" d="([^"]*)"', above)[1].count("M")
    assert dots % len(atoms) == 0
    lines = re.search(r'class="bonds" d="([^"]*)"', above)[1]
    a, b = (
        np.array(end.split(), dtype=float) for end in re.match(r"M(.+?)L(.+?)M", lines).groups()
    )
    assert np.linalg.norm(a - b) == pytest.approx(1.42, abs=0.02)
    assert "outline" in above
    assert "outline" not in beside
    layers = {"monolayer": "1 layer,", "AB": "2 layers,"}[stacking]
    assert layers in describe_structure(atoms)


def test_a_molecule_without_a_cell_is_drawn_too():
    assert draw_structure(Atoms("CO", [(0, 0, 0), (1.1, 0, 0)])).count("<svg") == 2
