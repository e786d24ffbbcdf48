"""H and S of displaced supercells in files of their own, which serve again while they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlepi.pipeline.ensemble import Ensemble, Sample, SampleKey
from mlepi.pipeline.settings import Reuse
from mlepi.results import read_hamiltonian, read_hamiltonian_provenance, write_hamiltonian

FOLDER = "hamiltonians"


def name_file(key: SampleKey) -> str:
    """Return the name of the file of a sample."""
    return f"sample_{key.sample:06d}_T{key.temperature:g}.h5"


@dataclass(frozen=True)
class SampleFiles:
    """The files of the samples of an ensemble.

    Attributes:
        ensemble: of the samples.
        inputs: what decides H and S of a given structure.
        distribution: what decides a snapshot.
        phonon: digest of the force constants.
        code: fingerprint of the code that makes samples, H and S.
        reuse: which files serve again.
    """

    ensemble: Ensemble
    inputs: Mapping[str, Any]
    distribution: Mapping[str, Any]
    phonon: str
    code: str
    reuse: Reuse

    def predict(self, keys: Sequence[SampleKey]) -> list[Sample]:
        """Read the samples that are there, predict the others, and keep those."""
        found = {key: sample for key in keys if (sample := self._load(key)) is not None}
        missing = [key for key in keys if key not in found]
        for sample in self.ensemble.predict(missing):
            self._save(sample)
            found[sample.key] = sample
        return [found[key] for key in keys]

    def _path(self, key: SampleKey) -> Path:
        return self.ensemble.folder / FOLDER / name_file(key)

    def _describe(self, key: SampleKey) -> dict[str, Any]:
        return {
            "inputs": dict(self.inputs),
            "distribution": dict(self.distribution),
            "phonon": self.phonon,
            "code": self.code,
            "sample": key.sample,
            "temperature": key.temperature,
            "seed": self.ensemble.seed,
        }

    def _load(self, key: SampleKey) -> Sample | None:
        """Return a sample from its file, or None where that does not hold."""
        path = self._path(key)
        if self.reuse == "never" or not path.exists():
            return None
        stored = read_hamiltonian_provenance(path)
        wanted = json.loads(json.dumps(self._describe(key)))  # tuples come back as lists
        if self.reuse == "always":
            stored = {**stored, "code": self.code}
        if stored != wanted:
            return None
        _, hamiltonian, overlap = read_hamiltonian(path)
        atoms = self.ensemble.displaced(key)
        return self.ensemble.build_sample(key, atoms, hamiltonian, overlap)

    def _save(self, sample: Sample) -> None:
        write_hamiltonian(
            self._path(sample.key),
            sample.atoms,
            sample.predicted,
            sample.overlap,
            self._describe(sample.key),
        )
