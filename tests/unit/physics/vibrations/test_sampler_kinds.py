import numpy as np
import pytest
from spring_model import SHELLS, build_honeycomb, spring_force_constants

from mlepi.errors import ConfigError
from mlepi.physics.averages.statistics import jackknife, standard_errors
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.samplers import ZG, Sobol, ThermalLines
from mlepi.physics.vibrations.samplers.sobol import sobol_point
from mlepi.physics.vibrations.thermal import HarmonicEnsemble


@pytest.fixture(scope="module")
def ensemble():
    atoms = build_honeycomb(symbols="BN")
    full = spring_force_constants(atoms.repeat((3, 3, 1)), SHELLS)
    return HarmonicEnsemble(
        compute_modes(ForceConstants(atoms, (3, 3, 1), full[:2].copy())), (0.0, 300.0)
    )


def coordinates_of(sampler, ensemble, indices, seed):
    return ensemble.coordinates.coordinates(sampler.normals(ensemble, indices, seed))


def test_bias_of_thermal_lines_is_that_of_the_fourth_moment(ensemble):
    # f = Σ f⁗ζ⁴/24: the exact mean is Σ f⁗·3/24, of lines Σ f⁗/24, the difference −Σ f⁗/12 (σ = 1)
    fourth = np.linspace(-1.0, 3.0, ensemble.coordinates.n_coordinates)
    zeta = coordinates_of(ThermalLines(), ensemble, range(6), 0)
    lines = (zeta**4 @ fourth / 24).mean()
    assert lines - 3 * fourth.sum() / 24 == pytest.approx(-fourth.sum() / 12, rel=1e-12)


def test_mode_diagonal_quadratic_observables_are_exact_on_lines(ensemble):
    diagonal = np.linspace(-1.0, 3.0, ensemble.coordinates.n_coordinates)
    for sampler in (ThermalLines(), ZG()):
        zeta = coordinates_of(sampler, ensemble, [0, 5], 2)
        np.testing.assert_allclose(0.5 * zeta**2 @ diagonal, 0.5 * diagonal.sum(), rtol=1e-12)


def test_zg_starts_from_alternating_signs_in_the_order_of_energy(ensemble):
    zeta = coordinates_of(ZG(n_sweeps=0), ensemble, [0, 1], 0)
    assert np.all(np.diff(ensemble.coordinates.frequencies) > -1e-4)
    np.testing.assert_allclose(zeta[0], 1.0 - 2.0 * (np.arange(zeta.shape[1]) % 2), atol=1e-12)
    np.testing.assert_allclose(zeta[1], -zeta[0], atol=1e-12)


def test_zg_lowers_the_error_of_the_covariance_that_a_snapshot_has(ensemble):
    exact = ensemble.covariance()[1].reshape(9, 6, 9, 6)
    local = np.einsum("pipj->ij", exact) / 9
    scale = 1 / np.sqrt(np.outer(np.diag(local), np.diag(local)))

    def error(signs):
        """√(Σ_ij (G_ij − C_ij)² / (C_ii C_jj)) of the displacements themselves."""
        normals = ensemble.coordinates.normals(signs[None])
        u = ensemble.displacements_at(300.0, normals)[0].reshape(9, 6)
        return np.linalg.norm((u.T @ u / 9 - local) * scale)

    for number in range(3):
        chosen = error(ZG().signs(ensemble, number, 1))
        assert chosen < 0.5 * error(ZG(n_sweeps=0).signs(ensemble, number, 1))


def test_sobol_replicates_are_interleaved_and_independent(ensemble):
    sampler = Sobol(n_replicates=4)
    np.testing.assert_array_equal(
        sampler.design(ensemble, 10).groups, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    )
    points = np.array(
        [[sobol_point(0, replicate, number, 5) for number in range(64)] for replicate in range(4)]
    )
    # a scrambled sequence: 2^m points have one in each of 2^m slices of every coordinate
    for replicate in points:
        np.testing.assert_array_equal(
            np.sort((64 * replicate).astype(int), axis=0), np.tile(np.arange(64)[:, None], 5)
        )
    assert np.abs(np.corrcoef(points[:, 0].T, rowvar=False)[np.triu_indices(4, 1)]).max() < 1.0
    assert points.min() > 0
    assert points.max() < 1


def test_sobol_point_is_never_zero_or_one(monkeypatch):
    from mlepi.physics.vibrations.samplers import sobol

    class Corner:
        def __init__(self, value):
            self.value = value

        def reset(self):
            pass

        def random(self, n):
            return np.full((n, 2), self.value)

    for value in (0.0, 1.0 - 0.5**sobol.BITS):
        monkeypatch.setattr(sobol, "_engine", lambda *_, value=value: Corner(value))
        point = sobol.sobol_point(0, 0, 0, 2)
        assert np.all((point > 0) & (point < 1))


def test_sobol_error_falls_faster_than_the_root_of_n(ensemble):
    # for a sum of functions of one coordinate the error falls about as 1/n (ζ² is not bounded),
    # against 1/√n of random numbers
    def spread(n):
        sampler = Sobol(n_replicates=2)
        zeta = [coordinates_of(sampler, ensemble, range(n), seed) for seed in range(16)]
        return np.std([np.sum(z**2, axis=1).mean() for z in zeta])

    assert np.log(spread(256) / spread(16)) / np.log(16) < -0.75


def test_scatter_of_the_replicates_is_the_error(ensemble):
    values, errors = [], []
    for seed in range(30):
        zeta = coordinates_of(Sobol(), ensemble, range(64), seed)
        f = np.sum(zeta[:, :6] ** 2, axis=1)
        design = Sobol().design(ensemble, 64)
        pseudo = jackknife(lambda weights, f=f: np.atleast_1d(weights @ f), design)
        values.append(f.mean())
        errors.append(standard_errors(pseudo)[0])
    # a standard deviation from 30 values is known to 13 %; 4 of those
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.5)
    assert abs(np.mean(values) - 6.0) < 4 * np.std(values) / np.sqrt(30)


def test_leading_sobol_coordinates_belong_to_the_modes_that_stretch_bonds(ensemble):
    order = Sobol()._order_modes(ensemble)
    assert np.array_equal(np.sort(order), np.arange(ensemble.coordinates.n_coordinates))
    flexural = np.abs(ensemble.coordinates.vectors.reshape(-1, 2, 3)[:, :, 2]).max(axis=1) > 0.5
    # out-of-plane motion of a flat layer stretches no bond: it comes last, whatever its amplitude
    n = int(flexural.sum())
    assert flexural[order[-n:]].all()
    assert flexural[0]


def test_samplers_say_what_is_wrong(monkeypatch):
    from mlepi.physics.vibrations.samplers import sobol

    with pytest.raises(ConfigError, match=r"sampler.n_replicates: got 1; expected 2 or more"):
        Sobol(n_replicates=1)
    with pytest.raises(
        ConfigError,
        match=r"sampler: got temperature 0.0 K, n_sweeps 20; expected a positive temperature",
    ):
        ZG(temperature=0.0)
    with pytest.raises(
        ConfigError, match=r"sampler: got Sobol for 30000 modes; expected at most 21201"
    ):
        sobol_point(0, 0, 0, 30000)
    assert Sobol().advice(64, (0.0,)) == []
    assert Sobol().advice(100, (0.0,)) == [
        "100 samples in 8 replicates are not balanced; 128 would be (replicates times a power of "
        "two)."
    ]
    assert "16 would be" in Sobol().advice(8, (0.0,))[0]
    assert sobol.FEWEST_REPLICATES == 2
