"""What every sampler of the harmonic distribution keeps: a class per sampler inherits all of it."""

import numpy as np
import pytest

from mlepi.physics.averages.statistics import jackknife, standard_errors
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.samplers import ZG, Antithetic, MonteCarlo, Sobol, ThermalLines
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, draw_normals
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene

TEMPERATURES = (0.0, 300.0)


@pytest.fixture(scope="module")
def ensemble():
    force_constants = compute_force_constants(
        build_graphene("monolayer"), HoneycombSprings(), (4, 3, 1)
    )
    return HarmonicEnsemble(compute_modes(force_constants), TEMPERATURES)


def mean_and_error(values, design):
    """Mean of (n_samples,) values and its standard error by the groups of the design."""
    pseudo = jackknife(lambda weights: np.atleast_1d(weights @ values), design)
    return float(design.weights @ values), float(standard_errors(pseudo)[0])


class SamplerContract:
    n_samples = 256
    pairs = False

    def make(self):
        raise NotImplementedError

    @pytest.fixture
    def coordinates(self, ensemble):
        return ensemble.coordinates.coordinates(
            self.make().normals(ensemble, range(self.n_samples), 3)
        )

    def test_a_snapshot_depends_on_its_number_and_the_seed_alone(self, ensemble):
        many = self.make().normals(ensemble, range(20), 5)
        sampler = self.make()
        np.testing.assert_allclose(sampler.normals(ensemble, [17, 4], 5), many[[17, 4]], atol=1e-14)
        np.testing.assert_allclose(sampler.normals(ensemble, range(3), 5), many[:3], atol=1e-14)
        assert many.shape == (20, 24, 3)
        assert not np.allclose(sampler.normals(ensemble, [4], 6), many[[4]])

    def test_temperatures_share_their_random_numbers(self, ensemble):
        cold, hot = (self.make().displacements(ensemble, t, [2, 7], 0) for t in TEMPERATURES)
        assert np.corrcoef(cold.ravel(), hot.ravel())[0, 1] > 0.9
        normals = self.make().normals(ensemble, [2, 7], 0)
        np.testing.assert_allclose(
            ensemble.displacements(normals), np.stack([cold, hot]), atol=1e-14
        )

    def test_centre_of_mass_rests(self, ensemble):
        assert (
            np.abs(self.make().displacements(ensemble, 300.0, range(6), 1).mean(axis=1)).max()
            < 1e-14
        )

    def test_groups_are_those_of_a_smaller_ensemble(self, ensemble):
        design = self.make().design(ensemble, 24)
        assert design.n_samples == 24
        np.testing.assert_array_equal(
            design.first(16).groups, self.make().design(ensemble, 16).groups
        )
        np.testing.assert_allclose(design.weights, 1 / 24)
        if self.pairs:
            np.testing.assert_array_equal(design.groups, np.arange(24) // 2)

    def test_mean_of_a_quadratic_observable(self, ensemble, coordinates):
        # f = f0 + g·ζ + ½ζᵀAζ has the mean f0 + ½ tr A
        rng = np.random.default_rng(0)
        n = coordinates.shape[1]
        linear, matrix = rng.standard_normal(n), rng.standard_normal((n, n))
        matrix = (matrix + matrix.T) / 2 + 0.5 * np.eye(n)
        values = (
            1.5
            + coordinates @ linear
            + 0.5 * np.einsum("si,ij,sj->s", coordinates, matrix, coordinates)
        )
        design = self.make().design(ensemble, self.n_samples)
        mean, error = mean_and_error(values, design)
        # Student's t of few groups has wide tails; the scale is that of plain Monte Carlo
        plain = np.sqrt((linear @ linear + 0.5 * np.sum(matrix**2)) / self.n_samples)
        assert abs(mean - 1.5 - 0.5 * np.trace(matrix)) < 5 * max(error, 0.2 * plain)
        assert error < 3 * plain

    def test_odd_observables_vanish_for_pairs(self, coordinates):
        odd = coordinates**3 + coordinates
        if self.pairs:
            assert np.abs(odd.mean(axis=0)).max() < 1e-12
        else:
            # ⟨(ζ + ζ³)²⟩ = 22
            assert np.abs(odd.mean(axis=0)).max() < 5 * np.sqrt(22 / self.n_samples)

    def test_settings_name_the_sampler(self):
        assert self.make().settings()["sampler"] == type(self.make()).__name__
        assert self.make().settings() == self.make().settings()
        assert self.make().files(TEMPERATURES) == ()


class TestMonteCarlo(SamplerContract):
    def make(self):
        return MonteCarlo()

    def test_normals_are_those_of_every_earlier_version(self, ensemble):
        np.testing.assert_array_equal(
            MonteCarlo().normals(ensemble, range(3), 7), draw_normals(7, range(3), 24)
        )
        assert (
            draw_normals(7, [2], 1)[0, 0, 0]
            == np.random.default_rng(np.random.SeedSequence([7, 2])).standard_normal()
        )


class TestAntithetic(SamplerContract):
    pairs = True

    def make(self):
        return Antithetic()

    def test_even_snapshots_are_those_of_monte_carlo(self, ensemble):
        normals = Antithetic().normals(ensemble, range(4), 1)
        np.testing.assert_array_equal(normals[::2], draw_normals(1, range(2), 24))
        np.testing.assert_array_equal(normals[1::2], -normals[::2])

    def test_incomplete_pair_is_told(self):
        assert Antithetic().advice(8, TEMPERATURES) == []
        assert "the last of 7 samples has no opposite" in Antithetic().advice(7, TEMPERATURES)[0]


class TestThermalLines(SamplerContract):
    pairs = True

    def make(self):
        return ThermalLines()

    def test_every_mode_has_its_amplitude(self, coordinates):
        np.testing.assert_allclose(np.abs(coordinates), 1.0, atol=1e-12)
        assert abs(coordinates[::2].mean()) < 5 / np.sqrt(coordinates[::2].size)


class TestZG(SamplerContract):
    pairs = True
    n_samples = 64

    def make(self):
        return ZG()


class TestSobol(SamplerContract):
    def make(self):
        return Sobol()
