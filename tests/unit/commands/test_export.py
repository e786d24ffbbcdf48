"""``mlepi export``: from a run folder, a file, or a structure with networks to every format."""

import json

import ase.io
import h5py
import numpy as np
import phonopy
import pytest
import scipy.linalg
from foreign_files import bloch_sum

from mlepi.command_line import compose_config
from mlepi.commands.main import main
from mlepi.exports import collect_labels
from mlepi.observables import all_stages
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.pipeline import SampleKey, infer
from mlepi.pipeline.run_folder import find_matrices, list_samples, open_run
from mlepi.project_files import CONFIG_FOLDER
from mlepi.reference_systems import TightBinding
from mlepi.structures import build_graphene, read_deeph

ELECTRON = "{_target_: mlepi.reference_systems.TightBinding, orbitals: sp, orthogonal: false}"
SETTINGS = (
    "phonon=toy",
    f"electron={ELECTRON}",
    "temperature=[0,300]",
    "n_samples=2",
    "supercell=[3,3,1]",
    "structure.stacking=monolayer",
    "stage.phonon.dos_mesh=[3,3,1]",
    "stage.sampling.interlayer_mesh=[3,3,1]",
    "report=false",
    "dtype=float64",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    names = "stage.run=[sampling,hamiltonian]"
    return infer(compose_config(CONFIG_FOLDER, "infer", [*SETTINGS, names]), folder, all_stages())


@pytest.fixture(scope="module")
def folder(run):
    return str(run.store.folder)


def levels(labels, kpoint):
    blocks = labels.hamiltonian_blocks, labels.overlap_blocks
    return scipy.linalg.eigvalsh(*(bloch_sum(labels, b, kpoint) for b in blocks))


def test_samples_of_a_run_have_its_levels(run, folder, tmp_path, capsys):
    """H and S of a sample are predicted again, and are those of the ensemble."""
    out = tmp_path / "deeph"
    arguments = ["--out", str(out), "--samples", "1", "--temperature", "300"]
    assert main(["export", "deeph", folder, *arguments]) == 0
    shown = capsys.readouterr().out
    assert "E_F = " in shown
    assert f"{out}: C18, 72 orbitals" in shown
    [sample] = run.ensemble().predict([SampleKey(1, 300.0)])
    expected = collect_labels("x", sample.atoms, sample.predicted, sample.overlap)
    found, kpoint = read_deeph(out), np.array([0.1, 0.3, 0.0])
    assert found.fermi_energy == pytest.approx(-0.5, abs=3.0)
    np.testing.assert_allclose(levels(found, kpoint), levels(expected, kpoint), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.atoms.positions, sample.atoms.positions, atol=1e-9)


def test_several_samples_go_into_a_folder(folder, tmp_path):
    out = tmp_path / "csr"
    arguments = ["--samples", "all", "--temperature", "0", "--fermi-energy", "0.25"]
    assert main(["export", "csr", folder, "--out", str(out), *arguments]) == 0
    names = ["sample_000000_T0", "sample_000001_T0"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert json.loads((out / names[0] / "orbitals.json").read_text())["fermi_energy"] == 0.25


def test_files_of_a_run_and_of_other_programs_are_sources(folder, tmp_path, capsys):
    """hamiltonian.h5 → DeepH → SciPy: the same levels at each end."""
    first, second = tmp_path / "deeph", tmp_path / "csr"
    source = f"{folder}/hamiltonian.h5"
    assert main(["export", "deeph", source, "--out", str(first), "--valence", "C=4"]) == 0
    assert main(["export", "csr", str(first), "--out", str(second)]) == 0
    assert capsys.readouterr().out.count("C2, 8 orbitals") == 2
    told = json.loads((second / "orbitals.json").read_text())
    assert told["fermi_energy"] == read_deeph(first).fermi_energy


def test_force_constants_of_a_run(run, folder, tmp_path):
    path = tmp_path / "phonopy_params.yaml"
    assert main(["export", "phonopy", folder, "--out", str(path)]) == 0
    points = np.array([[0.1, 0.2, 0.0], [0.5, 0.0, 0.0]])
    found = phonopy.load(path, log_level=0).run_qpoints(points).frequencies
    expected = compute_frequencies(run.read("phonon").build_force_constants(), points)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_structures_with_networks_are_sources(tmp_path, capsys):
    atoms = build_graphene(stacking="monolayer")
    source, csr, path = (str(tmp_path / name) for name in ("POSCAR", "csr", "p.yaml"))
    ase.io.write(source, atoms, format="vasp", direct=True)
    networks = ["--electron", "toy", "--valence", "C=4"]
    assert main(["export", "csr", source, "--out", csr, *networks]) == 0
    shown = capsys.readouterr().out
    assert "level shift" not in shown
    told = json.loads((tmp_path / "csr" / "orbitals.json").read_text())
    assert told["fermi_energy"] == pytest.approx(0.0, abs=0.05)  # p_z at its Dirac point
    assert (
        main(
            ["export", "phonopy", source, "--out", path, "--phonon", "toy", "--supercell", "2,2,1"]
        )
        == 0
    )
    assert len(phonopy.load(path, log_level=0).supercell) == 8
    assert "of the 2×2×1 supercell" in capsys.readouterr().out


def test_structures_of_a_run(run, folder, tmp_path):
    path = tmp_path / "samples.extxyz"
    assert main(["export", "extxyz", folder, "--out", str(path)]) == 0
    frames = ase.io.read(path, ":")
    keys = list_samples(open_run(folder, all_stages()))
    assert [(f.info["sample"], f.info["temperature"]) for f in frames] == keys
    for atoms, key in zip(frames, keys, strict=True):
        np.testing.assert_allclose(
            atoms.positions, run.ensemble().displaced(key).positions, atol=1e-7
        )
    out = tmp_path / "rest"
    assert main(["export", "poscar", folder, "--out", str(out), "--samples", "rest"]) == 0
    assert len(ase.io.read(out / "rest" / "POSCAR")) == 2


def test_couplings_are_slopes_of_the_levels(run, folder, tmp_path, capsys):
    """At q = 0, dE_n/du of a sublattice is the diagonal of the adiabatic matrix element."""
    path = tmp_path / "g.h5"
    points = ["--kpoints", "0.13,0.21,0", "--qpoints", "0,0,0", "0.3333333333333333,0,0"]
    arguments = ["--out", str(path), "--bands", "0", "7", "--real-space", "--step", "1e-3"]
    assert main(["export", "couplings", folder, *points, *arguments]) == 0
    assert "1 k-points, 2 q-points, 8 bands, 6 modes; 3 without a positive" in (
        capsys.readouterr().out
    )
    atoms, model = run.read("structure").atoms, TightBinding(orthogonal=False)
    kpoint, step = np.array([0.13, 0.21, 0.0]), 1e-4

    def moved(sign, axis):
        other = atoms.copy()
        other.positions[1, axis] += sign * step
        return levels(
            collect_labels("x", other, model.hamiltonian(other), model.overlap(other)), kpoint
        )

    slopes = np.array([(moved(1, a) - moved(-1, a)) / (2 * step) for a in range(3)])
    with h5py.File(path) as file:
        found = file["adiabatic"][0, 0, 3:].diagonal(axis1=1, axis2=2)
        np.testing.assert_allclose(found, slopes, rtol=0, atol=4e-4)  # of up to 22
        axes = [dim.label for dim in file["coupling"].dims]
        assert axes == ["q", "k", "mode", "m", "n"]
        assert file["coupling"].attrs["unit"] == "eV"
        g, moving = file["coupling"][()], file["moving"][()]
        assert np.isnan(g[:, 0][~moving]).all()
        assert np.isfinite(g[:, 0][moving]).all()
        # the same from the modes, with the zero-point amplitude of each
        w, e = file["frequencies"][1], file["eigenvectors"][1]
        masses = np.repeat(file["masses"][()], 3)
        amplitude = np.sqrt(0.00418016 / (2 * 4.135667696e-3 * w))  # ħ²/amu over 2hν
        by_mode = np.einsum("c,cv,cmn->vmn", masses**-0.5, e, file["deformation_potential"][1, 0])
        np.testing.assert_allclose(g[1, 0], amplitude[:, None, None] * by_mode, rtol=1e-5)
        assert file["real_space/hamiltonian/derivatives"].dims[2].label == "cell"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["csr", "nowhere", "--out", "x"], "nowhere: got no such file or folder"),
        (["phonopy", "nowhere", "--out", "x"], "or a network of forces and a supercell. Add --ph"),
        (["couplings", "nowhere", "--bands", "0", "1", "--out", "x"], "nowhere: got no run folder"),
        (["extxyz", "RUN", "--samples", "7", "--out", "x"], "--samples: got [7]; expected 0 to 1"),
        (["extxyz", "RUN", "--samples", "a", "--out", "x"], "rest, all, or numbers such as 0,3-5"),
        (["extxyz", "RUN", "--temperature", "50", "--out", "x"], "--temperature: got 50 K; exp"),
        (["csr", "RUN", "--out", "RUN"], "got an existing path; expected a new file or folder"),
        (["couplings", "RUN", "--bands", "0", "9", "--out", "x"], "--bands: got 0 to 9; expected"),
        (["couplings", "RUN", "--bands", "0", "1", "--kpoints", "2x2", "--out", "x"], "--kpoints"),
        (["poscar", "RUN/results.h5", "--samples", "1", "--out", "x"], "expected a run folder or"),
    ],
)
def test_mistakes_get_one_message(folder, tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *(word.replace("RUN", folder) for word in arguments)]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert text in shown
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_another_network_is_not_taken_for_that_of_the_run(run, folder, monkeypatch):
    monkeypatch.setattr("mlepi.pipeline.sources.Source.fingerprint", lambda self: "other")
    with pytest.raises(Exception, match="which has changed since the run; expected the network"):
        find_matrices(open_run(folder, all_stages()), SampleKey(0, 0.0))
