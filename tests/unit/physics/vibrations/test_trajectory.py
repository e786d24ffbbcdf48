import numpy as np
import pytest
from ase.io import write
from spring_model import SHELLS, build_honeycomb, spring_force_constants

from mlepi.errors import ConfigError, DataError
from mlepi.physics.averages.statistics import (
    SampleDesign,
    effective_sample_size,
    jackknife,
    standard_errors,
)
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.samplers import Trajectory
from mlepi.physics.vibrations.samplers.trajectory import (
    autocorrelation_time,
    block_length,
    measure_displacements,
)
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, draw_normals
from mlepi.structures.trajectory_files import TrajectoryFiles

TEMPERATURES = (100.0, 300.0)


def sampler_of(file, block=None, **settings):
    return Trajectory(source=TrajectoryFiles(file, **settings), block=block)


@pytest.fixture(scope="module")
def ensemble():
    atoms = build_honeycomb(symbols="BN")
    full = spring_force_constants(atoms.repeat((3, 3, 1)), SHELLS)
    return HarmonicEnsemble(
        compute_modes(ForceConstants(atoms, (3, 3, 1), full[:2].copy())), TEMPERATURES
    )


@pytest.fixture
def frames(ensemble):
    """Frames at both temperatures, with the displacements that they were made of."""
    supercell = ensemble.modes.atoms.repeat((3, 3, 1))
    u = ensemble.displacements(draw_normals(0, range(12), 18))
    made = {}
    for i, temperature in enumerate(TEMPERATURES):
        made[temperature] = [supercell.copy() for _ in u[i]]
        for atoms, displacement in zip(made[temperature], u[i], strict=True):
            atoms.positions += displacement
    return made, u


def write_frames(folder, made, name="T{:g}.extxyz"):
    for temperature, atoms in made.items():
        write(folder / name.format(temperature), atoms)
    return str(folder / "T{temperature:g}.extxyz")


def test_displacements_come_back_whatever_wrapping_and_drift(ensemble, frames, tmp_path):
    made, u = frames
    for i, atoms in enumerate(made[300.0]):
        atoms.positions += np.array([0.3, -0.2, 0.1]) * i  # up to 3.3 Å, more than a bond
        atoms.wrap()
    sampler = sampler_of(write_frames(tmp_path, made), skip=2, stride=3)
    found = sampler.displacements(ensemble, 300.0, [0, 3], seed=9)
    np.testing.assert_allclose(found, u[1, [2, 11]], atol=1e-6)
    np.testing.assert_allclose(sampler.displacements(ensemble, 100.0, [1], 0), u[0, [5]], atol=1e-6)
    assert [path.name for path in sampler.files(TEMPERATURES)] == ["T100.extxyz", "T300.extxyz"]
    assert sampler.settings() == {
        "sampler": "Trajectory",
        "file": str(tmp_path / "T{temperature:g}.extxyz"),
        "skip": 2,
        "stride": 3,
        "weights": None,
        "block": None,
    }


def test_too_few_frames(ensemble, frames, tmp_path):
    sampler = sampler_of(write_frames(tmp_path, frames[0]), skip=2, stride=3)
    with pytest.raises(
        DataError,
        match=r"trajectory at 300 K: got 4 snapshots; expected 5 after skip=2 with stride=3",
    ):
        sampler.displacements(ensemble, 300.0, [4], 0)
    with pytest.raises(DataError, match=r"got 4 snapshots; expected 6"):
        sampler.design(ensemble, 6)


