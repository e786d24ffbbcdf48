"""Services get copies; what one of them cannot do ends neither the run nor the others."""

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imsave

from mlepi.tracking import Job, Trackers, list_mistakes, log_comparison, start_trackers
from mlepi.tracking.settings import KNOWN

WANDB = {
    "project": "x", "entity": None, "name": None, "group": None, "tags": [], "offline": True,
    "files": True,
}  # fmt: skip


class FakeRun:
    id = "abc"

    def __init__(self, folder):
        self.dir = str(folder / "wandb" / "offline-run-abc" / "files")
        self.logged, self.summary, self.artifacts, self.finished = {}, {}, [], False
        self.define_metric = lambda *names, **options: None

    def log(self, values):
        self.logged |= values

    def log_artifact(self, artifact):
        self.artifacts.append(artifact)

    def finish(self):
        self.finished = True


class FakeArtifact:
    def __init__(self, name, type):  # noqa: A002 - wandb's word
        self.name, self.type, self.files = name, type, {}

    def add_file(self, path, name, policy, skip_cache):
        assert (policy, skip_cache) == ("immutable", True)  # no copies in the home of the user
        self.files[name] = path


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """A wandb that keeps what it is given; its runs are in ``runs``."""
    fake = SimpleNamespace(
        runs=[],
        Settings=lambda **options: options,
        Table=lambda columns, data, allow_mixed_types: (columns, data),
        Image=lambda path: path,
        Artifact=FakeArtifact,
        plot=SimpleNamespace(line=lambda table, x, y, title: (table, x, y, title)),
    )

    def init(**options):
        (tmp_path / "wandb" / "offline-run-abc" / "files").mkdir(parents=True, exist_ok=True)
        fake.runs.append(SimpleNamespace(options=options, run=FakeRun(tmp_path)))
        return fake.runs[-1].run

    fake.init = init
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_a_run_of_a_sweep_in_wandb(tmp_path, wandb):
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"weights")
    job = Job(tmp_path, "seed=1", "train", "a sweep", {"seed": 1})
    trackers = start_trackers({"wandb": WANDB, "tensorboard": None}, job)
    trackers.log_values({"val/loss": 0.5}, 7)
    trackers.log_table("t", ("T", "v"), [[0.0, None]])
    trackers.log_curve("v/plot", ("T", "v"), [0.0, 300.0], [1.0, 0.9])
    trackers.log_summary({"test/mae": 2.0})
    trackers.log_file("checkpoint", checkpoint, "model")
    checkpoint.unlink()
    checkpoint.write_bytes(b"later ones")
    trackers.close()
    [made] = wandb.runs
    options, run = made.options, made.run
    shown = ("name", "group", "job_type", "mode", "config", "dir")
    assert [options[key] for key in shown] == [
        "seed=1", "a sweep", "train", "offline", {"seed": 1}, str(tmp_path),
    ]  # fmt: skip
    assert run.logged == {
        "val/loss": 0.5,
        "trainer/global_step": 7,
        "t": (["T", "v"], [[0.0, None]]),
        "v/plot": ((["T", "v"], [[0.0, 1.0], [300.0, 0.9]]), "T", "v", "plot"),
    }
    assert run.summary == {"test/mae": 2.0}
    [artifact] = run.artifacts
    assert artifact.type == "model"
    assert Path(artifact.files["best.ckpt"]).read_bytes() == b"weights"  # as it was
    assert run.finished


def test_names_groups_and_files_can_be_chosen(tmp_path, wandb):
    options = {**WANDB, "name": "mine", "group": "ours", "offline": False, "files": False}
    trackers = start_trackers({"wandb": options}, Job(tmp_path, "a", "infer", "sweep"))
    trackers.log_file("report", tmp_path / "missing.html", "report")
    given = wandb.runs[0].options
    assert (given["name"], given["group"], given["mode"]) == ("mine", "ours", "online")
    assert wandb.runs[0].run.artifacts == []


def test_a_comparison_is_a_run_of_its_sweep(tmp_path, wandb):
    figures = {"bars": tmp_path / "comparison.png"}
    old = {"wandb": {"project": "x", "name": "mace", "offline": True, "log_model": False}}
    log_comparison(tmp_path, old, ("row", "mae"), [["a", 1.0]], figures)
    given, run = wandb.runs[0].options, wandb.runs[0].run
    assert (given["name"], given["group"]) == ("comparison", tmp_path.name)
    assert given["job_type"] == "comparison"
    assert run.logged == {
        "comparison/table": (["row", "mae"], [["a", 1.0]]),
        "comparison/bars": str(figures["bars"]),
    }
    assert run.finished


def test_the_first_failure_is_told_and_the_rest_is_silence(tmp_path, wandb, caplog):
    trackers = start_trackers({"wandb": WANDB}, Job(tmp_path, "a", "train"))

    def fail(values):
        raise RuntimeError("no space")

    wandb.runs[0].run.log = fail
    assert trackers
    for _ in range(3):
        trackers.log_values({"x": 1.0}, 1)
    assert not trackers
    trackers.close()
    assert caplog.text.count("wandb failed (RuntimeError: no space); the run continues") == 1


