"""Which structures to label: thermal draws in supercells of many shapes, slides, strains, twists.

``design_structures`` proposes them for a material, as different from each other as a budget allows;
what it writes is what ``mlepi.labelling`` takes.
"""

from mlepi.design.cost import Cost, estimate_cost, measure_cost
from mlepi.design.descriptors import describe_environments, scale_descriptors
from mlepi.design.drawing import KINDS, Drawer, Drawn, Ranges
from mlepi.design.material import Material, examine_material
from mlepi.design.phonons import SPRINGS, PhononSource
from mlepi.design.run import DesignSettings, design_structures
from mlepi.design.selection import select_diverse
from mlepi.design.shapes import Shape, choose_shapes
from mlepi.design.table import Design, Row

__all__ = [
    "KINDS",
    "SPRINGS",
    "Cost",
    "Design",
    "DesignSettings",
    "Drawer",
    "Drawn",
    "Material",
    "PhononSource",
    "Ranges",
    "Row",
    "Shape",
    "choose_shapes",
    "describe_environments",
    "design_structures",
    "estimate_cost",
    "examine_material",
    "measure_cost",
    "scale_descriptors",
    "select_diverse",
]