def test_beads_of_a_path_integral_form_groups(ensemble, frames, tmp_path):
    made, u = frames
    for bead, part in enumerate((slice(0, 6), slice(6, 12))):
        for temperature, atoms in made.items():
            write(tmp_path / f"bead{bead}_T{temperature:g}.extxyz", atoms[part])
    sampler = sampler_of(str(tmp_path / "bead*_T{temperature:g}.extxyz"), block=2)
    np.testing.assert_allclose(
        sampler.displacements(ensemble, 300.0, [0, 1, 2, 3], 0), u[1, [0, 6, 1, 7]], atol=1e-6
    )
    np.testing.assert_array_equal(sampler.design(ensemble, 12).groups, np.arange(12) // 4)


def test_weights_of_frames(ensemble, frames, tmp_path):
    made, _ = frames
    for atoms_list in made.values():
        for i, atoms in enumerate(atoms_list):
            atoms.info["bias"] = 1.0 + i
    sampler = sampler_of(write_frames(tmp_path, made), weights="bias", block=1)
    design = sampler.design(ensemble, 12)
    weights = np.arange(1, 13)
    np.testing.assert_allclose(design.weights, weights / weights.sum())
    assert effective_sample_size(design.weights) == pytest.approx(
        weights.sum() ** 2 / (weights**2).sum()
    )
    made[300.0][3].info["bias"] = 9.0
    with pytest.raises(
        DataError, match=r"sampler.weights: got weights that differ between temperatures"
    ):
        sampler_of(write_frames(tmp_path, made), weights="bias").design(ensemble, 12)


def test_what_is_not_the_supercell_is_refused(ensemble, frames, tmp_path):
    made, _ = frames

    def read(change):
        copies = {t: [atoms.copy() for atoms in frames] for t, frames in made.items()}
        change(copies[300.0])
        return sampler_of(write_frames(tmp_path, copies)).displacements(ensemble, 300.0, [0], 0)

    def swap(atoms):
        atoms[1].positions[[2, 4]] = atoms[1].positions[[4, 2]]

    def other_elements(atoms):
        atoms[0].numbers[[0, 1]] = [7, 5]

    def other_cell(atoms):
        atoms[0].set_cell(atoms[0].cell * 1.01)

    def infinite(atoms):
        atoms[0].positions[0, 0] = np.inf

    with pytest.raises(
        DataError,
        match=r"frame 1: got atom [24] 2.\d\d Å from its site and nearer to that of atom [24]",
    ):
        read(swap)
    with pytest.raises(
        DataError,
        match=r"frame 0: got B9N9; expected B9N9 with its elements in the order of the supercell",
    ):
        read(other_elements)
    with pytest.raises(
        DataError,
        match=r"frame 0: got a cell that differs by 0.\d+ Å; expected the fixed cell of the run",
    ):
        read(other_cell)
    with pytest.raises(DataError, match=r"frame 0: got positions that are not finite"):
        read(infinite)


def test_blocks_have_a_length():
    with pytest.raises(ConfigError, match=r"sampler.block: got 0; expected null or ≥ 1"):
        sampler_of("x", block=0)


def test_large_ripples_are_no_disorder(ensemble):
    sites = ensemble.modes.atoms.repeat((3, 3, 1))
    moved = sites.copy()
    # more than half a bond
    moved.positions[:, 2] += 1.2 * np.cos(2 * np.pi * sites.get_scaled_positions()[:, 0])
    found = measure_displacements(moved, sites, "frame")
    np.testing.assert_allclose(np.ptp(found[:, 2]), np.ptp(moved.positions[:, 2]), atol=1e-9)


def autoregressive(phi, n, rng):
    values = np.empty(n)
    values[0] = rng.standard_normal()
    noise = np.sqrt(1 - phi**2) * rng.standard_normal(n)
    for i in range(1, n):
        values[i] = phi * values[i - 1] + noise[i]
    return values


def test_autocorrelation_time_of_an_autoregressive_series():
    # ρ(t) = φ^t, hence τ = ½ + φ/(1 − φ)
    rng = np.random.default_rng(0)
    for phi in (0.0, 0.6, 0.9):
        times = [autocorrelation_time(autoregressive(phi, 4000, rng)) for _ in range(10)]
        expected = 0.5 + phi / (1 - phi)
        # Madras and Sokal (1988): the relative error of τ is √((4w + 2)/n) with the window w = 5τ
        error = np.sqrt((20 * expected + 2) / 4000) / np.sqrt(10)
        assert np.mean(times) == pytest.approx(expected, rel=4 * error + 0.02)
    assert autocorrelation_time(np.ones(50)) == 0.5


def test_blocks_give_honest_error_bars():
    # u of one atom with correlated ⟨u²⟩; the error of the mean against its scatter over many
    # simulations
    rng = np.random.default_rng(1)
    means, block_errors, naive_errors = [], [], []
    for _ in range(60):
        u = autoregressive(0.9, 2000, rng)
        displacements = np.zeros((2000, 1, 1, 3))
        displacements[:, 0, 0, 2] = u
        design = SampleDesign(np.arange(2000) // block_length(displacements))
        squares = u**2
        for design_, errors in (
            (design, block_errors),
            (SampleDesign.independent(2000), naive_errors),
        ):
            if design_ is design or len(naive_errors) < 3:
                errors.append(
                    standard_errors(jackknife(lambda w, s=squares: np.atleast_1d(w @ s), design_))[
                        0
                    ]
                )
        means.append(squares.mean())
    scatter = np.std(means, ddof=1)
    # the scatter of 60 values is known to 9 %; blocks of five τ miss τ/(5τ) of the variance, 10 %
    # of the error
    assert np.sqrt(np.mean(np.square(block_errors))) == pytest.approx(scatter, rel=0.1 + 3 * 0.09)
    assert np.mean(naive_errors) < 0.6 * scatter


def test_independent_frames_are_their_own_groups():
    rng = np.random.default_rng(0)
    assert block_length(rng.standard_normal((400, 1, 20, 3))) <= 4
    assert block_length(np.ones((5, 1, 2, 3))) == 1
