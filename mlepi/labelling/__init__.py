"""Labels by DFT: structures in, a folder with H, S, energies and forces of them out.

``Code`` is what a program must do for one structure; ``label_structures`` runs it for many, at
once, restartable, and writes the data set.
"""

from mlepi.labelling.abacus import Abacus
from mlepi.labelling.code import Calculation, Code
from mlepi.labelling.cp2k import Cp2k
from mlepi.labelling.espresso import Espresso
from mlepi.labelling.gpaw import Gpaw
from mlepi.labelling.held_back import HeldBack
from mlepi.labelling.labelled_set import LabelledSet
from mlepi.labelling.openmx import Openmx
from mlepi.labelling.pyscf import Pyscf
from mlepi.labelling.run import Progress, Summary, label_structures
from mlepi.labelling.siesta import Siesta
from mlepi.labelling.structure_files import read_structures
from mlepi.labelling.toy import Fake
from mlepi.labelling.vasp import Vasp

__all__ = [
    "Abacus",
    "Calculation",
    "Code",
    "Cp2k",
    "Espresso",
    "Fake",
    "Gpaw",
    "HeldBack",
    "LabelledSet",
    "Openmx",
    "Progress",
    "Pyscf",
    "Siesta",
    "Summary",
    "Vasp",
    "label_structures",
    "read_structures",
]
