"""The labelled_bands stage: which structures it takes, and a network that is its own label."""

import json

import numpy as np
import pytest
import toy_pipelines
from toy_pipelines import execute

from mlepi.errors import ConfigError, DataError, StructureError
from mlepi.exports.labels import collect_labels
from mlepi.observables.labelled_bands import stage
from mlepi.observables.labelled_bands.stage import LabelledBandsStage
from mlepi.pipeline.sources import Source
from mlepi.reference_systems import TightBinding
from mlepi.structures import HamiltonianDataset, build_graphene
from mlepi.structures.dataset_writer import write_hamiltonian_dataset
from mlepi.structures.layer_potentials import add_to_labels
from mlepi.structures.splits import NamedSubsets, write_split

SETTINGS = {
    "structures": None,
    "split": None,
    "subset": None,
    "route": ["GAMMA", "M"],
    "spacing": 2.0,
    "window": 3.0,
    "line_width": 0.05,
}
NETWORK = {"_target_": "mlepi.reference_systems.TightBinding", "orbitals": "s"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three displaced 2×2 bilayers, a, b and c, with H and S of the network itself."""
    model = TightBinding(orbitals="s", orthogonal=True)
    labelled = []
    for number, name in enumerate("abc"):
        atoms = build_graphene(stacking="AB", spacing=3.35).repeat((2, 2, 1))
        rng = np.random.default_rng(number)
        atoms.positions += rng.normal(0.0, 0.03, atoms.positions.shape)
        matrices = model.hamiltonian(atoms), model.overlap(atoms)
        labelled.append(collect_labels(name, atoms, *matrices, fermi_energy=0.0))
    path = tmp_path_factory.mktemp("labels") / "own.h5"
    write_hamiltonian_dataset(path, labelled, {})
    return str(path)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    path = tmp_path_factory.mktemp("splits") / "split.json"
    parts = {"train": ["a"], "val": ["b"], "test": ["c"]}
    write_split(path, parts, {}, NamedSubsets(test={"large": ["c", "elsewhere"], "far": ["x"]}))
    return str(path)


def make_run(folder, data, supercell=(2, 2, 1), **settings):
    return toy_pipelines.make_run(
        folder,
        stages={"labelled_bands": LabelledBandsStage(data=data, **{**SETTINGS, **settings})},
        supercell=supercell,
        electron=Source("electron", {**NETWORK, "orthogonal": True}),
        dtype="float64",
    )


def names_of(run):
    execute(run, ["labelled_bands"])
    return [sample.name for sample in run.read("labelled_bands").samples.values()]


def test_a_network_is_its_own_label(tmp_path, data):
    run = make_run(tmp_path, data, structures=["b"])
    said = execute(run, ["labelled_bands"])
    record = run.read("labelled_bands")
    (sample,) = record.samples.values()
    assert (sample.name, sample.n_atoms, record.data) == ("b", 16, "own.h5")
    # blocks are stored in single precision
    assert sample.plain.rms == pytest.approx(0.0, abs=1e-6)
    assert sample.labels == ("Γ", "M")
    assert sample.spectrum.shape == (len(sample.kpoints), len(sample.energies))
    assert "b 0.0 meV (0.0 aligned), 0 ghosts" in said


def test_labels_get_the_potentials_of_the_training(tmp_path, data, monkeypatch):
    """What a training has added to the labels is added here, and told."""
    own, file = np.array([0.02, -0.03]), tmp_path / "potentials.json"
    lacking = [add_to_labels(s, {s.name: -own}) for s in HamiltonianDataset(data)]
    write_hamiltonian_dataset(tmp_path / "lacking.h5", lacking, {})
    found = {structure.name: {"potentials": list(own)} for structure in lacking}
    file.write_text(json.dumps({"structures": found}))

    def compare(folder):
        run = make_run(tmp_path / folder, str(tmp_path / "lacking.h5"), structures=["b"])
        execute(run, ["labelled_bands"])
        return run.read("labelled_bands")

    plain = compare("plain")
    assert plain.potentials is None
    assert plain.samples["0"].plain.rms > 1e-3
    monkeypatch.setattr(stage, "find_own_potentials", lambda model, path: file)
    record = compare("added")
    assert record.potentials == "potentials.json"
    assert record.samples["0"].plain.rms == pytest.approx(0.0, abs=1e-6)


def test_all_or_those_of_a_subset_are_taken(tmp_path, data, split):
    assert names_of(make_run(tmp_path / "all", data)) == ["a", "b", "c"]
    chosen = {"split": split, "subset": "val"}
    assert names_of(make_run(tmp_path / "val", data, **chosen)) == ["b"]
    chosen["subset"] = "large"  # a named test subset; one of it lies in another file
    assert names_of(make_run(tmp_path / "large", data, **chosen)) == ["c"]
    chosen["subset"] = "far"
    with pytest.raises(DataError, match=r"own.h5: got none of 'far'"):
        names_of(make_run(tmp_path / "far", data, **chosen))
    chosen["subset"] = "larg"
    with pytest.raises(DataError, match=r"subset: got 'larg'; expected one of .*large"):
        names_of(make_run(tmp_path / "larg", data, **chosen))


def test_what_cannot_be_compared_is_refused(tmp_path, data, split):
    with pytest.raises(ConfigError, match=r"stage.labelled_bands.data: got null"):
        names_of(make_run(tmp_path / "none", None))
    with pytest.raises(ConfigError, match=r"names, or a subset of a split, or neither"):
        make_run(tmp_path, data, subset="val")
    with pytest.raises(ConfigError, match=r"names, or a subset of a split, or neither"):
        make_run(tmp_path, data, structures=["a"], split=split, subset="val")
    with pytest.raises(ConfigError, match=r"window 0.0 eV"):
        make_run(tmp_path, data, window=0.0)
    with pytest.raises(DataError, match=r"got the name 'd'"):
        names_of(make_run(tmp_path / "d", data, structures=["d"]))
    with pytest.raises(StructureError, match=r"different sites among 16 atoms"):
        names_of(make_run(tmp_path / "cell", data, supercell=(3, 3, 1)))
