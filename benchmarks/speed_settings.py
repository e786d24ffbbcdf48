"""What the speed benchmark measures: the command line, the structures, the widths, the machine."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from speed_results import LABELS, Row

from mlepi.errors import ConfigError, message
from mlepi.structures import build_graphene, build_supercell, build_twisted_bilayer

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
SEED, RATTLE, SPACING = 1, 0.05, 3.35
CUTOFFS = {"phonon": 5.0, "electron": 6.35}
"""Å; electrons: twice the range of C6.0."""

MEAN_NEIGHBOURS = {
    "phonon": {"intra": 29.5, "inter": 14.7},
    "electron": {"intra": 45.1, "inter": 36.5},
}
"""Relation → edges per atom by which all sides divide, whichever structure they see first; those of
64 atoms."""

BASIS = {"shells": {"6": [0, 0, 1, 1]}, "radii": {"6": 3.175}, "names": {"6": "C6.0-s2p2"}}
MODELS = {"phonon": ("mace", "hedgenet_phonon"), "electron": ("deeph_e3", "hedgenet_electron")}
"""Kind → backbone alone, HedgeNet."""

PEERS = {"phonon": "mace_peer", "electron": "path_peer"}
ATOMS = (16, 36, 64, 144, 256, 576, 1024)
LARGE = 11164
"""Atoms of the twisted bilayer (30, 1), 1.08°: our Hamiltonian network alone, size small."""


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        sizes: "published" and "small" → kind → widths, as in conf/size.
        peers_python: interpreter of the environment with mace-torch and Symmetrix-XL.
        folder: of the results.
        works: keys of ``LABELS``.
        atoms: sizes, ascending.
        threads: of each worker.
        rounds: most rounds per size; fewer, but three at least, where they take longer than
            ``budget``.
        budget: seconds of the rounds of one size.
        patience: longest single run, s; a side that must be expected to take longer is left out.
        memory_mb: most memory of all sides of one size together, MB.
        dtype: of the networks.
        device: "cpu" or "cuda".
        compiled_atoms: sizes at which our compiled network is measured too.
        symmetrix: also measure Symmetrix-XL, and our compiled network at all sizes beside it.
        small_atoms: sizes at which energy and forces are measured with the widths "small" too.
        hedgenet_atoms: sizes at which HedgeNet is measured against its backbone.
        large: also measure the Hamiltonian of the large twisted bilayer.
        floors: also compare the main kernels with their floors.
    """

    sizes: Mapping[str, Mapping[str, Any]]
    peers_python: Path
    folder: Path
    works: tuple[str, ...] = tuple(LABELS)
    atoms: tuple[int, ...] = ATOMS
    threads: tuple[int, ...] = (1,)
    rounds: int = 7
    budget: float = 120.0
    patience: float = 120.0
    memory_mb: float = 16000.0
    dtype: str = "float32"
    device: str = "cpu"
    compiled_atoms: tuple[int, ...] = ()
    symmetrix: bool = False
    small_atoms: tuple[int, ...] = ()
    hedgenet_atoms: tuple[int, ...] = ()
    large: bool = False
    floors: bool = False

    def covers(self, row: Row) -> bool:
        """Tell whether a row is among those that are to be measured."""
        sizes = (*self.atoms, LARGE) if self.large else self.atoms
        return (
            row["work"] in self.works and row["threads"] in self.threads and row["n_atoms"] in sizes
        )


def kind_of(work: str) -> str:
    """Return "phonon" or "electron"."""
    return "phonon" if work in ("energy_forces", "phonon_train_step") else "electron"


