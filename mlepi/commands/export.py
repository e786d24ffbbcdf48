"""Predictions as files that other programs open: ``mlepi export FORMAT SOURCE --out PATH``.

Nothing that exists is overwritten, and what is written appears complete or not at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlepi.errors import ConfigError, message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mlepi.commands.export_sources import Request
    from mlepi.structures.labelled_structure import LabelledStructure

MATRICES = {
    "deeph": "folder in the new layout of DeepH-pack 2 and DeepH-dock",
    "sisl": "file of sisl: .nc or .TSHS for TBtrans, .HSX",
    "wannier90": "seedname of _hr.dat, .win, _centres.xyz, in Löwdin's orthogonal orbitals",
    "csr": "folder of hamiltonian.npz and overlap.npz, sparse matrices of SciPy",
}
STRUCTURES = {
    "extxyz": "file of all samples",
    "poscar": "folder per sample with POSCAR, and with --settings INCAR and KPOINTS",
    "openmx": "folder per sample with the input of OpenMX",
    "siesta": "folder per sample with the input of SIESTA",
    "gpaw": "folder per sample with a script of GPAW",
}
LARGEST = 300_000_000
"""Matrix elements of one file."""


def main(arguments: Sequence[str]) -> int:
    """Write what the command line asks for, and say what was written.

    Raises:
        MlepiError: the source lacks what is asked for, or the output exists.
    """
    given = build_parser().parse_args(arguments)
    from mlepi.commands.export_sources import Request
    from mlepi.exports.output import require_new

    chosen = vars(given)
    names = set(Request.__dataclass_fields__)
    request = Request(**{name: value for name, value in chosen.items() if name in names})
    if given.format != "wannier90":
        require_new(given.out)
    lines = given.write(given, request)
    print("\n".join(lines))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the formats, each with its options."""
    parser = argparse.ArgumentParser(
        prog="mlepi export",
        description="Write what networks and runs predict as files of other programs.",
    )
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True)
    for name, text in MATRICES.items():
        own = _add(formats, name, f"H and S: {text}", _write_matrices)
        _add_matrices(own)
        if name == "wannier90":
            _add_wannier(own)
    phonopy = _add(formats, "phonopy", "force constants: phonopy_params.yaml", _write_phonopy)
    phonopy.add_argument("--phonon", metavar="CHECKPOINT", help="for a structure")
    phonopy.add_argument("--supercell", type=_triple, metavar="N,N,N", help="for a structure")
    for name, text in STRUCTURES.items():
        own = _add(formats, name, f"samples: {text}", _write_frames)
        _add_samples(own, "all")
        own.add_argument("--settings", type=Path, metavar="FILE.yaml", help="of the program")
    own = _add(formats, "couplings", "electron-phonon matrix elements: HDF5", _write_couplings)
    _add_couplings(own)
    return parser


def _add(
    formats: Any, name: str, text: str, write: Callable[..., list[str]]
) -> argparse.ArgumentParser:
    own: argparse.ArgumentParser = formats.add_parser(name, help=text, description=text)
    own.add_argument("source", type=Path, metavar="SOURCE", help="run folder, or see the page")
    own.add_argument("--out", required=True, type=Path, metavar="PATH", help="new")
    own.add_argument("--device", default="cpu", help="of the networks; %(default)s")
    own.set_defaults(write=write)
    return own


def _add_samples(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--samples",
        default=default,
        metavar="rest|all|0,3-5",
        help="of a run: the structure at rest, or snapshots; %(default)s",
    )
    parser.add_argument(
        "--temperature",
        dest="temperatures",
        type=_numbers,
        metavar="T[,T]",
        help="of the snapshots, K; all by default",
    )


def _add_matrices(parser: argparse.ArgumentParser) -> None:
    _add_samples(parser, "rest")
    parser.add_argument("--electron", metavar="CHECKPOINT", help="predicts H of a structure file")
    parser.add_argument("--overlap", metavar="TABLE", help="instead of the checkpoint's own")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument(
        "--as-predicted",
        action="store_true",
        help="H without the network's level shift against ghost states",
    )
    parser.add_argument("--fermi-energy", type=float, metavar="EV", help="instead of finding it")
    parser.add_argument(
        "--valence",
        type=_valence,
        metavar="C=4[,H=1]",
        help="valence electrons, to find E_F; those of the run or the network by default",
    )


def _add_wannier(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mesh", type=_triple, metavar="N,N,N", help="k-points; refined if absent")
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        default=(-1000.0, 5.0),
        metavar=("LOW", "HIGH"),
        help="eV from E_F where the error is measured; %(default)s",
    )
    parser.add_argument(
        "--tolerance", type=float, default=1e-4, metavar="EV", help="of levels; %(default)s"
    )


def _add_couplings(parser: argparse.ArgumentParser) -> None:
    for name in ("kpoints", "qpoints"):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            metavar="NxNxN|X,Y,Z",
            help="a mesh, or points (fractional); the wave vectors of the supercell by default",
        )
    parser.add_argument(
        "--bands", type=int, nargs=2, required=True, metavar=("FIRST", "LAST"), help="from 0"
    )
    parser.add_argument("--real-space", action="store_true", help="with the derivatives of blocks")
    parser.add_argument(
        "--step",
        type=float,
        default=0.01,
        metavar="Å",
        help="of central differences, for models that do not differentiate themselves; %(default)s",
    )


