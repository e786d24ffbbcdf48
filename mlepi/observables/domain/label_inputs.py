"""Inputs of DFT programs for displaced supercells that are worth labelling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlepi.pipeline.ensemble import Ensemble, SampleKey
from mlepi.structures import OpenmxSettings, VaspSettings, write_openmx_input, write_vasp_input
from mlepi.structures.openmx_input import reduce_kgrid

LABEL_FOLDER = "label"


def write_label_inputs(
    ensemble: Ensemble,
    chosen: Sequence[SampleKey],
    openmx: OpenmxSettings | None,
    vasp: VaspSettings | None,
) -> list[str]:
    """Write the inputs of some samples.

    Args:
        ensemble: whose samples they are; the files go to its folder.
        chosen: the samples.
        openmx: settings of the OpenMX inputs; None writes none.
        vasp: settings of the VASP inputs; None writes none.

    Returns:
        Paths, relative to the run folder.
    """
    files = []
    for key in chosen:
        name, atoms = f"sample_{key.sample:06d}_{key.temperature:g}K", ensemble.displaced(key)
        if openmx is not None:
            path = Path(LABEL_FOLDER) / "openmx" / f"{name}.dat"
            kgrid = reduce_kgrid(openmx.primitive_kgrid, ensemble.supercell)
            write_openmx_input(ensemble.folder / path, atoms, openmx, kgrid)
            files.append(path.as_posix())
        if vasp is not None:
            path = Path(LABEL_FOLDER) / "vasp" / name
            kgrid = reduce_kgrid(vasp.primitive_kgrid, ensemble.supercell)
            write_vasp_input(ensemble.folder / path, atoms, vasp, kgrid)
            files.append(path.as_posix())
    return files
