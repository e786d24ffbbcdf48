"""Checkpoints rebuild what was saved, in both kinds and precisions.

Those of old formats do so too, and every unusable file gives one clear message.
"""

import copy
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from augmented_tables import gaussian_augmented_table
from tiny_networks import (
    BASIS,
    CUTOFFS,
    build_config,
    build_network,
    corrugated_bilayer,
    gaussian_overlap_table,
)

import mlepi
import mlepi.structures
from mlepi.checkpoint import (
    export_checkpoint,
    load_checkpoint,
    load_model,
    save_checkpoint,
    stamp,
)
from mlepi.checkpoint_formats import FORMAT, upgrade
from mlepi.checksums import compute_checksums
from mlepi.errors import CheckpointError
from mlepi.graphs.augmented_pairs import compute_augmented_overlaps
from mlepi.predictors import ElectronPredictor, PhononPredictor

SHIPPED = Path(__file__).parents[2] / "data" / "checkpoints"
OLD = Path(__file__).parents[1] / "references" / "old" / "checkpoints"


def build_stamp(kind, **changes):
    extra = (
        {"basis": BASIS, "overlap_table": gaussian_overlap_table()} if kind == "electron" else {}
    )
    return {
        **stamp(kind, build_config(kind), CUTOFFS, metadata={"data": "random weights"}, **extra),
        **changes,
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for kind in ("phonon", "electron"):
        save_checkpoint(
            folder / f"{kind}.ckpt", build_stamp(kind), build_network(kind).state_dict()
        )
    return folder


def predict(predictor, dtype):
    atoms = corrugated_bilayer()
    if isinstance(predictor, PhononPredictor):
        energies, forces = predictor.energy_and_forces([atoms], dtype=dtype)
        return np.append(forces[0].ravel(), energies)
    return predictor.hamiltonian(atoms, dtype=dtype).blocks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["phonon", "electron"])
def test_what_is_loaded_equals_what_was_saved(files, kind, dtype):
    network = build_network(kind).to({"float32": torch.float32, "float64": torch.float64}[dtype])
    own = {"phonon": lambda: PhononPredictor(network, elements=[6, 7], cutoffs=CUTOFFS)}
    own["electron"] = lambda: ElectronPredictor(network, basis=BASIS, cutoffs=CUTOFFS)
    loaded = load_model(files / f"{kind}.ckpt", kind=kind)
    np.testing.assert_allclose(
        predict(loaded, dtype), predict(own[kind](), dtype), rtol=2e-6, atol=2e-5
    )
    assert loaded.kind == kind
    assert loaded.cutoffs == CUTOFFS
    assert loaded.elements == (6, 7)
    assert loaded.metadata == {"data": "random weights"}


def test_overlap_table_and_basis_travel_with_the_checkpoint(files):
    loaded = mlepi.load_model(files / "electron.ckpt")
    assert loaded.basis == BASIS
    table = gaussian_overlap_table()
    np.testing.assert_array_equal(loaded.overlap_table.values[6, 7], table.values[6, 7])
    assert loaded.overlap(corrugated_bilayer()).blocks.shape[1:] == (5, 5)


def test_a_table_of_augmented_overlaps_travels_with_the_checkpoint(tmp_path):
    table = gaussian_augmented_table()
    given = {"basis": BASIS, "overlap_table": table}
    content = stamp("electron", build_config("electron"), CUTOFFS, **given)
    save_checkpoint(tmp_path / "e.ckpt", content, build_network("electron").state_dict())
    loaded = load_model(tmp_path / "e.ckpt")
    atoms = corrugated_bilayer()
    expected = compute_augmented_overlaps(atoms, table, BASIS)
    np.testing.assert_array_equal(loaded.overlap(atoms).blocks, expected.blocks)


def test_weights_of_double_precision_are_kept(files, tmp_path):
    network = build_network("phonon").double()
    save_checkpoint(tmp_path / "double.ckpt", build_stamp("phonon"), network.state_dict())
    weights = load_checkpoint(tmp_path / "double.ckpt")[1]
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["double.ckpt"]


