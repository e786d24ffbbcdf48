"""Runs that an earlier version left behind open, report and continue (tests/references/old)."""

import dataclasses
import json
import re

import h5py
import numpy as np
import pytest
from old_runs import unpack_run

from mlepi.command_line import compose_config
from mlepi.observables import all_stages
from mlepi.observables.cell_sizes.record import CellSizesRecord
from mlepi.observables.cell_sizes.series import write_series
from mlepi.observables.cell_sizes.tables import format_series
from mlepi.pipeline import infer
from mlepi.project_files import PROJECT_FOLDER
from mlepi.report import write_report
from mlepi.results import PartFile, ResultsStore
from mlepi.results.upgrades import RECORD_FORMAT, former_stage

GAP = ["stage.gap.mesh=[3,3,1]", "stage.gap.energy_step=0.025", "stage.gap.n_resamples=4"]
SMALL = [
    "report=false",
    "supercell=[3,3,1]",
    "n_samples=4",
    "temperature=[0,300]",
    "stage.phonon.n_points=11",
    "stage.phonon.dos_mesh=[6,6,1]",
    "stage.observables.band_spacing=0.4",
    "stage.observables.dos_mesh=[6,6,1]",
    "stage.observables.dos_width=1.0",
    "stage.observables.distances=[0.0,0.04,0.07,0.1]",
    "stage.observables.windows=[[0.04,0.1]]",
    "stage.observables.energy_step=0.025",
    "stage.observables.n_resamples=4",
    "stage.observables.n_counts=2",
]
OTHERS = [
    "stage.self_energy.distances=[0.04,0.07,0.1]",
    "stage.self_energy.energy_step=0.025",
    "stage.self_energy.n_resamples=4",
    "stage.self_energy.n_counts=2",
    "stage.effective_mass.energy_step=0.025",
    "stage.effective_mass.n_resamples=4",
    "stage.dos.window=[-4.0,4.0]",
    "stage.dos.energy_step=0.07",
    "stage.conductivity.equilibrium_mesh=[60,60,1]",
    "stage.conductivity.energy_step=0.05",
    "stage.conductivity.n_resamples=4",
    "stage.conductivity.n_counts=2",
    "stage.band_geometry.distances=[0.04,0.07,0.1]",
    "stage.band_geometry.n_map=2",
    "stage.band_geometry.n_loop=8",
    "stage.band_geometry.n_counts=2",
    "stage.linear_response.mesh=null",
    "stage.control.n_samples=6",
    "stage.control.n_folds=2",
]
FINISHED = [
    "experiment=toy_monolayer",
    *SMALL,
    *GAP,
    *OTHERS,
    "stage.hamiltonian.store=true",
    "stage=[fermi_velocity,self_energy,gap,effective_mass,dos,conductivity,band_geometry,domain,"
    "linear_response,tight_binding,control]",
]
TARGET = [
    "experiment=toy_monolayer",
    "stage=gap",
    "report=false",
    "supercell=[2,2,1]",
    "n_samples=40",
    "temperature=300",
    "stage.phonon.n_points=11",
    "stage.phonon.dos_mesh=[6,6,1]",
    *GAP,
    "stage.sampling.target=gap",
    "stage.sampling.target_error=0.1",
]
BANDS = [
    "experiment=tbg_magic",
    "phonon=toy",
    "electron=toy",
    "structure.m=2",
    "valence_electrons={6:4}",
    "report=false",
    "stage.bands.spacing=0.25",
    "stage.bands.n_states=8",
    "stage.bands.backend=superlu",
]


def compare_held(found, expected, group):
    """Compare all numbers of a record that an old file holds, and those alone.

    Bootstrap errors lack a factor there that the file cannot tell: of the first samples, and of
    records that do not say how many groups of samples they had.
    """
    told = np.isfinite(getattr(expected, "degrees_of_freedom", np.nan))
    for field in dataclasses.fields(expected):
        values = getattr(found, field.name), getattr(expected, field.name)
        untold = field.name.endswith("_errors") and not told
        if field.name not in group or field.name == "convergence_errors" or untold:
            continue
        if dataclasses.is_dataclass(values[1]):
            compare_held(*values, group[field.name])
        elif isinstance(values[1], (np.ndarray, float)):
            scale = np.nanmax(np.abs(values[1]), initial=0.0)
            np.testing.assert_allclose(*values, rtol=1e-12, atol=1e-12 * scale)
        else:
            assert values[0] == values[1], field.name


