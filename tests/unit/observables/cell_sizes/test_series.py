"""A series of cell sizes: extrapolation, table, and what cannot be compared."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from omegaconf import OmegaConf
from pipeline_records import phonon_record, sampling_record, structure_record
from series_records import of_size, system_of, write_whole
from velocity_records import fermi_velocity_record, self_energy_record

from mlepi.command_line import CellSizes
from mlepi.errors import DataError
from mlepi.observables import all_stages
from mlepi.observables.cell_sizes.compare import compare_sizes, group_runs
from mlepi.observables.cell_sizes.page import format_page
from mlepi.observables.cell_sizes.record import CellSizesRecord
from mlepi.observables.cell_sizes.series import write_series
from mlepi.observables.cell_sizes.tables import format_series
from mlepi.physics.averages.size_series import extrapolate_sizes
from mlepi.results import ResultsStore

STAGES = all_stages()


@pytest.fixture
def records():
    """v_F of 3×3, 4×4 and 6×6 cells."""
    return {
        n: (of_size(fermi_velocity_record(), n), of_size(self_energy_record(), n))
        for n in (3, 4, 6)
    }


def write(folder: Path, records, self_energies=True):
    for n, (velocities, quasiparticles) in records.items():
        store = ResultsStore(folder / f"{n}x{n}")
        store.write("fermi_velocity", velocities, "digest", {})
        if self_energies:
            store.write("self_energy", quasiparticles, "digest", {})


def test_a_series_is_extrapolated_by_every_estimator(tmp_path, records, capsys):
    write(tmp_path, records)
    CellSizes().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    table = (tmp_path / "cell_sizes.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    for text in (
        "3×3 (4)",
        "6×6 (4)",
        "1/N → 0",
        "hyperbola at |k−K| = 0.04–0.1 Å⁻¹",
        "self-energy",
        "sorted average",
    ):
        assert text in table
    record = ResultsStore(tmp_path).read("cell_sizes", CellSizesRecord)
    assert record.sizes.tolist() == [3, 4, 6]
    assert record.estimators == (
        "spectral peak",
        "self-energy",
        "velocity operator",
        "sorted average",
    )
    spectral = [records[n][0].spectral for n in (3, 4, 6)]
    np.testing.assert_allclose(record.limits[0, 0, 1], spectral[0].velocities[1] + 1e5 / 3)
    fit = extrapolate_sizes(
        record.sizes,
        np.array([r.velocities[1] for r in spectral]),
        np.array([r.velocity_errors[1] for r in spectral]),
    )
    assert record.limits[0, 0, 1] == pytest.approx(fit.limit)
    assert record.limit_errors[0, 0, 1] == pytest.approx(fit.limit_error)
    assert record.chi_squared[0, 0, 1] == pytest.approx(fit.chi_squared, abs=1e-9)
    assert (tmp_path / "cell_sizes.png").stat().st_size > 0


def test_sizes_that_do_not_tell_are_left_out(tmp_path, records):
    lost = dict(records)
    averaged = lost[4][0].sorted_average
    unknown = replace(averaged, velocities=averaged.velocities * np.nan)
    lost[4] = (replace(lost[4][0], sorted_average=unknown), lost[4][1])
    lost[6] = (replace(lost[6][0], sorted_average=unknown), lost[6][1])
    write(tmp_path, lost, self_energies=False)
    record = compare_sizes([tmp_path / f"{n}x{n}" for n in (6, 4, 3)], STAGES)
    assert record.estimators == ("spectral peak", "velocity operator", "sorted average")
    assert np.all(np.isnan(record.limits[2, 0]))
    assert np.all(np.isfinite(record.limits[2, 1]))
    assert "| — | — |" in format_series(record)


def test_every_model_window_and_opening_is_in_the_tables(tmp_path, records):
    write(tmp_path, records)
    record = compare_sizes([tmp_path / f"{n}x{n}" for n in records], STAGES)
    assert record.window_ratios.shape == (4, 3, 3, 3, 3)
    assert record.models[0] == "slope"
    np.testing.assert_allclose(record.windows, [[0.04, 0.1], [0.05, 0.1], [0.09, 0.1]])
    pinned = [records[n][0].spectral.pinned for n in (3, 4, 6)]
    np.testing.assert_allclose(record.pinned[0], [each.velocities for each in pinned])
    assert record.equilibrium_pinned[0] == 8.75e5
    np.testing.assert_allclose(record.differences[1], np.array([1.5, 1.4, 1.35]) / 2.25)
    assert record.folds.tolist() == [True] * 3
    table = format_series(record)
    lines = [line for line in table.splitlines() if line.startswith("| spectral peak")]
    assert [line.split(" | ")[1] for line in lines[:9:3]] == [
        "mean slope",
        "v, γ₁ pinned",
        "v_F, free fit",
    ]
    for text in (
        "| spectral peak | 0.05–0.1 | v, γ₁ pinned | 300 | 0.971 ± 0.003 |",
        "an opening of K, not a velocity.",
        "| K folds onto Γ |  | yes | yes | yes |",
        "| opening of K (meV) | 150 | 28.0 ± 2.0 |",
    ):
        assert text in table
    assert "dense mesh" not in table  # runs without their sampling say nothing of it


def test_what_samples_leave_out_makes_a_series_of_its_own(tmp_path, records):
    """With and without the rigid-layer modes of Γ, below one folder."""
    for project_out, shear in (("none", 0.04), ("interlayer_gamma", 0.002)):
        for n, (velocities, _) in records.items():
            store = ResultsStore(tmp_path / f"{n}x{n}_{project_out}")
            motion = np.full((3, 1, 2), shear)
            sampling = sampling_record(
                project_out=project_out,
                interlayer_motion=motion,
                harmonic_interlayer_motion=motion,
                mesh_interlayer_motion=np.full((3, 1, 2), 0.004),
            )
            store.write("fermi_velocity", velocities, "digest", {})
            store.write("sampling", sampling, "digest", {})
            store.write("structure", structure_record(), "digest", {})
    folders = [path.parent for path in tmp_path.glob("*/results.h5")]
    groups = group_runs(folders, STAGES)
    assert set(groups) == {("none", "none"), ("none", "interlayer_gamma")}
    series = write_series(tmp_path, STAGES)
    assert [each.name for each in series] == ["cell_sizes", "cell_sizes_interlayer_gamma"]
    table = "\n".join(format_series(each.record) for each in series)
    assert table.index("| samples | 0 | 0.0400 |") < table.index("| samples | 0 | 0.0020 |")
    assert table.count("| dense mesh | 300 | 0.0040 | 0.0040 | 0.0040 |") == 2
    assert "left out: interlayer_gamma; structure relaxed: none; in brackets" in table
    with_modes = ResultsStore(tmp_path).read("cell_sizes", CellSizesRecord)
    frozen = ResultsStore(tmp_path).read("cell_sizes_interlayer_gamma", CellSizesRecord)
    assert (with_modes.project_out, frozen.project_out) == ("none", "interlayer_gamma")
    np.testing.assert_allclose(frozen.shear, 0.002)
    assert (tmp_path / "cell_sizes_interlayer_gamma.png").stat().st_size > 0


def test_runs_under_former_names_are_understood(tmp_path, records):
    write(tmp_path, records)
    expected = compare_sizes([tmp_path / f"{n}x{n}" for n in records], STAGES)
    for n in records:
        with h5py.File(tmp_path / f"{n}x{n}" / "results.h5", "a") as file:
            file.move("fermi_velocity", "observables")
            file["observables"].attrs["format"] = 1
            del file["observables"].attrs["sha256"]  # which was not there then
    found = compare_sizes([tmp_path / f"{n}x{n}" for n in records], STAGES)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.estimators == expected.estimators


def test_runs_that_cannot_be_compared_are_refused(tmp_path, records):
    with pytest.raises(DataError, match="got no runs below it"):
        write_series(tmp_path, STAGES)
    write(tmp_path, {3: records[3]})
    with pytest.raises(DataError, match="at least two different sizes N × N, each once"):
        write_series(tmp_path, STAGES)
    write(tmp_path, {6: (replace(records[6][0], velocity_window=(0.05, 0.1)), records[6][1])})
    with pytest.raises(DataError, match="got runs of different windows"):
        write_series(tmp_path, STAGES)
    ResultsStore(tmp_path / "4x4").write("self_energy", records[4][1], "digest", {})
    with pytest.raises(DataError, match="expected the stage fermi_velocity"):
        write_series(tmp_path, STAGES)


def test_every_quantity_has_a_limit_and_distances_from_it(tmp_path, records):
    write_whole(tmp_path, records)
    record = compare_sizes(sorted(tmp_path.glob("*x*")), STAGES)
    limits = record.quantities["fermi_velocity.spectral.velocities"]
    assert limits.unit_name == "m/s"
    np.testing.assert_allclose(limits.limits, record.limits[0, 0])
    np.testing.assert_allclose(limits.distances, np.outer(-1e5 / record.sizes, np.ones(3)))
    np.testing.assert_allclose(limits.cell_parts()[0], 1e5 / 3)
    # sizes that agree: as far as their error bars tell
    slopes = record.quantities["fermi_velocity.spectral.slope_ratios"]
    assert np.all(slopes.distance_errors > 1e-3)
    np.testing.assert_array_equal(slopes.cell_parts(), slopes.distance_errors)
    assert "fermi_velocity.spectral.energies" not in record.quantities  # a map
    assert set(record.system) == {"structure", "sampling"}
    assert record.observables == {"fermi_velocity": '{"window": 1.2}'}
    np.testing.assert_array_equal(record.ghosts[2], [[1, 0], [2, 0], [3, 1]])
    assert record.left_out.tolist() == [1, 1, 1]
    # the whole of it comes back from the disk
    (series,) = write_series(tmp_path, STAGES)
    again = ResultsStore(tmp_path).read(series.name, CellSizesRecord)
    np.testing.assert_array_equal(
        again.quantities["fermi_velocity.spectral.velocities"].distances, limits.distances
    )
    assert again.system == record.system


def test_forces_are_those_about_which_the_phonons_were_expanded(tmp_path, records):
    """Also of a structure as built, about which the structure stage asks no network."""
    write_whole(tmp_path, {n: records[n] for n in (3, 6)})
    forces = np.array(
        [[0.003, 0.0, 0.01], [-0.003, 0.0, 0.03], [0.0, 0.0, -0.02], [0.0, 0.0, -0.02]]
    )
    for run in tmp_path.glob("*x*"):
        ResultsStore(run).write("phonon", phonon_record(residual_forces=forces), "digest", {})
    record = compare_sizes(list(tmp_path.glob("*x*")), STAGES)
    residual, pushed = record.structure[2:]
    assert pushed == pytest.approx(0.02)
    assert residual == pytest.approx(np.hypot(0.003, 0.01))


def test_runs_of_other_networks_are_no_series(tmp_path, records):
    write_whole(tmp_path, {3: records[3]})
    write_whole(tmp_path, {6: records[6]}, hamiltonian={})
    some = system_of(structure={"structure": "another digest"})["structure"]
    store = ResultsStore(tmp_path / "6x6_none_none")
    store.write("structure", structure_record(), "digest", some)
    with pytest.raises(DataError, match=r"got different settings or files of structure; .*size"):
        write_series(tmp_path, STAGES)


def test_the_page_puts_all_choices_beside_each_other(tmp_path, records):
    for relaxation in ("none", "positions_and_cell"):
        for project_out in ("none", "interlayer_gamma"):
            write_whole(tmp_path, records, relaxation, project_out)
    series = write_series(tmp_path, STAGES)
    assert [each.name for each in series] == [
        "cell_sizes",
        "cell_sizes_relaxed_positions_and_cell",
        "cell_sizes_interlayer_gamma",
        "cell_sizes_relaxed_positions_and_cell_interlayer_gamma",
    ]
    page = format_page([each.record for each in series])
    for text in (
        "| T (K) | structure | Γ modes | estimator |  | 3×3 | 4×4 | 6×6 | 1/N → 0 | χ² / dof |",
        "| 300 | relaxed | frozen | spectral peak | mean slope | 0.947 ± 0.003 | 0.947 ± 0.003 |",
        "| 0 | fixed | in | spectral peak | v, γ₁ pinned | 0.966 ± 0.002 |",
        # −0.03e5 of 7.6e5 m/s
        "| fixed | in | spectral peak | mean slope | -0.004 ± 0.000 |",
        "| 300 | fixed | in | 0.04–0.1 | slope | 0.947 ± 0.003 |",
        "| 300 | fixed | in | outside the core | half the range |",
        "|  | relaxed | in | K folds onto Γ | yes | yes | yes |",
        "| 300 | fixed | in | opening (meV) | 30.0 ± 2.0 |",
        "| 150 | relaxed | frozen | samples | 0.0020 | 0.0020 | 0.0020 |",
        "| 150 | fixed | in | dense mesh | 0.0040 |",
        "|  | fixed | in | left out of every average | 1 | 1 | 1 |",
        "| 300 | fixed | in | with ghosts, H as predicted | 3 | 3 | 3 |",
        "| 300 | fixed | in | with the level shift | 1 | 1 | 1 |",
        "| fixed | e.ckpt, p.ckpt | 2.4600 | 3.350 | 0.4 | 12.0 |",
    ):
        assert text in page, text


def test_a_size_alone_waits_for_its_series(tmp_path, records):
    """A sweep that is not finished: what has two sizes is compared, the rest is not."""
    write_whole(tmp_path, records)
    write_whole(tmp_path, {3: records[3]}, "positions_and_cell")
    (series,) = write_series(tmp_path, STAGES)
    assert series.record.relaxation == "none"
