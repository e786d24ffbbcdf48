"""The architecture as tests.

Imports go down only, sources are safe and portable, no package is listed in vain.
"""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mlepi"
ELSEWHERE = {PACKAGE / "commands" / "scripts", PACKAGE / "structures" / "programs"}
"""Scripts that run in the Python of other programs."""
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent not in ELSEWHERE)
SCRIPTS = [path for path in (ROOT / "train.py", ROOT / "infer.py") if path.exists()]
TEXT_FILES = [
    path
    for pattern in (
        "*.py",
        "*.md",
        "*.toml",
        "*.txt",
        "conf/**/*.yaml",
        "docs/**/*.md",
        "mlepi/**/*.py",
        "tests/**/*.py",
    )
    for path in ROOT.glob(pattern)
]

# A room imports only from lower numbers; rooms of one number never import each other.
ROOM_ORDER: dict[str, float] = {
    "units": 0,
    "errors": 0,
    "doubts": 0,
    "memory": 0,
    "former_names": 0,
    "untrusted": 0.5,  # reads files for all rooms above
    "hdf5_files": 0.7,
    "setting_types": 0.5,
    "project_files": 0.5,
    "plugins": 0,
    "stopping": 0,
    "litter": 0,
    "parents": 0,
    "threads": 0,
    "faults": 1,
    "run_lock": 1,
    "checksums": 1,
    "checkpoint_formats": 2,
    "default_folder": 1,
    "sweep_names": 0,
    "arithmetic": 1,
    "config_check": 1,
    "kernels": 1,
    "structures": 1,
    "physics": 1,
    "trust": 2,
    "tracking": 2,
    "graphs": 2,
    "models": 3,
    "predictors": 4,
    "results": 4,
    "figures": 4,
    "exports": 4,
    "reference_systems": 4,
    "checkpoint": 5,
    "training": 6,
    "pipeline": 6,
    "observables": 7,
    "labelling": 7,
    "design": 8,
    "report": 8,
    "study": 8.5,  # the loop over design, labelling and what a run says
    "evaluation": 9,
    "verification": 9,
    "command_line": 9,  # how the scripts start
    "__init__": 9,  # the public API, a door to all rooms
    "commands": 10,
    "__main__": 11,
}

# Import name → distribution name, where they differ.
DISTRIBUTIONS = {
    "hydra": "hydra-core",
    "jinja2": "Jinja2",
    "torch_geometric": "torch-geometric",
    "dask_jobqueue": "dask-jobqueue",
    "yaml": "PyYAML",
}
# Listed although no source imports it: phonopy calls symfc.
CALLED_THROUGH_OTHERS = {"symfc"}


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts)


