"""The scripts that measure and ship checkpoints.

Known errors come out as such, verdicts can fail, a card is complete.
"""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import warm_python
import yaml
from ase.data import chemical_symbols
from materials import GRAPHENE, find_material
from model_card import format_accuracy, list_failures
from run_folder import measure_wall_time
from toy_evaluation import raised_electron

from mlepi.checkpoint import load_checkpoint, load_model
from mlepi.checksums import compute_checksums
from mlepi.errors import CheckpointError, DataError
from mlepi.evaluation import judge
from mlepi.evaluation.settings import Settings
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.predictors.calibration import find_calibration
from mlepi.structures import build_graphene
from mlepi.units import FORCE_CONSTANT_TO_THZ, THZ_TO_INVERSE_CM

ROOT = Path(__file__).parents[2]
SHIFT = 0.05
SHIPPED = [
    path
    for path in sorted((ROOT / "data" / "checkpoints").glob("*.ckpt"))
    if path.with_suffix(".md").is_file()  # members of a committee share that of the first
]


def load_script(path):
    spec = importlib.util.spec_from_file_location(path.stem + "_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


phonons = load_script(ROOT / "benchmarks" / "phonons.py")
make = load_script(ROOT / "data" / "checkpoints" / "make.py")
make.subprocess = warm_python  # of the measurements that it starts


@pytest.fixture(scope="module")
def electron(tmp_path_factory):
    """A network and labels that are its own matrices with the energies raised by SHIFT."""
    return raised_electron(tmp_path_factory.mktemp("electron"), SHIFT)


def test_the_tables_of_a_card(electron, tmp_path):
    """All metrics with their targets, met or not, and the subsets and sizes."""
    result = judge(electron / "e.ckpt", settings=Settings(kpoints=1)).result
    table = format_accuracy(result, GRAPHENE.targets)
    assert "1 structures: subset `test` of `split.json`, data `h.h5`." in table
    assert "| H, MAE (meV) |" in table
    assert "| H, gauge-free MAE (meV) |" in table
    assert "| k-points with ghosts (%) | 0 | 0 | ≤ 1 | yes |" in table
    assert "| sizes | structures | atoms | shortest vector (Å) |" in table
    bad = {**result["metrics"], "ghosts_kpoints_percent": 5.0, "slope_error": None}
    failed = format_accuracy({**result, "metrics": bad}, GRAPHENE.targets)
    assert failed.count("**no**") == 1 + table.count("**no**")
    missed = "Target missed: k-points with ghosts (%) is 5, wanted ≤ 1."
    assert list_failures({}, failed)[-1] == missed


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_card_says_what_is_known_of_its_material(path):
    stamp = load_checkpoint(path)[0]
    elements = [chemical_symbols[z] for z in stamp["model"]["network"]["elements"]]
    material, card = find_material(elements), path.with_suffix(".md").read_text("utf-8")
    assert card.startswith(f"# {path.stem}\n\n{material.predicts(stamp['kind'])}\n\n")
    assert f"see [its card](../{material.folder}/README.md)" in card
    assert f" % from {material.lattice_constant} Å)." in card
    assert f"- Not tested: {material.not_tested}\n" in card
    assert (material.orbitals in card) == (stamp["kind"] == "electron")
    for sentence in material.weaknesses[stamp["kind"]]:
        assert f"- {sentence}\n" in card
    with pytest.raises(DataError, match=r"got C-Xe; expected one of C, B-N, Mo-S\. Add what a"):
        find_material(["Xe", "C"])


def test_gamma_modes_are_told_apart_by_their_patterns():
    atoms = build_graphene("AB")
    wanted = {"shear": 30.0, "breathing": 80.0, "ZO": 900.0, "G": 1550.0}
    layers, sublattices = np.array([1, 1, -1, -1]), np.array([1, -1, 1, -1])
    x, z = (np.eye(3)[0], np.eye(3)[1]), (np.eye(3)[2],)
    patterns = [("shear", layers, x), ("breathing", layers, z)]
    patterns += [
        (name, signs, along)
        for name, along in (("ZO", z), ("G", x))
        for signs in (sublattices, layers * sublattices)
    ]
    hessian = np.zeros((12, 12))
    for name, signs, along in patterns:
        for direction in along:
            vector = np.kron(signs / 2.0, direction)
            hessian += (
                (wanted[name] / THZ_TO_INVERSE_CM / FORCE_CONSTANT_TO_THZ) ** 2
                * 12.011
                * np.outer(vector, vector)
            )
    found = phonons.classify_gamma_modes(
        ForceConstants(atoms, (1, 1, 1), hessian.reshape(4, 3, 4, 3).transpose(0, 2, 1, 3))
    )
    assert {name: len(values) for name, values in found.items()} == phonons.GAMMA_MODES
    for name, frequency in wanted.items():
        assert found[name] == pytest.approx([frequency] * len(found[name]))
    assert np.abs(found["translation"]).max() < 1e-2


@pytest.mark.parametrize("stress", [0.0, -0.01, 0.02])
def test_bending_is_separated_from_tension(stress):
    """A membrane on a triangular lattice with Φ(q) = area·(2κ L² + σ L), L = q² + O(q⁴)."""
    kappa, n = 1.5, 9
    atoms = build_graphene("monolayer")[:1]
    area = np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1]))
    neighbours = [(1, 0), (0, 1), (-1, 0), (0, -1), (1, -1), (-1, 1)]
    laplacian = np.zeros((n, n))
    for shift in neighbours:
        laplacian[0, 0] += 1.0 / (1.5 * 2.46**2)
        laplacian[shift] -= 1.0 / (1.5 * 2.46**2)
    transform = np.fft.fft2(laplacian).real
    column = np.fft.ifft2(area * (2.0 * kappa * transform**2 + stress * transform)).real
    values = np.zeros((1, n * n, 3, 3))
    values[0, :, 2, 2] = column.ravel()
    values[0, 0, :2, :2] = 100.0 * np.eye(2)  # in-plane branches far above
    found = phonons.analyse_flexural_branch(
        ForceConstants(atoms, (n, n, 1), values),
        stress,
        0.0,
        3.35,
        phonons.special_points(atoms)["M"],
    )
    assert found["bending_exponent"] == pytest.approx(2.0, abs=0.1)
    # the lattice softens L by 1 − (qa)²/16
    assert found["bending_rigidity"] == pytest.approx(kappa, rel=0.15)
    assert (found["exponent"] < found["bending_exponent"]) == (stress > 0) or stress == 0


