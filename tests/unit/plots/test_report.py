"""Figures and report from records written by hand.

Complete, self-contained, and honest about what is doubtful.
"""

from __future__ import annotations

import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from mlepi.plots import plot_run, print_velocities, write_report
from mlepi.plots.report import COMPARISONS, FIGURES, list_warnings
from observable_records import (
    conductivity_record,
    control_record,
    domain_record,
    dos_record,
    effective_mass_record,
    gap_record,
    geometry_record,
    linear_response_record,
    self_energy_record,
    tight_binding_record,
    window_record,
)
from toys import honeycomb

from mlepi.errors import DataError
from mlepi.results import (
    BandsRecord,
    ContinuumRecord,
    HamiltonianRecord,
    ObservablesRecord,
    PhononRecord,
    ResultsStore,
    SamplingRecord,
    StructureRecord,
    VelocityRecord,
)

TEMPERATURES = np.array([0.0, 150.0, 300.0])
MAP = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])


def velocity_record(v):
    energies = np.tile(np.array([[-0.3, 0.3]]), (4, 1))
    ones = np.ones(3)
    return VelocityRecord(
        distances=np.array([0.1, 0.05, 0.05, 0.1]),
        equilibrium_energies=energies,
        energies=np.tile(energies, (3, 1, 1)),
        energy_errors=np.full((3, 4, 2), 0.01),
        equilibrium_velocity=8.7e5,
        velocities=v * ones,
        velocity_errors=0.02e5 * ones,
        ratios=v / 8.7e5 * ones,
        ratio_errors=0.002 * ones,
        changes=np.array([0.0, -0.01e5, -0.02e5]),
        change_errors=np.array([0.0, 0.001e5, 0.001e5]),
        equilibrium_gamma_1=0.4,
        gamma_1=0.39 * ones,
        gamma_1_errors=0.01 * ones,
        equilibrium_slope=7.6e5,
        slopes=7.2e5 * ones,
        slope_errors=0.02e5 * ones,
        slope_ratios=0.947 * ones,
        slope_ratio_errors=0.003 * ones,
        convergence_counts=np.array([2, 30]),
        convergence_velocities=np.full((2, 3), v),
        convergence_errors=np.full((2, 3), 0.03e5),
        pseudo_velocities=np.full((30, 3, 2), v),
    )