@pytest.mark.parametrize("kind", ["phonon", "electron"])
def test_half_precision_rounds_what_was_learned_and_nothing_else(files, tmp_path, kind):
    export_checkpoint(files / f"{kind}.ckpt", tmp_path / "half.ckpt", storage="float16")
    before, after = (
        load_checkpoint(f)[1] for f in (files / f"{kind}.ckpt", tmp_path / "half.ckpt")
    )
    learned = dict(build_network(kind).named_parameters())
    for name, value in before.items():
        if name in learned:
            assert after[name].dtype == torch.float16
            rounding = (after[name].double() - value).abs()
            assert torch.all(rounding <= 2.0**-11 * value.abs() + 1e-7)
        else:
            assert torch.equal(after[name], value)
    assert any(name not in learned for name in before) == (kind == "electron")
    own, rounded = (load_model(f) for f in (files / f"{kind}.ckpt", tmp_path / "half.ckpt"))
    assert next(rounded.network().parameters()).dtype == torch.float64
    exact, found = predict(own, "float64"), predict(rounded, "float64")
    scale = np.abs(exact).max() if kind == "electron" else np.abs(exact[:-1]).max()
    assert 0 < np.abs(found - exact).max() < 3e-3 * scale
    # what is rounded once stays
    export_checkpoint(tmp_path / "half.ckpt", tmp_path / "again.ckpt", metadata={"a": 1})
    np.testing.assert_array_equal(predict(load_model(tmp_path / "again.ckpt"), "float64"), found)


def test_half_precision_of_the_shipped_networks_is_far_below_their_errors(tmp_path):
    """A twentieth of the errors on test structures at most: 0.02 meV of H, 1 meV/Å of forces.

    A network that is shipped in half precision stays what it is.
    """
    atoms = mlepi.structures.build_graphene(stacking="AB").repeat((2, 2, 1))
    atoms.positions += np.random.default_rng(0).normal(scale=0.04, size=atoms.positions.shape)
    found = {}
    halved = {}
    for kind in ("electron", "phonon"):
        source, half = SHIPPED / f"hedgenet_{kind}.ckpt", tmp_path / f"{kind}.ckpt"
        export_checkpoint(source, half, storage="float16")
        dtypes = {value.dtype for value in load_checkpoint(source)[1].values()}
        halved[kind] = torch.float16 not in dtypes
        assert half.stat().st_size < (0.6 if halved[kind] else 1.01) * source.stat().st_size
        found[kind] = [load_model(file) for file in (source, half)]
    h = [m.hamiltonian(atoms, dtype="float64").blocks for m in found["electron"]]
    forces = [m.energy_and_forces([atoms])[1][0] for m in found["phonon"]]
    changes = {
        "electron": ("hamiltonian_gauge_free_mae_mev", np.abs(h[0] - h[1]).mean()),
        "phonon": ("forces_rmse_mev_per_angstrom", np.sqrt(np.mean((forces[0] - forces[1]) ** 2))),
    }
    for kind, (metric, change) in changes.items():
        error = 1e3 * change / found[kind][0].metadata["test_metrics"][metric]
        assert error < 0.05
        assert (error > 0) == halved[kind]


def test_storage_that_cannot_be(files, tmp_path):
    with pytest.raises(CheckpointError, match=r"storage: got 'int8'; expected one of"):
        export_checkpoint(files / "phonon.ckpt", tmp_path / "x.ckpt", storage="int8")
    network = build_network("phonon")
    name, value = next(iter(network.named_parameters()))
    value.data.fill_(1e6)
    save_checkpoint(tmp_path / "large.ckpt", build_stamp("phonon"), network.state_dict())
    with pytest.raises(
        CheckpointError, match=rf"weight {name}: got 1e\+06; expected at most 65504"
    ):
        export_checkpoint(tmp_path / "large.ckpt", tmp_path / "x.ckpt", storage="float16")


