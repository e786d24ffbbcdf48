"""The script that compares thermal supercells of raw labels with their DFT bands."""

import json

import numpy as np
import pytest
import sample_bands as script

from mlepi.exports.labels import collect_labels
from mlepi.observables.labelled_bands.compare import Comparison
from mlepi.observables.labelled_bands.record import LabelledBandsRecord
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.reference_systems import TightBinding
from mlepi.structures import build_graphene

REPEATS = (2, 2, 1)


class Shifted(TightBinding):
    """The model of the labels, with a level shift."""

    level_shift = LevelShift(0.5, 1.0)


def test_tables_and_figures_show_what_was_found(tmp_path):
    model = Shifted(orbitals="sp", orthogonal=False)
    atoms = build_graphene(stacking="AB", spacing=3.35).repeat(REPEATS)
    atoms.positions += np.random.default_rng(0).normal(0.0, 0.02, atoms.positions.shape)
    matrices = model.hamiltonian(atoms), model.overlap(atoms)
    labels = collect_labels("toy", atoms, *matrices, fermi_energy=0.0)
    sample = script.compare(labels, model, Comparison(REPEATS, spacing=1.0, window=3.0))
    record = LabelledBandsRecord("labels", REPEATS, 3.0, {"toy": sample})
    text = script.write_results("some", record, tmp_path)
    n_kpoints = len(sample.kpoints)
    assert f"| toy | 16 | {n_kpoints} | {sample.n_levels} | as predicted | 0.0 | 0.0 |" in text
    assert "| with the level shift | " in text
    assert (tmp_path / "sample_bands_toy.png").stat().st_size > 1000
    found = json.loads((tmp_path / "sample_bands.json").read_text(encoding="utf-8"))
    errors = found["samples"][0]["errors"]
    assert errors["plain"]["rms"] == pytest.approx(0.0, abs=1e-9)
    assert errors["shifted"]["rms"] == pytest.approx(sample.shifted.rms)
