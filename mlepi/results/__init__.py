"""Results: records with units, the store of a run, part files, provenance; names no observable."""

from mlepi.results.hamiltonian_file import (
    read_hamiltonian,
    read_hamiltonian_provenance,
    write_hamiltonian,
)
from mlepi.results.hdf5 import unit
from mlepi.results.parts import PartFile
from mlepi.results.provenance import collect_provenance, hash_data, hash_file
from mlepi.results.store import ResultsStore

__all__ = [
    "PartFile",
    "ResultsStore",
    "collect_provenance",
    "hash_data",
    "hash_file",
    "read_hamiltonian",
    "read_hamiltonian_provenance",
    "unit",
    "write_hamiltonian",
]
