"""The sparse_bands stage on a twisted bilayer of the toy: states, resumption, continuum model."""

import numpy as np
import pytest
import scipy.linalg
import toy_pipelines
from old_runs import unpack_run
from toy_pipelines import execute

from mlepi.errors import ConfigError
from mlepi.observables.sparse_bands import stage as module
from mlepi.observables.sparse_bands.moire import measure_stackings
from mlepi.observables.sparse_bands.solved_points import fold_kpoint
from mlepi.observables.sparse_bands.stage import SparseBandsStage
from mlepi.pipeline.sources import Source
from mlepi.report import write_report
from mlepi.results import ResultsStore

STAGES = ("structure", "hamiltonian", "sparse_bands")
SETTINGS = {
    "valence_electrons": {6: 1},
    "route": ["K", "Γ", "M", "K'"],
    "spacing": 0.25,
    "n_states": 8,
    "tolerance": 1e-8,
    "backend": "superlu",
    "memory_limit": None,
    "proof": "first",
    "guess": None,
    "electronic_temperature": 10.0,
    "continuum": False,
    "continuum_velocity": None,
    "continuum_w_aa": None,
    "continuum_w_ab": None,
}
TWISTED = {"_target_": "toy_models.TwistedElectron"}
GIVEN = {"continuum_velocity": 5.8, "continuum_w_aa": 0.1, "continuum_w_ab": 0.1}


def make_run(folder, reuse="auto", electron=TWISTED, **settings):
    twisted = {"_target_": "mlepi.structures.build_twisted_bilayer", "m": 3, "r": 1}
    return toy_pipelines.make_run(
        folder,
        stages={"sparse_bands": SparseBandsStage(**{**SETTINGS, **settings})},
        temperatures=(0.0,),
        n_samples=1,
        supercell=(1, 1, 1),
        structure=Source("structure", twisted),
        phonon=Source("phonon", None),
        electron=Source("electron", electron),
        reuse=reuse,
    )


def classes(run):
    return {name: type(stage) for name, stage in run.stages.items()}


@pytest.fixture
def solved(monkeypatch):
    """Numbers of k-points that were solved, one entry each."""
    found, solve = [], module.solve_numbered_states
    monkeypatch.setattr(
        module, "solve_numbered_states", lambda *a, **k: found.append(1) or solve(*a, **k)
    )
    return found


def test_states_along_the_path(tmp_path):
    run = make_run(tmp_path, proof="all")
    text = execute(run, STAGES)
    record = run.read("sparse_bands")
    assert record.labels == ("K", "Γ", "M", "K'")
    _, hamiltonian, overlap = run.equilibrium()
    for kpoint, energies in zip(record.kpoints, record.energies, strict=True):
        exact = scipy.linalg.eigh(
            hamiltonian.dense(kpoint), overlap.dense(kpoint), eigvals_only=True
        )
        np.testing.assert_allclose(
            energies, exact[record.first_state : record.first_state + 8], atol=1e-10
        )
    assert record.first_state == 148 // 2 - 4
    assert record.proven == len(record.kpoints)
    assert record.error_bound < 1e-6
    assert record.energies[:, 3].min() < record.fermi_energy < record.energies[:, 4].max()
    np.testing.assert_allclose(record.energies[0], record.energies[-1], atol=1e-12)
    assert record.continuum is None
    assert f"8 states at {len(record.kpoints)} k-points" in text
    write_report(tmp_path, classes(run))
    assert [path.name for path in (tmp_path / "figures").glob("*.png")] == ["moire_bands.png"]


def test_finished_points_are_not_solved_again(tmp_path, solved):
    execute(make_run(tmp_path), STAGES)
    solved.clear()
    run = make_run(tmp_path, spacing=0.2)
    execute(run, STAGES)
    new = {fold_kpoint(k) for k in run.read("sparse_bands").kpoints}
    assert 0 < len(solved) < len(new)
    solved.clear()
    execute(make_run(tmp_path, spacing=0.2, electronic_temperature=20.0), STAGES)
    assert not solved
    execute(make_run(tmp_path, spacing=0.2, proof="all"), STAGES)
    assert len(solved) == len(new) - 1
    execute(make_run(tmp_path, spacing=0.2, n_states=6), STAGES)
    assert len(solved) == 2 * len(new) - 1


def test_points_of_other_code_are_solved_again_unless_they_are_kept(tmp_path, solved, monkeypatch):
    execute(make_run(tmp_path), STAGES)
    n_points = len(solved)
    monkeypatch.setattr(module, "fingerprint_modules", lambda modules: "other")
    execute(make_run(tmp_path, "always", electronic_temperature=20.0), STAGES)
    assert len(solved) == n_points
    execute(make_run(tmp_path, electronic_temperature=30.0), STAGES)
    assert len(solved) == 2 * n_points
    execute(make_run(tmp_path, electronic_temperature=40.0), STAGES)
    assert len(solved) == 2 * n_points
    execute(make_run(tmp_path, "never", electronic_temperature=40.0), STAGES)
    assert len(solved) == 3 * n_points


