"""Fingerprints of source code, of edited copies of a small package and of this one."""

import shutil
import sys
from pathlib import Path

import pytest

from mlepi.errors import DataError
from mlepi.pipeline.stages.hamiltonian.stage import HamiltonianStage
from mlepi.results import fingerprint_code, list_modules, modules_of
from mlepi.results.source_code import SourceTree

PACKAGE = Path(__file__).parents[3] / "mlepi"

SMALL = {
    "__init__.py": "",
    "constants.py": 'HBAR = 1.05\n"""Action."""\nMASS = 2.0\n',
    "physics/__init__.py": """
from typing import TYPE_CHECKING
from lab.physics import waves
from lab.physics.bands import Bands as Levels, find_gap
from .heat import capacity
if TYPE_CHECKING:
    from lab.lazy import Late
VERSION = 3
def __getattr__(name): ...
""",
    "physics/bands.py": '''"""Bands."""
from lab.constants import HBAR
class Bands:
    """Levels."""
    spin = 2
def find_gap(x):
    """Find it."""
    return x * HBAR  # in eV
''',
    "physics/heat.py": "def capacity(t):\n    return t**3\n",
    "physics/waves.py": "from ..constants import MASS\nSPEED = MASS\n",
    "lazy.py": "class Late: ...\n",
    "plots.py": "COLOUR = 'blue'\n",
    "gap.py": """
from __future__ import annotations
import math, numpy
from typing import TYPE_CHECKING
from lab.physics import find_gap
if TYPE_CHECKING:
    from lab.plots import COLOUR
""",
    "inside.py": "def run():\n    from .physics import capacity\n    return capacity(1)\n",
    "alias.py": "from lab.physics import Levels\n",
    "whole.py": "from lab import physics\n",
    "named.py": "import lab.physics.waves\nfrom lab.physics import waves as w\n",
    "own.py": "from lab.physics import VERSION\n",
    "unknown.py": "from lab.physics import anything\n",
    "late.py": "from lab.physics import Late\n",
    "star.py": "from lab.physics import *\n",
    "circle.py": "import lab.circle_too\n",
    "circle_too.py": "import lab.circle\nfrom lab.absent import nothing\n",
    "outside.py": "from torch import nn\nimport yaml.nodes\nfrom mlepi.units import HBAR\n",
}
PHYSICS = {"lab.physics", "lab.physics.waves", "lab.physics.bands", "lab.physics.heat"}
PHYSICS |= {"lab.constants"}


def make_package(folder, **changes):
    """Write the small package, with some files replaced, and return the tree of its source."""
    for name, text in {**SMALL, **changes}.items():
        path = folder / "lab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return SourceTree([str(folder), *sys.path])


@pytest.fixture
def small(tmp_path):
    return make_package(tmp_path)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("gap", {"lab.physics.bands", "lab.constants"}),
        ("inside", {"lab.physics.heat"}),
        ("alias", {"lab.physics.bands", "lab.constants"}),
        ("whole", PHYSICS),
        ("named", {"lab.physics.waves", "lab.constants"}),
        ("own", PHYSICS),
        ("unknown", PHYSICS),
        ("late", {"lab.lazy"}),
        ("star", PHYSICS),
        ("circle", {"lab.circle_too"}),
        ("outside", {"mlepi.units"}),
    ],
)
def test_modules_are_those_that_define_what_is_imported(small, module, expected):
    found = small.closure([f"lab.{module}"])
    assert found == tuple(sorted({f"lab.{module}", *expected}))
    assert not any(name.partition(".")[0] == "lab" for name in sys.modules), "nothing is imported"


def test_modules_that_cannot_change_a_result_are_left_out(small):
    assert small.closure(["lab.whole"], without=["lab.physics"]) == ("lab.whole",)
    assert set(small.closure(["lab.whole"], without=["lab.physics.bands", "lab.phys"])) == {
        "lab.whole",
        *PHYSICS - {"lab.physics.bands"},
    }


def test_a_module_without_source_is_refused(small):
    for name in ("lab.nowhere", "nowhere", "sys"):
        with pytest.raises(DataError, match=rf"module {name}: got no source code; .* Put it into"):
            small.fingerprint([name])
        with pytest.raises(DataError, match=rf"module {name}: got no source code"):
            fingerprint_code([name])


@pytest.mark.parametrize(
    "text",
    [
        SMALL["physics/bands.py"].replace("# in eV", "# in meV, or whatever"),
        SMALL["physics/bands.py"].replace('"""Bands."""', '"""Bands of a crystal."""'),
        SMALL["physics/bands.py"].replace('    """Levels."""\n', ""),
        SMALL["physics/bands.py"].replace('"""Find it."""', "'''Look for it.'''"),
        SMALL["physics/bands.py"].replace("\n", "\n\n"),
        SMALL["physics/bands.py"].replace("x * HBAR", "(x*\\\n  HBAR)"),
        SMALL["physics/bands.py"].replace("spin = 2", 'spin = 0x2\n    """Of electrons."""'),
        SMALL["physics/bands.py"] + "if TYPE_CHECKING :\n    import lab.plots\n",
    ],
)
def test_comments_docstrings_and_formatting_do_not_count(tmp_path, text):
    assert text != SMALL["physics/bands.py"]
    before = make_package(tmp_path / "a").fingerprint(["lab.gap"])
    changed = make_package(tmp_path / "b", **{"physics/bands.py": text})
    assert changed.fingerprint(["lab.gap"]) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("constants.py", "1.05", "1.06"),
        ("physics/bands.py", "x * HBAR", "x / HBAR"),
        ("physics/bands.py", "spin = 2", "spin = True"),
        ("physics/bands.py", "spin = 2", 'spin = "2"'),
        ("physics/bands.py", "def find_gap(x)", "def find_gap(x, y=0)"),
        ("gap.py", "import math", "import cmath"),
    ],
)
def test_what_a_stage_imports_counts(tmp_path, file, old, new):
    before = make_package(tmp_path / "a").fingerprint(["lab.gap"])
    assert SMALL[file].count(old) == 1
    changed = make_package(tmp_path / "b", **{file: SMALL[file].replace(old, new)})
    assert changed.fingerprint(["lab.gap"]) != before


