"""Samples whose Hamiltonians have another zero of energy each: H + μS."""

from dataclasses import replace

from mlepi.graphs.block_matrix import BlockMatrix


def raise_energies(hamiltonian, overlap, shift):
    """H + μS with a shift μ in eV."""
    return BlockMatrix(
        hamiltonian.numbers,
        hamiltonian.basis,
        hamiltonian.edge_index,
        hamiltonian.edge_cell_shift,
        hamiltonian.blocks + shift * overlap.blocks,
    )


def compute_shifted(stage, ensemble, shifts):
    """Run a sampled stage from its beginning to its record, with one shift per snapshot, eV."""
    prepared, results = stage.prepare(ensemble), []
    for key in ensemble.sample_keys():
        sample = ensemble.predict([key])[0]
        raised = raise_energies(sample.hamiltonian, sample.overlap, shifts[key.sample])
        results.append((key, stage.evaluate(prepared, replace(sample, hamiltonian=raised))))
    return stage.finish(prepared, ensemble, results)
