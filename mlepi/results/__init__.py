"""Results: records with units, the store of a run, part files, provenance; names no observable."""

from mlepi.results.hamiltonian_file import (
    read_hamiltonian,
    read_hamiltonian_provenance,
    write_hamiltonian,
)
from mlepi.results.hdf5 import unit
from mlepi.results.parts import PartFile, choose_part, find_parts
from mlepi.results.provenance import (
    check_unchanged,
    collect_provenance,
    hash_data,
    hash_file,
    read_input,
)
from mlepi.results.source_code import fingerprint_code, list_modules, modules_of
from mlepi.results.store import ResultsStore
from mlepi.results.upgrades import former_inputs

__all__ = [
    "PartFile",
    "ResultsStore",
    "check_unchanged",
    "choose_part",
    "collect_provenance",
    "find_parts",
    "fingerprint_code",
    "former_inputs",
    "hash_data",
    "hash_file",
    "list_modules",
    "modules_of",
    "read_hamiltonian",
    "read_hamiltonian_provenance",
    "read_input",
    "unit",
    "write_hamiltonian",
]