def test_points_of_the_first_format_serve_again(tmp_path, solved):
    """Three of five k-points were solved when the run was killed."""
    half, whole = (unpack_run(name, tmp_path) for name in ("half_bands", "bands"))
    old = (half / "parts" / "bands.0.part").read_bytes()
    run = make_run(
        half,
        electron={"_target_": "mlepi.reference_systems.TightBinding"},
        **{"valence_electrons": {6: 4}, "tolerance": 1e-6, "memory_limit": 12.0},
    )
    execute(run, ["sparse_bands"])
    assert len(solved) == 2
    record = run.read("sparse_bands")
    expected = ResultsStore(whole).read("sparse_bands", type(record))
    # rounding of the two that are solved here is the processor's
    np.testing.assert_allclose(record.energies, expected.energies, rtol=0, atol=1e-12)
    assert (half / "parts" / "bands.0.part").read_bytes() == old


def test_continuum_model_from_the_same_network(tmp_path):
    run = make_run(tmp_path, continuum=True, proof="none")
    text = execute(run, STAGES)
    continuum = run.read("sparse_bands").continuum
    structure = run.read("structure")
    measured = measure_stackings(structure.atoms, structure.spacings, run.networks.predict, {6: 1})
    assert measured.velocity == pytest.approx(1.5 * 2.7 * 1.42, rel=0.15)
    assert measured.w_aa > 0.0
    assert measured.w_ab > 0.0
    assert (continuum.velocity, continuum.w_aa, continuum.w_ab) == (
        measured.velocity,
        measured.w_aa,
        measured.w_ab,
    )
    assert continuum.source == "AA and AB bilayers of the same network"
    assert continuum.twist == pytest.approx(9.43, abs=0.01)
    assert continuum.distances[-1] == pytest.approx(run.read("sparse_bands").distances[-1])
    assert "continuum model at 9.430°" in text
    page = write_report(tmp_path, classes(run)).read_text(encoding="utf-8")
    assert "width of the four bands around neutrality" in page
    assert "AA and AB bilayers of the same network" in page


def test_continuum_model_with_given_parameters(tmp_path):
    run = make_run(tmp_path, continuum=True, proof="none", guess=0.1, **GIVEN)
    execute(run, STAGES)
    continuum = run.read("sparse_bands").continuum
    assert continuum.source == "config"
    assert continuum.magic_angle == pytest.approx(0.96, abs=0.05)


def test_atomistic_and_continuum_bands_agree_at_gamma(tmp_path):
    """The gap between the low bands, at a twist where both models are nearly two cones."""
    run = make_run(tmp_path, continuum=True, proof="none")
    execute(run, STAGES)
    record = run.read("sparse_bands")
    place = int(np.argmin(np.abs(record.continuum.distances - record.label_distances[1])))
    at_gamma = record.continuum.energies[place]
    middle = len(at_gamma) // 2
    atomistic = record.energies[
        int(np.argmin(np.abs(record.distances - record.label_distances[1])))
    ]
    ours = atomistic[4:6].mean() - atomistic[2:4].mean()
    assert ours == pytest.approx(
        at_gamma[middle : middle + 2].mean() - at_gamma[middle - 2 : middle].mean(), rel=0.15
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"n_states": 7}, r"n_states: got 7; expected an even number from 6 on"),
        ({"n_states": 4}, r"n_states: got 4; expected an even number from 6 on"),
        ({"proof": "some"}, r"proof: got 'some'; expected one of \['first', 'all', 'none'\]"),
    ],
)
def test_settings_without_meaning(changes, text):
    with pytest.raises(ConfigError, match=rf"stage\.sparse_bands\.{text}"):
        SparseBandsStage(**{**SETTINGS, **changes})


def test_a_kpoint_and_its_negative_are_one():
    kpoint = np.array([1 / 3, 1 / 3, 0.0])
    assert fold_kpoint(kpoint) == fold_kpoint(-kpoint) == fold_kpoint(kpoint - np.array([1, 2, 0]))
    assert fold_kpoint(np.array([0.5, 0.0, 0.0])) == (0.5, 0.0, 0.0)
    assert fold_kpoint(np.array([1.0 - 1e-12, 0.0, 0.0])) == (0.0, 0.0, 0.0)
    assert fold_kpoint(kpoint) != fold_kpoint(np.array([1 / 3, -1 / 3, 0.0]))
