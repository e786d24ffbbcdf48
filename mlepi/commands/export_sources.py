"""What ``mlepi export`` finds in a run folder, a file, or behind a checkpoint and a structure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlepi.errors import ConfigError, DataError, PhysicsError, message

if TYPE_CHECKING:
    from mlepi.exports import Frame
    from mlepi.physics.vibrations.force_constants import ForceConstants
    from mlepi.pipeline.run import Run
    from mlepi.structures.labelled_structure import LabelledStructure

REST = "rest"
ALL = "all"
AS_PREDICTED = "H is as predicted, without a level shift: solvers may find ghost states"


class FoundMatrices(NamedTuple):
    """Structures with H and S.

    Attributes:
        n_structures: how many there are.
        structures: one after the other, so that only one need be in memory.
        words: what there is to say of them.
    """

    n_structures: int
    structures: Iterable[LabelledStructure]
    words: list[str]


@dataclass(frozen=True)
class Request:
    """What of which source is asked for.

    Attributes:
        source: run folder, file of H and S, structure, or labels of another program.
        samples: "rest", "all", or numbers of snapshots such as 0,3-5.
        temperatures: K; None takes all of the run.
        electron: checkpoint that predicts H and S of a structure.
        phonon: checkpoint that predicts forces of a structure.
        overlap: table instead of the checkpoint's own.
        supercell: for force constants of a structure.
        as_predicted: H without the network's level shift against ghost states.
        fermi_energy: eV; None finds it where it can be known.
        valence: atomic number → valence electrons.
        device: of the networks.
        dtype: of the electron network.
    """

    source: Path
    samples: str = REST
    temperatures: tuple[float, ...] | None = None
    electron: str | None = None
    phonon: str | None = None
    overlap: str | None = None
    supercell: tuple[int, int, int] | None = None
    as_predicted: bool = False
    fermi_energy: float | None = None
    valence: Mapping[int, float] | None = None
    device: str = "cpu"
    dtype: str = "float32"

    @property
    def of_run(self) -> bool:
        """Whether the source is a run folder."""
        from mlepi.pipeline.run_folder import is_run_folder

        return is_run_folder(self.source)

    @cached_property
    def run(self) -> Run:
        """The run; only where the source is one."""
        from mlepi.observables import all_stages
        from mlepi.pipeline.run_folder import open_run

        if not self.of_run:
            got, fix = "no run folder", "Run mlepi infer first, and give its folder."
            raise DataError(message(str(self.source), got, "the folder of a run", fix))
        return open_run(self.source, all_stages(), self.device)

    def find_matrices(self) -> FoundMatrices:
        """Return structures with H and S, and what there is to say of them.

        Raises:
            DataError: there are none.
        """
        if self.of_run:
            return self._of_run()
        if self.samples != REST:
            raise _needs_run("--samples", self.source)
        if self.electron is not None:
            return self._predicted()
        return self._stored()

    def find_force_constants(self) -> ForceConstants:
        """Return those of a run, or computed for a structure.

        Raises:
            ConfigError: no network or no supercell for a structure.
        """
        if self.of_run:
            found: ForceConstants = self.run.read("phonon").build_force_constants()
            return found
        from mlepi.physics.vibrations.force_constants import compute_force_constants
        from mlepi.pipeline.sources import Source, load_calculator, load_structure

        if self.phonon is None or self.supercell is None:
            got, fix = "a structure alone", "Add --phonon CHECKPOINT --supercell 6,6,1."
            expected = "a run folder, or a network of forces and a supercell"
            raise ConfigError(message(str(self.source), got, expected, fix))
        atoms = load_structure(Source("SOURCE", str(self.source)))
        calculator = load_calculator(Source("phonon", self.phonon), self.device)
        return compute_force_constants(atoms, calculator, self.supercell)

    def find_frames(self) -> list[Frame]:
        """Return the samples of a run, or the structure of a file."""
        from mlepi.exports import Frame
        from mlepi.pipeline.run_folder import displace, list_samples

        if not self.of_run:
            from mlepi.structures import read_structure

            if self.samples != ALL:
                raise _needs_run("--samples", self.source)
            return [Frame(self.source.stem, read_structure(self.source))]
        run = self.run
        if self.samples == REST:
            return [Frame(REST, run.read("structure").atoms)]
        keys = list_samples(run, parse_samples(self.samples), self.temperatures)
        cell = run.read("phonon").supercell
        return [
            Frame(
                name_sample(key),
                atoms,
                (int(cell[0]), int(cell[1]), int(cell[2])),
                {"sample": key.sample, "temperature": key.temperature},
            )
            for key, atoms in zip(keys, displace(run, keys), strict=True)
        ]

    def _of_run(self) -> FoundMatrices:
        from mlepi.exports import collect_labels
        from mlepi.pipeline.run_folder import find_matrices, list_samples, require_same_network

        run = self.run
        keys: Sequence[Any] = (
            [None]
            if self.samples == REST
            else list_samples(run, parse_samples(self.samples), self.temperatures)
        )
        valence = self.valence or run.settings.config.get("valence_electrons")

        def read(key: Any) -> LabelledStructure:
            atoms, hamiltonian, overlap = find_matrices(run, key)
            if not self.as_predicted:
                hamiltonian = run.networks.shift(atoms, hamiltonian, overlap)
            return collect_labels(
                REST if key is None else name_sample(key), atoms, hamiltonian, overlap
            )

        if not self.as_predicted:
            require_same_network(run)
        has_shift = self.as_predicted or bool(run.networks.describe_shift())
        fermi_energy, words = self._find_fermi_energy(read(None), valence)
        found = (replace(read(key), fermi_energy=fermi_energy) for key in keys)  # one at a time
        return FoundMatrices(len(keys), found, [*words, *self._tell_shift(has_shift)])

    def _predicted(self) -> FoundMatrices:
        from mlepi.exports import collect_labels
        from mlepi.graphs.shifted_matrix import shift_hamiltonian
        from mlepi.pipeline.sources import Source, load_electron, load_structure

        overlaps = [] if self.overlap is None else [Path(self.overlap)]
        model: Any = load_electron(Source("electron", self.electron), overlaps)
        atoms = load_structure(Source("SOURCE", str(self.source)))
        hamiltonian = model.hamiltonian(atoms, device=self.device, dtype=self.dtype)
        overlap = model.overlap(atoms)
        shift = getattr(model, "level_shift", None)
        if not self.as_predicted:
            hamiltonian = shift_hamiltonian(atoms, hamiltonian, overlap, shift, self.device)
        labels = collect_labels(self.source.stem, atoms, hamiltonian, overlap)
        fermi_energy, words = self._find_fermi_energy(labels, self.valence)
        labels = replace(labels, fermi_energy=fermi_energy)
        return FoundMatrices(1, [labels], [*words, *self._tell_shift(shift is not None)])

    def _stored(self) -> FoundMatrices:
        from mlepi.exports import collect_labels
        from mlepi.results import read_hamiltonian
        from mlepi.structures.block_checks import remove_rounding
        from mlepi.structures.sources import find_sources, read_source

        if is_hamiltonian_file(self.source):
            found = [collect_labels(self.source.stem, *read_hamiltonian(self.source))]
        else:
            sources = find_sources([self.source])
            found = [s for source in sources for s in read_source(source)]
            found = [s for s in found if s.hamiltonian_blocks is not None]
            found = [remove_rounding(s) for s in found]
        if not found:
            got, fix = "no Hamiltonian", "Add --electron CHECKPOINT to predict it."
            raise DataError(message(str(self.source), got, "H and S", fix))
        labels: list[LabelledStructure] = []
        words = [AS_PREDICTED] if is_hamiltonian_file(self.source) else []
        for each in found:
            energy = each.fermi_energy if self.fermi_energy is None else self.fermi_energy
            if energy is None:
                energy, more = self._find_fermi_energy(each, self.valence)
                words += more
            labels.append(replace(each, fermi_energy=energy))
        return FoundMatrices(len(labels), labels, words)

    def _find_fermi_energy(
        self, labels: LabelledStructure, valence: Any
    ) -> tuple[float | None, list[str]]:
        """Return the Fermi energy, eV, and where it comes from."""
        from mlepi.exports import find_fermi_energy
        from mlepi.pipeline.valence import known_electrons

        if self.fermi_energy is not None:
            return self.fermi_energy, [f"E_F = {self.fermi_energy:.4f} eV as given"]
        valence = valence or known_electrons(labels.basis)
        if not valence:
            return None, ["E_F is not known: --fermi-energy EV, or --valence C=4 to find it"]
        table = {int(z): float(n) for z, n in valence.items()}
        try:
            found = find_fermi_energy(labels, table)
        except PhysicsError as error:
            if self.valence:
                raise
            return None, [f"E_F was not found, --fermi-energy EV gives it: {error}"]
        return found, [f"E_F = {found:.4f} eV, found for {labels.name}"]

    def _tell_shift(self, has_shift: bool) -> list[str]:
        if not has_shift:
            return []
        if self.as_predicted:
            return [AS_PREDICTED]
        return ["H contains the network's level shift against ghost states"]


def name_sample(key: Any) -> str:
    """Return the name of a sample in files."""
    return f"sample_{key.sample:06d}_T{key.temperature:g}"


def parse_samples(text: str) -> list[int] | None:
    """Read "0,3-5" into numbers; None for "all".

    Raises:
        ConfigError: it is neither.
    """
    if text == ALL:
        return None
    numbers: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", word.strip())
        last = -1 if match is None else int(match[2] or match[1])
        if match is None or last < int(match[1]):
            fix = "Numbers count from 0."
            expected = "rest, all, or numbers such as 0,3-5"
            raise ConfigError(message("--samples", repr(text), expected, fix))
        numbers += range(int(match[1]), last + 1)
    return list(dict.fromkeys(numbers))


def read_yaml(path: Path | None) -> Any:
    """Return the content of a YAML file as plain data; None without a file.

    Raises:
        ConfigError: it cannot be read.
    """
    if path is None:
        return None
    from omegaconf import OmegaConf

    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # YAML's parser raises errors of its own
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        got, fix = f"an unreadable file ({reason})", "docs/exports.md has an example."
        raise ConfigError(message(str(path), got, "YAML: key: value", fix)) from error


def is_hamiltonian_file(path: Path) -> bool:
    """Tell whether a file is one of H and S of a run, such as ``hamiltonian.h5``."""
    import h5py

    if path.suffix != ".h5" or not path.is_file():
        return False
    try:
        with h5py.File(path, "r") as file:
            return "hamiltonian/edge_index" in file and "checksum" in file.attrs
    except OSError:
        return False


def _needs_run(option: str, source: Path) -> ConfigError:
    got, fix = f"{option} with {source}", "Give the folder of a run of mlepi infer."
    return ConfigError(message("mlepi export", got, "a run folder or a network behind it", fix))
