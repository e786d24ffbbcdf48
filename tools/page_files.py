"""Files that pages take as given: a structure, labels of some program, trained networks.

The names are those of the pages; what stands behind them is carbon of the shipped data, a few
structures each.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from ase import Atoms
from ase.io import read, write

from mlepi.checkpoint_formats import add_checksums
from mlepi.exports import write_deeph_folder
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.overlaps import read_overlap_table
from mlepi.structures import (
    HamiltonianDataset,
    build_graphene,
    build_graphene_on_boron_nitride,
    read_deeph,
    write_hamiltonian_dataset,
)

N_STRUCTURES = 10

WORDS = {
    r"\bFILE\b|\bANYTHING\b": "graphene.extxyz",
    r"outputs/infer-…": "outputs/scan",
    r"--samples 0-9": "--samples 0-1",
    r"--electrons Mo=14 --electrons S=6": "--electrons C=4",
    r"graph\.cutoffs\.B-N=4": "graph.cutoffs.C-C=4",
}
"""What stands on a page for something of the reader's → what is run in its place."""

SETUP = {
    "docs/exports.md": [
        "mlepi infer stage=[sampling,hamiltonian] stage.sampling.export=true folder=outputs/scan"
    ],
    "docs/error_bars.md": ["mlepi infer experiment=headline"],
    "docs/concepts/error_budget.md": ["mlepi infer experiment=headline"],
    "docs/design.md": ["mlepi label structures=graphene.extxyz dft=fake folder=labels/first"],
}
"""Page → commands whose results it takes as given."""


def replace_words(command: str) -> str:
    """Put the stand-ins of ``WORDS`` into a command."""
    for sign, word in WORDS.items():
        command = re.sub(sign, word, command)
    return command


def _bilayer() -> Atoms:
    return build_graphene("AB", spacing=3.35)


def _write_structure(path: Path, root: Path) -> None:
    write(path, _bilayer())


def _write_heterostructure(path: Path, root: Path) -> None:
    write(path, build_graphene_on_boron_nitride(height=15.0))


def _write_monolayer(path: Path, root: Path) -> None:
    write(path, build_graphene("monolayer"))


def _read_boron_nitride(root: Path) -> Atoms:
    frames = read(root / "data/hbn_openmx/forces.extxyz", ":")
    cell = next(atoms for atoms in frames if len(atoms) == 4)
    return Atoms(cell.numbers, cell.positions, cell=cell.cell, pbc=True)


def _write_boron_nitride(path: Path, root: Path) -> None:
    write(path, _read_boron_nitride(root))


def _write_boron_nitrides(path: Path, root: Path) -> None:
    """Structures enough for four to learn from when they are divided."""
    frames = [_read_boron_nitride(root) for _ in range(7)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.02, seed=seed)
    write(path, frames)


def _read_slides(root: Path) -> list[str]:
    names = HamiltonianDataset(root / "data/blg_openmx/hamiltonians.h5").names
    return [name for name in names if name.startswith("slide")][:N_STRUCTURES]


def _write_deeph(path: Path, root: Path) -> None:
    folder = root / "data/blg_openmx"
    data = HamiltonianDataset(folder / "hamiltonians.h5")
    table = read_overlap_table(folder / "overlap_C6.0-s2p2.h5")
    for name in _read_slides(root):
        write_deeph_folder(path / name, complete_overlaps(data[name], table))


