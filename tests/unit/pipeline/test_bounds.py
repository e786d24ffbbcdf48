"""Physical settings beyond all bounds are named with their unit."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mlepi.pipeline.bounds import BOUNDS, list_out_of_bounds

CONF = Path(__file__).parents[3] / "conf"


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        ({"temperature": 1e13}, "temperature: got 1e+13 K; expected 0 to 10000 K. Give it in K."),
        ({"temperature": [0, 3e4]}, "temperature: got 30000 K;"),
        ({"structure": {"spacing": 6e10}}, "structure.spacing: got 6e+10 Å;"),
        ({"stage": {"phonon": {"displacement": 1.0}}}, "displacement: got 1 Å; expected 1e-05 to"),
        ({"stage": {"fermi_velocity": {"windows": [[0, 0.1], [0, 40]]}}}, "windows: got 40 1/Å;"),
        ({"stage": {"dos": {"width": 150}}}, "stage.dos.width: got 150 eV; expected 0 to 20 eV."),
    ],
)
def test_values_beyond_their_bounds_are_named_with_their_unit(plain, text):
    (problem,) = list_out_of_bounds(plain)
    assert text in problem


def test_values_within_bounds_and_other_kinds_are_not(tmp_path):
    assert list_out_of_bounds({"temperature": [0, 9999.5], "structure": "file.cif"}) == []
    assert list_out_of_bounds({"level_shift": "auto", "stage": {"dos": {"width": None}}}) == []


def test_every_bound_is_of_a_key_that_exists():
    stages = {p.stem: OmegaConf.load(p) for p in (CONF / "stage").glob("*.yaml")}
    for key in BOUNDS:
        if key.startswith("stage."):
            _, stage, name, *_ = key.split(".")
            assert name in stages[stage], key
