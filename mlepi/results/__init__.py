"""Results: frozen records with units, the store of a run, and the parts of unfinished ensembles."""

from mlepi.results.band_geometry import BandGeometryRecord
from mlepi.results.bands import BandsRecord, ContinuumRecord
from mlepi.results.conductivity import ConductivityRecord
from mlepi.results.control import ControlledRecord, ControlRecord, TightBindingRecord
from mlepi.results.domain import DomainRecord
from mlepi.results.dos import DosRecord
from mlepi.results.effective_mass import EffectiveMassRecord
from mlepi.results.gap import GapRecord
from mlepi.results.hamiltonian_file import read_hamiltonian, write_hamiltonian
from mlepi.results.hdf5 import unit
from mlepi.results.linear_response import LinearResponseRecord, SecondOrderRecord
from mlepi.results.observables import ObservablesRecord, VelocityRecord, WindowRecord
from mlepi.results.parts import PartFile, choose_part, find_parts
from mlepi.results.provenance import collect_provenance, hash_data, hash_file
from mlepi.results.records import HamiltonianRecord, PhononRecord, SamplingRecord, StructureRecord
from mlepi.results.self_energy import SelfEnergyRecord
from mlepi.results.source_code import fingerprint_code, list_modules, modules_of
from mlepi.results.store import ResultsStore
from mlepi.results.upgrades import former_inputs

__all__ = [
    "BandGeometryRecord",
    "BandsRecord",
    "ConductivityRecord",
    "ContinuumRecord",
    "ControlRecord",
    "ControlledRecord",
    "DomainRecord",
    "DosRecord",
    "EffectiveMassRecord",
    "GapRecord",
    "HamiltonianRecord",
    "LinearResponseRecord",
    "ObservablesRecord",
    "PartFile",
    "PhononRecord",
    "ResultsStore",
    "SamplingRecord",
    "SecondOrderRecord",
    "SelfEnergyRecord",
    "StructureRecord",
    "TightBindingRecord",
    "VelocityRecord",
    "WindowRecord",
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
    "unit",
    "write_hamiltonian",
]
