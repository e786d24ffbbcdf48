"""The script that compares a thermal supercell with its DFT bands."""

import numpy as np
import pytest
import sample_bands as script

from mlepi.errors import StructureError
from mlepi.physics.bands.lattice import build_k_path, hexagonal_points
from mlepi.reference_systems import TightBinding
from mlepi.structures import build_graphene

REPEATS = (3, 3, 1)


@pytest.fixture
def supercell():
    return build_graphene(stacking="AB", spacing=3.35).repeat(REPEATS)


def path_of(atoms):
    primitive = atoms.cell.array / np.array(REPEATS)[:, None]
    return build_k_path(hexagonal_points(primitive), script.ROUTE, primitive, 0.5)


def test_sites_are_found_in_any_order_of_displaced_atoms(supercell):
    rng = np.random.default_rng(0)
    order = rng.permutation(len(supercell))
    moved = supercell[order]
    moved.positions += rng.uniform(-0.2, 0.2, moved.positions.shape)
    moved.wrap()  # whatever crosses the boundary comes back on the other side
    found = script.find_sites(moved, REPEATS)
    assert found.supercell == REPEATS
    # atoms of one site are those that were of one site before, numbered anew
    before = order % 4
    pairs = {(int(a), int(b)) for a, b in zip(found.primitive_atoms, before, strict=True)}
    assert len(pairs) == 4
    with pytest.raises(StructureError, match=r"got \d+ different sites among 36 atoms"):
        script.find_sites(moved, (2, 2, 1))


def test_an_undisplaced_cell_unfolds_to_the_bands_of_the_primitive_one(supercell):
    model = TightBinding(orbitals="sp", orthogonal=False)
    rng = np.random.default_rng(1)
    atoms = supercell[rng.permutation(len(supercell))]
    path = path_of(atoms)
    matrices = model.hamiltonian(atoms), model.overlap(atoms)
    bands = script.solve_path(
        matrices, script.find_sites(atoms, REPEATS), path.kpoints, unfolded=True
    )
    primitive = build_graphene(stacking="AB", spacing=3.35)
    small = model.hamiltonian(primitive), model.overlap(primitive)
    np.testing.assert_allclose(bands.weights.sum(axis=1), 16.0, atol=1e-9)
    for kpoint, levels, weights in zip(path.kpoints, bands.levels, bands.weights, strict=True):
        expected = script.solve_bands(*(matrix.dense(kpoint) for matrix in small))
        # moments of the weighted levels, since degenerate states share their weight
        for power in (1, 2, 3):
            np.testing.assert_allclose(weights @ levels**power, np.sum(expected**power), rtol=1e-9)
    plain = script.solve_path(
        matrices, script.find_sites(atoms, REPEATS), path.kpoints, unfolded=False
    )
    np.testing.assert_allclose(plain.levels, bands.levels, atol=1e-9)
    assert plain.weights.size == 0


def test_errors_are_those_of_levels_near_the_fermi_energy():
    exact = np.array([[-20.0, -1.0, 0.5, 1.5, 9.0]] * 2)
    found = exact + np.array([[0.5, 0.01, 0.01, 0.03, 2.0]] * 2)
    found[1, 0] = -22.0
    errors = script.measure_errors(exact, found, 0.0)
    assert errors["median"] == pytest.approx(10.0)
    assert errors["rms"] == pytest.approx(1e3 * np.sqrt((2 * 0.01**2 + 0.03**2) / 3))
    assert errors["aligned"] == pytest.approx(20.0 / np.sqrt(3.0))
    assert (errors["ghosts"], errors["haunted"]) == (1, 1)


def test_tables_and_figure_show_what_was_found(supercell, tmp_path):
    model = TightBinding(orbitals="sp", orthogonal=True)
    path = path_of(supercell)
    matrices = model.hamiltonian(supercell), model.overlap(supercell)
    solved = script.solve_path(
        matrices, script.find_sites(supercell, REPEATS), path.kpoints, unfolded=True
    )
    fermi = float(np.median(solved.levels))
    errors = script.measure_errors(solved.levels, solved.levels + 0.002, fermi)
    result = {
        "sample": "toy",
        "fermi_energy": fermi,
        "n_kpoints": len(path.kpoints),
        "n_levels": 12,
        "errors": {"plain": errors, "shifted": errors},
    }
    image = script.plot_sample(result, path, {"dft": solved, "shifted": solved}, tmp_path)
    assert image.stat().st_size > 1000
    text = script.write_markdown({"checkpoint": "some", "samples": [result]})
    assert f"| toy | {len(path.kpoints)} | 12 | as predicted | 2.0 | 0.0 | 2.0 | 0 | 0 |" in text
    assert "| with the level shift | 2.0 |" in text