def _write_matrices(given: argparse.Namespace, request: Request) -> list[str]:
    found = request.find_matrices()
    lines, single = list(found.words), found.n_structures == 1
    for labels in found.structures:
        out = given.out if single else given.out / labels.name
        lines += _write_labels(given, labels, out, single)
    return lines


def _write_labels(
    given: argparse.Namespace, labels: LabelledStructure, out: Path, single: bool
) -> list[str]:
    from mlepi import exports

    if given.format == "wannier90":
        window = (given.window[0], given.window[1])
        error = exports.write_wannier90(
            out, labels, mesh=given.mesh, window=window, tolerance=given.tolerance
        )
        lines = [f"{out}_hr.dat: {error.describe()}"]
        if error.error > given.tolerance:
            lines.append(f"WARNING: the error is above {given.tolerance:g} eV: --mesh N,N,N")
        return lines
    if given.format == "deeph":
        exports.write_deeph_folder(out, labels)
    elif given.format == "csr":
        exports.write_csr(out, labels)
    else:
        out = out if single else out.with_name(f"{out.name}.nc")
        exports.write_sisl(out, labels)
    return [f"{out}: {labels.atoms.get_chemical_formula()}, {_count(labels)} orbitals"]


def _count(labels: LabelledStructure) -> int:
    return 0 if labels.basis is None else int(labels.basis.counts(labels.atoms.numbers).sum())


def _write_phonopy(given: argparse.Namespace, request: Request) -> list[str]:
    from mlepi.exports import write_phonopy

    force_constants = request.find_force_constants()
    write_phonopy(given.out, force_constants)
    cell = "×".join(str(n) for n in force_constants.supercell)
    return [f"{given.out}: force constants of the {cell} supercell; phonopy-load {given.out}"]


def _write_frames(given: argparse.Namespace, request: Request) -> list[str]:
    from mlepi.commands.export_sources import read_yaml
    from mlepi.exports import build_settings, write_frames

    where = "--settings" if given.settings is None else str(given.settings)
    settings = build_settings(given.format, read_yaml(given.settings), where)
    frames = request.find_frames()
    write_frames(given.format, given.out, frames, settings)
    return [f"{given.out}: {len(frames)} structures"]


def _write_couplings(given: argparse.Namespace, request: Request) -> list[str]:
    from mlepi.exports import write_couplings
    from mlepi.observables.linear_response.matrix_elements import compute_couplings
    from mlepi.pipeline.run_folder import require_same_network

    run = request.run
    require_same_network(run)
    kpoints, qpoints = (
        _read_points(name, getattr(given, name), run.settings.supercell)
        for name in ("kpoints", "qpoints")
    )
    n_bands = given.bands[1] - given.bands[0] + 1
    n_coordinates = 3 * len(run.read("phonon").atoms)
    if (n := len(kpoints) * len(qpoints) * n_coordinates * n_bands**2) > LARGEST:
        fix = "Take fewer points or bands; several files are as good."
        raise ConfigError(message("mlepi export couplings", f"{n:.1e} elements", "3e8", fix))
    bands = (given.bands[0], given.bands[1])
    found = compute_couplings(
        run, kpoints, qpoints, bands, step=given.step, real_space=given.real_space
    )
    write_couplings(given.out, found)
    n_resting = int((~found.moving).sum())
    return [
        f"{given.out}: {len(kpoints)} k-points, {len(qpoints)} q-points, {n_bands} bands, "
        f"{n_coordinates} modes; {n_resting} without a positive frequency have no coupling"
    ]


def _read_points(
    name: str, words: Sequence[str] | None, supercell: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Return points (n, 3) of "6x6x1", or of "0,0,0" "0.5,0,0"."""
    import numpy as np

    from mlepi.exports.labels import list_kpoints

    words = words or ["x".join(str(n) for n in supercell)]
    try:
        if len(words) == 1 and "x" in words[0]:
            n = [int(word) for word in words[0].split("x")]
            if len(n) != 3 or min(n) < 1:
                raise ValueError
            return list_kpoints((n[0], n[1], n[2]))
        points = np.array([[float(x) for x in word.split(",")] for word in words])
        if points.shape != (len(words), 3) or not np.isfinite(points).all():
            raise ValueError
    except ValueError:
        expected = "a mesh such as 6x6x1, or points such as 0,0,0 0.5,0,0"
        fix = "Write them without spaces inside."
        raise ConfigError(message(f"--{name}", " ".join(words), expected, fix)) from None
    return points


def _triple(text: str) -> tuple[int, int, int]:
    numbers = [int(word) for word in text.split(",")]
    if len(numbers) != 3 or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; three positive numbers such as 6,6,1")
    return numbers[0], numbers[1], numbers[2]


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def _valence(text: str) -> Mapping[int, float]:
    from ase.data import atomic_numbers

    found: dict[int, float] = {}
    for word in text.split(","):
        symbol, _, number = word.partition("=")
        if atomic_numbers.get(symbol, 0) < 1:
            raise argparse.ArgumentTypeError(f"{word!r}; an element and a number such as C=4")
        found[atomic_numbers[symbol]] = float(number)
    return found
