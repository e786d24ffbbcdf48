"""The toy whose band energies compare the samplers is the tight binding that it says it is."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "samplers.py"


@pytest.fixture(scope="module")
def samplers():
    spec = importlib.util.spec_from_file_location("benchmark_samplers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def toy(samplers):
    return samplers.Toy()


def test_peak_of_a_known_spectrum(samplers):
    assert samplers.find_peak(
        np.exp(-0.5 * ((samplers.ENERGIES - 0.0123) / 0.1) ** 2)
    ) == pytest.approx(0.0123, abs=1e-6)


def test_at_rest_the_energy_is_that_of_the_cone(samplers, toy):
    rest = np.zeros((1, 72, 3))
    for k in toy.star:
        spectrum = toy.spectra(rest, k)[0]
        # one state carries all the weight, at ε = t |Σ_j e^{ik·R_j}|
        np.testing.assert_allclose(
            spectrum, np.exp(-0.5 * (samplers.ENERGIES / samplers.WIDTH) ** 2), atol=1e-9
        )
    # ħv q with ħv = (√3/2) a t, and trigonal warping of a few per cent
    energy = samplers.HOPPING * abs(toy._sum(toy.star[0]))
    assert energy == pytest.approx(
        np.sqrt(3) / 2 * 2.46 * samplers.HOPPING * samplers.DISTANCE, rel=0.06
    )


def test_a_uniform_stretch_scales_the_energy(samplers, toy):
    # all bonds 1 % longer: every hopping falls by e^{−0.01 β}
    positions = toy.positions
    stretched = toy.shifts
    toy.shifts = 1.01 * stretched
    try:
        peak = samplers.find_peak(toy.spectra(0.01 * positions[None], toy.star[0])[0])
    finally:
        toy.shifts = stretched
    energy = samplers.HOPPING * abs(toy._sum(toy.star[0]))
    assert peak == pytest.approx(energy * np.expm1(-0.01 * samplers.DECAY), rel=1e-6)


def test_tables_name_every_sampler(samplers, toy, monkeypatch):
    monkeypatch.setattr(samplers, "SIZES", (4, 8))
    monkeypatch.setattr(samplers, "Toy", lambda: toy)
    results = samplers.measure(2)
    text = samplers.format_tables(results)
    assert all(text.count(f"| {name} |") == 4 for name in samplers.SAMPLERS)
    assert samplers.ratio(2.0, 1.0) == "4×"
