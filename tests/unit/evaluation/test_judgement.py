"""What is judged: known errors, subsets, level shifts, data sets that lack something."""

import json
import shutil

import numpy as np
import pytest
from tiny_networks import BASIS, gaussian_overlap_table
from toy_evaluation import (
    bilayers,
    raised_electron,
    without_overlaps,
    write_checkpoint,
    write_labels,
)

from mlepi.checkpoint import load_checkpoint, load_model, save_checkpoint
from mlepi.errors import DataError, MlepiError
from mlepi.evaluation.data import adapt_labels, open_data, open_labels
from mlepi.evaluation.judgement import judge, make_plain, take_medians
from mlepi.evaluation.settings import Settings
from mlepi.evaluation.tables import number, summary_rows
from mlepi.physics.overlaps import write_overlap_table
from mlepi.structures import HamiltonianDataset
from mlepi.structures.ase_files import write_extxyz
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset_writer import write_hamiltonian_dataset
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.layer_potentials import add_to_labels
from mlepi.structures.splits import NamedSubsets, write_split

SHIFT = 0.05
ONE = Settings(kpoints=1)


@pytest.fixture(scope="module")
def electron(tmp_path_factory):
    """A network and labels that are its own matrices with the energies raised by SHIFT."""
    return raised_electron(tmp_path_factory.mktemp("electron"), SHIFT)


@pytest.fixture
def phonon(tmp_path):
    """A network and labels that are its own predictions, off by constants."""
    data = {"path": str(tmp_path / "f.extxyz"), "split": str(tmp_path / "split.json")}
    write_checkpoint(tmp_path / "p.ckpt", "phonon", data)
    predictor, labelled = load_model(tmp_path / "p.ckpt"), []
    for name, atoms in bilayers(carbon=False):
        calculator = predictor.calculator()
        calculator.calculate(atoms, ["energy", "forces", "stress"])
        found = calculator.results
        forces = found["forces"] - np.where(atoms.numbers == 7, 0.06, 0.03)[:, None]
        stress = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # Voigt's numbering
        labelled.append(
            LabelledStructure(
                name,
                atoms,
                energy=found["energy"] + 0.002 * len(atoms),
                forces=forces,
                stress=None if name == "b" else found["stress"][stress] - 0.004,
            )
        )
    write_extxyz(data["path"], labelled)
    write_split(data["split"], {"train": ["a"], "val": ["b"], "test": ["c"]}, {})
    return tmp_path


def test_a_shift_of_all_energies_is_found_and_is_no_error_of_the_gauge_free_and_aligned_measures(
    electron,
):
    result = judge(electron / "e.ckpt").result
    metrics = result["metrics"]
    assert result["data"]["path"] == "h.h5"
    assert result["data"]["split"] == "split.json"
    assert result["data"]["n_structures"] == {"test": 1}
    for window in ("2ev", "occupied", "5ev"):
        assert metrics[f"bands_{window}_rms_mev"] == pytest.approx(1e3 * SHIFT, abs=0.5)
        assert metrics[f"bands_{window}_aligned_rms_mev"] < 0.5
    assert metrics["hamiltonian_s_metric_rms_mev"] < 0.5
    assert metrics["ghosts_per_1000_k"] == 0.0
    assert 0.0 <= metrics["form_bound_mean"] < 0.1
    assert metrics["hamiltonian_mae_mev"] > 100 * metrics["hamiltonian_gauge_free_mae_mev"]
    assert metrics["overlap_max"] < 1e-6
    assert metrics["overlap_smallest_eigenvalue"] == pytest.approx(
        metrics["overlap_smallest_eigenvalue_dft"], rel=1e-3
    )
    own = result["structures"]["c"]["metrics"]
    assert result["subsets"]["test"]["metrics"].items() <= own.items()
    assert "shifted_ghosts_per_1000_k" not in metrics
    assert "The checkpoint has no level shift." in result["notes"]