def run(folder, arguments, capsys):
    """Run as infer.py does; return what was said and the run."""
    config = compose_config(PROJECT_FOLDER / "conf", "infer", [*arguments, f"folder={folder}"])
    done = infer(config, folder, all_stages())
    return capsys.readouterr().out, done


@pytest.mark.parametrize(
    ("name", "arguments", "n_stages"),
    [("finished", FINISHED, 15), ("target", TARGET, 5), ("bands", BANDS, 3)],
)
def test_a_finished_run_is_kept_and_told_to_be_of_unknown_code(
    tmp_path, capsys, name, arguments, n_stages
):
    folder = unpack_run(name, tmp_path)
    before = (folder / "results.h5").read_bytes()
    said, done = run(folder, arguments, capsys)
    lines = [line for line in said.splitlines() if "unchanged, made by unknown code" in line]
    assert len(lines) == n_stages, said
    assert (folder / "results.h5").read_bytes() == before
    page = write_report(folder, all_stages()).read_text(encoding="utf-8")
    for stage in done.store.stages():
        assert f"<summary>{stage}: commit cbfa22c" in page


def test_a_run_that_was_killed_goes_on_under_the_new_names(tmp_path, capsys):
    """Half of it was done; all that the run that nobody killed holds is found again."""
    half, whole = (unpack_run(name, tmp_path) for name in ("half_done", "finished"))
    arguments = [a for a in FINISHED if a not in OTHERS and not a.startswith("stage=")]
    said, done = run(half, [*arguments, "stage=[fermi_velocity,gap]"], capsys)
    assert said.count("unchanged, made by unknown code") == 4
    for stage in ("fermi_velocity", "gap"):
        record = done.read(stage)
        expected = ResultsStore(whole).read(stage, type(record))
        with h5py.File(whole / "results.h5") as file:
            compare_held(record, expected, file[f"{former_stage(stage)}/record"])
        assert done.store.format(stage) == RECORD_FORMAT
    parts = sorted(path.name for path in (half / "parts").iterdir())
    assert {"observables.0.part", "fermi_velocity.0.part"} <= set(parts)


def test_a_path_of_kpoints_that_was_killed_goes_on(tmp_path, capsys):
    half, whole = (unpack_run(name, tmp_path) for name in ("half_bands", "bands"))
    before = (half / "parts" / "bands.0.part").read_bytes()
    _, done = run(half, BANDS, capsys)
    record = done.read("sparse_bands")
    expected = ResultsStore(whole).read("sparse_bands", type(record))
    # rounding of the two that are solved here is the processor's
    np.testing.assert_allclose(record.energies, expected.energies, rtol=0, atol=1e-12)
    assert record.proven == expected.proven == 1
    assert (half / "parts" / "bands.0.part").read_bytes() == before  # read, never written to
    new = PartFile(half / "parts" / "sparse_bands.0.part", "").places()
    assert len(new) == 2  # three of five k-points were there


def test_a_series_of_sizes_is_read_again(tmp_path):
    folder = unpack_run("cell_sizes", tmp_path)
    before = ResultsStore(folder).read("cell_sizes", CellSizesRecord)
    (series,) = write_series(folder, all_stages())
    table = format_series(series.record)
    after = ResultsStore(folder).read("cell_sizes", CellSizesRecord)
    np.testing.assert_array_equal(after.values, before.values)
    np.testing.assert_allclose(after.limits, before.limits, rtol=1e-12)
    assert re.search(r"spectral peak \| v_F", table)


def test_a_changed_setting_is_still_a_change(tmp_path, capsys):
    folder = unpack_run("target", tmp_path)
    said, done = run(folder, [*TARGET, "stage.gap.n_resamples=5"], capsys)
    assert said.count("unchanged") == 4
    assert done.store.format("gap") == RECORD_FORMAT
    provenance = done.store.provenance("gap")
    assert provenance["inputs"]["settings"]["peaks"][-1] == 5
    assert json.dumps(provenance)
