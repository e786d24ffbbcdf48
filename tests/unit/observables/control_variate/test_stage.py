"""Control variates end to end.

Tight binding with overlap in place of the network, without overlap as its cheap companion.
"""

import io

import numpy as np
import pytest

from mlepi.errors import ConfigError, PhysicsError
from mlepi.observables import ControlStage, FermiVelocityStage, TightBindingStage
from mlepi.observables.tight_binding import measure_bond
from mlepi.pipeline import HamiltonianStage, PhononStage, Run, SamplingStage, StructureStage
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import ProgressReport
from mlepi.pipeline.runner import run_stages
from mlepi.pipeline.sources import Source
from mlepi.plots.control import plot_control, plot_tight_binding
from mlepi.results import ResultsStore
from mlepi.structures import build_graphene

STAGES = (
    "structure",
    "phonon",
    "sampling",
    "hamiltonian",
    "observables",
    "tight_binding",
    "control",
)
OBSERVABLES = {
    "valence_electrons": {6: 1},
    "electronic_temperature": 300.0,
    "band_spacing": 0.3,
    "dos_mesh": [3, 3, 1],
    "dos_width": 0.3,
    "dos_window": [-10.0, 8.0],
    "distances": [0.04, 0.07, 0.1],
    "energy_window": 1.2,
    "energy_step": 0.02,
    "line_shape": "gaussian",
    "line_width": 0.1,
    "peak_width": 0.25,
    "velocity_window": [0.04, 0.1],
    "windows": [],
    "dispersion": "linear",
    "split_off_bands": False,
    "n_resamples": 60,
    "n_counts": 2,
}


def make_run(folder, n_samples=12, n_control=60):
    network = {
        "_target_": "mlepi.reference_systems.TightBinding",
        "orbitals": "s",
        "orthogonal": False,
    }
    return Run(
        store=ResultsStore(folder),
        stages={
            "structure": StructureStage(),
            "phonon": PhononStage(dos_mesh=(3, 3, 1), n_points=8),
            "sampling": SamplingStage(),
            "hamiltonian": HamiltonianStage(),
            "observables": FermiVelocityStage(**OBSERVABLES),
            "tight_binding": TightBindingStage(
                valence_electrons={6: 1}, n_structures=2, distances=[0.0, 0.1], n_levels=2
            ),
            "control": ControlStage(n_samples=n_control, n_folds=4),
        },
        temperatures=(0.0, 300.0),
        n_samples=n_samples,
        seed=0,
        supercell=(3, 3, 1),
        structure=Source(
            "structure", {"_target_": "mlepi.structures.build_graphene", "stacking": "monolayer"}
        ),
        phonon=Source("phonon", {"_target_": "mlepi.reference_systems.HoneycombSprings"}),
        electron=Source("electron", network),
        dtype="float64",
    )


def execute(run):
    stream = io.StringIO()
    run_stages(run, STAGES, Processes(), ProgressReport(stream=stream))
    return stream.getvalue()


def test_the_noise_that_both_share_is_taken_off(tmp_path):
    run = make_run(tmp_path)
    text = execute(run)
    assert "control/observables" in text
    record, observables = run.read("control"), run.read("observables")
    assert record.n_samples == 12
    assert record.n_control_samples == 60
    np.testing.assert_array_equal(record.spectral.plain[:, 0], observables.spectral.velocities)
    np.testing.assert_allclose(
        record.spectral.plain_errors[:, 0], observables.spectral.velocity_errors, rtol=0.5
    )
    # an overlap of 0.129 changes energies by some per cent: the two must follow each other from
    # sample to sample
    assert record.spectral.correlations[:, 0].min() > 0.99
    assert record.spectral.sample_reductions[:, 0].min() > 20.0
    assert record.spectral.errors[1, 0] < record.spectral.plain_errors[1, 0]
    # what many samples give lies within the error bars of what few and the control give
    many = make_run(tmp_path / "many", n_samples=150)
    run_stages(many, STAGES[:5], Processes(), ProgressReport(quiet=True))
    reference = many.read("observables").spectral
    sigma = np.hypot(record.spectral.errors[:, 0], reference.velocity_errors)
    assert np.all(np.abs(record.spectral.values[:, 0] - reference.velocities) < 3.5 * sigma)
    # the cheap samples are those of the network
    same = ResultsStore(tmp_path / "control" / "same")
    assert same.content("phonon") == run.store.content("phonon")
    fit = run.read("tight_binding")
    assert fit.n_layers == 1
    assert fit.spacing == 3.35  # that of graphite, without meaning in a monolayer
    assert fit.rms < 0.02
    assert fit.fermi_velocity == pytest.approx(observables.spectral.equilibrium_velocity, rel=0.05)
    for figure in (plot_control(record), plot_tight_binding(fit)):
        assert figure.axes[0].get_xlabel()
    # a second time there is nothing to do; more cheap samples leave everything else alone
    assert execute(make_run(tmp_path)).count("unchanged") == len(STAGES)
    again = execute(make_run(tmp_path, n_control=70))
    assert (
        again.count("unchanged") == len(STAGES) - 1 + 4
    )  # and the runs on the same samples, and H of the other


def test_wrong_number_of_electrons_is_told(tmp_path):
    run = make_run(tmp_path, n_samples=2)
    run.stages["tight_binding"] = TightBindingStage(
        valence_electrons={6: 4}, n_structures=1, distances=[0.1], n_levels=2
    )
    run_stages(run, STAGES[:4], Processes(), ProgressReport(quiet=True))
    with pytest.raises(PhysicsError, match="4 levels around state 36 of 18"):
        run_stages(run, ["tight_binding"], Processes(), ProgressReport(quiet=True))


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"stage\.control: got n_samples 1"):
        ControlStage(n_samples=1, n_folds=5)
    with pytest.raises(ConfigError, match=r"stage\.tight_binding: got n_structures 0"):
        TightBindingStage(valence_electrons={6: 4}, n_structures=0, distances=[0.1], n_levels=4)
    atoms = build_graphene(stacking="monolayer", lattice_constant=4.0)
    atoms.arrays["layer"] = np.zeros(2, dtype=int)
    with pytest.raises(PhysicsError, match="no bond shorter than 2 Å"):
        measure_bond(atoms)