@pytest.mark.parametrize("file", ["physics/heat.py", "plots.py", "inside.py", "physics/waves.py"])
def test_what_a_stage_does_not_import_does_not_count(tmp_path, file):
    before = make_package(tmp_path / "a").fingerprint(["lab.gap"])
    changed = make_package(tmp_path / "b", **{file: SMALL[file] + "MORE = 1\n"})
    assert changed.fingerprint(["lab.gap"]) == before


def test_a_name_handed_on_from_elsewhere_counts(tmp_path):
    """The package now takes the same name from another file."""
    before = make_package(tmp_path / "a").fingerprint(["lab.gap"])
    init = SMALL["physics/__init__.py"].replace(", find_gap", "\nfrom .heat import find_gap")
    heat = SMALL["physics/heat.py"] + "def find_gap(x): return 0\n"
    changed = make_package(tmp_path / "b", **{"physics/__init__.py": init, "physics/heat.py": heat})
    assert changed.closure(["lab.gap"]) == ("lab.gap", "lab.physics.heat")
    assert changed.fingerprint(["lab.gap"]) != before


def test_the_order_of_modules_does_not_matter(small):
    both = small.fingerprint(["lab.gap", "lab.inside"])
    assert small.fingerprint(["lab.inside", "lab.gap", "lab.gap"]) == both
    assert both not in (small.fingerprint(["lab.gap"]), small.fingerprint(["lab.inside"]))


def test_source_is_read_once(tmp_path):
    tree = make_package(tmp_path)
    before = tree.fingerprint(["lab.gap"])
    make_package(tmp_path, **{"constants.py": "HBAR = 7.0\n"})
    assert tree.fingerprint(["lab.gap"]) == before, "what runs is what was read first"
    assert SourceTree([str(tmp_path), *sys.path]).fingerprint(["lab.gap"]) != before


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of this package that may be edited."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, folder / "mlepi", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


STAGE = HamiltonianStage.__module__
PHYSICS_FILE = "mlepi.physics.eigenstates.bloch"


def edited(copy, module, text):
    """The fingerprint of a stage after a text was appended to a module, which is then restored."""
    path = copy / Path(*module.split(".")).with_suffix(".py")
    original = path.read_text(encoding="utf-8")
    path.write_text(original + text, encoding="utf-8")
    try:
        return SourceTree([str(copy)]).fingerprint([STAGE])
    finally:
        path.write_text(original, encoding="utf-8")


def test_editing_a_copy_of_this_package(copy):
    before = fingerprint_code([STAGE])
    assert SourceTree([str(copy)]).fingerprint([STAGE]) == before, "a copy is the same code"
    assert PHYSICS_FILE in list_modules([STAGE])
    assert edited(copy, PHYSICS_FILE, "\n\n# a comment\n\n'''and a text'''\n") == before
    assert edited(copy, PHYSICS_FILE, "\nSPIN_DEGENERACY = 3\n") != before
    observables = (copy / "mlepi" / "observables").rglob("*.py")
    unrelated = max(path.relative_to(copy).with_suffix("") for path in observables)
    assert ".".join(unrelated.parts) not in list_modules([STAGE])
    assert edited(copy, ".".join(unrelated.parts), "\nSPIN_DEGENERACY = 3\n") == before


def test_rooms_hand_names_on_without_counting_as_a_whole():
    found = list_modules([STAGE])
    assert "mlepi.results.hamiltonian_file" in found, "the stage writes it"
    assert "mlepi.results.parts" not in found
    assert not {"mlepi.results", "mlepi.physics", "mlepi"} & set(found)


class Layer:
    def __init__(self, *layers):
        self.layers = layers

    def modules(self):
        return [self, *(inner for layer in self.layers for inner in layer.modules())]


def test_modules_of_objects_and_of_the_networks_inside_them():
    class Predictor:
        def __init__(self, network):
            self.network = network
            self.modules_by_name = {}

    class Calculator:
        def __init__(self, predictor):
            self.predictor = predictor
            self.again = self

    inner, outer = type("Inner", (Layer,), {}), type("Outer", (Layer,), {})
    inner.__module__, outer.__module__ = "mlepi.models.inner", "lab.outer"
    Predictor.__module__ = "mlepi.predictors.some"
    Calculator.__module__ = "ase.calculators.some"
    network = outer(inner(), Layer())
    assert modules_of(network) == {"mlepi.models.inner"}
    assert modules_of(network, ["lab", "mlepi"]) == {"lab.outer", "mlepi.models.inner"}
    assert modules_of(Predictor(network)) == {"mlepi.predictors.some", "mlepi.models.inner"}
    assert modules_of(Calculator(Predictor(network))) == modules_of(Predictor(network))
    assert modules_of(SourceTree()) == {"mlepi.results.source_code"}
    assert modules_of(3.0) == set()
    assert modules_of(outer) == set(), "a class is not a network"


def test_modules_of_a_network_of_torch():
    from torch import nn

    from mlepi.models.radial import BesselBasis

    network = nn.Sequential(nn.Linear(2, 2), BesselBasis(3.0, 4))
    assert modules_of(network) == {"mlepi.models.radial"}