@cache
def imported_modules(path: Path) -> list[tuple[str, int]]:
    """All imported modules with their lines, also those in functions and TYPE_CHECKING."""
    package = module_of(path).split(".")[:-1]
    found = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from mlepi import physics` names a room in the alias, not in the module.
            found += [
                (f"{module}.{alias.name}" if module == "mlepi" else module, node.lineno)
                for alias in node.names
            ]
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_room_has_a_place_in_the_order():
    rooms = {room_of(module_of(path)) for path in SOURCES}
    assert rooms <= set(ROOM_ORDER), "a new room needs a number here and in DESIGN"


def check_each(paths, find_wrong):
    """Of all files in one test: a parameter for each of them would take longer than to read it."""
    wrong = {name_of(path): found for path in paths if (found := find_wrong(path))}
    assert not wrong, "\n".join(f"{name}: {found}" for name, found in wrong.items())


def imports_that_go_up(path):
    own = room_of(module_of(path))
    return [
        f"line {line}: {own} imports {module}"
        for module, line in imported_modules(path)
        if module.split(".")[0] == "mlepi"
        and room_of(module) in ROOM_ORDER
        and room_of(module) != own
        and ROOM_ORDER[room_of(module)] >= ROOM_ORDER[own]
    ]


def test_imports_go_down_only():
    check_each(SOURCES, imports_that_go_up)


def frameworks_outside_their_rooms(path):
    room = room_of(module_of(path))
    tops = {module.split(".")[0] for module, _ in imported_modules(path)}
    forbidden = set()
    if room not in {"training", "pipeline"}:
        forbidden |= {"lightning", "pytorch_lightning", "torchmetrics"}
    if room != "tracking":
        forbidden.add("wandb")
    command_lines = {"config_check", "default_folder", "trust", "command_line", "commands"}
    if room not in {"training", "pipeline", "checkpoint", *command_lines}:
        forbidden |= {"hydra", "omegaconf"}
    if room == "models":  # networks read no files
        forbidden |= {"pathlib", "io", "h5py", "json", "ase"}
    if room in {"structures", "physics", "units", "errors"}:
        forbidden.add("torch_geometric")
    return sorted(tops & forbidden)


def test_frameworks_stay_in_their_rooms():
    check_each(SOURCES, frameworks_outside_their_rooms)


def unsafe_calls(path):
    wrong = []
    tree = parse(path)
    scopes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and "contextmanager" in ast.dump(node)
    ]
    scoped = {call for scope in scopes for call in ast.walk(scope)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if call in {"eval", "exec"} or call.startswith(("pickle.", "dill.", "joblib.")):
                wrong.append(f"line {node.lineno}: {call}")
            if call == "torch.load" and keywords.get("weights_only") != "True":
                wrong.append(f"line {node.lineno}: torch.load without weights_only=True")
            if (
                call in {"np.load", "numpy.load"}
                and keywords.get("allow_pickle", "False") != "False"
            ):
                wrong.append(f"line {node.lineno}: {call} with allow_pickle")
            if call == "torch.set_default_dtype" and node not in scoped:
                wrong.append(f"line {node.lineno}: process-wide {call}")
        if isinstance(node, ast.Assert):
            wrong.append(f"line {node.lineno}: assert outside the tests")
    return wrong


def test_no_unsafe_calls():
    check_each([*SOURCES, *SCRIPTS], unsafe_calls)


def machine_paths(path):
    return re.findall(
        r"(?:/home/|/Users/|/work/|/root/|/tmp/|\b[A-Z]:\\)\w*", path.read_text(encoding="utf-8")
    )


def test_no_machine_paths():
    check_each([path for path in TEXT_FILES if path != Path(__file__)], machine_paths)


def test_what_is_wrong_is_found_and_named(tmp_path, monkeypatch):
    """The checks of sources, tried at a file that breaks all of them."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "mlepi" / "physics").mkdir(parents=True)
    bad = tmp_path / "mlepi" / "physics" / "bad.py"
    bad.write_text(
        "import hydra\nimport torch_geometric\nfrom mlepi.report import x\n"
        "eval('/wo' 'rk/')\npath = '" + "/wo" + "rk/here'\n"
    )
    assert imports_that_go_up(bad) == ["line 3: physics imports mlepi.report"]
    assert frameworks_outside_their_rooms(bad) == ["hydra", "torch_geometric"]
    assert unsafe_calls(bad) == ["line 4: eval"]
    assert machine_paths(bad)[-1:] == ["/wo" + "rk/here"]
    with pytest.raises(AssertionError, match=r"mlepi/physics/bad.py: \['line 4: eval'\]"):
        check_each([bad], unsafe_calls)


def test_every_listed_package_is_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    listed = {
        re.split(r"[^\w-]", requirement, maxsplit=1)[0] for requirement in project["dependencies"]
    }
    imported = {
        module.split(".")[0]
        for path in [*SOURCES, *SCRIPTS]
        for module, _ in imported_modules(path)
    }
    used = {
        DISTRIBUTIONS.get(name, name)
        for name in imported - set(sys.stdlib_module_names) - {"mlepi"}
    }
    optional = {re.split(r"[^\w-]", each, maxsplit=1)[0] for each in extras["dask"]}
    assert used - optional <= listed, "imported but not in pyproject.toml"
    assert listed - used <= CALLED_THROUGH_OTHERS, "in pyproject.toml but never imported"


def test_every_listed_package_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    listed = {re.split(r"[^\w-]", requirement, maxsplit=1)[0] for requirement in requirements}
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert listed <= {line.split("==")[0] for line in lines}


def test_importing_the_package_is_quick_and_quiet():
    """`import mlepi` must not pull in the heavy frameworks, so that `--help` answers at once."""
    code = (
        "import sys, mlepi; print(sorted({'torch', 'lightning', 'e3nn', 'torch_geometric'} & "
        "set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
    assert not run.stderr


def test_help_imports_no_framework():
    code = """
import runpy, sys
sys.argv = ["infer.py", "--help"]
try:
    runpy.run_path("infer.py", run_name="__main__")
except SystemExit:
    pass
heavy = {"torch", "lightning", "e3nn", "torch_geometric", "scipy", "ase", "phonopy", "matplotlib"}
print("imported:", sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "temperature" in run.stdout
    assert run.stdout.splitlines()[-1] == "imported: []"


def test_inference_imports_what_it_needs():
    """Networks come with their checkpoint; whatever else is heavy, with its first use."""
    steps = [
        ("mlepi.pipeline", {"lightning", "torchmetrics", "torch_geometric", "e3nn", "scipy.stats"}),
        ("mlepi.observables", {"lightning", "torchmetrics", "torch_geometric"}),
        ("mlepi.checkpoint", {"lightning", "torchmetrics"}),
    ]
    code = "import sys\n"
    for module, heavy in steps:
        load = f"import {module}\n"
        if module == "mlepi.observables":
            load += "mlepi.observables.all_stages()\n"
        code += f"{load}print({module!r}, sorted({heavy} & sys.modules.keys()))\n"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [f"{module} []" for module, _ in steps]
