"""Make a Python that has torch with CUDA ready for mlepi, without a network.

    make gpu-wheels     # where there is a network: fetch what such a Python may lack
    make gpu            # where the GPU is: an environment that sees the system's packages

The environment holds the wheels of ``requirements-gpu.txt`` that its Python lacks, and two links:
to the packages of that Python, which a virtual environment made from a virtual environment would
not see, and to this checkout. Needs the standard library and pip alone.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
REQUIREMENTS = BENCHMARKS / "requirements-gpu.txt"
CONSTRAINTS = ROOT / "constraints.txt"
MOST_MB = 40.0
"""All wheels together, so that they travel with the project."""

PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17, 12, 5)),
    *(f"manylinux{year}_x86_64" for year in (2014, 2010, 1)),
)
SOURCE_ONLY = ("antlr4-python3-runtime",)
"""Pure Python that has no wheels on the index: they are built here."""

NEEDED = ("torch", "e3nn", "lightning", "torch_geometric", "torchmetrics", "h5py", "matplotlib")
NEEDED += ("hydra", "omegaconf", "ase", "phonopy", "symfc", "vesin", "rich", "pytest", "mlepi")
"""Modules that must import in the environment."""


def read_names(path: Path = REQUIREMENTS) -> list[str]:
    """Read the names of packages, one per line."""
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def normalise(name: str) -> str:
    """Return the name of a package as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of_wheel(path: Path) -> str:
    """Return the package of a wheel."""
    return normalise(path.name.split("-")[0])


def measure_mb(paths: Iterable[Path]) -> float:
    """Return the size of files together, MB (2²⁰ bytes)."""
    return sum(path.stat().st_size for path in paths) / 2**20


def find_missing(names: Iterable[str]) -> list[str]:
    """Return the packages that this Python lacks."""
    missing = []
    for name in names:
        try:
            distribution(name)
        except PackageNotFoundError:
            missing.append(name)
    return missing


def run(*command: str | Path) -> None:
    """Run a command; its failure ends this script."""
    words = [str(word) for word in command]
    if subprocess.run(words, check=False).returncode != 0:  # noqa: S603 - our own commands
        sys.exit(f"error: {' '.join(words)}")


def fetch(wheels: Path, python_version: str) -> None:
    """Fetch the wheels for a Python version on Linux x86-64, afresh.

    Args:
        wheels: folder for them; emptied first.
        python_version: such as "3.12".
    """
    shutil.rmtree(wheels, ignore_errors=True)
    names = read_names()
    pip = (sys.executable, "-m", "pip")
    target = ("--only-binary=:all:", "--implementation", "cp", "--python-version", python_version)
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    pinned = ("--quiet", "--no-deps", "--constraint", CONSTRAINTS)
    binary = [name for name in names if name not in SOURCE_ONLY]
    run(*pip, "download", *pinned, *target, *platforms, "--dest", wheels, *binary)
    run(*pip, "wheel", *pinned, "--wheel-dir", wheels, *SOURCE_ONLY)
    check_wheels(wheels, names)


def check_wheels(wheels: Path, names: Sequence[str], most_mb: float = MOST_MB) -> None:
    """End this script when wheels are missing or too large together, else say their size."""
    found = sorted(wheels.glob("*.whl"))
    absent = {normalise(name) for name in names} - {name_of_wheel(path) for path in found}
    if absent:
        sys.exit(f"error: no wheels of {', '.join(sorted(absent))} in {wheels}")
    size = measure_mb(found)
    if size > most_mb:
        sys.exit(f"error: the wheels in {wheels} take {size:.1f} MB, more than {most_mb:.0f} MB")
    print(f"{len(found)} wheels, {size:.1f} MB: {wheels}")


def choose_wheels(wheels: Path, missing: Sequence[str]) -> list[Path]:
    """Return the wheels of the missing packages; end this script when there is none of one."""
    found = {name_of_wheel(path): path for path in sorted(wheels.glob("*.whl"))}
    absent = [name for name in missing if normalise(name) not in found]
    if absent:
        sys.exit(
            f"error: {sys.executable} lacks {', '.join(absent)}, and so does {wheels}: run "
            "`make gpu-wheels` where there is a network, and bring the folder along"
        )
    return [found[normalise(name)] for name in missing]


def make(folder: Path, wheels: Path) -> None:
    """Make the environment, afresh.

    Args:
        folder: of the environment.
        wheels: folder of the wheels; not needed where this Python lacks nothing.
    """
    chosen = choose_wheels(wheels, find_missing(read_names()))
    venv.EnvBuilder(system_site_packages=True, clear=True, symlinks=True).create(folder)
    python = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    if chosen:  # the pip of the system, because the environment needs none of its own
        command = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
        run(*command, "--no-warn-conflicts", "--target", packages, *chosen)
    write_links(packages)
    run(python, "-c", f"import {', '.join(NEEDED)}; mlepi.__version__")
    names = ", ".join(sorted(name_of_wheel(path) for path in chosen)) or "nothing"
    print(f"{folder}: {names} beside the packages of {sys.executable}")


def write_links(packages: Path) -> None:
    """Let an environment see the packages of this Python and this checkout, and know its version.

    Args:
        packages: its folder of packages.
    """
    seen = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    # this checkout first, before one that is installed there
    lines = [str(ROOT), *(f"import site; site.addsitedir({path!r})" for path in seen), ""]
    (packages / "mlepi-gpu.pth").write_text("\n".join(lines), encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    info = packages / f"mlepi-{project['version']}.dist-info"
    info.mkdir(exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: mlepi\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(text, encoding="utf-8")


def main() -> None:
    """Read the command line and do one of the two."""
    parser = argparse.ArgumentParser(description="Wheels and environment for a machine with a GPU.")
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="fetch the wheels")
    fetching.add_argument("wheels", type=Path)
    fetching.add_argument("--python-version", default="3.12")
    making = commands.add_parser("make", help="make the environment from this Python")
    making.add_argument("folder", type=Path)
    making.add_argument("wheels", type=Path)
    chosen = parser.parse_args()
    if chosen.command == "fetch":
        fetch(chosen.wheels, chosen.python_version)
    else:
        make(chosen.folder, chosen.wheels)


if __name__ == "__main__":
    main()