def all_records():
    energies = np.linspace(-1, 1, 41)
    lines = np.exp(-(((energies[None, :] - 5 * np.abs(MAP)[:, None]) / 0.1) ** 2))
    atoms = honeycomb(bilayer=True)
    path = np.linspace(0, 3, 7)
    return {
        "tight_binding": tight_binding_record(),
        "control": control_record(),
        "structure": StructureRecord(atoms, "<builder> & co", "none", 0, -1.0, 0.012),
        "phonon": PhononRecord(
            atoms,
            (2, 2, 1),
            np.zeros((4, 16, 3, 3)),
            1e-3,
            1e-12,
            np.zeros((7, 3)),
            path,
            np.tile(np.arange(12.0) * 4, (7, 1)),
            ("G", "M", "K", "G"),
            np.array([0.0, 1.0, 2.0, 3.0]),
            np.linspace(0, 50, 20),
            np.ones(20),
            0.5,
        ),
        "sampling": SamplingRecord(
            TEMPERATURES,
            30,
            7,
            "quantum",
            "error",
            0.5,
            0,
            np.zeros((3, 4, 3)),
            np.zeros((3, 4, 3)),
            np.array([0.1, 0.15, 0.2]),
        ),
        "hamiltonian": HamiltonianRecord(
            "hamiltonian.h5", "abc", 32, 100, np.zeros((1, 3)), np.array([2e-3])
        ),
        "observables": ObservablesRecord(
            fermi_energy=-3.6,
            electronic_temperature=300.0,
            n_electrons=16.0,
            dirac_energy=-3.61,
            band_kpoints=np.zeros((7, 3)),
            band_distances=path,
            band_labels=("Γ", "K", "M", "Γ"),
            band_label_distances=np.array([0.0, 1.0, 2.0, 3.0]),
            bands=np.tile(np.linspace(-20, 10, 8), (7, 1)),
            dos_mesh=(6, 6, 1),
            dos_energies=np.linspace(-10, 6, 30),
            dos=np.ones(30),
            temperatures=TEMPERATURES,
            n_samples=30,
            supercell=(6, 6, 1),
            line_shape="gaussian",
            line_width=0.05,
            peak_width=0.1,
            energies=energies,
            map_distances=MAP,
            equilibrium_spectral_function=lines,
            spectral_functions=np.stack([lines] * 3),
            captured_weights=np.array([0.99, 0.98, 0.97]),
            miscounted_shares=np.zeros(3),
            velocity_window=(0.04, 0.1),
            dispersion="hyperbola",
            split_off_bands=False,
            n_resamples=200,
            spectral=velocity_record(8.2e5),
            sorted_average=velocity_record(6.1e5),
            velocity_operator=velocity_record(7.4e5),
            band_slopes=np.full((3, 4, 2), 5.0),
            equilibrium_band_slopes=np.full((4, 2), 5.6),
            spectral_windows=window_record(),
            sorted_windows=window_record(),
            operator_windows=window_record(),
        ),
        "self_energy": self_energy_record(velocity_record(8.1e5)),
        "gap": gap_record(),
        "effective_mass": effective_mass_record(),
        "dos": dos_record(),
        "linear_response": linear_response_record(),
        "conductivity": conductivity_record(),
        "band_geometry": geometry_record(),
        "domain": domain_record(),
        "bands": bands_record(),
    }


def bands_record():
    distances, flat = (
        np.array([0.0, 0.04, 0.06]),
        np.array([-0.2, -0.05, -0.001, 0.0, 0.001, 0.003, 0.06, 0.2]),
    )
    return BandsRecord(
        kpoints=np.array([[1 / 3, 1 / 3, 0], [0, 0, 0], [0.5, 0, 0]]),
        distances=distances,
        labels=("K", "Γ", "M"),
        label_distances=distances,
        energies=-4.0 + flat * np.array([[1.0], [1.2], [1.5]]),
        first_state=44652,
        n_electrons=44656.0,
        fermi_energy=-4.0,
        electronic_temperature=10.0,
        error_bound=3e-7,
        proven=1,
        backend="pardiso",
        cpu_seconds=np.array([290.0, 100.0, 99.0]),
        continuum=ContinuumRecord(
            1.08, 5.7, 0.114, 0.113, "network", 1.097, distances, np.tile(1.1 * flat, (3, 1))
        ),
    )


def write_all(folder, records):
    store = ResultsStore(folder)
    for stage, record in records.items():
        store.write(
            stage, record, "digest", {"commit": "0123abc", "seed": 7, "packages": {"numpy": "2.4"}}
        )


def test_report_is_complete_and_self_contained(tmp_path):
    write_all(tmp_path, all_records())
    before = dict(mpl.rcParams)
    report = write_report(tmp_path)
    assert dict(mpl.rcParams) == before
    text = report.read_text(encoding="utf-8")
    for _, name, _, _ in (*FIGURES, *COMPARISONS):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / "figures" / f"{name}.pdf").read_bytes()[:4] == b"%PDF"
    assert text.count("data:image/png;base64,") == len(FIGURES) + len(COMPARISONS)
    assert not re.search(r'(src|href)="(?!data:)', text)
    for statement in (
        "8.200 ± 0.020",
        "6.100 ± 0.020",
        "(8.150 ± 0.010) 10⁵ m/s, variance divided by 9.0 (correlation 0.970)",
        "Spectral peak",
        "Sorted average",
        "7.400 ± 0.020",
        "8.100 ± 0.020",
        "Velocity operator",
        "Self-energy",
        "30 samples of 6×6×1 cells, hyperbola at |k−K| = 0.04–0.1 Å⁻¹",
        "Other windows at 300 K, 6×6×1 cells",
        "<td>0.05–0.1</td><td>0.920 ± 0.003</td>",
        "0.947 ± 0.003",
        "gaussian lines of 50 meV",
        "200 bootstrap resamples",
        "-0.020 ± 0.001",
        "0123abc",
        "2.00e-03",
        "44656 electrons",
        "6.00 meV",
        "4.40 meV wide, 1.097°",
        "290, 100, 99 s",
        "&lt;builder&gt; &amp; co",
    ):
        assert statement in text, statement
    assert 'class="warning"' not in text


