"""Compare level shifts of the soft directions of S: ghosts removed, errors of levels, bias, cost.

``python benchmarks/level_shift.py LABELS CHECKPOINT [--kinds thermal3,thermal4] [--every 4] [--cost
NAME]``.

LABELS is a folder of OpenMX labels (``data/blg_openmx/make.py`` reads them). H of the network and S
of the labels are diagonalised with H′ = H + λ f(S) at Γ and at a general point, for sharp, compact,
Lorentzian and resolvent filters f of S(k), and for the filter that the package uses (``local``:
[τ/(S + τ)]⁴ in real space, windowed to the range of S). A ghost is a level more than 1 eV below the
lowest of the labels. Levels are those that the labels have within ±2 eV of their Fermi energy,
paired by number; "aligned" removes the median of every spectrum. The bias is that of the labels'
own H and S, "aligned" likewise, and after the first-order correction E − λ c†f c.

``--cost NAME`` times the states within 1 eV at 15 k-points of one large structure, without and with
the shift, in one process.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.checkpoint import load_model
from mlepi.errors import DataError, MlepiError, message
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices
from mlepi.graphs.shifted_matrix import shift_hamiltonian, shift_matrix
from mlepi.physics.eigenstates.kpoint_sequence import KpointSequence
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.physics.eigenstates.window_states import solve_points
from mlepi.structures.labelled_structure import LabelledStructure

PROJECT = Path(__file__).resolve().parents[1]
WINDOW = 2.0
"""eV, half width around the Fermi energy."""
GHOST_DISTANCE = 1.0
"""eV below the lowest level of the labels."""
KPOINTS = ((0.0, 0.0, 0.0), (0.137, 0.271, 0.0))

FILTERS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "sharp": lambda x: (x < 1.0).astype(np.float64),
    "compact": lambda x: np.clip(1.0 - x, 0.0, None) ** 3,
    "lorentzian": lambda x: 1.0 / (1.0 + x**2),
    "resolvent": lambda x: 1.0 / (1.0 + x),
    "resolvent²": lambda x: (1.0 + x) ** -2.0,
    "resolvent⁴": lambda x: (1.0 + x) ** -4.0,
}
"""Name → f as a function of s/τ."""

TRIALS = (
    ("sharp", 0.01, 0.3),
    ("sharp", 0.01, 1.0),
    ("compact", 0.02, 0.3),
    ("compact", 0.02, 1.0),
    ("lorentzian", 0.005, 0.3),
    ("lorentzian", 0.01, 0.3),
    ("resolvent", 0.005, 0.3),
    ("resolvent", 0.01, 0.3),
    ("resolvent²", 0.005, 1.0),
    ("resolvent²", 0.01, 0.3),
    ("resolvent⁴", 0.01, 0.5),
    ("resolvent⁴", 0.01, 1.0),
    ("local", 0.005, 1.4),
    ("local", 0.01, 0.5),
    ("local", 0.01, 1.0),
    ("local", 0.02, 0.3),
)
"""Filter, τ and λ (eV)."""


@dataclass
class Found:
    """What one trial gives on all pencils.

    Attributes:
        ghosts: levels far below those of the labels.
        haunted: pencils that have any.
        errors: of the network's levels, eV, one array per pencil.
        biases: changes of the labels' own levels, eV.
        corrected: the same after the first-order correction.
    """

    ghosts: int = 0
    haunted: int = 0
    errors: list[NDArray[np.float64]] = field(default_factory=list)
    biases: list[NDArray[np.float64]] = field(default_factory=list)
    corrected: list[NDArray[np.float64]] = field(default_factory=list)

    def add(
        self,
        exact: NDArray[np.float64],
        inside: NDArray[np.bool_],
        predicted: NDArray[np.float64],
        raised: NDArray[np.float64],
        corrected: NDArray[np.float64],
    ) -> None:
        """Take in one pencil: levels of labels, network, and labels with the shift, eV."""
        n_ghosts = int(np.count_nonzero(predicted < exact[0] - GHOST_DISTANCE))
        self.ghosts += n_ghosts
        self.haunted += n_ghosts > 0
        self.errors.append((predicted - exact)[inside])
        self.biases.append((raised - exact)[inside])
        self.corrected.append((corrected - exact)[inside])

    def row(self) -> tuple[str, ...]:
        """Return the columns of the table, meV."""
        return (
            f"{self.haunted}/{len(self.errors)} ({self.ghosts})",
            f"{_rms(self.errors):.1f}",
            f"{_rms(self.errors, aligned=True):.1f}",
            f"{_rms(self.biases):.2f}",
            f"{_rms(self.biases, aligned=True):.2f}",
            f"{_rms(self.corrected):.2f}",
        )


def _rms(parts: list[NDArray[np.float64]], aligned: bool = False) -> float:
    """Return the RMS over all levels, meV; the median of every part removed if aligned."""
    values = np.concatenate([p - np.median(p) if aligned and p.size else p for p in parts])
    return 1e3 * float(np.sqrt(np.mean(values**2)))


def load_reader() -> Callable[[Path], LabelledStructure]:
    """Return the reader of labels that the data set itself is built with."""
    path = PROJECT / "data" / "blg_openmx" / "make.py"
    spec = importlib.util.spec_from_file_location("blg_openmx_make", path)
    if spec is None or spec.loader is None:
        raise DataError(message(str(path), "no module", "the reader of labels", "Restore it."))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reader: Callable[[Path], LabelledStructure] = module.read_labels
    return reader


def compare(structures: Iterator[LabelledStructure], model: Any) -> dict[tuple[Any, ...], Found]:
    """Try every shift on every structure."""
    results: dict[tuple[Any, ...], Found] = {("plain", 0.0, 0.0): Found()}
    results |= {trial: Found() for trial in TRIALS}
    for structure in structures:
        exact, overlap = block_matrices(structure)
        predicted = model.hamiltonian(structure.atoms)
        local = {
            threshold: shift_matrix(structure.atoms, overlap, LevelShift(threshold, 1.0))
            for name, threshold, _ in TRIALS
            if name == "local"
        }
        for kpoint in KPOINTS:
            dense = [matrix.dense(kpoint) for matrix in (exact, predicted)]
            pencil = _Pencil(overlap.dense(kpoint), *dense, float(structure.fermi_energy or 0.0))
            pencil.measure(results, {t: matrix.dense(kpoint) for t, matrix in local.items()})
    return results


class _Pencil:
    """One k-point in orthonormal orbitals that diagonalise S."""

    def __init__(
        self,
        overlap_k: NDArray[Any],
        exact_k: NDArray[Any],
        predicted_k: NDArray[Any],
        fermi_energy: float,
    ) -> None:
        self.values, vectors = np.linalg.eigh(overlap_k)
        self._root = vectors / np.sqrt(self.values)
        self._exact, self._predicted = (self._turn(matrix) for matrix in (exact_k, predicted_k))
        self._levels = np.linalg.eigvalsh(self._exact)
        self._inside = np.abs(self._levels - fermi_energy) <= WINDOW

    def measure(
        self, results: dict[tuple[Any, ...], Found], local: dict[float, NDArray[Any]]
    ) -> None:
        """Add this pencil to the results of every trial."""
        for (name, threshold, strength), found in results.items():
            if name == "local":
                added = strength * self._turn(local[threshold])
            elif name == "plain":
                added = np.zeros_like(self._exact)
            else:
                shape = FILTERS[name](self.values / threshold)
                added = np.diag(strength * shape / self.values)
            raised, vectors = np.linalg.eigh(self._exact + added)
            rise = np.einsum("an,an->n", vectors.conj(), added @ vectors).real
            levels = np.linalg.eigvalsh(self._predicted + added)
            found.add(self._levels, self._inside, levels, raised, raised - rise)

    def _turn(self, matrix: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self._root.conj().T @ matrix @ self._root)


def measure_cost(structure: LabelledStructure, model: Any) -> None:
    """Print CPU-seconds of the network, the shift, and a scan without and with it."""
    overlap = block_matrices(structure)[1]
    atoms = structure.atoms
    shift = LevelShift(0.01, 0.5)
    seconds: dict[str, list[float]] = {}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = action()
        seconds.setdefault(name, []).append(time.process_time() - started)
        return result

    sequence, fermi = _scan(atoms, overlap), float(structure.fermi_energy or 0.0)
    for _ in range(3):
        plain = timed("network", lambda: model.hamiltonian(atoms))
        shifted = timed("level shift", lambda h=plain: shift_hamiltonian(atoms, h, overlap, shift))
        for name, matrix in (("scan, plain", plain), ("scan, shifted", shifted)):
            layouts = matrix.lay_out(), overlap.lay_out()
            timed(name, lambda pair=layouts: solve_points(sequence, pair, fermi, 1.0))
    for name, times in seconds.items():
        print(f"{name:14s} {min(times):6.2f} CPU-seconds")
    whole = min(seconds["network"]) + min(seconds["scan, plain"])
    added = (
        min(seconds["level shift"]) + min(seconds["scan, shifted"]) - min(seconds["scan, plain"])
    )
    share = added / whole
    print(f"shift over network and scan of {len(sequence.kpoints)} k-points: {share:.2f}")


def _scan(atoms: Any, overlap: BlockMatrix) -> KpointSequence:
    """Return 15 k-points along x through Γ, where K of a 6×6 cell folds to."""
    cell = atoms.cell.array
    distances = np.linspace(-0.1, 0.1, 15)
    kpoints = np.outer(distances, cell[:, 0]) / (2.0 * np.pi)
    sites = np.linalg.solve(cell.T, atoms.positions.T).T
    sites = np.repeat(sites, np.diff(overlap.offsets), axis=0)
    return KpointSequence(kpoints, distances, sites, cell)


def main() -> None:
    """Print the table, or the cost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("labels", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--kinds", default="thermal3,thermal4")
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--cost", default=None)
    arguments = parser.parse_args()
    read, model = load_reader(), load_model(arguments.checkpoint, kind="electron")
    if arguments.cost:
        measure_cost(read(arguments.labels / f"{arguments.cost}.npz"), model)
        return
    paths = [
        path
        for kind in arguments.kinds.split(",")
        for path in sorted(arguments.labels.glob(f"{kind}_*.npz"))[:: arguments.every]
    ]
    results = compare((read(path) for path in paths), model)
    print(f"{len(paths)} structures, k = {KPOINTS}; meV within ±{WINDOW} eV of the Fermi energy")
    header = (
        "filter",
        "τ",
        "λ/eV",
        "haunted (ghosts)",
        "RMS",
        "aligned",
        "bias",
        "aligned",
        "corr.",
    )
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for (name, threshold, strength), found in results.items():
        print("| " + " | ".join((name, f"{threshold:g}", f"{strength:g}", *found.row())) + " |")


if __name__ == "__main__":
    try:
        main()
    except MlepiError as error:
        sys.exit(str(error))