@pytest.mark.parametrize(
    ("service", "options", "modules"),
    [
        ("wandb", WANDB, ["wandb"]),
        ("tensorboard", {"folder": "tb"}, ["tensorboard", "torch.utils.tensorboard"]),
    ],
)
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, caplog, service, options, modules):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    trackers = start_trackers({service: options}, Job(tmp_path, "a", "train"))
    assert not trackers
    trackers.log_values({"x": 1.0}, 1)
    [record] = caplog.records
    assert record.message.startswith(f"{service} is not installed")
    assert "logger=csv" in record.message


def test_wandb_is_not_imported_where_its_own_switch_is_off(tmp_path, wandb, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert not start_trackers({"wandb": WANDB}, Job(tmp_path, "a", "train"))
    assert wandb.runs == []
    assert caplog.text == ""


def test_nobody_listens_where_nobody_is_asked_for(tmp_path):
    assert not start_trackers({"wandb": None, "tensorboard": None}, Job(tmp_path, "a", "train"))
    Trackers({}).log_image("x", tmp_path / "missing.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"wandb": None, "tensorboard": {"folder": "tb"}}, []),
        ({"wandb": WANDB}, []),
        ("wandb", ["logger: got 'wandb'"]),
        ({"wandbs": None}, ["wandbs"]),
        ({"wandb": True}, ["logger.wandb: got True; expected settings of the service"]),
        (
            {"wandb": {"projct": "x", "offline": "yes"}, "tensorboard": {"folder": 3}},
            ["projct", "logger.wandb.offline: got 'yes'; expected true or false",
             "logger.tensorboard.folder: got 3"],
        ),
    ],
)  # fmt: skip
def test_mistakes_in_the_settings_are_named(config, expected):
    found = list_mistakes(config)
    assert len(found) == len(expected)
    for text, words in zip(found, expected, strict=True):
        assert words in text


def test_the_settings_are_those_of_the_config(config_folder):
    from omegaconf import OmegaConf

    for service, keys in KNOWN.items():
        options = OmegaConf.to_container(OmegaConf.load(config_folder / f"{service}.yaml"))
        assert list(options[service]) == list(keys)
        assert list_mistakes(options) == []


@pytest.fixture
def config_folder():
    from mlepi.project_files import CONFIG_FOLDER

    return CONFIG_FOLDER / "logger"


def test_tensorboard_shows_all_of_it(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    job = Job(tmp_path, "a", "train", config={"seed": 1, "model": {"cutoff": None}})
    trackers = start_trackers({"tensorboard": {"folder": "events"}}, job)
    imsave(tmp_path / "x.png", np.zeros((4, 6, 3)))
    trackers.log_values({"val/loss": 0.5}, 7)
    trackers.log_table("v/table", ("T", "v"), [[300.0, None]])
    trackers.log_curve("v/plot", ("T", "v"), [0.0, 300.0], [1.0, 0.9])
    trackers.log_image("figures/x", tmp_path / "x.png")
    trackers.log_file("checkpoint", tmp_path / "best.ckpt", "model")
    trackers.log_summary({"test/mae": 2.0, "test/none": float("nan")})
    assert trackers  # nothing has failed
    trackers.close()
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    tags = events.Tags()
    assert {"val/loss", "v/plot", "test/mae"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("v/plot")] == [0, 300]
    assert tags["images"] == ["figures/x"]
    texts = {name.removesuffix("/text_summary") for name in tags["tensors"]}
    assert {"config", "v/table", "files/checkpoint"} <= texts
    [table] = events.Tensors("v/table/text_summary")
    assert b"| 300 | \xe2\x80\x93 |" in table.tensor_proto.string_val[0]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs wandb")
def test_wandb_itself_takes_all_of_it_offline(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    imsave(tmp_path / "x.png", np.zeros((4, 6, 3)))
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    job = Job(tmp_path / "run", "one", "infer", "sweep of cells", {"seed": 1})
    trackers = start_trackers({"wandb": WANDB}, job)
    trackers.log_values({"val/loss": 0.5}, 7)
    trackers.log_table("v/table", ("T", "v"), [[300.0, None], [0.0, 1.0]])
    trackers.log_curve("v/plot", ("T", "v"), [0.0, 300.0], [1.0, 0.9])
    trackers.log_image("figures/x", tmp_path / "x.png")
    trackers.log_summary({"v": 1.0})
    trackers.log_file("checkpoint", tmp_path / "best.ckpt", "model")
    assert trackers, caplog.text
    trackers.close()
    assert "failed" not in caplog.text
    [folder] = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert (folder / "artifacts" / "best.ckpt").read_bytes() == b"weights"
    media = {path.suffix for path in (folder / "files" / "media").rglob("*.*")}
    assert media == {".png", ".json"}
    [tables] = (folder / "files" / "media" / "table" / "v").glob("table_*.json")
    assert json.loads(tables.read_text())["data"] == [[300.0, None], [0.0, 1.0]]
    [file] = folder.glob("run-*.wandb")
    words = (b"sweep of cells", b"checkpoint-", b"val/loss")
    until = time.monotonic() + 20.0  # its service closes the file in its own time
    while not all(text in file.read_bytes() for text in words):
        assert time.monotonic() < until, file.read_bytes()
        time.sleep(0.05)