def test_the_level_shift_and_the_norm_of_states_are_those_of_the_checkpoint(electron, tmp_path):
    """An offset of −SHIFT raises levels as the labels do; every state passes a norm of nothing."""
    content, weights = load_checkpoint(electron / "e.ckpt")
    found = []
    for offset, norm in ((0.0, 1e-3), (-SHIFT, 1e3)):
        shift = {"threshold": 1e-6, "strength": 1e-6, "offset": offset}
        content["metadata"] |= {"level_shift": shift, "largest_norm": norm}
        save_checkpoint(tmp_path / "own.ckpt", content, weights)
        found.append(judge(tmp_path / "own.ckpt", settings=ONE).result["metrics"])
    assert found[0]["bands_2ev_rms_mev"] == pytest.approx(1e3 * SHIFT, abs=0.5)
    assert found[0]["shifted_bands_2ev_rms_mev"] == pytest.approx(
        found[0]["bands_2ev_rms_mev"], rel=1e-3
    )
    assert found[1]["shifted_bands_2ev_rms_mev"] < 0.5
    assert found[1]["shifted_ghosts_per_1000_k"] == 0.0
    for prefix in ("", "shifted_"):
        assert found[0][f"{prefix}soft_states_kpoints_percent"] == 100.0
        assert found[1][f"{prefix}soft_states_kpoints_percent"] == 0.0


def test_labels_without_overlaps_take_those_of_the_table(electron, tmp_path):
    """The same numbers, but none about overlaps, which would compare the table with itself."""
    shutil.copy(electron / "e.ckpt", tmp_path)
    bare = [without_overlaps(s) for s in HamiltonianDataset(electron / "h.h5")]
    write_hamiltonian_dataset(tmp_path / "bare.h5", bare, {})
    given = {"split": str(electron / "split.json"), "settings": ONE}
    whole = judge(electron / "e.ckpt", **given).result
    found = judge(tmp_path / "e.ckpt", str(tmp_path / "bare.h5"), **given).result
    assert not any(name.startswith("overlap") for name in found["metrics"])
    assert "bands_from_table_rms_mev" not in found["metrics"]
    assert any("The labels hold no overlaps" in note for note in found["notes"])
    for name, value in found["metrics"].items():
        assert value == pytest.approx(whole["metrics"][name], rel=1e-3, abs=1e-2)


def test_a_checkpoint_without_table_takes_the_overlaps_of_the_labels_or_of_a_file(
    electron, tmp_path
):
    write_checkpoint(tmp_path / "e.ckpt", "electron", {}, table=False)
    data, split = str(electron / "h.h5"), str(electron / "split.json")
    found = judge(tmp_path / "e.ckpt", data, split=split, settings=ONE).result
    assert found["metrics"]["bands_2ev_rms_mev"] == pytest.approx(1e3 * SHIFT, abs=0.5)
    assert any("no overlap table" in note for note in found["notes"])
    bare = [without_overlaps(s) for s in HamiltonianDataset(data)]
    write_hamiltonian_dataset(tmp_path / "bare.h5", bare, {})
    with pytest.raises(DataError, match=r"bare.h5, a: .*neither in the data nor as a table"):
        judge(tmp_path / "e.ckpt", str(tmp_path / "bare.h5"), settings=ONE)
    write_overlap_table(tmp_path / "table.h5", gaussian_overlap_table(), {})
    table = str(tmp_path / "table.h5")
    given = {"split": split, "overlap": table, "settings": ONE}
    again = judge(tmp_path / "e.ckpt", str(tmp_path / "bare.h5"), **given).result
    assert again["metrics"]["bands_2ev_rms_mev"] == pytest.approx(1e3 * SHIFT, abs=0.5)


def test_a_network_that_counts_energies_from_the_fermi_energy(electron, tmp_path):
    """The labels are then E_F·S lower: the prediction is off by E_F − SHIFT everywhere."""
    data = {
        "path": str(electron / "h.h5"),
        "split": str(electron / "split.json"),
        "energy_zero": "fermi",
    }
    write_checkpoint(tmp_path / "e.ckpt", "electron", data)
    found = judge(tmp_path / "e.ckpt", settings=ONE).result["metrics"]
    fermi = HamiltonianDataset(electron / "h.h5")["c"].fermi_energy
    assert found["bands_2ev_rms_mev"] == pytest.approx(1e3 * abs(fermi - SHIFT), rel=1e-3)
    assert found["bands_2ev_aligned_rms_mev"] < 0.5