def _write_hamiltonians(path: Path, root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _write_deeph(Path(folder), root)
        found = (read_deeph(each, name=each.name) for each in sorted(Path(folder).iterdir()))
        write_hamiltonian_dataset(path, found, {"source": "shipped labels"})


def _read_forces(root: Path) -> list[Atoms]:
    frames = read(root / "data/blg_openmx/forces.extxyz", ":")
    return [atoms for atoms in frames if atoms.info["name"].startswith("slide")][:N_STRUCTURES]


def _write_forces(path: Path, root: Path) -> None:
    write(path, _read_forces(root))


def _write_candidates(path: Path, root: Path) -> None:
    """Structures of the labelled set, without their labels."""
    frames = read(root / "data/blg_openmx/forces.extxyz", ":")
    for atoms in frames:
        atoms.calc = None
    write(path, [atoms for atoms in frames if atoms.info["kind"] == "shape"])


def _write_forces_folder(path: Path, root: Path) -> None:
    path.mkdir(parents=True)
    for number, atoms in enumerate(_read_forces(root)):
        (path / str(number)).mkdir()
        write(path / str(number) / "frames.extxyz", atoms)


def _copy(name: str) -> Callable[[Path, Path], None]:
    def copy(path: Path, root: Path) -> None:
        shutil.copy(root / name, path)

    return copy


def _perturb(name: str, seed: int) -> Callable[[Path, Path], None]:
    """A member of a committee: the shipped network with weights that are off by 1e-4."""

    def write_checkpoint(path: Path, root: Path) -> None:
        stored = torch.load(root / name, weights_only=True)
        draw = torch.Generator().manual_seed(seed)
        for weights in stored["state_dict"].values():
            if weights.is_floating_point() and weights.ndim > 1:
                noise = torch.randn(weights.shape, generator=draw).to(weights.dtype)
                weights.mul_(1.0 + 1e-4 * noise)
        torch.save(add_checksums(stored), path)

    return write_checkpoint


def _unpack(name: str) -> Callable[[Path, Path], None]:
    def unpack(path: Path, root: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(root / f"tests/references/old/{name}.tar.xz") as archive:
            archive.extractall(path.parent, filter="data")
        (path.parent / name).rename(path)

    return unpack


def _take_from_page(path: Path, root: Path) -> None:
    """The block of ``docs/exports.md`` that begins with the name of the file."""
    page = (root / "docs/exports.md").read_text("utf-8")
    (block,) = re.findall(rf"```yaml\n(# {path.name}.*?)```", page, flags=re.DOTALL)
    path.write_text(block, encoding="utf-8")


PHONON, ELECTRON = (f"data/checkpoints/hedgenet_{kind}.ckpt" for kind in ("phonon", "electron"))

FILES: dict[str, Callable[[Path, Path], None]] = {
    "graphene.extxyz": _write_structure,
    "graphene_hbn.extxyz": _write_heterostructure,
    "monolayer.extxyz": _write_monolayer,
    "POSCAR": _write_structure,
    "graphite.cif": _write_structure,
    "blg.extxyz": _write_structure,
    "candidates.extxyz": _write_candidates,
    "hbn.cif": _write_boron_nitride,
    "hbn.extxyz": _write_boron_nitrides,
    "material.h5": _write_hamiltonians,
    "hamiltonians.h5": _write_hamiltonians,
    "forces.extxyz": _write_forces,
    "deeph": _write_deeph,
    "processed/": _write_deeph,
    "runs/ ": _write_deeph,
    "vasp/": _write_forces_folder,
    "forces ": _write_forces_folder,
    "best.ckpt": _copy(ELECTRON),
    "electron.ckpt": _copy(ELECTRON),
    "phonon.ckpt": _copy(PHONON),
    "mine.ckpt": _copy(PHONON),
    "e1.ckpt": _copy(ELECTRON),
    "e2.ckpt": _perturb(ELECTRON, 2),
    "e3.ckpt": _perturb(ELECTRON, 3),
    "e4.ckpt": _perturb(ELECTRON, 4),
    "p1.ckpt": _copy(PHONON),
    "p2.ckpt": _perturb(PHONON, 2),
    "ixs.json": _copy("data/blg_openmx/phonon_frequencies.json"),
    "vasp.yaml": _take_from_page,
    "openmx.yaml": _take_from_page,
    "outputs/a": _unpack("half_done"),
    "outputs/b": _unpack("finished"),
    "outputs/demo": _unpack("target"),
    "BASIS_MOLOPT": _copy("/usr/share/cp2k/BASIS_MOLOPT"),
}
"""Name on a page → what writes it, from its path and that of the repository."""

OUTPUT = re.compile(r"(--out|folder=)\s*$")


def make_files(folder: Path, commands: str, root: Path) -> None:
    """Write what commands read and do not write themselves.

    Args:
        folder: where they run.
        commands: all of a page.
        root: the repository.
    """
    for name, make in FILES.items():
        found = re.search(rf"(?<![\w/.-]){re.escape(name)}", commands)
        path = folder / name.strip()
        if found and not OUTPUT.search(commands[: found.start()]) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path, root)
