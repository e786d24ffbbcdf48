"""Compare the bands of thermal supercells by DFT and by an electron network.

``python benchmarks/sample_bands.py LABELS [CHECKPOINT] [--samples NAME …] [--spacing 0.123]``

LABELS is a folder of OpenMX labels (``data/blg_openmx/make.py`` reads them); the samples are 6×6
cells of AB bilayer graphene drawn from its phonons, as in Fig. 4(d) of Wang, Duan and Lin,
arXiv:2602.23084. The comparison and the figure are those of the stage ``labelled_bands``, along
Γ–M–K–Γ; labels of a data set are compared by ``python infer.py experiment=paper_sample``. The level
shift is that of the checkpoint.

Writes ``sample_bands.json``, ``sample_bands.md`` and a figure per sample into
``benchmarks/results``. Nothing is random.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from level_shift import load_reader

from mlepi.checkpoint import load_model
from mlepi.errors import DataError, MlepiError, message
from mlepi.figures import save_figure
from mlepi.figures.tables import tabulate
from mlepi.graphs.shifted_matrix import shift_hamiltonian
from mlepi.observables.labelled_bands.compare import Comparison, compare_sample
from mlepi.observables.labelled_bands.figure import build_table, plot_bands
from mlepi.observables.labelled_bands.record import LabelledBandsRecord, SampleBands
from mlepi.structures.labelled_structure import LabelledStructure

PROJECT = Path(__file__).resolve().parents[1]
CHECKPOINT = PROJECT / "data" / "checkpoints" / "hedgenet_electron.ckpt"
REPEATS = (6, 6, 1)


def compare(labels: LabelledStructure, model: Any, chosen: Comparison) -> SampleBands:
    """Solve one sample by DFT and by the network, without and with its level shift.

    Args:
        labels: H and S by DFT.
        model: electron network.
        chosen: path and window.
    """
    atoms, shift = labels.atoms, model.level_shift
    overlap, plain = model.overlap(atoms), model.hamiltonian(atoms)
    shifted = None if shift is None else shift_hamiltonian(atoms, plain, overlap, shift)
    return compare_sample(labels, (plain, overlap), shifted, chosen)


def describe(sample: SampleBands) -> dict[str, Any]:
    """Return the errors of one sample as plain data, eV."""
    return {
        "sample": sample.name,
        "n_atoms": sample.n_atoms,
        "fermi_energy": sample.fermi_energy,
        "n_kpoints": len(sample.kpoints),
        "n_levels": sample.n_levels,
        "errors": {
            name: asdict(errors)
            for name, errors in (("plain", sample.plain), ("shifted", sample.shifted))
            if errors is not None
        },
    }


def write_markdown(checkpoint: str, record: LabelledBandsRecord) -> str:
    """Write all samples as one table."""
    table = build_table(record)
    lines = [
        "# Bands of thermal 6×6 cells: DFT and network",
        "",
        f"`python benchmarks/sample_bands.py LABELS {checkpoint}`, made by the script; definitions "
        "in `mlepi/observables/labelled_bands/compare.py`. Γ–M–K–Γ of the primitive zone, levels "
        f"within ±{record.window:g} eV of the Fermi energy.",
        "",
        *tabulate(table.header, table.rows),
        "",
        *(
            f"![levels and spectral functions of {sample.name}](sample_bands_{sample.name}.png)"
            for sample in record.samples.values()
        ),
    ]
    return "\n".join([*lines, ""])


def write_results(checkpoint: str, record: LabelledBandsRecord, folder: Path) -> str:
    """Write numbers, table and a figure per sample; return the table."""
    results: Mapping[str, Any] = {
        "checkpoint": checkpoint,
        "samples": [describe(sample) for sample in record.samples.values()],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sample_bands.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    for sample in record.samples.values():
        alone = LabelledBandsRecord(record.data, record.supercell, record.window, {"0": sample})
        save_figure(plot_bands(alone), folder, f"sample_bands_{sample.name}")
    text = write_markdown(checkpoint, record)
    (folder / "sample_bands.md").write_text(text, encoding="utf-8")
    return text


def main() -> None:
    """Compare the samples; write tables and figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", type=Path)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=CHECKPOINT)
    parser.add_argument("--samples", nargs="*", help="names; all 6×6 samples by default")
    parser.add_argument("--spacing", type=float, default=0.123, help="of k-points, 1/Å")
    parser.add_argument("--output", type=Path, default=PROJECT / "benchmarks" / "results")
    arguments = parser.parse_args()
    names = arguments.samples or sorted(p.stem for p in arguments.labels.glob("sample6_*.npz"))
    if not names:
        raise DataError(
            message(str(arguments.labels), "no sample6_*.npz", "labels of 6×6 cells", "Name some.")
        )
    read, model = load_reader(), load_model(arguments.checkpoint, kind="electron")
    chosen = Comparison(REPEATS, spacing=arguments.spacing)
    samples = {
        name: compare(read(arguments.labels / f"{name}.npz"), model, chosen) for name in names
    }
    record = LabelledBandsRecord(arguments.labels.name, REPEATS, chosen.window, samples)
    print(write_results(arguments.checkpoint.stem, record, arguments.output))


if __name__ == "__main__":
    try:
        main()
    except MlepiError as error:
        sys.exit(f"error: {error}")