def test_labels_without_fermi_energy_have_no_windows(electron, tmp_path):
    bare = [
        LabelledStructure(**{**vars(s), "fermi_energy": None})
        for s in HamiltonianDataset(electron / "h.h5")
    ]
    write_hamiltonian_dataset(tmp_path / "h.h5", bare, {})
    found = judge(electron / "e.ckpt", str(tmp_path / "h.h5"), settings=ONE).result
    assert not any(name.startswith("bands_") for name in found["metrics"])
    assert found["metrics"]["ghosts_per_1000_k"] == 0.0
    assert any("no Fermi energy" in note for note in found["notes"])
    assert list(found["subsets"]) == ["all"]


def test_energies_forces_and_stresses_that_are_off_by_constants(phonon):
    result = judge(phonon / "p.ckpt").result
    mean = (3 * 30.0 + 60.0) / 4  # one atom in four is nitrogen
    root = np.sqrt((3 * 30.0**2 + 60.0**2) / 4)
    between = (60.0 - 30.0) / 2 / 2  # half the difference of the layers: one of two atoms is N
    assert result["metrics"] == pytest.approx(
        {
            "energy_mae_mev_per_atom": 2.0,
            "energy_rmse_mev_per_atom": 2.0,
            "forces_mae_mev_per_angstrom": mean,
            "forces_rmse_mev_per_angstrom": root,
            "layers_mae_mev_per_angstrom": between,
            "layers_rmse_mev_per_angstrom": between,
            "stress_mae_mev_per_cubic_angstrom": 4.0,
            "stress_rmse_mev_per_cubic_angstrom": 4.0,
            "forces_C_mae_mev_per_angstrom": 30.0,
            "forces_C_rmse_mev_per_angstrom": 30.0,
            "forces_N_mae_mev_per_angstrom": 60.0,
            "forces_N_rmse_mev_per_angstrom": 60.0,
        },
        rel=1e-3,
    )
    own = result["structures"]["c"]["metrics"]
    assert own["largest_force_error_mev_per_angstrom"] == pytest.approx(60.0, rel=1e-3)
    without = judge(phonon / "p.ckpt", settings=Settings(subsets=("val",))).result
    assert "stress_mae_mev_per_cubic_angstrom" not in without["metrics"]
    assert set(without["notes"]) == {
        "1 structures are of train or val of the split.",
        "The labels hold no stress.",
    }


def test_subsets_by_name_and_their_structures(electron, tmp_path):
    split = {"train": ["a"], "val": ["b"], "test": ["c"]}
    named = NamedSubsets(test={"again": ["c"], "6x6": ["far"]}, val={"part": ["b"]})
    write_split(tmp_path / "named.json", split, {}, named)
    predictor = load_model(electron / "e.ckpt")
    file, given = str(electron / "h.h5"), str(tmp_path / "named.json")

    def choose(subsets, most=None, extra=None):
        return open_data(predictor, file, given, extra, subsets, most)

    found = choose(())
    assert found.subsets == {"test": ["c"], "again": ["c"]}
    assert found.absent == ("far",)
    assert choose(("again", "part", "train")).subsets == {
        "again": ["c"],
        "part": ["b"],
        "train": ["a"],
    }
    assert choose(("all",)).subsets == {"all": ["a", "b", "c"]}
    assert choose(("all",), most=2).subsets == {"all": ["a", "c"]}
    assert choose(("all",)).learned == {"a", "b"}
    (labels,) = [HamiltonianDataset(file)["c"]]
    far = LabelledStructure(**{**vars(labels), "name": "far"})
    write_hamiltonian_dataset(tmp_path / "extra.h5", [far], {})
    more = choose(("6x6",), extra=str(tmp_path / "extra.h5"))
    assert more.subsets == {"6x6": ["far"]}
    assert more.find("far").path.name == "extra.h5"
    assert more.numbers == {"a": 0, "b": 1, "c": 2, "far": 3}
    with pytest.raises(DataError, match=r"no subset 'tset'; expected one of .*'test'\?"):
        choose(("tset",))
    with pytest.raises(DataError, match="6x6: got no structure; expected some in"):
        choose(("6x6",))
    with pytest.raises(DataError, match=r"--extra: got 'gone\.h5', which does not exist"):
        choose(("6x6",), extra="gone.h5")


