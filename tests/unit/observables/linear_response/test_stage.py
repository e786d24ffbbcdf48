"""The linear_response stage on tight binding and springs: its parts, larger cells, known limits."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from pipeline_records import hamiltonian_record, phonon_record
from stored_records import read_record
from toy_ensembles import ToyElectron, toy_settings
from toy_models import HoneycombSprings
from toys import honeycomb

from mlepi.errors import ConfigError, PhysicsError
from mlepi.observables.linear_response.derivatives import (
    Crystal,
    build_responses,
    choose_bands,
    differentiate_twice,
)
from mlepi.observables.linear_response.stage import LinearResponseStage
from mlepi.observables.near_k.reference_bands import build_near_k
from mlepi.physics.bands.unfolding import cell_major_map
from mlepi.physics.coupling.second_order import (
    RANK_TOLERANCE,
    factor_covariance,
    sum_debye_waller,
    sum_fan,
)
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.samplers import Trajectory
from mlepi.physics.vibrations.thermal import HarmonicEnsemble
from mlepi.pipeline import Networks, Run
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.sources import Source
from mlepi.pipeline.stages.hamiltonian.stage import HamiltonianStage
from mlepi.pipeline.stages.phonon.stage import PhononStage
from mlepi.predictors import MatrixDerivatives
from mlepi.reference_systems import HoneycombSprings as Springs
from mlepi.reference_systems import TightBinding
from mlepi.results import ResultsStore, write_hamiltonian
from mlepi.results.hdf5 import write_record

TEMPERATURES = (0.0, 300.0)
SETTINGS = {
    "valence_electrons": {6: 1},
    "distances": [0.05, 0.075, 0.1],
    "velocity_window": [0.04, 0.1],
    "dispersion": "linear",
    "split_off_bands": False,
    "statistics": "quantum",
    "imaginary": "error",
    "floor_frequency": 0.5,
    "project_out": "none",
    "broadening": 0.05,
    "chemical_potential": 0.0,
    "mesh": None,
    "step": 2e-3,
}
TOY = Source("electron", {"_target_": "toy_ensembles.ToyElectron"})


def make_run(
    folder, supercell=(3, 3, 1), temperatures=TEMPERATURES, electron=None, springs=None, **changes
):
    """A monolayer whose phonons all have positive frequencies, with the records that are read."""
    atoms, electron = honeycomb(), electron or ToyElectron()
    atoms.positions[:, 2] += 6.0
    settings = toy_settings(supercell, temperatures, electron=TOY, **changes)
    networks = Networks(settings, own_electron=electron)
    found = compute_force_constants(atoms, springs or HoneycombSprings(), supercell)
    store = ResultsStore(folder)
    own = {"atoms": atoms, "supercell": supercell, "force_constants": found.values}
    store.write("phonon", phonon_record(**own), "inputs", {})
    write_hamiltonian(folder / "hamiltonian.h5", atoms, *networks.predict(atoms), {})
    store.write("hamiltonian", hamiltonian_record(), "inputs", {})
    return Run(
        settings, store, networks, {"phonon": PhononStage(), "hamiltonian": HamiltonianStage()}
    )


def compute(run, **changes):
    return LinearResponseStage(**{**SETTINGS, **changes}).compute(run, StageLine(None, ""))


def thermal(run):
    """Return the distribution of the displacements in the supercell."""
    force_constants = run.read("phonon").build_force_constants()
    return HarmonicEnsemble(compute_modes(force_constants), run.settings.temperatures)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def record(run):
    return compute(run, mesh=[6, 6, 1])


def test_the_record_adds_up(run, record, tmp_path):
    for sums in (record.in_supercell, record.interpolated):
        np.testing.assert_allclose(sums.static, sums.fan + sums.debye_waller)
        np.testing.assert_allclose(
            sums.static_slopes,
            record.equilibrium_slope + sums.fan_slopes + sums.debye_waller_slopes,
            rtol=1e-9,
        )
        np.testing.assert_allclose(
            sums.dynamic_slopes, sums.static_slopes + sums.nonadiabatic_slopes, rtol=1e-9
        )
        assert sums.n_resting_modes == 0
    assert record.derivatives == "central differences of 0.002 Å"
    assert record.translation_residual < 1e-4  # error of the differences
    assert record.border_share < 1e-9
    assert record.map_distances.tolist() == pytest.approx([-0.1, -0.075, -0.05, 0.05, 0.075, 0.1])
    expected = thermal(run).mean_square_displacements().sum(axis=2).mean(axis=1)
    np.testing.assert_allclose(record.in_supercell.mean_square_displacements, expected)
    assert LinearResponseStage.doubts(record) == []
    with h5py.File(tmp_path / "record.h5", "w") as file:
        write_record(file.create_group("record"), record)
        again = read_record(file["record"], type(record))
        assert file["record/in_supercell/fan"].attrs["unit"] == "eV"
    np.testing.assert_array_equal(again.interpolated.fan, record.interpolated.fan)
    text = LinearResponseStage(**SETTINGS).summarize(record)
    assert "3×3×1 wave vectors: static" in text
    assert "6×6×1 wave vectors: static" in text


def test_a_denser_mesh_is_that_of_a_larger_supercell(record, tmp_path):
    """Hopping and springs fit into 3×3 cells: interpolation to 6×6 wave vectors is exact."""
    larger = compute(make_run(tmp_path, supercell=(6, 6, 1)))
    assert larger.interpolated is None
    for term, tolerance in (
        ("fan", 1e-4),
        ("debye_waller", RANK_TOLERANCE),
        ("nonadiabatic", 1e-4),
    ):
        expected = getattr(larger.in_supercell, term)
        found = getattr(record.interpolated, term)
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=tolerance * np.abs(expected).max(), err_msg=term
        )
    assert np.abs(record.interpolated.fan - record.in_supercell.fan).max() > 1e-3
    found, expected = (
        sums.mean_square_displacements for sums in (record.interpolated, larger.in_supercell)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_shifts_are_the_limit_of_small_amplitudes(run):
    """Second-order shifts = curvature of A(k, E) moments.

    Here of the exact second-order energies of one supercell wave.
    """
    atoms, hamiltonian, overlap = run.equilibrium()
    reference = build_near_k(atoms, hamiltonian, overlap, run.settings.supercell, (0.06,), {6: 1})
    points, bands = np.array([1]), np.array([0])
    crystal = Crystal(
        run.networks.electron,
        atoms,
        reference.atom_map,
        hamiltonian.lay_out(),
        overlap.lay_out(),
        "cpu",
        1e-3,
    )
    chosen = choose_bands(reference, points, bands)
    responses, _ = build_responses(crystal, lambda: None)
    ensemble = thermal(run)
    fan, _ = sum_fan(
        crystal.solve, responses, chosen, ensemble, reference.centre, 1e-9, lambda: None
    )
    factors = factor_covariance([ensemble], run.settings.supercell)
    assert sum(len(factor.directions) for factor in factors) <= 2 * 6
    derivatives = differentiate_twice(crystal, chosen.kpoints, lambda: None)
    [debye_waller] = sum_debye_waller(chosen, factors, derivatives, 1)
    covariance = ensemble.covariance()
    supercell, kpoint = crystal.supercell, reference.atom_map.fold(reference.kpoints[1])
    rest = levels(run.networks.electron, supercell, kpoint)
    level = int(np.argmin(np.abs(rest - chosen.energies[0, 0])))
    assert np.diff(rest)[level - 1 : level + 1].min() > 1e-3
    for t in range(len(TEMPERATURES)):
        values, vectors = np.linalg.eigh(covariance[t])
        total, step = 0.0, 2e-4
        for value, vector in zip(values, vectors.T, strict=True):
            if value < 1e-12:
                continue
            moved = [supercell.copy() for _ in range(2)]
            for sign, structure in zip((1, -1), moved, strict=True):
                structure.positions += sign * step * vector.reshape(-1, 3)
            ends = [levels(run.networks.electron, structure, kpoint)[level] for structure in moved]
            total += 0.5 * value * (ends[0] + ends[1] - 2.0 * rest[level]) / step**2
        np.testing.assert_allclose(fan[t, 0, 0] + debye_waller[t, 0, 0], total, rtol=2e-3)


def test_static_shifts_of_graphene_depend_on_the_supercell_and_dynamic_ones_do_not(tmp_path):
    """At K + 0.05 Å⁻¹ and 0 K the static Fan shift has the wrong sign with 36 waves (6×6 cell).

    Linear response of graphene lowers the slope by 4 to 8 % (Park et al. 2007,
    doi:10.1103/PhysRevLett.99.086804); the toy of one orbital and springs must come close to that
    wherever phonon energies keep the denominators from zero.
    """
    bond = honeycomb().cell.lengths()[0] / np.sqrt(3.0)
    model = TightBinding(orbitals="s", bond=bond)
    run = make_run(tmp_path, (6, 6, 1), (0.0,), model, Springs())
    settings = {"distances": [0.045, 0.05, 0.055], "mesh": [18, 18, 1], "step": 0.01}
    record = compute(run, **settings)
    static, dynamic = {}, {}
    for name in ("in_supercell", "interpolated"):
        sums = getattr(record, name)
        relative = sums.fan[0] / record.equilibrium_energies
        static[name] = float(relative.mean())
        dynamic[name] = float(
            (relative + sums.nonadiabatic[0] / record.equilibrium_energies).mean()
        )
    assert static["in_supercell"] > 0.02
    assert static["interpolated"] < -0.02
    assert all(-0.08 < value < -0.03 for value in dynamic.values()), dynamic
    assert abs(dynamic["in_supercell"] - dynamic["interpolated"]) < 0.02


def levels(model, atoms, kpoint):
    import scipy.linalg

    return scipy.linalg.eigh(
        model.hamiltonian(atoms).dense(kpoint),
        model.overlap(atoms).dense(kpoint),
        eigvals_only=True,
    )


def test_samples_do_not_matter_but_their_distribution_does(run):
    stage, settings = LinearResponseStage(**SETTINGS), run.settings
    assert "sampling" not in stage.requires
    assert stage.inputs(replace(settings, n_samples=9, seed=3)) == stage.inputs(settings)
    classical = LinearResponseStage(**{**SETTINGS, "statistics": "classical"})
    assert classical.inputs(settings) != stage.inputs(settings)
    assert stage.inputs(settings)["distribution"] == ["quantum", "error", 0.5, "none"]


def test_the_distribution_is_that_of_the_samples(run):
    """A sampler that does not draw from it is compared with its stable modes alone."""
    stage = LinearResponseStage(**{**SETTINGS, "statistics": "classical", "imaginary": "floor"})
    force_constants = run.read("phonon").build_force_constants()
    [own] = stage._build_ensembles(force_constants, run.settings)
    assert (own.statistics, own.imaginary, own.floor_frequency) == ("classical", "floor", 0.5)
    trajectory = object.__new__(Trajectory)
    [own] = stage._build_ensembles(force_constants, replace(run.settings, sampler=trajectory))
    assert own.imaginary == "freeze"


def test_models_that_say_too_little_are_refused(run):
    """Without the part of ∂S where the right orbital moves the potential has no matrix element."""

    class Partial(ToyElectron):
        def derivatives(self, atoms, directions, *, device="cpu"):
            return MatrixDerivatives(None, None, None, "by hand")

        def second_derivatives(self, atoms, first, second, *, device="cpu"):
            raise AssertionError

    atoms, hamiltonian, overlap = run.equilibrium()
    crystal = Crystal(
        Partial(),
        atoms,
        cell_major_map(2, run.settings.supercell),
        hamiltonian.lay_out(),
        overlap.lay_out(),
        "cpu",
        0.01,
    )
    with pytest.raises(PhysicsError, match=r"electron model: got derivatives without ket_overlap"):
        build_responses(crystal, lambda: None)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"broadening": 0.0}, r"stage\.linear_response: got broadening 0\.0 eV"),
        (
            {"step": -1.0},
            r"stage\.linear_response: got broadening 0\.05 eV, step -1\.0 Å; expected both "
            r"positive",
        ),
        (
            {"dispersion": "cubic"},
            r"stage\.linear_response\.dispersion: got 'cubic'; expected one of",
        ),
        (
            {"mesh": [0, 1, 1]},
            r"stage\.linear_response\.mesh: got \[0, 1, 1\]; expected null or three positive "
            r"integers",
        ),
    ],
)
def test_settings_without_meaning_are_refused(change, text):
    with pytest.raises(ConfigError, match=text):
        LinearResponseStage(**{**SETTINGS, **change})
