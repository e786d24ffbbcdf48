"""Files that other programs open: matrices, phonons, structures, electron-phonon couplings."""

from mlepi.exports.couplings import Couplings, write_couplings
from mlepi.exports.csr import write_csr
from mlepi.exports.deeph_folder import write_deeph_folder
from mlepi.exports.labels import collect_labels, find_fermi_energy
from mlepi.exports.phonopy_file import write_phonopy
from mlepi.exports.sisl_file import build_sisl, write_sisl
from mlepi.exports.structure_files import STRUCTURE_FORMATS, Frame, build_settings, write_frames
from mlepi.exports.wannier90 import WannierError, write_wannier90

__all__ = [
    "STRUCTURE_FORMATS",
    "Couplings",
    "Frame",
    "WannierError",
    "build_settings",
    "build_sisl",
    "collect_labels",
    "find_fermi_energy",
    "write_couplings",
    "write_csr",
    "write_deeph_folder",
    "write_frames",
    "write_phonopy",
    "write_sisl",
    "write_wannier90",
]