def test_another_data_set_than_that_of_the_training_has_no_split(electron, tmp_path):
    predictor = load_model(electron / "e.ckpt")
    other = str(shutil.copy(electron / "h.h5", tmp_path / "other.h5"))
    found = open_data(predictor, other, None, None, (), None)
    assert found.split is None
    assert found.subsets == {"all": ["a", "b", "c"]}
    with pytest.raises(DataError, match="no subset 'test'; expected one of all"):
        open_data(predictor, other, None, None, ("test",), None)


def test_a_split_that_the_training_made_is_in_its_run_folder(electron, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    data = {"path": str(electron / "h.h5"), "split": None}
    file = tmp_path / "checkpoints" / "best.ckpt"
    write_checkpoint(file, "electron", data)
    settings = Settings(kpoints=0)
    assert list(judge(file, settings=settings).result["subsets"]) == ["all"]
    shutil.copy(electron / "split.json", tmp_path / "split.json")
    assert list(judge(file, settings=settings).result["subsets"]) == ["test"]


@pytest.fixture(scope="module")
def lacking(tmp_path_factory):
    """A network, labels that are its matrices less a potential between layers, and that file."""
    folder = tmp_path_factory.mktemp("lacking")
    raised_electron(folder, 0.0)
    file, own = folder / "potentials.json", np.array([0.02, -0.03])
    lowered = [
        add_to_labels(structure, {structure.name: -own})
        for structure in HamiltonianDataset(folder / "h.h5")
    ]
    write_hamiltonian_dataset(folder / "h.h5", lowered, {})
    found = {structure.name: {"potentials": list(own)} for structure in lowered}
    file.write_text(json.dumps({"structures": found}))
    data = {
        "path": str(folder / "h.h5"),
        "split": str(folder / "split.json"),
        "energy_zero": "as_computed",
        "layer_potentials": str(file),
    }
    write_checkpoint(folder / "e.ckpt", "electron", data)
    return folder


def test_labels_get_the_potentials_of_the_training(lacking, phonon, tmp_path):
    """What the training has added is added here too, to its own data set and to no other."""
    level = "bands_2ev_aligned_rms_mev"
    found = judge(lacking / "e.ckpt", settings=ONE).result
    assert found["metrics"][level] < 0.5
    assert found["data"]["layer_potentials"] == "potentials.json"
    assert "The potentials of potentials.json are added to the labels." in found["notes"]
    assert "layer potentials" in found["provenance"]["inputs"]
    plain = judge(lacking / "e.ckpt", settings=ONE, potentials="none").result
    assert plain["metrics"][level] > 5.0
    assert plain["data"]["layer_potentials"] is None
    other = str(shutil.copy(lacking / "h.h5", tmp_path / "other.h5"))
    assert judge(lacking / "e.ckpt", other, settings=ONE).result["metrics"][level] > 5.0
    given = str(lacking / "potentials.json")
    again = judge(lacking / "e.ckpt", other, settings=ONE, potentials=given).result
    assert again["metrics"][level] < 0.5
    with pytest.raises(DataError, match=r"--layer-potentials: got .* for a phonon network"):
        judge(phonon / "p.ckpt", potentials=given)
    with pytest.raises(DataError, match=r"--layer-potentials: got 'gone\.json', which does not"):
        judge(lacking / "e.ckpt", potentials="gone.json")
    (tmp_path / "fewer.json").write_text('{"structures": {}}')
    with pytest.raises(DataError, match=r"h\.h5, c: .*'c': got none.*--layer-potentials none"):
        judge(lacking / "e.ckpt", settings=ONE, potentials=str(tmp_path / "fewer.json"))


def test_the_median_structure_of_a_subset(electron):
    """One structure decides a root mean square, but no median."""
    result = judge(electron / "e.ckpt", settings=Settings(kpoints=0, subsets=("all",))).result
    group, metric = result["subsets"]["all"], "hamiltonian_mae_mev"
    each = [structure["metrics"][metric] for structure in result["structures"].values()]
    assert group["medians"][metric] == pytest.approx(sorted(each)[1])
    assert take_medians([{"a": 1.0, "b": None}, {"a": 9.0}, {"a": 2.0}]) == {"a": 2.0}
    shown = {row[0]: row[1] for row in summary_rows(result, "subsets")}
    medians = [group["medians"][f"hamiltonian_gauge_free_{m}_mev"] for m in ("mae", "rmse")]
    assert shown["  median structure"] == " / ".join(map(number, medians))


def test_data_of_another_kind_or_basis_are_refused(electron, phonon, tmp_path):
    network, forces = load_model(electron / "e.ckpt"), load_model(phonon / "p.ckpt")
    with pytest.raises(DataError, match=r"f.extxyz for a checkpoint of kind 'electron'"):
        open_labels(network, phonon / "f.extxyz")
    with pytest.raises(DataError, match=r"h.h5 for a checkpoint of kind 'phonon'"):
        open_labels(forces, electron / "h.h5")
    (structure, *_) = HamiltonianDataset(electron / "h.h5")
    wrong = OrbitalBasis({6: (0, 0, 0, 0), 7: (0, 0, 1)}, {6: 2.1, 7: 1.9}, {6: "C-s4", 7: "N"})
    changed = LabelledStructure(**{**vars(structure), "basis": wrong})
    write_hamiltonian_dataset(tmp_path / "w.h5", [changed], {})
    with pytest.raises(DataError, match=r"w.h5: got shells \(0, 0, 0, 0\) of element 6"):
        open_labels(network, tmp_path / "w.h5")
    bare = LabelledStructure("bare", structure.atoms)
    with pytest.raises(MlepiError, match="'bare': got no Hamiltonian"):
        adapt_labels(network, bare, open_data(network, None, None, None, (), None))


def test_a_basis_of_fewer_elements_is_padded(electron, tmp_path):
    """Labels of carbon alone have smaller blocks than a network of carbon and nitrogen."""
    carbon = OrbitalBasis({6: (0, 1)}, {6: 2.1}, {6: "C-s1p1"})
    assert carbon.max_orbitals < BASIS.max_orbitals
    small = [
        LabelledStructure(
            **{
                **vars(s),
                "basis": carbon,
                "hamiltonian_blocks": s.hamiltonian_blocks[:, :4, :4],
                "overlap_blocks": s.overlap_blocks[:, :4, :4],
            }
        )
        for s in HamiltonianDataset(electron / "h.h5")
    ]
    write_labels(tmp_path, small, {"train": ["a"], "val": ["b"], "test": ["c"]})
    given = {"split": str(tmp_path / "split.json"), "settings": ONE}
    found = judge(electron / "e.ckpt", str(tmp_path / "h.h5"), **given).result["metrics"]
    whole = judge(electron / "e.ckpt", settings=ONE).result["metrics"]
    assert found == pytest.approx(whole, rel=1e-6)


def test_a_checkpoint_that_does_not_name_its_data(tmp_path):
    write_checkpoint(tmp_path / "p.ckpt", "phonon", {})
    with pytest.raises(DataError, match="a checkpoint without data; expected DATA"):
        judge(tmp_path / "p.ckpt")


def test_numbers_that_json_lacks():
    plain = make_plain({"a": [np.float64(1.5), float("nan")], 3: (float("inf"), "x", True, None)})
    assert json.dumps(plain) == '{"a": [1.5, null], "3": [null, "x", true, null]}'
