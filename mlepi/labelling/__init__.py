"""Labels by DFT: structures in, a folder with H, S, energies and forces of them out.

``Code`` is what a program must do for one structure; ``label_structures`` runs it for many, at
once, restartable, and writes the data set.
"""

from mlepi.labelling.code import Calculation, Code
from mlepi.labelling.cp2k import Cp2k
from mlepi.labelling.labelled_set import LabelledSet
from mlepi.labelling.run import Progress, Summary, label_structures
from mlepi.labelling.structure_files import read_structures
from mlepi.labelling.toy import Fake

__all__ = [
    "Calculation",
    "Code",
    "Cp2k",
    "Fake",
    "LabelledSet",
    "Progress",
    "Summary",
    "label_structures",
    "read_structures",
]
