"""Compute what a denser k-mesh changes in the labels: energies, and forces of every atom.

``python data/blg_openmx/make_mesh_correction.py CHECKPOINT FOLDER …`` writes
``mesh_correction.npz``, which ``make.py`` adds to the labels of the same FOLDERs. CHECKPOINT is an
electron network trained on these labels: energies are sums of the labels' own bands, forces need
derivatives of H, which no label has. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from make import BASIS, CORRECTION, Correction, read_corrections, write_corrections

import mlepi
from mlepi.errors import MlepiError
from mlepi.graphs.block_matrix import block_matrices
from mlepi.predictors.band_forces import change_mesh
from mlepi.predictors.electron import ElectronPredictor
from mlepi.structures.openmx_labels import list_label_files, read_label_file

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
    done = read_corrections() if CORRECTION.exists() else {}
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
        done[path.stem] = Correction(labels.atoms.positions, change.energy, change.forces)
        write_corrections(done)
        print(
            f"{n + 1}/{len(paths)} {path.stem}: {1e3 * change.energy / len(labels.atoms):+.3f} "
            f"meV/atom, forces {1e3 * np.sqrt((change.forces**2).mean()):.1f} meV/Å RMS, "
            f"{time.monotonic() - start:.0f} s",
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