def test_velocities_are_printed_with_everything_that_they_depend_on(tmp_path, capsys):
    write_all(tmp_path, all_records())
    print_velocities(tmp_path)
    text = capsys.readouterr().out
    for statement in (
        "spectral peak",
        "sorted average",
        "velocity operator",
        "self-energy",
        "Other windows at 300 K",
        "6×6×1 cells",
        "hyperbola",
        "0.04–0.1 Å⁻¹",
        "8.200 ± 0.020",
        "undisplaced",
    ):
        assert statement in text, statement


def test_a_partial_run_gives_what_there_is(tmp_path, capsys):
    records = all_records()
    write_all(tmp_path, {name: records[name] for name in ("structure", "phonon")})
    assert set(plot_run(tmp_path)) == {"phonons"}
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 1
    assert "Fermi velocity" not in text
    print_velocities(tmp_path)
    assert capsys.readouterr().out == ""


def test_every_doubt_is_told():
    records = all_records()
    assert list_warnings(records) == []
    records["phonon"] = replace(records["phonon"], lowest_frequency=-0.3)
    records["sampling"] = replace(records["sampling"], n_soft_modes=2, imaginary="freeze")
    records["hamiltonian"] = replace(
        records["hamiltonian"], smallest_overlap_eigenvalues=np.array([3e-5])
    )
    records["observables"] = replace(
        records["observables"],
        n_samples=4,
        captured_weights=np.array([0.9, 0.9, 0.6]),
        miscounted_shares=np.array([0.0, 0.2, 0.1]),
    )
    texts = " ".join(list_warnings(records))
    for expected in (
        "-10.0 cm⁻¹ (imaginary)",
        "imaginary=freeze",
        "3.0e-05",
        "Only 4 samples",
        "only 60 % of a low band",
        "at 20 % of the points",
    ):
        assert expected in texts


def test_waves_that_only_a_larger_cell_contains_are_told():
    records = all_records()
    bands = records["phonon"].band_frequencies.copy()
    bands[1, 0] = -0.3
    records["phonon"] = replace(records["phonon"], band_frequencies=bands)
    (text,) = list_warnings(records)
    assert "of the 2×2×1 supercell, the phonon bands dip to -10.0 cm⁻¹" in text


def test_a_missing_sorted_average_is_a_dash(tmp_path):
    records = all_records()
    lost = np.array([1.0, 1.0, np.nan])
    averaged = records["observables"].sorted_average
    fields = (
        "velocities",
        "velocity_errors",
        "ratios",
        "ratio_errors",
        "changes",
        "change_errors",
        "gamma_1",
        "slopes",
    )
    averaged = replace(
        averaged, **{name: getattr(averaged, name) * lost for name in (*fields, "slope_ratios")}
    )
    records["observables"] = replace(records["observables"], sorted_average=averaged)
    write_all(tmp_path, records)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", text))
    assert "<td>—</td>" in text
    assert "no sorted average at 300 K" in text


def test_a_missing_store_is_one_error(tmp_path):
    for action in (plot_run, write_report):
        with pytest.raises(DataError, match="got no records; expected the folder of a run"):
            action(tmp_path)
