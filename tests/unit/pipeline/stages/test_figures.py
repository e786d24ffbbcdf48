"""What the stages up to the Hamiltonian show of their records, and what they doubt."""

import numpy as np
import pytest
from pipeline_records import (
    hamiltonian_record,
    phonon_record,
    sampling_record,
    structure_record,
)

from mlepi.pipeline.stages.hamiltonian.figure import PRESENTATION as HAMILTONIAN
from mlepi.pipeline.stages.hamiltonian.stage import HamiltonianStage
from mlepi.pipeline.stages.phonon.figure import plot_phonons
from mlepi.pipeline.stages.phonon.stage import PhononStage
from mlepi.pipeline.stages.sampling.figure import plot_sampling
from mlepi.pipeline.stages.sampling.stage import SamplingStage
from mlepi.pipeline.stages.structure.stage import StructureStage
from mlepi.units import THZ_TO_INVERSE_CM


def test_phonon_bands_are_drawn_in_inverse_centimetres():
    record = phonon_record()
    bands, dos = plot_phonons(record).axes
    drawn = np.array([line.get_ydata() for line in bands.lines[:12]]).T
    np.testing.assert_allclose(drawn, record.band_frequencies * THZ_TO_INVERSE_CM)
    assert bands.get_ylabel() == "frequency (cm⁻¹)"
    assert [label.get_text() for label in bands.get_xticklabels()] == ["Γ", "M", "K", "Γ"]
    assert bands.get_xlim() == (0.0, 3.0)
    (line,) = dos.lines
    np.testing.assert_allclose(line.get_xdata(), record.dos)
    np.testing.assert_allclose(line.get_ydata(), record.dos_frequencies * THZ_TO_INVERSE_CM)
    assert dos.get_xlabel() == "DOS (1/THz)"


def test_sampling_is_drawn_over_the_harmonic_distribution():
    record = sampling_record()
    in_plane, out_of_plane = plot_sampling(record).axes
    assert (in_plane.get_title(), out_of_plane.get_title()) == ("in plane", "out of plane")
    assert in_plane.get_xscale() == "log"
    for axes in (in_plane, out_of_plane):
        assert len(axes.containers) == 3  # one per temperature
        points, _, (bars,) = axes.containers[0].lines
        np.testing.assert_allclose(points.get_xdata(), [1, 10, 30])
        np.testing.assert_allclose(points.get_ydata(), 1.0)  # 0.02 of 0.02 Å², 0.01 of 0.01 Å²
    heights = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(heights, 2 * 0.002 / 0.01)
    assert in_plane.get_ylabel() == "⟨u²⟩ / harmonic ⟨u²⟩"


def test_nothing_is_drawn_where_nothing_moves():
    at_rest = sampling_record(mean_square_displacements=np.zeros((3, 4, 3)))
    assert not any(axes.containers for axes in plot_sampling(at_rest).axes)


def test_facts_of_the_structure():
    facts = dict(StructureStage.presentation().facts(structure_record()))
    assert facts["structure"] == "C4 from <builder> & co"
    assert facts["lattice"].startswith("a = 2.4600 Å, b = 2.4600 Å, c = 18.00 Å")
    assert facts["largest force on an atom"] == "0.0120 eV/Å"
    assert len(StructureStage.presentation().facts(structure_record(max_force=None))) == 2


def test_facts_of_phonons_name_the_rules_that_were_asked_for():
    facts = PhononStage.presentation().facts
    plain = dict(facts(phonon_record()))
    assert plain["sum-rule residual, before → after"] == "1.0e-03 → 1.0e-12 eV/Å²"
    assert plain["highest frequency of the bands"] == f"{44 * THZ_TO_INVERSE_CM:.1f} cm⁻¹"
    assert len(plain) == 4
    own = {"raw_rotational_residual": 0.5, "rotational_residual": 1e-9}
    rules = {**own, "raw_huang_residual": 2.0, "huang_residual": 3e-8}
    found = dict(facts(phonon_record(**rules)))
    assert found["… rotational (Born–Huang)"] == "5.0e-01 → 1.0e-09 eV/Å"
    assert found["… Huang, per cell"] == "2.0e+00 → 3.0e-08 eV"


def test_facts_of_samples_and_overlap():
    facts = dict(SamplingStage.presentation().facts(sampling_record()))
    assert facts["samples"].startswith("MonteCarlo, 30 in 30 independent groups, effective")
    assert facts["ZA share of ⟨u²⟩"] == "10 % at 0 K, 20 % at 150 K, 30 % at 300 K"
    left_out = dict(SamplingStage.presentation().facts(sampling_record(project_out="ZA")))
    assert "ZA share of ⟨u²⟩ (left out)" in left_out
    assert HAMILTONIAN.facts(hamiltonian_record()) == [("smallest eigenvalue of S", "2.00e-03")]


@pytest.mark.parametrize(
    ("stage", "good", "bad", "expected"),
    [
        (PhononStage, phonon_record(), {"lowest_frequency": -0.3}, "-10.0 cm⁻¹ (imaginary)"),
        (
            PhononStage,
            phonon_record(),
            {"band_frequencies": np.full((7, 12), -0.3)},
            "of the 2×2×1 supercell, the phonon bands dip to -10.0 cm⁻¹",
        ),
        (
            SamplingStage,
            sampling_record(),
            {"n_soft_modes": 2, "imaginary": "freeze"},
            "2 soft modes were treated by imaginary=freeze",
        ),
        (SamplingStage, sampling_record(), {"advice": ("take 8",)}, "take 8"),
        (
            HamiltonianStage,
            hamiltonian_record(),
            {"smallest_overlap_eigenvalues": np.array([3e-5])},
            "smallest eigenvalue 3.0e-05 < 1e-04",
        ),
    ],
)
def test_doubts(stage, good, bad, expected):
    assert stage.doubts(good) == []
    (text,) = stage.doubts(type(good)(**{**vars(good), **bad}))
    assert expected in text
