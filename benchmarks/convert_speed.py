"""Seconds and memory of ``mlepi convert`` for 300 structures of 64 atoms, 1.6 million blocks.

    OMP_NUM_THREADS=1 python benchmarks/convert_speed.py

Makes DeepH folders of rattled 4×4 bilayers, with S from the shipped table and H of extended Hückel
form, converts them in a process of its own, and writes ``benchmarks/results/convert_speed.json``.
Only ``--distinct`` structures are different; the others are these, shifted as a whole.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mlepi.graphs.neighbours import find_edges
from mlepi.physics.overlaps import compute_overlap_blocks, read_overlap_table
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.builders import build_graphene, build_supercell
from mlepi.structures.deeph import write_deeph
from mlepi.structures.definiteness import sum_real
from mlepi.structures.labelled_structure import LabelledStructure

PROJECT = Path(__file__).resolve().parents[1]
RESULT = PROJECT / "benchmarks" / "results" / "convert_speed.json"
TABLE = PROJECT / "data" / "blg_openmx" / "overlap_C6.0-s2p2.h5"
SIZE = (4, 4, 1)
"""Primitive cells of four atoms."""
LEVELS = {0: (-15.0, 12.0), 1: (-6.0, 18.0)}
"""Degree l → on-site energies of its first and second shell, eV."""
HUECKEL = 1.75
"""Factor of Wolfsberg and Helmholz (1952), doi:10.1063/1.1700580."""
LAYOUTS = ("legacy", "new")
INTERVAL = 1.0
"""Seconds between two looks at the memory."""
SET_CHILD_SUBREAPER = 36
"""``PR_SET_CHILD_SUBREAPER`` of prctl(2)."""


def build_labels(seed: int) -> LabelledStructure:
    """Make one structure with S of the table and H of extended Hückel form."""
    table = read_overlap_table(TABLE)
    atoms = build_supercell(build_graphene("AB"), SIZE)
    generator = np.random.default_rng(seed)
    atoms.positions += 0.03 * generator.standard_normal(atoms.positions.shape)
    basis = OrbitalBasis({6: table.shells[6]}, {6: table.radii[6]}, {6: "C6.0-s2p2"})
    edges, shift = find_edges(atoms, 2.0 * table.radii[6])
    own = np.arange(len(atoms))
    edges = np.concatenate([edges, np.stack([own, own])], axis=1)
    shift = np.concatenate([shift, np.zeros((len(atoms), 3), dtype=np.int64)])
    vectors = atoms.positions[edges[0]] + shift @ atoms.cell.array - atoms.positions[edges[1]]
    overlap = compute_overlap_blocks(table, atoms.numbers, edges, vectors)
    shells = table.shells[6]
    energies = np.concatenate(
        [np.full(2 * l + 1, LEVELS[l][shells[:n].count(l)]) for n, l in enumerate(shells)]
    )
    mean = 0.5 * (energies[:, None] + energies)
    bonded = np.linalg.norm(vectors, axis=1) > 0.1
    hamiltonian = overlap * mean * np.where(bonded, HUECKEL, 1.0)[:, None, None]
    mask = basis.mask(atoms.numbers)
    gamma = [sum_real(edges, shift, b, mask, np.zeros(3)) for b in (hamiltonian, overlap)]
    levels = scipy.linalg.eigvalsh(*gamma)
    return LabelledStructure(
        f"structure_{seed}",
        atoms,
        basis=basis,
        edge_index=edges,
        edge_cell_shift=shift,
        hamiltonian_blocks=hamiltonian,
        overlap_blocks=overlap,
        fermi_energy=float(levels[2 * len(atoms) - 1]),
    )


def write_legacy(folder: Path, structure: LabelledStructure) -> None:
    """Write the older layout of DeepH, in which every block is a dataset, in OpenMX's order."""
    basis, edges, shift = structure.basis, structure.edge_index, structure.edge_cell_shift
    if basis is None or edges is None or shift is None:
        raise ValueError(f"{structure.name} has no blocks")
    folder.mkdir()
    atoms = structure.atoms
    np.savetxt(folder / "lat.dat", atoms.cell.array.T)
    np.savetxt(folder / "site_positions.dat", atoms.positions.T)
    np.savetxt(folder / "element.dat", atoms.numbers, fmt="%d")
    words = " ".join(str(l) for l in basis.shells[6])
    (folder / "orbital_types.dat").write_text(f"{words}\n" * len(atoms), encoding="utf-8")
    info = {"isspinful": False, "fermi_level": structure.fermi_energy}
    (folder / "info.json").write_text(json.dumps(info), encoding="utf-8")
    order = np.argsort(basis.permutation(6, "openmx"))
    pairs = np.column_stack([shift, edges[::-1].T + 1]).tolist()
    matrices = {
        "hamiltonians.h5": structure.hamiltonian_blocks,
        "overlaps.h5": structure.overlap_blocks,
    }
    for name, blocks in matrices.items():
        with h5py.File(folder / name, "w") as file:
            for pair, block in zip(pairs, np.asarray(blocks)[:, order][:, :, order], strict=True):
                file[json.dumps(pair)] = block