def build_structure(n_atoms: int) -> Atoms:
    """Build the structure with this many atoms.

    AB bilayer n×n (4n²), else the twisted bilayer (m, 1), rattled.

    Raises:
        ConfigError: there is none.
    """
    n = round((n_atoms / 4) ** 0.5)
    m = round(((n_atoms / 4 - 0.25) / 3) ** 0.5 - 0.5)
    if n > 0 and 4 * n * n == n_atoms:
        atoms = build_supercell(build_graphene("AB", spacing=SPACING), (n, n, 1))
    elif m > 0 and 4 * (3 * m * m + 3 * m + 1) == n_atoms:
        atoms = build_twisted(m)
    else:
        expected = "4n² (AB bilayer) or 4(3m² + 3m + 1) (twisted bilayer)"
        raise ConfigError(
            message("--atoms", str(n_atoms), expected, "For example 64 144 256, or 11164.")
        )
    atoms.rattle(RATTLE, seed=SEED)
    return atoms


def build_twisted(m: int) -> Atoms:
    """Build the twisted bilayer (m, 1) at the spacing of all structures here."""
    return build_twisted_bilayer(m, 1, spacing=SPACING)


def write_structure(n_atoms: int, path: Path) -> Path:
    """Write the structure for the workers: numbers, positions (Å), cell (rows, Å), layer."""
    atoms = build_structure(n_atoms)
    np.savez(
        path,
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell.array,
        layer=atoms.arrays["layer"],
    )
    return path


def describe_machine() -> Row:
    """Return processor, cores and memory."""
    names: list[str] = []
    memory = None
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_mb": memory,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def read_sizes() -> dict[str, Any]:
    """Read the widths from conf/size."""
    return {
        name: yaml.safe_load((ROOT / "conf" / "size" / f"{name}.yaml").read_text("utf-8"))
        for name in ("published", "small")
    }


def build_parser() -> argparse.ArgumentParser:
    """Describe the options of the command line."""
    parser = argparse.ArgumentParser(description="Measure speed and memory beside the peers.")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="64 atoms, one thread, five rounds, nothing beyond the four works",
    )
    parser.add_argument(
        "--works", nargs="+", default=list(LABELS), help=f"some of {', '.join(LABELS)}"
    )
    parser.add_argument(
        "--atoms", nargs="+", type=int, help=f"sizes; by default {' '.join(map(str, ATOMS))}"
    )
    parser.add_argument(
        "--threads", nargs="+", type=int, help="threads of each side; by default 1 and 2"
    )
    parser.add_argument("--rounds", type=int, help="most rounds per size")
    parser.add_argument(
        "--budget",
        type=float,
        default=120.0,
        help="seconds for the rounds of one size, three rounds at least",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=120.0,
        help="longest single run, s; a slower side is left out",
    )
    parser.add_argument(
        "--memory", type=float, default=16.0, help="most memory of all sides together, GB"
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--only-peers", action="store_true", help="no compiled rows, HedgeNet, large cell or floors"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep rows of the same commit, and those not measured now",
    )
    parser.add_argument(
        "--peers",
        type=Path,
        default=ROOT / ".venv-peers" / "bin" / "python",
        help="python with mace-torch",
    )
    parser.add_argument(
        "--output", type=Path, default=BENCHMARKS / "results", help="folder of the results"
    )
    return parser


def parse(arguments: Sequence[str] | None = None) -> tuple[Settings, bool]:
    """Read the command line; the flag says whether to continue the earlier run."""
    chosen = build_parser().parse_args(arguments)
    more = not (chosen.quick or chosen.only_peers)
    settings = Settings(
        sizes=read_sizes(),
        peers_python=chosen.peers,
        folder=chosen.output,
        works=tuple(chosen.works),
        atoms=tuple(chosen.atoms or ((64,) if chosen.quick else ATOMS)),
        threads=tuple(chosen.threads or ((1,) if chosen.quick else (1, 2))),
        rounds=chosen.rounds or (5 if chosen.quick else 7),
        budget=chosen.budget,
        patience=chosen.patience,
        memory_mb=1024.0 * chosen.memory,
        dtype=chosen.dtype,
        device=chosen.device,
        compiled_atoms=(64, 144) if more else (),
        symmetrix=chosen.device == "cpu",
        small_atoms=(64,) if chosen.device == "cpu" else (),
        hedgenet_atoms=(64, 144) if more else (),
        large=more,
        floors=more,
    )
    return settings, chosen.resume
