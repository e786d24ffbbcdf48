"""Weights of mace-torch become a checkpoint that predicts what mace-torch does.

Numbers by tests/references/make_mace_reference.py.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlepi.checkpoint import load_model
from mlepi.commands.mace import SCRIPT
from mlepi.commands.main import main

REFERENCE = Path(__file__).parents[2] / "references" / "mace_reference.npz"


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE, allow_pickle=False) as file:
        return dict(file)


def write_export(path: Path, reference, case: str, **changes) -> Path:
    """Write what the script writes of the model of a case."""
    config = json.loads(str(reference[f"{case}/config"]))
    rest = ["RealAgnosticResidualInteractionBlock"] * (config["num_interactions"] - 1)
    number = np.arange(1, config["num_bessel"] + 1)
    described = {
        "class": "ScaleShiftMACE",
        "heads": ["default"],
        "interactions": [config["interaction_cls_first"], *rest],
        "radial_basis": "BesselBasis",
        "radial_weights": (np.pi / config["r_max"] * number).tolist(),
        "distance_transform": False,
        "pair_repulsion": False,
        "r_max": config["r_max"],
        "cutoff_power": config["num_polynomial_cutoff"],
        "l_max": config["max_ell"],
        "hidden_irreps": config["hidden_irreps"],
        "readout_width": int(config["MLP_irreps"].split("x")[0]),
        "radial_widths": config["radial_MLP"],
        "correlation": config["correlation"],
        "avg_num_neighbors": config["avg_num_neighbors"],
        "atomic_numbers": config["atomic_numbers"],
        **changes,
    }
    weights = {
        name.replace(f"{case}/", "", 1): value
        for name, value in reference.items()
        if name.startswith(f"{case}/weights/")
    }
    np.savez(path, config=np.array(json.dumps(described)), **weights)
    return path


@pytest.mark.parametrize("case", ["residual", "message"])
def test_the_checkpoint_predicts_what_mace_torch_does(tmp_path, capsys, reference, case):
    source = write_export(tmp_path / "export.npz", reference, case)
    assert main(["mace", str(source), "--out", str(tmp_path / "foundation.ckpt")]) == 0
    assert "2 elements" in capsys.readouterr().out
    model = load_model(tmp_path / "foundation.ckpt", kind="phonon")
    for i in range(3):
        keys = (f"structures/{i}/{key}" for key in ("numbers", "positions", "cell"))
        numbers, positions, cell = (reference[key] for key in keys)
        atoms = Atoms(numbers=numbers, positions=positions, cell=cell, pbc=True)
        atoms.calc = model.calculator(device="cpu", dtype="float64")
        forces = reference[f"{case}/forces/{i}"]
        largest = np.abs(forces).max()
        np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-9 * largest)
        assert atoms.get_potential_energy() == pytest.approx(reference[f"{case}/energy"][i], 1e-10)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"distance_transform": True}, "a transform of distances"),
        ({"pair_repulsion": True}, r"a pair repulsion \(ZBL\)"),
        ({"heads": ["a", "b"]}, "2 heads"),
        ({"class": "AtomicDipolesMACE"}, "class AtomicDipolesMACE"),
        ({"radial_weights": [1.0, 2.0]}, "trained frequencies"),
        ({"interactions": ["RealAgnosticDensityInteractionBlock"]}, "Density"),
    ],
)
def test_other_models_are_refused_with_what_they_have(tmp_path, capsys, reference, changes, text):
    source = write_export(tmp_path / "export.npz", reference, "residual", **changes)
    assert main(["mace", str(source), "--out", str(tmp_path / "foundation.ckpt")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: export.npz: got a model with ")
    assert re.search(text, error)
    assert not (tmp_path / "foundation.ckpt").exists()


def test_files_that_the_script_has_not_written_are_refused(tmp_path, capsys):
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    out = ["--out", str(tmp_path / "foundation.ckpt")]
    for name in ("other.npz", "nowhere.npz"):
        assert main(["mace", str(tmp_path / name), *out]) == 1
        assert "expected weights and sizes of a mace-torch model" in capsys.readouterr().err
    (tmp_path / "foundation.ckpt").touch()
    assert main(["mace", str(tmp_path / "other.npz"), *out]) == 1
    assert "existing file" in capsys.readouterr().err


def test_the_script_runs_without_this_package(capsys):
    """It imports nothing of mlepi, and nothing beside it hides a module of Python."""
    assert main(["mace", "--script"]) == 0
    assert capsys.readouterr().out.strip() == str(SCRIPT)
    nodes = ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8")))
    imported = {
        name.split(".")[0]
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else
                     [alias.name for alias in node.names])
    }  # fmt: skip
    assert imported == {"__future__", "json", "numpy", "os", "sys", "torch", "typing"}
    beside = {path.name for path in SCRIPT.parent.iterdir() if path.suffix == ".py"}
    assert beside == {"__init__.py", SCRIPT.name}