def good_phonons():
    modes = {
        "translation": [0.0] * 3,
        "shear": [30.0] * 2,
        "breathing": [80.0],
        "ZO": [900.0] * 2,
        "G": [1580.0] * 4,
    }
    flexural = {"M": {"bending_exponent": 2.0}, "K": {"bending_exponent": 2.0}}
    return {"gamma_modes": modes, "flexural": flexural, "lowest_commensurate": [20.0]}


def test_every_phonon_verdict_can_fail():
    assert all(row["met"] for row in phonons.judge(good_phonons()))
    bad = good_phonons()
    bad["gamma_modes"] |= {
        "translation": [-3.0, 0.0, 0.0],
        "shear": [-5.0, 30.0],
        "breathing": [-1.0],
        "G": [1400.0] * 4,
    }
    bad["flexural"]["K"]["bending_exponent"] = float("nan")
    bad["lowest_commensurate"] = [-5.0]
    assert not any(row["met"] for row in phonons.judge(bad))


@pytest.fixture
def run_folder(electron, tmp_path):
    """What a training leaves behind, with the checkpoint of a tiny electron network."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / ".hydra").mkdir()
    stamped, weights = load_checkpoint(electron / "e.ckpt")
    for name, epoch in (("best", 6), ("last", 9)):
        content = {"mlepi": stamped, "state_dict": weights, "epoch": epoch}
        content["checksums"] = compute_checksums(stamped, weights)
        torch.save(content, run / "checkpoints" / f"{name}.ckpt")
    (run / "config.yaml").write_text(
        yaml.safe_dump({"name": "tiny", "data": stamped["metadata"]["config"]["data"]})
    )
    (run / ".hydra" / "overrides.yaml").write_text(
        "- model=hedgenet_electron\n- hydra.run.dir=/somewhere\n"
    )
    (run / "train.log").write_text(
        "[2026-01-01 10:00:00,000][x] a\n[2026-01-01 11:05:10,000][x] b\n"
    )
    return run


def test_a_shipped_checkpoint_and_its_card(run_folder, tmp_path):
    path = make.make(run_folder, output=tmp_path)
    predictor, card = load_model(path, kind="electron"), path.with_suffix(".md").read_text("utf-8")
    numbers = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert predictor.metadata["test_metrics"] == numbers["accuracy"]["metrics"]
    assert numbers["training"] == {"epochs": 10, "best_epoch": 7, "wall_time": "1 h 05 min"}
    for text in (
        "`python train.py model=hedgenet_electron`",
        "1 train, 1 val, 1 test",
        "with uncommitted changes",
        "1 h 05 min",
    ):
        assert text in card
    assert str(tmp_path.parent) not in card + path.with_suffix(".yaml").read_text("utf-8") + str(
        predictor.metadata
    )


@pytest.fixture
def second_run(run_folder, tmp_path):
    """A run of the same recipe with another seed, whose network differs a little."""
    run = tmp_path / "second"
    shutil.copytree(run_folder, run)
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    for value in content["state_dict"].values():
        value += 1e-3 * torch.randn_like(value)
    content["checksums"] = compute_checksums(content["mlepi"], content["state_dict"])
    torch.save(content, run / "checkpoints" / "best.ckpt")
    (run / ".hydra" / "overrides.yaml").write_text("- experiment=x\n- seed=2\n")
    return run


def test_a_shipped_committee_and_its_card(run_folder, second_run, tmp_path):
    runs = [run_folder, second_run]
    files = make.make_committee(runs, "tiny", tmp_path, "float16")
    assert [file.name for file in files] == ["tiny.ckpt", "tiny_2.ckpt"]
    members = [load_model(file, kind="electron") for file in files]
    calibration = find_calibration(members)
    assert calibration.data["subset"] == "val"
    assert calibration.checks.keys() == {"test"}
    learned = dict(members[0].network().named_parameters())
    stored = load_checkpoint(files[0])[1]
    assert {stored[name].dtype for name in learned} == {torch.float16}
    card = (tmp_path / "tiny.md").read_text("utf-8")
    for text in (
        "## Committee",
        "2 networks of one recipe and 2 seeds",
        "`python train.py experiment=x seed=2`",
        "[tiny_2.ckpt](tiny_2.ckpt)",
        "2 networks, calibrated on 1 structures: subset `val`",
        "![reliability](tiny_committee.png)",
        "RUN_FOLDER` of all runs",
    ):
        assert text in card
    assert (tmp_path / "tiny_committee.png").is_file()
    numbers = json.loads((tmp_path / "tiny.json").read_text("utf-8"))
    assert numbers["members"].keys() == {"tiny", "tiny_2"}
    assert numbers["committee"]["calibration"] == calibration.to_dict()
    own = numbers["members"]["tiny_2"]["accuracy"]["metrics"]
    assert members[1].metadata["test_metrics"] == own


def test_a_run_joins_what_was_shipped_alone(run_folder, second_run, tmp_path):
    together, later = tmp_path / "together", tmp_path / "later"
    together.mkdir()
    later.mkdir()
    make.make_committee([run_folder, second_run], "tiny", together)
    make.make(run_folder, "tiny", later)
    files = make.make_committee([second_run], "tiny", later, add=True)
    assert [file.name for file in files] == ["tiny.ckpt", "tiny_2.ckpt"]
    for file in files:
        ours, theirs = load_checkpoint(file), load_checkpoint(together / file.name)
        assert ours[0]["metadata"] == theirs[0]["metadata"]
        assert all(torch.equal(value, theirs[1][name]) for name, value in ours[1].items())
    assert (later / "tiny.json").read_bytes() == (together / "tiny.json").read_bytes()
    assert (later / "tiny.md").read_bytes() == (together / "tiny.md").read_bytes()
    with pytest.raises(DataError, match=r"tiny.json: got no such file"):
        make.make_committee([second_run], "tiny", tmp_path, add=True)


def test_a_network_of_another_recipe_is_refused(run_folder, second_run, tmp_path):
    path = second_run / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["mlepi"]["metadata"]["config"]["optimizer"] = {"max_epochs": 3}
    content["checksums"] = compute_checksums(content["mlepi"], content["state_dict"])
    torch.save(content, path)
    with pytest.raises(DataError, match=r"tiny_2.ckpt: got another optimizer than tiny.ckpt"):
        make.make_committee([run_folder, second_run], "tiny", tmp_path)


def test_what_cannot_be_shipped_is_refused(run_folder, tmp_path, monkeypatch):
    (run_folder / "test_metrics.json").write_text(
        json.dumps({"metrics": {"hamiltonian_gauge_free_mae_mev": 2.0}})
    )
    with pytest.raises(CheckpointError, match="hamiltonian_gauge_free_mae_mev 2"):
        make.check_reproduced(run_folder, {"hamiltonian_gauge_free_mae_mev": 3.0})
    with pytest.raises(DataError, match=r"benchmarks/phonons.py: got .*no such file"):
        make.run_benchmark("phonons", tmp_path / "absent.ckpt", tmp_path)
    monkeypatch.setattr(make, "LARGEST_SIZE", 10)
    with pytest.raises(CheckpointError, match="at most 10 MB"):
        make.export(run_folder, tmp_path / "x.ckpt")
    (run_folder / "train.log").unlink()
    with pytest.raises(DataError, match=r"no train.log"):
        make.make(run_folder)


def test_wall_time_leaves_out_the_pause_before_a_run_was_resumed():
    log = (
        "[2026-01-01 10:00:00,000][x] tiny | 5 parameters | run folder runs/a\n"
        "[2026-01-01 10:30:00,000][x] epoch 1/4\n  a line without time\n"
        "[2026-01-03 08:00:00,000][x] tiny | 5 parameters | run folder runs/a\n"
        "[2026-01-03 08:12:00,000][x] epoch 2/4\n"
    )
    assert measure_wall_time(log).total_seconds() == 42 * 60
    assert measure_wall_time("").total_seconds() == 0


def test_paths_of_a_machine_are_cut():
    assert make.portable({"a": ["/x/y.h5", "data/z.h5", 1]}) == {"a": ["y.h5", "data/z.h5", 1]}
