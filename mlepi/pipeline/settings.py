"""What a run is asked for: the keys at the top of ``conf/infer.yaml``, checked and frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.physics.vibrations.samplers import MonteCarlo, Sampler
from mlepi.pipeline.sources import Source
from mlepi.results import hash_file

Reuse = Literal["auto", "always", "never"]
"""Which stored results serve again: those that the same code made, all, or none."""

REUSES: tuple[Reuse, ...] = ("auto", "always", "never")


GPU_BATCH_SIZE = 16
"""Samples that a GPU sees at once; a processor gains nothing from more than one."""


@dataclass(frozen=True)
class Settings:
    """What all stages of a run share.

    Attributes:
        temperatures: K.
        n_samples: snapshots per temperature.
        seed: of the ensemble.
        supercell: cells along each lattice vector.
        structure: file or builder.
        phonon: checkpoint or calculator, or several.
        electron: checkpoint or model, or several.
        sampler: how snapshots are chosen.
        overlap: files with the overlaps of the orbitals, or a folder with S of every structure,
            instead of the checkpoint's own table.
        overlap_program: program and arguments that compute S of a structure, instead of a table.
        dtype: arithmetic of the electron network; forces are always computed in float64.
        device: of the networks in this process.
        batch_size: samples that the electron network sees at once; None takes 1 on a processor and
            more on a GPU.
        prefetch: predict the next samples in a thread while one is diagonalised; None does so with
            a GPU only.
        compiled: run the kernels of the networks compiled.
        radial_tables: take the radial functions of the phonon network from tables on a processor.
        tf32: let a GPU round the factors of float32 products.
        reuse: which stored results serve again.
        level_shift: of the soft directions of S, against ghost states; "auto" takes that of the
            electron checkpoint.
        left_out: numbers of snapshots that no average contains.
        fewer: K → samples, of temperatures that have fewer than ``n_samples``.
        check_units: refuse a structure whose lengths cannot be in Å.
        config: the resolved config, for provenance.
    """

    temperatures: tuple[float, ...]
    n_samples: int
    seed: int
    supercell: tuple[int, int, int]
    structure: Source
    phonon: Source
    electron: Source
    sampler: Sampler = field(default_factory=MonteCarlo)
    overlap: tuple[Path, ...] = ()
    overlap_program: tuple[str, ...] = ()
    dtype: str = "float32"
    device: str = "cpu"
    batch_size: int | None = None
    prefetch: bool | None = None
    compiled: bool = False
    radial_tables: bool = True
    tf32: bool = False
    reuse: Reuse = "auto"
    level_shift: LevelShift | Literal["auto", "off"] = "auto"
    left_out: tuple[int, ...] = ()
    fewer: Mapping[float, int] = field(default_factory=dict)
    check_units: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether the networks run on a GPU."""
        return self.device.startswith("cuda")

    @property
    def largest_batch(self) -> int:
        """Samples that the electron network sees at once, at most."""
        return self.batch_size or (GPU_BATCH_SIZE if self.on_gpu else 1)

    @property
    def committees(self) -> tuple[str, ...]:
        """Which of "electron" and "phonon" are several networks."""
        sources = {"electron": self.electron, "phonon": self.phonon}
        return tuple(name for name, source in sources.items() if source.is_committee)

    @cached_property
    def overlap_digests(self) -> Mapping[Path, str]:
        """Digests of the files of overlaps, the program included, taken once."""
        programs = [Path(word) for word in self.overlap_program if Path(word).is_file()]
        return {file: hash_file(file) for file in (*self.overlap, *programs)}

    @property
    def described_overlap(self) -> list[Any]:
        """What decides S, as plain data; nothing where the checkpoint does."""
        return [*self.overlap_digests.values(), *self.overlap_program]

    def digest_networks(self, needed: Iterable[str]) -> dict[str, Any]:
        """Return what tells the networks of a run from those of another, as plain data.

        Args:
            needed: "phonon", "electron" or both.
        """
        sources = {"phonon": self.phonon, "electron": self.electron}
        digests: dict[str, Any] = {
            name: [member.fingerprint() for member in source.members]
            for name, source in sources.items()
            if name in needed
        }
        return {**digests, "overlap": self.described_overlap}

    def describe_phonon(self) -> dict[str, Any]:
        """Return what decides energies and forces, as plain data.

        Tables are not named: what was stored without them serves with them.
        """
        exact = {} if self.radial_tables else {"radial_tables": False}
        return {"phonon": self.phonon.fingerprint(), **exact}

    def describe_electron(self) -> dict[str, Any]:
        """Return what decides H, without the level shift, and S of a structure, as plain data."""
        overlap = {"overlap": self.described_overlap} if self.described_overlap else {}
        rounded = {"tf32": True} if self.tf32 and self.on_gpu else {}
        return {
            "electron": self.electron.fingerprint(),
            "dtype": self.dtype,
            **overlap,
            **rounded,
        }