def shift_copy(source: Path, target: Path, shift: NDArray[np.float64]) -> None:
    """Copy a folder, all atoms shifted by a vector, Å: the blocks are the same."""
    shutil.copytree(source, target)
    file = target / "site_positions.dat"
    if file.exists():
        np.savetxt(file, np.loadtxt(file) + shift[:, None])
        return
    lines = (target / "POSCAR").read_text(encoding="utf-8").splitlines()
    moved = [np.array(line.split()[:3], dtype=float) + shift for line in lines[8:] if line.strip()]
    rows = [" ".join(f"{x:.16f}" for x in row) for row in moved]
    (target / "POSCAR").write_text("\n".join([*lines[:8], *rows, ""]), encoding="utf-8")


def write_set(folder: Path, layout: str, n_structures: int, n_distinct: int) -> int:
    """Write the folders.

    Returns:
        The number of blocks of H of all of them.
    """
    n_blocks, first = 0, min(n_distinct, n_structures)
    sizes = []
    for n in range(n_structures):
        target = folder / f"{n:04d}"
        if n < first:
            structure = build_labels(n)
            sizes.append(structure.edge_index.shape[1] if structure.edge_index is not None else 0)
            if layout == "legacy":
                write_legacy(target, structure)
            else:
                write_deeph(target, structure)
        else:
            shift_copy(folder / f"{n % first:04d}", target, np.array([0.01, 0.02, 0.03]) * n)
        n_blocks += sizes[n % first]
    return n_blocks


def _resident(process: int) -> float:
    """Return the memory of a process and all below it, shared pages divided, MB."""
    total = 0.0
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        total = next(
            float(line.split()[1]) / 1e3 for line in rollup.splitlines() if line.startswith("Pss:")
        )
        for task in Path(f"/proc/{process}/task").iterdir():
            children = (task / "children").read_text(encoding="ascii").split()
            total += sum(_resident(int(child)) for child in children)
    except (OSError, StopIteration):  # it has ended meanwhile
        return total
    return total


def adopt_orphans() -> None:
    """Become the parent of processes whose own has ended, so that their seconds are counted here.

    The workers of a pool belong to a server of forks, which ends after the command.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_orphans() -> None:
    """Wait until all processes have ended that were adopted."""
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def measure(folder: Path, out: Path, workers: int) -> dict[str, float]:
    """Run the command; return seconds of the wall clock and of processors, and memory in MB.

    Seconds of processors are those of all processes of the command.
    """
    adopt_orphans()
    command = [sys.executable, "-m", "mlepi", "convert", str(folder), "--out", str(out)]
    command += ["--workers", str(workers)]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    peak, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(INTERVAL):
            peak[0] = max(peak[0], _resident(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    shown, _ = process.communicate()
    seconds = time.monotonic() - begin
    over.set()
    watcher.join()
    wait_for_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"mlepi convert failed:\n{shown}")
    print(shown.strip())
    return {
        "wall_seconds": seconds,
        "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mb": peak[0],
        "largest_process_mb": after.ru_maxrss / 1e3,
        "output_mb": out.stat().st_size / 1e6,
    }


def main() -> None:
    """Write the set, convert it, print and store what it took."""
    parser = argparse.ArgumentParser(description="Seconds and memory of mlepi convert.")
    parser.add_argument("--structures", type=int, default=300, help="how many; %(default)s")
    parser.add_argument("--distinct", type=int, default=6, help="different ones; %(default)s")
    parser.add_argument("--layout", choices=LAYOUTS, default="legacy", help="of DeepH; %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="processes; %(default)s")
    parser.add_argument("--folder", type=Path, help="for the set, kept; else a temporary one")
    parser.add_argument("--out", type=Path, default=RESULT, help="table of results; %(default)s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = given.folder or Path(temporary)
        folder = base / f"{given.layout}_{given.structures}"
        folder.mkdir(parents=True)
        n_blocks = write_set(folder, given.layout, given.structures, given.distinct)
        row: dict[str, Any] = {
            "layout": given.layout,
            "structures": given.structures,
            "distinct": given.distinct,
            "blocks": n_blocks,
            "workers": given.workers,
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
            **measure(folder, base / "converted.h5", given.workers),
        }
        row["processor_seconds_each"] = row["processor_seconds"] / given.structures
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else []
    same = ("layout", "structures", "workers")
    kept = [old for old in known if any(old[key] != row[key] for key in same)]
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps([*kept, row], indent=2) + "\n", encoding="utf-8")
    for name, value in row.items():
        print(f"{name:<20} {value:.1f}" if isinstance(value, float) else f"{name:<20} {value}")


if __name__ == "__main__":
    main()
