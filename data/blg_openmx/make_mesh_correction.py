"""Compute what a denser k-mesh changes in the labels: energies, and forces of every atom.

``python data/blg_openmx/make_mesh_correction.py CHECKPOINT FOLDER …`` writes
``mesh_correction.npz``, which ``make.py`` adds to the labels of the same FOLDERs. CHECKPOINT is an
electron network trained on these labels (energies are the sums of the labels' own bands, forces
need derivatives of H, which no label has). A run that was stopped goes on where it was.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import mlepi
from mlepi.errors import MlepiError
from mlepi.graphs.block_matrix import block_matrices
from mlepi.predictors.band_forces import change_mesh
from mlepi.predictors.electron import ElectronPredictor
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.openmx_labels import list_label_files, read_label_file
from mlepi.units import BOHR

OUTPUT = Path(__file__).parent / "mesh_correction.npz"
BASIS = OrbitalBasis(shells={6: (0, 0, 1, 1)}, radii={6: 6.0 * BOHR}, names={6: "C6.0-s2p2"})
FACTOR = 3
"""Of the divisions of the labels' meshes: twice as many again change forces by 0.6 meV/Å."""

TEMPERATURE = 300.0
"""Of the labels' electrons, K."""

VALENCE = {6: 4.0}


def main(checkpoint: Path, folders: list[Path]) -> None:
    """Compute the corrections that are not there yet, one structure after the other."""
    model = mlepi.load_model(checkpoint)
    if not isinstance(model, ElectronPredictor):
        sys.exit(f"{checkpoint}: a {model.kind} network; give an electron network")
    paths = list_label_files(folders)
    done: dict[str, NDArray[np.float64]] = {}
    if OUTPUT.exists():
        with np.load(OUTPUT) as archive:
            done = dict(archive)
    start = time.monotonic()
    for n, path in enumerate(paths):
        if path.stem in done:
            continue
        labels = read_label_file(path, BASIS)
        change = change_mesh(
            model,
            labels.atoms,
            labels.provenance["kgrid"],
            FACTOR,
            TEMPERATURE,
            valence=VALENCE,
            labelled=block_matrices(labels),
        )
        # first row: energy per atom, eV; then one row of forces per atom
        rows = np.full((1, 3), change.energy / len(labels.atoms))
        done[path.stem] = np.concatenate([rows, change.forces])
        draft = OUTPUT.with_suffix(".draft.npz")
        np.savez_compressed(draft, **done)
        draft.replace(OUTPUT)
        size = 1e3 * np.sqrt((change.forces**2).mean())
        print(
            f"{n + 1}/{len(paths)} {path.stem}: {1e3 * rows[0, 0]:+.3f} meV/atom, forces "
            f"{size:.1f} meV/Å RMS, {time.monotonic() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    try:
        main(Path(sys.argv[1]), [Path(text) for text in sys.argv[2:]])
    except MlepiError as error:
        sys.exit(str(error))
