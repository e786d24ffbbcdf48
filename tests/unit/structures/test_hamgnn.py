"""HamGNN's graphs: what torch_geometric pickles comes back as numbers, and nothing of it runs."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest
import scipy.linalg
import torch
from foreign_files import bloch_sum
from hamiltonian_samples import BOHR, HARTREE, real_sample
from torch_geometric.data import Data

from mlepi.errors import DataError
from mlepi.structures.hamgnn import read_hamgnn, unpickle_graphs
from mlepi.structures.programs import hamgnn_export

PADDED = {14: [0, 1, 3, 4, 5, 6, 7, 8], 19: [0, 1, 3, 4, 5, 6, 7, 8]}  # s2p2 in s3p2d1, s3p2d2


def write_graphs(path, sample, size=19, n_graphs=1, change=None):
    """As HamGNN's graph_data_gen does: Bohr, Hartree, float32, one Data per structure."""
    onsite = [not any(pair[:3]) and pair[3] == pair[4] for pair in sample.pairs.tolist()]
    rows = {True: np.flatnonzero(onsite), False: np.flatnonzero(np.logical_not(onsite))}
    rows[True] = rows[True][np.argsort(sample.pairs[rows[True], 3])]

    def pad(blocks, chosen, unit):
        padded = np.zeros((len(chosen), size, size))
        padded[np.ix_(range(len(chosen)), PADDED[size], PADDED[size])] = [
            blocks[k] / unit for k in chosen
        ]
        return torch.FloatTensor(padded.reshape(len(chosen), -1))

    edges = sample.pairs[rows[False]]
    fields = {
        "z": torch.LongTensor(sample.numbers.astype(int)),
        "cell": torch.Tensor(sample.cell[None] / BOHR),
        "total_energy": sample.energy / HARTREE,
        "pos": torch.FloatTensor(sample.positions / BOHR),
        "node_counts": torch.LongTensor([len(sample.numbers)]),
        "edge_index": torch.LongTensor(edges[:, 3:].T.copy()),
        "cell_shift": torch.LongTensor(edges[:, :3].copy()),
        "Hon": pad(sample.hamiltonian, rows[True], HARTREE),
        "Hoff": pad(sample.hamiltonian, rows[False], HARTREE),
        "Son": pad(sample.overlap, rows[True], 1.0),
        "Soff": pad(sample.overlap, rows[False], 1.0),
    }
    (change or (lambda _: None))(fields)
    np.savez(path, graph={k: Data(**fields) for k in range(n_graphs)})
    return path


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hamgnn")
    path = write_graphs(folder / "graph_data.npz", real_sample(), n_graphs=2)
    return unpickle_graphs(path, folder / "out")


def test_matrices_come_back(graphs):
    sample = real_sample()
    assert [path.name for path in graphs] == [f"graph_data_{k:05d}.hamgnn.npz" for k in (0, 1)]
    structure = read_hamgnn(graphs[0], radii={"C": 6.0 * BOHR})
    assert structure.basis.shells == {6: (0, 0, 1, 1)}
    assert structure.energy == pytest.approx(sample.energy, rel=1e-6)
    kpoint = np.array([0.21, -0.37, 0.0])
    H, S = (
        bloch_sum(structure, blocks, kpoint)
        for blocks in (structure.hamiltonian_blocks, structure.overlap_blocks)
    )
    np.testing.assert_allclose(scipy.linalg.eigvalsh(H, S), sample.eigenvalues(kpoint), atol=1e-3)


