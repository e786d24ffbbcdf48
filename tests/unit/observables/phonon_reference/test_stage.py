"""The phonon_reference stage: springs against their own frequencies, and what it refuses."""

import json

import numpy as np
import pytest
import toy_pipelines
from toy_pipelines import execute

from mlepi.errors import ConfigError, DataError
from mlepi.observables.phonon_reference.stage import PhononReferenceStage
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.pipeline.sources import Source
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene
from mlepi.units import THZ_TO_INVERSE_CM

STAGES = ("structure", "phonon", "phonon_reference")
POINTS = {"Γ": [0, 0, 0], "K": ["1/3", "2/3", 0], "off": ["1/3", 0, 0]}


def make_run(folder, file=None, rigid_layers=None, supercell=(3, 3, 1), rigid_steps=(0.01,)):
    stage = PhononReferenceStage(file=file, rigid_layers=rigid_layers, rigid_steps=rigid_steps)
    structure = {"_target_": "mlepi.structures.build_graphene", "stacking": "AB"}
    return toy_pipelines.make_run(
        folder,
        stages={"phonon_reference": stage},
        supercell=supercell,
        structure=Source("structure", structure),
        phonon=Source("phonon", {"_target_": "mlepi.reference_systems.HoneycombSprings"}),
    )


@pytest.fixture(scope="module")
def own():
    """Frequencies of the springs at ``POINTS``, cm⁻¹."""
    springs = compute_force_constants(build_graphene("AB"), HoneycombSprings(), (3, 3, 1))
    q = np.array([[0, 0, 0], [1 / 3, 2 / 3, 0], [1 / 3, 0, 0]])
    return dict(zip(POINTS, compute_frequencies(springs, q) * THZ_TO_INVERSE_CM, strict=True))


def write(folder, own, change=lambda name, values: values):
    points = [
        {
            "name": name,
            "q": POINTS[name],
            "group": "Γ" if name == "Γ" else "edge",
            "lowest_left_out": 6 if name == "Γ" else 0,
            "frequencies": change(name, values[6:] if name == "Γ" else values).tolist(),
        }
        for name, values in own.items()
    ]
    path = folder / "reference.json"
    content = {"source": "springs", "unit": "cm⁻¹", "qpoints": points}
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def test_springs_have_their_own_frequencies(tmp_path, own):
    rigid = tmp_path / "rigid.json"
    modes = {"shear": {"a": [1, 2], "b": [30, 32]}, "breathing": {"b": [60, 80]}}
    rigid.write_text(json.dumps({"unit": "cm⁻¹", "modes": modes}), encoding="utf-8")
    run = make_run(tmp_path, write(tmp_path, own), str(rigid))
    said = execute(run, STAGES)
    record = run.read("phonon_reference")
    assert record.rmse() * THZ_TO_INVERSE_CM == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(record.errors).sum() == 6
    assert record.contained.tolist() == [1, 1, 1]
    assert record.source == "springs"
    # Γ at both ends, K at its label, (1/3, 0) at two thirds of Γ–M
    first, m, k, last = record.band_label_distances
    np.testing.assert_allclose(record.places, [first, last, k, 2 * m / 3], atol=1e-6)
    assert record.place_qpoints.tolist() == [0, 0, 1, 2]
    assert record.rigid_frequencies["shear"].shape == (2, 1)
    assert record.rigid_frequencies["breathing"].shape == (1, 1)
    np.testing.assert_allclose(record.rigid_reference["shear"] * THZ_TO_INVERSE_CM, [30, 32])
    assert "30 frequencies at 3 q-points within 0.0 cm⁻¹ (RMSE), shear" in said
    assert not run.stages["phonon_reference"].doubts(record)


def test_errors_are_pooled_over_the_points_of_a_group(tmp_path, own):
    def change(name, values):
        return values - 8.0 * (np.arange(len(values)) == 0) if name == "off" else values

    run = make_run(tmp_path, write(tmp_path, own, change))
    execute(run, STAGES)
    record = run.read("phonon_reference")
    found = record.rmse_by_qpoint() * THZ_TO_INVERSE_CM
    np.testing.assert_allclose(found, [0.0, 0.0, 8.0 / np.sqrt(12)], atol=1e-6)
    groups = record.rmse_by_group()
    assert groups["edge"] * THZ_TO_INVERSE_CM == pytest.approx(8.0 / np.sqrt(24))
    assert groups["Γ"] == pytest.approx(0.0, abs=1e-8)
    assert record.rigid_frequencies == {}
    assert record.rigid_steps.size == 0


def test_a_wave_vector_between_those_of_the_supercell_is_told(tmp_path, own):
    run = make_run(tmp_path, write(tmp_path, own), supercell=(2, 2, 1))
    said = execute(run, STAGES)
    record = run.read("phonon_reference")
    assert record.contained.tolist() == [1, 0, 0]
    assert "2×2×1 supercell does not contain the wave vectors K, off" in " ".join(said.split())


def test_what_cannot_be_compared_is_refused(tmp_path, own):
    with pytest.raises(ConfigError, match=r"stage.phonon_reference.file: got null"):
        execute(make_run(tmp_path / "none"), STAGES)
    with pytest.raises(ConfigError, match=r"rigid_steps: got \[0.0\]; expected displacements > 0"):
        make_run(tmp_path, rigid_steps=(0.0,))
    few = write(tmp_path, own, lambda name, values: values[:-1])
    with pytest.raises(DataError, match=r"Γ: got 11 branches; expected 12, three per atom"):
        execute(make_run(tmp_path / "few", few), STAGES)
    with pytest.raises(DataError, match=r"stage.phonon_reference.file: got 'nothing.json'"):
        execute(make_run(tmp_path / "no_file", "nothing.json"), STAGES)
