"""What the stages up to the Hamiltonian show of their records, and what they doubt."""

import numpy as np
import pytest
from pipeline_records import (
    hamiltonian_record,
    phonon_record,
    sampling_record,
    structure_record,
)
from toys import honeycomb

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
    built = structure_record(source="mlepi.structures.build_graphene(stacking=AB)")
    told = dict(StructureStage.presentation().facts(built))["structure"]
    assert told == "C4 from build_graphene(stacking=AB)"
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


def interlayer(shear):
    """Layers that slide by so much in the cell, Å², and by 0.004 on the dense mesh."""
    here, mesh = (np.tile([value, 0.002], (3, 1, 1)) for value in (shear, 0.004))
    return {
        "supercell": (6, 6, 1),
        "interlayer_mesh": (48, 48, 1),
        "interlayer_motion": here,
        "harmonic_interlayer_motion": here,
        "mesh_interlayer_motion": mesh,
    }


def layered(in_plane, along):
    """Forces of so much in the plane on opposite atoms of each layer, and along z on all."""
    atoms = honeycomb(bilayer=True)
    atoms.arrays["layer"] = np.array([0, 0, 1, 1])
    forces = np.zeros((4, 3))
    forces[:, 0], forces[:, 2] = [in_plane, -in_plane] * 2, [-along, -along, along, along]
    return {"atoms": atoms, "residual_forces": forces}


def test_residual_forces_are_facts():
    facts = dict(PhononStage.presentation().facts(phonon_record(**layered(0.003, 0.004))))
    assert facts["largest residual force on an atom"] == "0.0050 eV/Å"
    layers = facts["residual out-of-plane force on each layer"]
    assert layers == "-0.0040, +0.0040 eV/Å per atom"
    old = dict(PhononStage.presentation().facts(phonon_record()))
    assert not any("residual" in name and "force" in name for name in old)


def test_motion_of_layers_is_tabulated_with_that_of_a_dense_mesh():
    (section,) = SamplingStage.presentation().sections
    assert section({"sampling": sampling_record()}) is None  # one layer, or an older file
    assert section({}) is None
    record = sampling_record(**interlayer(0.039), n_soft_mesh_modes=3)
    text, table = section({"sampling": record}).blocks
    assert "stage.sampling.project_out=interlayer_gamma freezes them. 3 modes" in text.text
    assert table.title == "Layers against each other, Γ modes in"
    assert table.header[2:5] == [
        "shear² (Å²), samples",
        "shear² (Å²), 6×6×1 cell",
        "shear² (Å²), 48×48×1 mesh",
    ]
    assert table.rows[2] == [
        *["300", "1–2", "0.0390", "0.0390", "0.0040", "0.00200", "0.00200", "0.00200"]
    ]
    frozen = sampling_record(**interlayer(0.002), project_out="interlayer_gamma")
    text, table = section({"sampling": frozen}).blocks
    assert table.title.endswith("Γ modes frozen")
    assert "with these modes frozen" in text.text


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
            SamplingStage,
            sampling_record(**interlayer(0.005)),
            interlayer(0.04),
            "by ⟨d²⟩ = 0.0400 Å² in this 6×6×1 cell and by 0.0040 Å² on a 48×48×1 mesh",
        ),
        (
            PhononStage,
            phonon_record(**layered(0.001, 0.0)),
            layered(0.02, 0.0),
            "The structure is not stationary: largest force on an atom 0.020 eV/Å, out of plane on "
            "the layers +0.000, +0.000 eV/Å per atom.",
        ),
        (
            PhononStage,
            phonon_record(**layered(0.0, 0.004)),
            layered(0.0, 0.012),
            "largest force on an atom 0.012 eV/Å, out of plane on the layers -0.012, +0.012 eV/Å",
        ),
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