class Hostile:
    """Pickles to a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def write_pickle(path, content):
    """An object array with this pickle in it."""
    array = np.empty((), dtype=object)
    with zipfile.ZipFile(path, "w") as archive, archive.open("graph.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(content)
    return path


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((exec, "open('run','w')"), "builtins.exec"),
        ((getattr, "x", "load"), "builtins.getattr"),
        ((torch.load, "x"), "torch.serialization.load"),
        ((np.load, "x"), "numpy"),
        ((os.system, "touch run"), "posix.system"),
    ],
)
def test_a_call_ends_the_reading_and_is_not_made(tmp_path, monkeypatch, call, name):
    monkeypatch.chdir(tmp_path)
    path = write_pickle(tmp_path / "a.npz", pickle.dumps(Hostile(*call)))
    with pytest.raises(SystemExit, match=rf"^REFUSED a pickle that asks for {name}"):
        hamgnn_export.read_graphs(str(path))
    assert not (tmp_path / "run").exists()


def test_state_of_functions_cannot_be_set(tmp_path):
    """BUILD on a name that is known: functions of the reader stay what they are."""
    content = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}(U\x04evilK\x01ub."
    path = write_pickle(tmp_path / "a.npz", content)
    with pytest.raises(SystemExit, match="state of another object"):
        hamgnn_export.read_graphs(str(path))
    assert not hasattr(hamgnn_export.build_tensor, "evil")


@pytest.mark.parametrize(
    ("size", "stride", "offset"), [((3,), (4,), 0), ((2,), (-1,), 3), ((1,), (1,), 9)]
)
def test_tensors_stay_inside_of_their_numbers(size, stride, offset):
    with pytest.raises(SystemExit, match="reaches out of its numbers"):
        hamgnn_export.build_tensor(np.zeros(8), offset, size, stride)


def test_refusals(tmp_path):
    def spin(fields):
        fields["iHon"] = fields["Hon"]

    path = write_graphs(tmp_path / "graph_data.npz", real_sample(), change=spin)
    with pytest.raises(DataError, match=r"graph_data.npz: got spin in a graph; expected .*\. Rep"):
        unpickle_graphs(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="no such file"):
        unpickle_graphs(tmp_path / "b.npz", tmp_path / "out")
    with pytest.raises(DataError, match="an existing path"):
        unpickle_graphs(path, tmp_path)
    for change, text in (
        (lambda f: f.pop("Soff"), r"a graph without \['Soff'\]"),
        (lambda f: f.update(Hon=f["Hon"].numpy().astype("c8")), "an array of 'c8'"),
    ):
        write_graphs(path, real_sample(), change=change)
        with pytest.raises(SystemExit, match=text):
            hamgnn_export.read_graphs(str(path))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(SystemExit, match="no graphs of HamGNN"):
        hamgnn_export.read_graphs(str(path))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.pop("Hoff"), "a missing array"),
        (lambda d: d.update(Hoff=d["Hoff"][:-1]), "another shape"),
        (lambda d: d.update(Son=d["Son"][:, :169], Soff=d["Soff"][:, :169], Hon=d["Hon"][:, :169],
                            Hoff=d["Hoff"][:, :169]), "padded to 13 orbitals"),
        (lambda d: d["Son"].__setitem__((0, 0), 0.0), "two bases of element 6"),
        (lambda d: d["Son"].__setitem__((slice(None), 4 * 20), 0.0), "2 orbitals of a shell"),
        (lambda d: d["Son"].fill(0.0), "element 6 without orbitals"),
        (lambda d: d["edge_index"].__setitem__((0, 0), 9), "atom indices from 0 to 9"),
        (lambda d: d["Hoff"].__setitem__((0, 0), np.nan), "NaN or infinite"),
        (lambda d: d.update(cell_shift=-d["cell_shift"]), "bond direction|correlate|radii|axes"),
        (lambda d: d.update(pos=1.2 * d["pos"]), "bond direction|symmetric around|radii"),
    ],
)  # fmt: skip
def test_doctored_graphs(graphs, tmp_path, change, text):
    with np.load(graphs[0]) as file:
        data = {key: np.array(file[key]) for key in file.files}
    change(data)
    path = tmp_path / "a.hamgnn.npz"
    np.savez(path, **data)
    with pytest.raises(DataError, match=text):
        read_hamgnn(path, radii={"C": 6.0 * BOHR})
