"""Every number of a judgement of Hamiltonians against an explicit formula on one structure."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from tiny_networks import BASIS
from toy_evaluation import bilayers, label, write_checkpoint, write_labels

from mlepi.checkpoint import load_model
from mlepi.evaluation.data import open_data
from mlepi.evaluation.judgement import judge
from mlepi.evaluation.settings import Settings
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.shifted_matrix import shift_matrix
from mlepi.structures import HamiltonianDataset
from mlepi.training.metric_loss import MEASURING, draw_kpoints

NAMES = ("a", "b", "c", "x_p", "x_m")
SHIFT = {"threshold": 0.01, "strength": 2.0, "offset": 0.003}
POINTS = ((0.0, 0.0, 0.0), (0.1, 0.3, 0.2))
WINDOW = (-1.5, 0.5)
NORM = 3.0


def noise(h, s):
    """Random changes of H, and 6 eV on every orbital: predicted levels are ghosts beside those.

    All levels rise by at least 6 eV over the largest eigenvalue of S, which is near 3.
    """
    random = np.random.default_rng(len(h)).normal(scale=0.05, size=h.shape)
    onsite = np.isclose(s[:, 0, 0], 1.0)[:, None, None]
    return np.where(h != 0.0, random, 0.0) + 6.0 * onsite * np.eye(s.shape[1]) * s


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("electron")
    data = {"path": str(folder / "h.h5"), "split": str(folder / "split.json")}
    known = {"level_shift": SHIFT, "largest_norm": NORM}
    write_checkpoint(folder / "e.ckpt", "electron", data, **known)
    predictor = load_model(folder / "e.ckpt")
    labelled = [
        label(predictor, name, atoms, noise) for name, atoms in bilayers(NAMES, carbon=False)
    ]
    split = {"train": ["a"], "val": ["b"], "test": ["c"]}
    write_labels(folder, labelled, split, {"pairs": ["x_p", "x_m"]})
    return folder


@pytest.fixture(scope="module")
def found(folder):
    settings = Settings(kpoints=POINTS, window=WINDOW, bin_width=0.7)
    return judge(folder / "e.ckpt", settings=settings).result


class Plain:
    """Matrices of one structure as dictionaries of blocks, by pair."""

    def __init__(self, folder, name):
        self.predictor = load_model(folder / "e.ckpt")
        self.labels = HamiltonianDataset(folder / "h.h5")[name]
        self.atoms = self.labels.atoms
        self.numbers = self.atoms.numbers
        predicted = self.predictor.hamiltonian(self.atoms)
        edges = (self.labels.edge_index, self.labels.edge_cell_shift)
        self.label = self.collect(*edges, self.labels.hamiltonian_blocks)
        self.overlap = self.collect(*edges, self.labels.overlap_blocks)
        self.table = self.collect(*self._parts(self.predictor.overlap(self.atoms)))
        self.predicted = self.collect(*self._parts(predicted))
        self.error = {
            key: block - self.label.get(key, np.zeros_like(block))
            for key, block in self.predicted.items()
        }

    @staticmethod
    def _parts(matrix):
        return matrix.edge_index, matrix.edge_cell_shift, matrix.blocks

    def collect(self, index, shift, blocks):
        sizes = [BASIS.n_orbitals(int(z)) for z in self.numbers]
        return {
            (int(j), int(i), *map(int, r)): np.array(block[: sizes[i], : sizes[j]], dtype=float)
            for j, i, r, block in zip(*index, shift, blocks, strict=True)
        }

    def distance(self, key):
        j, i, *r = key
        vector = self.atoms.positions[j] + r @ self.atoms.cell.array - self.atoms.positions[i]
        return float(np.linalg.norm(vector))

    def part(self, key):
        j, i, *r = key
        if j == i and not any(r):
            return "onsite"
        layer = self.atoms.arrays["layer"]
        return "intra" if layer[i] == layer[j] else "inter"

    def gauge_free(self):
        keys = list(self.error)
        error = np.concatenate([self.error[key].ravel() for key in keys])
        overlap = np.concatenate([self.overlap[key].ravel() for key in keys])
        mu = scipy.optimize.minimize_scalar(
            lambda mu: np.abs(error - mu * overlap).sum(),
            bounds=(-10.0, 10.0),
            method="bounded",
            options={"xatol": 1e-12},
        ).x
        return {key: self.error[key] - mu * self.overlap[key] for key in keys}

    def bloch(self, blocks, k):
        first = np.concatenate([[0], np.cumsum([BASIS.n_orbitals(int(z)) for z in self.numbers])])
        matrix = np.zeros((first[-1], first[-1]), dtype=complex)
        for (j, i, *r), block in blocks.items():
            phase = np.exp(2j * np.pi * np.dot(k, r))
            matrix[first[i] : first[i + 1], first[j] : first[j + 1]] += phase * block
        return matrix

    def levels(self, hamiltonian, overlap):
        return np.array(
            [
                scipy.linalg.eigh(
                    self.bloch(hamiltonian, k), self.bloch(overlap, k), eigvals_only=True
                )
                for k in POINTS
            ]
        )


@pytest.fixture(scope="module")
def plain(folder):
    return Plain(folder, "c")


def mae_and_rmse(values):
    x = 1e3 * np.concatenate([np.ravel(value) for value in values])
    return np.abs(x).mean(), np.sqrt((x**2).mean())


@pytest.mark.parametrize("gauge", ["", "_gauge_free"])
def test_blocks_by_type(found, plain, gauge):
    errors = plain.gauge_free() if gauge else plain.error
    for part in ("", "onsite", "intra", "inter"):
        chosen = [x for key, x in errors.items() if part in ("", plain.part(key))]
        mae, rmse = mae_and_rmse(chosen)
        name = f"hamiltonian{'_' * bool(part)}{part}{gauge}"
        assert found["metrics"][f"{name}_mae_mev"] == pytest.approx(mae, rel=1e-4)
        assert found["metrics"][f"{name}_rmse_mev"] == pytest.approx(rmse, rel=1e-4)
    assert found["metrics"]["hamiltonian_mae_mev"] > 10.0


def test_blocks_by_pair_of_shells_and_of_orbitals(found, plain):
    errors = plain.gauge_free()
    shells = {6: {"s1": [0], "p1": [1, 2, 3]}, 7: {"s1": [0], "s2": [1], "p1": [2, 3, 4]}}
    values, single = {}, {}
    for key, block in errors.items():
        j, i = (int(plain.numbers[atom]) for atom in key[:2])
        for row, rows in shells[i].items():
            for column, columns in shells[j].items():
                names = frozenset(
                    [f"{'C' if i == 6 else 'N'} {row}", f"{'C' if j == 6 else 'N'} {column}"]
                )
                values.setdefault((names, plain.part(key)), []).append(block[np.ix_(rows, columns)])
        if (i, j) == (6, 7) and plain.part(key) == "inter":
            single.setdefault("C p1 z, N s2", []).append(block[2, 1])
    seen = set()
    for row in found["shells"]:
        names = frozenset(row["pair"].split("–"))
        assert names not in seen
        seen.add(names)
        every = []
        for part in ("onsite", "intra", "inter"):
            own = values.get((names, part), [])
            assert (part in row) == bool(own)
            every += own
            if own:
                mae, rmse = mae_and_rmse(own)
                assert row[part]["mae_mev"] == pytest.approx(mae, rel=1e-4)
                assert row[part]["rmse_mev"] == pytest.approx(rmse, rel=1e-4)
                assert row[part]["n_elements"] == sum(x.size for x in own)
        assert row["all"]["mae_mev"] == pytest.approx(mae_and_rmse(every)[0], rel=1e-4)
    assert seen == {names for names, _ in values}
    (table,) = [
        t
        for t in found["orbitals"]
        if t["part"] == "inter" and t["rows"][0] == "C s1" and t["columns"][0] == "N s1"
    ]
    place = table["rows"].index("C p1 z"), table["columns"].index("N s2")
    expected = mae_and_rmse(single["C p1 z, N s2"])
    assert table["mae_mev"][place[0]][place[1]] == pytest.approx(expected[0], rel=1e-4)
    assert table["rmse_mev"][place[0]][place[1]] == pytest.approx(expected[1], rel=1e-4)


def test_blocks_by_distance(found, plain):
    errors = plain.gauge_free()
    for row in found["distances"]:
        low, high = row["distance"]
        chosen = [
            key
            for key in errors
            if plain.part(key) == row["part"]
            and (row["part"] == "onsite" or low <= plain.distance(key) < high)
        ]
        mae, rmse = mae_and_rmse([errors[key] for key in chosen])
        assert row["mae_mev"] == pytest.approx(mae, rel=1e-4)
        assert row["rmse_mev"] == pytest.approx(rmse, rel=1e-4)
        size = mae_and_rmse([plain.label[key] for key in chosen])[0]
        assert row["mean_absolute_label_mev"] == pytest.approx(size, rel=1e-4)
    assert sum(row["n_elements"] for row in found["distances"]) == sum(
        block.size for block in errors.values()
    )


def test_the_metric_of_s(found, plain, folder):
    predictor = load_model(folder / "e.ckpt")
    number = open_data(predictor, None, None, None, (), None).numbers["c"]
    assert number == 2  # of train, val and test in turn, as the training counts
    k = draw_kpoints(number, 1, MEASURING["seed"])[0].numpy()
    ratio = np.linalg.solve(plain.bloch(plain.overlap, k), plain.bloch(plain.error, k))
    square = np.trace(ratio @ ratio) - np.trace(ratio) ** 2 / len(ratio)
    expected = 1e3 * np.sqrt(square.real / len(ratio))
    assert found["metrics"]["hamiltonian_s_metric_rms_mev"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("prefix", ["", "shifted_"])
def test_levels_ghosts_and_soft_states(found, plain, prefix):
    metrics = found["metrics"]
    reference, fermi = plain.levels(plain.label, plain.overlap), plain.labels.fermi_energy
    added = np.zeros((len(POINTS), *plain.bloch(plain.table, POINTS[0]).shape))
    if prefix:
        shift = plain.predictor.level_shift
        assert shift.strength == SHIFT["strength"]
        overlap: BlockMatrix = plain.predictor.overlap(plain.atoms)
        added = shift_matrix(plain.atoms, overlap, shift).dense_many(POINTS)
    solved = [
        scipy.linalg.eigh(plain.bloch(plain.predicted, k) + extra, plain.bloch(plain.table, k))
        for k, extra in zip(POINTS, added, strict=True)
    ]
    levels = np.array([values for values, _ in solved])
    norms = np.array([(np.abs(states) ** 2).sum(0) for _, states in solved])
    for name, low, high in (
        ("2ev", -2.0, 2.0),
        ("occupied", -np.inf, 0.0),
        ("5ev", -np.inf, 5.0),
        ("window", *WINDOW),
    ):
        inside = (reference - fermi >= low) & (reference - fermi <= high)
        x = 1e3 * (levels - reference)[inside]
        rms = metrics[f"{prefix}bands_{name}_rms_mev"]
        assert rms == pytest.approx(np.sqrt((x**2).mean()), rel=1e-3)
        aligned = metrics[f"{prefix}bands_{name}_aligned_rms_mev"]
        assert aligned == pytest.approx(np.sqrt(((x - np.median(x)) ** 2).mean()), rel=1e-3)
    ghosts = (levels < reference.min() - 1.0).sum(1)
    assert ghosts.sum() > 0
    assert metrics[f"{prefix}ghosts_per_1000_k"] == 1e3 * ghosts.mean()
    assert metrics[f"{prefix}ghosts_kpoints_percent"] == 100.0 * (ghosts > 0).mean()
    soft = ((levels <= fermi + 2.0) & (norms > 2.0 * NORM)).sum(1)
    assert 0 < soft.sum() < levels.size
    assert metrics[f"{prefix}soft_states_per_1000_k"] == 1e3 * soft.mean()
    depth = found["structures"]["c"]["metrics"][f"{prefix}lowest_level_from_dft_ev"]
    assert depth == pytest.approx(levels.min() - reference.min(), abs=1e-3)


def test_the_form_bound(found, plain):
    lowest = plain.levels(plain.label, plain.overlap).min()
    bounds = []
    for k in POINTS:
        label, overlap = plain.bloch(plain.label, k), plain.bloch(plain.table, k)
        raised = label - (lowest - 1.0) * overlap
        ratio = np.linalg.solve(raised, label - plain.bloch(plain.predicted, k))
        bounds.append(np.linalg.eigvals(ratio).real.max())
    assert found["metrics"]["form_bound_mean"] == pytest.approx(np.mean(bounds), rel=1e-3)


def test_slopes_between_paired_displacements(found, folder):
    plus, minus = Plain(folder, "x_p"), Plain(folder, "x_m")
    sums = {}
    for key in set(plus.error) | set(minus.error):
        j, i = key[:2]
        zero = np.zeros([BASIS.n_orbitals(int(plus.numbers[atom])) for atom in (i, j)])
        kept = [p.label[key] if key in p.error else zero for p in (plus, minus)]
        errors = [p.error.get(key, zero) for p in (plus, minus)]
        part = plus.part(key)
        for name in ("", f"_{part}"):
            own = sums.setdefault(name, np.zeros(2))
            own += [((errors[0] - errors[1]) ** 2).sum(), ((kept[0] - kept[1]) ** 2).sum()]
    for name, (error, change) in sums.items():
        expected = np.sqrt(error / change)
        assert found["metrics"][f"slope{name}_error"] == pytest.approx(expected, rel=1e-3)
        subset = found["subsets"]["pairs"]["metrics"]
        assert subset[f"slope{name}_error"] == pytest.approx(expected, rel=1e-3)
    assert "slope_error" not in found["subsets"]["test"]["metrics"]