def test_training_checkpoints_load_and_can_be_exported(tmp_path):
    content = build_stamp("electron")
    table = content.pop("overlap_table")
    weights = {
        f"model.{name}": value for name, value in build_network("electron").state_dict().items()
    }
    weights["loss_sums.val_.total"] = torch.zeros(3)
    training = {
        "pytorch-lightning_version": "2.6.0",
        "mlepi": content,
        "state_dict": weights,
        "optimizer_states": [{"lr": 0.1}],
        "checksums": compute_checksums(content, weights),
    }
    torch.save(training, tmp_path / "best.ckpt")
    assert load_model(tmp_path / "best.ckpt").overlap_table is None
    export_checkpoint(
        tmp_path / "best.ckpt",
        tmp_path / "small.ckpt",
        overlap_table=gaussian_overlap_table(),
        metadata={"H MAE (meV)": 1.5},
    )
    exported = load_model(tmp_path / "small.ckpt")
    assert exported.metadata == {"data": "random weights", "H MAE (meV)": 1.5}
    np.testing.assert_array_equal(
        exported.overlap_table.values[6, 6], table["values"]["6-6"].numpy()
    )
    np.testing.assert_array_equal(
        predict(exported, "float64"), predict(load_model(tmp_path / "best.ckpt"), "float64")
    )
    content["basis"] = {**content["basis"], "radii": {"6": 9.0, "7": 9.0}}
    training["checksums"] = compute_checksums(content, weights)
    torch.save(training, tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match="a stamp that does not fit"):
        export_checkpoint(
            tmp_path / "best.ckpt", tmp_path / "small.ckpt", overlap_table=gaussian_overlap_table()
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.ckpt", "small.ckpt"]
    assert load_model(tmp_path / "small.ckpt").metadata["H MAE (meV)"] == 1.5


# --- formats


def test_old_formats_are_upgraded_step_by_step():
    steps = {
        0: lambda c: {**c, "mlepi": {**c["mlepi"], "format": 1, "cutoffs": c["mlepi"]["r_max"]}},
        1: lambda c: {
            **c,
            "mlepi": {**c["mlepi"], "format": 2, "kind": c["mlepi"]["kind"].lower()},
        },
    }
    old = {"mlepi": {"format": 0, "kind": "PHONON", "r_max": {"intra": 3.0}}, "state_dict": {}}
    kept = copy.deepcopy(old)
    new = upgrade(old, where="old.ckpt", upgrades=steps, to=2)["mlepi"]
    assert (new["format"], new["kind"], new["cutoffs"]) == (2, "phonon", {"intra": 3.0})
    assert old == kept
    with pytest.raises(
        CheckpointError,
        match=r"old.ckpt: got format 0, which can no longer be read; expected format 2",
    ):
        upgrade(old, where="old.ckpt", upgrades={1: steps[1]}, to=2)
    with pytest.raises(
        CheckpointError, match=r"an upgrade to format 0; expected format 1\. Let UPGRADES\[0\] set"
    ):
        upgrade(old, where="old.ckpt", upgrades={0: lambda c: c}, to=2)


@pytest.mark.parametrize("found", [FORMAT + 1, 99, "1", None])
@pytest.mark.parametrize(
    ("written_by", "advice"), [("7.8.9", r"mlepi 7\.8\.9 or newer"), (None, "a newer mlepi")]
)
def test_future_and_unknown_formats_are_refused(tmp_path, found, written_by, advice):
    content = build_stamp("phonon") | {"format": found, "version": written_by}
    torch.save({"mlepi": content, "state_dict": {}}, tmp_path / "new.ckpt")
    text = rf"got format {found!r}; expected format {FORMAT} or older\. Install {advice}, which"
    with pytest.raises(CheckpointError, match=text):
        load_model(tmp_path / "new.ckpt")


def test_stamps_name_the_version_that_wrote_them(files, tmp_path):
    assert load_checkpoint(files / "phonon.ckpt")[0]["version"] == mlepi.__version__
    old = OLD / "mace.ckpt"
    export_checkpoint(old, tmp_path / "new.ckpt")
    content = load_checkpoint(tmp_path / "new.ckpt")[0]
    assert (content["format"], content["version"]) == (FORMAT, mlepi.__version__)


@pytest.mark.parametrize("name", ["mace", "hedgenet_phonon", "deeph_e3", "hedgenet_electron"])
def test_checkpoints_of_format_1_predict_what_they_did(name):
    """What the code that wrote them predicted: see the README beside the files."""
    path, recorded = OLD / f"{name}.ckpt", json.loads((OLD / "predictions.json").read_text())
    assert torch.load(path, weights_only=True)["mlepi"]["format"] == 1
    assert path.stat().st_size < 30 * 1024
    structure, expected = recorded["structure"], recorded["predictions"][name]
    layer = np.array(structure.pop("layer"))
    atoms = Atoms(**structure, pbc=True)
    atoms.arrays["layer"] = layer
    predictor = load_model(path)
    if predictor.kind == "phonon":
        energies, forces = predictor.energy_and_forces([atoms], dtype="float64")
        assert energies[0] == pytest.approx(expected["energy"], rel=1e-12)
        np.testing.assert_allclose(forces[0], expected["forces"], rtol=0, atol=1e-12)
        return
    blocks = predictor.hamiltonian(atoms, dtype="float64").blocks
    pattern = np.cos(np.arange(blocks.size)).reshape(blocks.shape)
    assert len(blocks) == expected["n_blocks"]
    assert np.linalg.norm(blocks) == pytest.approx(expected["norm"], rel=1e-12)
    scale = np.abs(pattern * blocks).sum()
    assert (pattern * blocks).sum() == pytest.approx(expected["checksum"], abs=1e-12 * scale)
    np.testing.assert_allclose(blocks[:2], expected["first_blocks"], rtol=0, atol=1e-12)


def test_format_1_is_completed_without_a_change_to_the_file_content():
    content = torch.load(OLD / "deeph_e3.ckpt", weights_only=True)
    kept = copy.deepcopy(content["mlepi"])
    new = upgrade(content, where="old.ckpt")["mlepi"]
    assert content["mlepi"] == kept
    assert new["model"]["pair_features"] is None
    backbone = new["model"]["network"]["backbone"]
    assert (backbone["l_max_out"], backbone["self_loops"]) == (None, True)
    broken = {"mlepi": {"format": 1, "kind": "phonon"}, "state_dict": {}}
    assert upgrade(broken, where="broken.ckpt")["mlepi"]["format"] == FORMAT


def test_format_2_is_upgraded_on_load_and_carries_checksums_from_then_on(files, tmp_path):
    content = torch.load(files / "electron.ckpt", weights_only=True)
    del content["checksums"]
    content["mlepi"]["format"] = 2
    torch.save(content, tmp_path / "old.ckpt")
    old, new = load_model(tmp_path / "old.ckpt"), load_model(files / "electron.ckpt")
    np.testing.assert_array_equal(predict(old, "float64"), predict(new, "float64"))
    export_checkpoint(tmp_path / "old.ckpt", tmp_path / "new.ckpt")
    stored = torch.load(tmp_path / "new.ckpt", weights_only=True)["checksums"]
    assert stored["weights"] == torch.load(files / "electron.ckpt")["checksums"]["weights"]
    assert all(len(digest) == 64 for digest in stored["weights"].values())
    for shipped in SHIPPED.glob("*.ckpt"):
        load_checkpoint(shipped)


# --- files that cannot be used


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("damage", ["bit", "zeros"])
@pytest.mark.parametrize("number", [2, 3])
def test_a_flipped_bit_or_zeros_are_never_loaded(files, tmp_path, place, damage, number):
    content = torch.load(files / "electron.ckpt", weights_only=True)
    content["mlepi"]["format"] = number
    if number == 2:
        del content["checksums"]
    else:
        content["checksums"] = compute_checksums(content["mlepi"], content["state_dict"])
    torch.save(content, tmp_path / "bad.ckpt")
    before = (tmp_path / "bad.ckpt").read_bytes()
    with zipfile.ZipFile(tmp_path / "bad.ckpt") as archive:
        parts = [info for info in archive.infolist() if info.file_size > 64]
        part = parts[int(place * len(parts))]
        inside = before.index(archive.read(part), part.header_offset)
    broken = bytearray(before)
    start = inside + part.file_size // 2
    if damage == "bit":
        broken[start] ^= 16
    else:
        broken[inside : inside + part.file_size] = bytes(part.file_size)
    if broken == before:  # the part is nothing but zeros
        return
    (tmp_path / "bad.ckpt").write_bytes(broken)
    with pytest.raises(CheckpointError, match=r"damaged file: .* Fetch or copy it again"):
        load_checkpoint(tmp_path / "bad.ckpt")


def test_an_edited_weight_basis_or_cutoff_is_named(files, tmp_path):
    def edit(change):
        content = torch.load(files / "electron.ckpt", weights_only=True)
        change(content)
        torch.save(content, tmp_path / "edited.ckpt")
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(tmp_path / "edited.ckpt")
        return str(caught.value)

    name = next(iter(build_network("electron").state_dict()))

    def scale(content):
        content["state_dict"][name] *= 27.2

    assert f"got a damaged file: {name} not as the checksums say" in edit(scale)
    for change in (
        lambda c: c["mlepi"]["cutoffs"].update(intra=1.0),
        lambda c: c["mlepi"]["basis"]["radii"].update({6: 1.0}),
        lambda c: next(iter(c["mlepi"]["overlap_table"]["values"].values())).mul_(1.01),
    ):
        assert "a damaged file: stamp not as" in edit(change)
    assert "a damaged file: checksums not as" in edit(lambda c: c.pop("checksums"))
    assert "and 1 more" in edit(lambda c: (scale(c), c["state_dict"].update(new=torch.ones(1))))


def test_weights_that_are_no_numbers_are_refused(files, tmp_path):
    weights = build_network("phonon").state_dict()
    name = next(name for name, value in weights.items() if value.numel() > 1)
    weights[name].view(-1)[1] = float("nan")
    save_checkpoint(tmp_path / "diverged.ckpt", build_stamp("phonon"), weights)
    with pytest.raises(CheckpointError, match=f"NaN or infinity in {re.escape(name)}"):
        load_checkpoint(tmp_path / "diverged.ckpt")


def test_what_was_read_before_is_what_is_loaded(files, tmp_path):
    path = tmp_path / "training.ckpt"
    path.write_bytes((files / "phonon.ckpt").read_bytes())
    data = path.read_bytes()
    path.write_bytes((files / "electron.ckpt").read_bytes())  # the training has gone on
    assert load_model(path, data=data).kind == "phonon"
    assert load_model(path).kind == "electron"


def test_the_wrong_kind_is_refused(files):
    with pytest.raises(CheckpointError, match="a checkpoint of kind 'phonon'; expected 'electron'"):
        load_model(files / "phonon.ckpt", kind="electron")


def test_missing_damaged_and_foreign_files_are_refused(files, tmp_path):
    path = tmp_path / "bad.ckpt"
    with pytest.raises(CheckpointError, match="no such file"):
        load_model(path)
    whole = (files / "phonon.ckpt").read_bytes()
    for content in (
        b"",
        b"not a checkpoint",
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        whole[: len(whole) // 2],
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="a file that cannot be read"):
            load_model(path)
    torch.save({"state_dict": {}, "hyper_parameters": {}}, path)
    with pytest.raises(CheckpointError, match="a file without the stamp of mlepi"):
        load_model(path)
    torch.save(torch.nn.Linear(2, 2), path)  # a pickled object, which weights_only refuses to build
    with pytest.raises(CheckpointError, match="a file that cannot be read"):
        load_model(path)


@pytest.mark.parametrize("key", ["model", "cutoffs", "basis"])
def test_missing_keys_are_named(tmp_path, key):
    content = build_stamp("electron")
    del content[key]
    torch.save({"mlepi": content, "state_dict": {}}, tmp_path / "part.ckpt")
    with pytest.raises(CheckpointError, match=f"got no {key}; expected a complete stamp"):
        load_model(tmp_path / "part.ckpt")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "mlepi.structures.dataset.os.system",
        "mlepi.physics.overlaps.write_overlap_table",
        "mlepi.models.torch.load",
    ],
)
def test_only_networks_are_built(tmp_path, target):
    content = build_stamp("phonon")
    content["model"]["network"]["backbone"]["_target_"] = target
    torch.save({"mlepi": content, "state_dict": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(
        CheckpointError, match=r"_target_ .*; expected a public class of mlepi\.models\.\*"
    ):
        load_model(tmp_path / "evil.ckpt")
    content["model"]["network"]["backbone"] = {"elements": ["${oc.env:HOME}"]}
    torch.save({"mlepi": content, "state_dict": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="an unresolved value"):
        load_model(tmp_path / "evil.ckpt")


def test_stamps_that_could_not_be_loaded_are_not_written(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"kind 'photon'; expected one of \['electron', 'phonon'\]"
    ):
        stamp("photon", build_config("phonon"), CUTOFFS)
    with pytest.raises(CheckpointError, match="got no basis"):
        save_checkpoint(tmp_path / "x.ckpt", {**build_stamp("electron"), "basis": None}, {})
    assert not list(tmp_path.iterdir())


def test_weights_that_do_not_fit_are_refused(files, tmp_path):
    save_checkpoint(
        tmp_path / "a.ckpt", build_stamp("phonon"), build_network("electron").state_dict()
    )
    with pytest.raises(
        CheckpointError, match=r"a network that cannot be rebuilt \(.*[Mm]issing key"
    ):
        load_model(tmp_path / "a.ckpt")
    content = build_stamp("phonon")
    content["model"]["energy_scale"] = -1.0
    save_checkpoint(tmp_path / "a.ckpt", content, build_network("phonon").state_dict())
    with pytest.raises(CheckpointError, match=r"a network that cannot be rebuilt"):
        load_model(tmp_path / "a.ckpt")


# --- the public door


def test_public_names():
    from importlib.metadata import version

    assert mlepi.__version__ == version("mlepi")
    assert set(dir(mlepi)) == {
        "BlockMatrix",
        "OrbitalBasis",
        "__version__",
        "compute_bands",
        "load_model",
    }
    assert all(getattr(mlepi, name) is not None for name in mlepi.__all__)
    with pytest.raises(AttributeError, match="no attribute 'load_modle'; its public names are"):
        mlepi.load_modle  # noqa: B018
