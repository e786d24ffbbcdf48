"""Records of the stages up to the Hamiltonian, written by hand for figures and reports."""

from __future__ import annotations

import numpy as np
from toys import honeycomb

from mlepi.pipeline.stages.hamiltonian.record import HamiltonianRecord
from mlepi.pipeline.stages.phonon.record import PhononRecord
from mlepi.pipeline.stages.sampling.record import SamplingRecord
from mlepi.pipeline.stages.structure.record import StructureRecord

TEMPERATURES = np.array([0.0, 150.0, 300.0])


def structure_record(**changes) -> StructureRecord:
    own = {"source": "<builder> & co", "relaxation": "none", "n_steps": 0, "energy": -1.0}
    return StructureRecord(honeycomb(bilayer=True), **{**own, "max_force": 0.012, **changes})


def phonon_record(**changes) -> PhononRecord:
    return PhononRecord(
        **{
            "atoms": honeycomb(bilayer=True),
            "supercell": (2, 2, 1),
            "force_constants": np.zeros((4, 16, 3, 3)),
            "raw_sum_rule_residual": 1e-3,
            "sum_rule_residual": 1e-12,
            "band_qpoints": np.zeros((7, 3)),
            "band_distances": np.linspace(0, 3, 7),
            "band_frequencies": np.tile(np.arange(12.0) * 4, (7, 1)),
            "band_labels": ("G", "M", "K", "G"),
            "band_label_distances": np.array([0.0, 1.0, 2.0, 3.0]),
            "dos_frequencies": np.linspace(0, 50, 20),
            "dos": np.linspace(1, 2, 20),
            "lowest_frequency": 0.5,
            **changes,
        }
    )


def sampling_record(**changes) -> SamplingRecord:
    return SamplingRecord(
        **{
            "temperatures": TEMPERATURES,
            "n_samples": 30,
            "seed": 7,
            "statistics": "quantum",
            "imaginary": "error",
            "floor_frequency": 0.5,
            "n_soft_modes": 0,
            "mean_square_displacements": np.full((3, 4, 3), 0.01),
            "sampled_mean_square_displacements": np.full((3, 4, 3), 0.01),
            "max_displacements": np.array([0.1, 0.15, 0.2]),
            "n_groups": 30,
            "effective_sample_size": 30.0,
            "za_shares": np.array([0.1, 0.2, 0.3]),
            "convergence_counts": np.array([1, 10, 30]),
            "convergence": np.full((3, 3, 2), 0.02) * np.array([1.0, 0.5]),
            "convergence_errors": np.full((3, 3, 2), 0.002),
            **changes,
        }
    )


def hamiltonian_record(**changes) -> HamiltonianRecord:
    return HamiltonianRecord(
        **{
            "file": "hamiltonian.h5",
            "checksum": "abc",
            "n_orbitals": 32,
            "n_edges": 100,
            "kpoints": np.zeros((1, 3)),
            "smallest_overlap_eigenvalues": np.array([2e-3]),
            **changes,
        }
    )
