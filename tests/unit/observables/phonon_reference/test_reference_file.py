"""Files of frequencies that are known from elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.observables.phonon_reference.reference_file import read_reference, read_rigid_layers
from mlepi.units import PLANCK, THZ_TO_INVERSE_CM

DATA = Path(__file__).parents[4] / "data" / "blg_openmx"
POINT = {"q": [0, 0, 0], "frequencies": [1.0, 2.0]}


def write(folder, content):
    path = folder / "reference.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_shipped_reference_has_every_branch_of_four_atoms():
    found = read_reference(DATA / "phonon_frequencies.json")
    assert found.names == ("Γ", "K", "(1/3, 0)", "M", "(1/6, 0)")
    assert found.groups == ("3×3", "3×3", "3×3", "M", "(1/6, 0)")
    np.testing.assert_allclose(found.qpoints[1], [1 / 3, 2 / 3, 0.0])
    for values, unknown in zip(found.frequencies, (6, 0, 0, 0, 2), strict=True):
        assert len(values) == 12
        assert np.isnan(values[:unknown]).all()
        assert (np.diff(values[unknown:]) >= 0).all()
    assert found.frequencies[3][-1] * THZ_TO_INVERSE_CM == pytest.approx(1458.0)
    rigid = read_rigid_layers(DATA / "rigid_layers.json")  # of the densest mesh
    assert [x * THZ_TO_INVERSE_CM for x in rigid["shear"]] == pytest.approx([26.0, 27.4])
    assert [x * THZ_TO_INVERSE_CM for x in rigid["breathing"]] == pytest.approx([74.1, 74.1])


@pytest.mark.parametrize(
    ("unit", "per_thz"),
    [("THz", 1.0), ("cm-1; a note", THZ_TO_INVERSE_CM), ("meV", 1e3 * PLANCK)],
)
def test_units_and_defaults(tmp_path, unit, per_thz):
    point = {"q": ["1/2", 0, 0], "lowest_left_out": 1, "frequencies": [-1.0, None, 3.0]}
    found = read_reference(write(tmp_path, {"unit": unit, "qpoints": [point], "note": "x"}))
    np.testing.assert_allclose(
        found.frequencies[0], np.array([np.nan, -1.0, np.nan, 3.0]) / per_thz
    )
    assert found.names == found.groups == ("(1/2, 0, 0)",)
    assert found.source == "reference.json"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"qpoints": [POINT]}, r"unit None; expected one of THz"),
        ({"unit": "Hz", "qpoints": [POINT]}, r"unit 'Hz'"),
        ([1], r"unit None"),
        ({"unit": "THz"}, r"no list qpoints"),
        ({"unit": "THz", "qpoints": [{"q": [0, 0, 0]}]}, r"qpoints\[0\]: "),
        ({"unit": "THz", "qpoints": [{**POINT, "q": ["x", 0, 0]}]}, r"qpoints\[0\]\.q"),
        ({"unit": "THz", "qpoints": [{**POINT, "q": [0, 0]}]}, r"three fractional"),
        ({"unit": "THz", "qpoints": [{**POINT, "frequencies": [2, 1]}]}, r"ascending"),
        ({"unit": "THz", "qpoints": [{**POINT, "frequencies": [None]}]}, r"ascending"),
        ({"unit": "THz", "qpoints": [{**POINT, "frequencies": "x"}]}, r"a list of numbers"),
        ({"unit": "THz", "qpoints": [{**POINT, "lowest_left_out": -1}]}, r"lowest_left_out: -1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, text):
    with pytest.raises(DataError, match=text):
        read_reference(write(tmp_path, content))


@pytest.mark.parametrize(
    "modes", [None, {}, {"twist": {"a": [1, 2]}}, {"shear": {}}, {"shear": {"a": [2, 1]}}]
)
def test_rigid_layers_have_a_lowest_and_a_highest(tmp_path, modes):
    with pytest.raises(DataError, match=r"compare_with_dft"):
        read_rigid_layers(write(tmp_path, {"unit": "THz", "modes": modes}))
