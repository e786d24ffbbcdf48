"""The domain stage.

Distance of every displaced supercell to the training data, and inputs to label the worst of them.

Geometry is compared with the structures on which the electron network was trained; the checkpoint
names them. With several networks their disagreement on every sample is measured too, which needs no
reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.checkpoint import load_model
from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.observables.training_domain import (
    QUANTITIES,
    TrainingDomain,
    describe_geometry,
    find_training_data,
    force_spread,
    hamiltonian_spread,
    read_training_structures,
)
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.shift_invert import count_states_below
from mlepi.pipeline.stage import SampleKey
from mlepi.project_files import find_file, locate_file
from mlepi.results import hash_file
from mlepi.results.domain import DomainRecord
from mlepi.structures import OpenmxSettings, VaspSettings, write_openmx_input, write_vasp_input
from mlepi.structures.openmx_input import reduce_kgrid

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.run import Run

RANKINGS = ("distance", "hamiltonian_spread", "force_spread")
"""What the worst samples can be sorted by."""

LABEL_FOLDER = "label"

GHOST_DISTANCE = 5.0
"""eV; a state that lies deeper than this below the undisplaced bands is a ghost."""

HAUNTED = 1e6
"""Added per ghost state to what the worst samples are ranked by: they come first."""


class DomainStage:
    """Diagnostics of the samples; see ``conf/stage/settings/domain.yaml``.

    Args:
        data: training structures, a Hamiltonian data set or a file with forces; None takes what the
            electron checkpoint names.
        split: JSON file of the split; None takes what the checkpoint names, or all structures of a
            data set given by hand.
        subset: of the split.
        electron_checkpoints: further electron networks, of the same basis as that of the run.
        phonon_checkpoints: further phonon networks.
        rank_by: "distance", "hamiltonian_spread" or "force_spread".
        n_worst: samples that are listed and written.
        openmx: settings of the OpenMX inputs; None writes none.
        vasp: settings of the VASP inputs; None writes none.
    """

    name: ClassVar[str] = "domain"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "sampling", "hamiltonian")
    record: ClassVar[type] = DomainRecord

    def __init__(
        self,
        *,
        data: str | None,
        split: str | None,
        subset: str,
        electron_checkpoints: Sequence[str],
        phonon_checkpoints: Sequence[str],
        rank_by: str,
        n_worst: int,
        openmx: OpenmxSettings | None,
        vasp: VaspSettings | None,
    ) -> None:
        needed = {"hamiltonian_spread": electron_checkpoints, "force_spread": phonon_checkpoints}
        if rank_by not in RANKINGS or (rank_by in needed and not needed[rank_by]):
            raise ConfigError(
                message(
                    "stage.domain.rank_by",
                    f"{rank_by!r} with {len(electron_checkpoints)} and {len(phonon_checkpoints)} "
                    "further networks",
                    f"one of {list(RANKINGS)}, and networks to compare for a spread",
                    "Choose another, or add checkpoints.",
                )
            )
        if n_worst < 0:
            raise ConfigError(
                message(
                    "stage.domain.n_worst",
                    f"{n_worst}",
                    "a number ≥ 0",
                    "Use 0 to write no inputs.",
                )
            )
        self.data, self.split, self.subset = data, split, subset
        self.electron_files = [
            find_file("stage.domain.electron_checkpoints", file) for file in electron_checkpoints
        ]
        self.phonon_files = [
            find_file("stage.domain.phonon_checkpoints", file) for file in phonon_checkpoints
        ]
        self.rank_by, self.n_worst = rank_by, n_worst
        self.openmx, self.vasp = openmx, vasp
        self._run: Run | None = None
        self._sites: NDArray[np.float64] = np.empty(0)
        self._lowest = 0.0
        self._networks: dict[Path, Any] = {}

    def inputs(self, run: Run) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {
            **self.sample_inputs(run),
            "data": [self.data, self.split, self.subset],
            "rank": [self.rank_by, self.n_worst],
            "openmx": None if self.openmx is None else _plain(asdict(self.openmx)),
            "vasp": None if self.vasp is None else _plain(asdict(self.vasp)),
        }

    def sample_inputs(self, run: Run) -> dict[str, Any]:
        """Return what decides the diagnostics of one sample: the networks that are compared."""
        networks = {"electron": [hash_file(file) for file in self.electron_files]}
        if self.phonon_files:
            networks["phonon"] = [
                run.phonon.fingerprint(),
                *(hash_file(file) for file in self.phonon_files),
            ]
        return {**networks, "supercell": list(run.supercell)}

    def begin(self, run: Run) -> None:
        """Note the undisplaced positions and load the further networks."""
        self._run = run
        atoms, hamiltonian, overlap = run.equilibrium()
        self._sites = atoms.repeat(run.supercell).positions
        self._lowest = float(solve_bands(*_at_gamma(hamiltonian, overlap))[0])
        for kind, files in (("electron", self.electron_files), ("phonon", self.phonon_files)):
            self._networks |= {
                file: load_model(file, kind=kind) for file in files if file not in self._networks
            }

    def evaluate(
        self, key: SampleKey, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> dict[str, NDArray]:
        """Describe one displaced supercell.

        Returns:
            ``values`` (n_quantities,), Å, ``ghosts`` (), states at Γ below all bands, and with
            further networks ``hamiltonian_spread`` (), eV, and ``force_spread`` (), eV/Å.
        """
        atoms = self._require_run().displaced(key)
        n_ghosts = count_states_below(
            *_at_gamma(hamiltonian, overlap), self._lowest - GHOST_DISTANCE
        )
        found = {"values": describe_geometry(atoms, self._sites), "ghosts": np.array(n_ghosts)}
        return {**found, **self._spreads(atoms, hamiltonian, overlap)}

    def finish(
        self, run: Run, results: Iterable[tuple[SampleKey, dict[str, NDArray]]]
    ) -> DomainRecord:
        """Compare with the training structures, rank the samples, and write the worst ones."""
        if self._run is None:
            self.begin(run)
        rows: dict[int, dict[float, dict[str, NDArray]]] = {}
        for key, arrays in results:
            rows.setdefault(key.sample, {})[key.temperature] = arrays
        samples = list(rows)

        def gather(name: str) -> NDArray[np.float64]:
            known = all(name in arrays for row in rows.values() for arrays in row.values())
            return (
                np.array([[rows[n][t][name] for t in run.temperatures] for n in samples])
                if known
                else np.empty((0, 0))
            )

        structures, source = self._read_training(run)
        domain = TrainingDomain(
            np.array([describe_geometry(a) for a in structures]).reshape(-1, len(QUANTITIES)),
            source,
        )
        values, spreads = (
            gather("values"),
            {name: gather(name) for name in ("hamiltonian_spread", "force_spread")},
        )
        distances = domain.distances(values)
        each = np.stack(
            [domain.distances(_only(values, number)) for number in range(len(QUANTITIES))], axis=-1
        )
        worst_quantities = np.where(
            np.isnan(distances), -1, np.where(np.isnan(each), -np.inf, each).argmax(axis=-1)
        )
        order = (
            spreads[self.rank_by]
            if self.rank_by in spreads
            else np.where(np.isnan(distances), values[..., -1], distances)
        )
        ghosts = gather("ghosts").astype(np.int64)
        order = np.where(ghosts > 0, HAUNTED * ghosts, 0) + order
        ranked = np.argsort(-order, axis=None, kind="stable")[: self.n_worst]
        worst = [
            (samples[i], run.temperatures[j])
            for i, j in zip(*np.unravel_index(ranked, order.shape), strict=True)
        ]
        of_training = [
            self._spreads(atoms, *run.predict(atoms)) if self._networks else {}
            for atoms in structures
        ]
        record = DomainRecord(
            temperatures=np.array(run.temperatures),
            n_samples=len(samples),
            supercell=tuple(run.supercell),
            quantities=QUANTITIES,
            source=domain.source,
            n_training=len(structures),
            training_values=domain.values,
            training_ranges=domain.ranges,
            values=values,
            distances=distances,
            worst_quantities=worst_quantities.astype(np.int64),
            ghosts=ghosts,
            n_electron_networks=1 + len(self.electron_files),
            hamiltonian_spreads=spreads["hamiltonian_spread"],
            training_hamiltonian_spreads=np.array(
                [x["hamiltonian_spread"] for x in of_training if "hamiltonian_spread" in x]
            ),
            n_phonon_networks=1 + len(self.phonon_files),
            force_spreads=spreads["force_spread"],
            training_force_spreads=np.array(
                [x["force_spread"] for x in of_training if "force_spread" in x]
            ),
            rank_by=self.rank_by,
            worst_samples=np.array([sample for sample, _ in worst], dtype=np.int64),
            worst_temperatures=np.array(
                [temperature for _, temperature in worst], dtype=np.float64
            ),
            label_files=tuple(self._write_labels(run, worst)),
        )
        run.warnings += [f"{self.name}: {text}" for text in record.doubts()]
        return record

    def summarize(self, record: DomainRecord) -> str:
        """Say in a few words what was found."""
        largest = (
            f"largest displacement {record.values[..., -1].max():.2f} Å, nearest pair "
            f"{record.values[..., 0].min():.2f} Å"
        )
        if not record.source:
            return f"{largest}; no training data known"
        outside = ", ".join(
            f"{100 * s:.0f} % at {t:g} K"
            for t, s in zip(record.temperatures, record.outside_shares, strict=True)
        )
        return f"{largest}; outside the range of {record.n_training} training structures: {outside}"

    def _spreads(
        self, atoms: Atoms, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> dict[str, NDArray]:
        run, found = self._require_run(), {}
        if self.electron_files:
            others = [
                self._networks[file].hamiltonian(atoms, device=run.device, dtype=run.dtype)
                for file in self.electron_files
            ]
            found["hamiltonian_spread"] = np.array(
                hamiltonian_spread([hamiltonian, *others], overlap)
            )
        if self.phonon_files:
            calculators = [
                run.calculator,
                *(self._networks[file].calculator(device=run.device) for file in self.phonon_files),
            ]
            forces = [calculator.get_forces(atoms) for calculator in calculators]
            found["force_spread"] = np.array(force_spread(forces))
        return found

    def _read_training(self, run: Run) -> tuple[list[Atoms], str]:
        """Return the training structures and what to call them.

        None where the checkpoint's data are not here.
        """
        if self.data is not None:
            data, split = find_file("stage.domain.data", self.data), self.split
            where = None if split is None else find_file("stage.domain.split", split)
            return read_training_structures(data, where, self.subset), self._describe(
                self.data, split
            )
        named, split = find_training_data(getattr(run.electron_model, "metadata", {}))
        split = self.split or split
        found, divided = (None if name is None else locate_file(name) for name in (named, split))
        if found is None or divided is None:
            return [], ""
        return read_training_structures(found, divided, self.subset), self._describe(
            str(named), split
        )

    def _describe(self, data: str, split: str | None) -> str:
        return data if split is None else f"{data}, {self.subset} of {split}"

    def _write_labels(self, run: Run, worst: Sequence[tuple[int, float]]) -> list[str]:
        """Write inputs of the worst samples; returns their paths, relative to the run folder."""
        files = []
        for sample, temperature in worst:
            name, atoms = (
                f"sample_{sample:06d}_{temperature:g}K",
                run.displaced(SampleKey(sample, temperature)),
            )
            if self.openmx is not None:
                path = Path(LABEL_FOLDER) / "openmx" / f"{name}.dat"
                kgrid = reduce_kgrid(self.openmx.primitive_kgrid, run.supercell)
                write_openmx_input(run.store.folder / path, atoms, self.openmx, kgrid)
                files.append(path.as_posix())
            if self.vasp is not None:
                path = Path(LABEL_FOLDER) / "vasp" / name
                kgrid = reduce_kgrid(self.vasp.primitive_kgrid, run.supercell)
                write_vasp_input(run.store.folder / path, atoms, self.vasp, kgrid)
                files.append(path.as_posix())
        return files

    def _require_run(self) -> Run:
        if self._run is None:
            raise PhysicsError(
                message(
                    "domain stage",
                    "a sample before begin()",
                    "begin() first",
                    "Run the stage through the runner.",
                )
            )
        return self._run


def _at_gamma(hamiltonian: BlockMatrix, overlap: BlockMatrix) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return H and S at Γ, (n_orbitals, n_orbitals), real."""
    h, s = (matrix.lay_out().at(np.zeros(3)) for matrix in (hamiltonian, overlap))
    return h, s


def _only(values: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Return the values with all quantities but one left out."""
    return np.where(np.arange(values.shape[-1]) == number, values, np.nan)


def _plain(value: Any) -> Any:
    """Turn nested settings into JSON-able data."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
