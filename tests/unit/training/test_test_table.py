import numpy as np
import pytest
from ase import Atoms

from mlepi.structures import build_graphene
from mlepi.training.test_table import (
    format_markdown,
    format_rows,
    group_by_size,
    shortest_vector,
    tabulate,
)


def test_the_shortest_vector_may_be_none_of_the_cells_own():
    atoms = build_graphene("AB")
    assert shortest_vector(atoms) == pytest.approx(2.46)
    slanted = atoms.repeat((3, 4, 1))
    cell = slanted.cell.array.copy()
    cell[1] += 2 * cell[0]
    slanted.set_cell(cell)
    expected = min(
        np.linalg.norm(a * cell[0] + b * cell[1])
        for a in range(-9, 10)
        for b in range(-9, 10)
        if (a, b) != (0, 0)
    )
    assert shortest_vector(slanted) == pytest.approx(expected)
    wire = Atoms("C", cell=[5.0, 3.0, 9.0], pbc=[False, False, True])
    assert shortest_vector(wire) == pytest.approx(9.0)


def test_groups_are_measured_and_printed():
    structures = {3: build_graphene("AB").repeat((2, 2, 1)), 5: build_graphene("AB")}
    assert group_by_size(structures) == {"4 atoms": [5], "16 atoms": [3]}
    groups = {"all": [3, 5], "small": [5], "left out": [4]}
    table = tabulate(groups, structures, lambda numbers: {"error": 0.5 * len(numbers)})
    assert list(table) == ["all", "small"]
    assert table["all"]["n_atoms"] == [4, 16]
    assert table["all"]["shortest_vector"] == pytest.approx([2.46, 4.92])
    assert table["small"]["metrics"] == {"error": 0.5}
    columns = {"error": "error (meV)", "absent": "nowhere"}
    lines = format_rows("subset", table, columns)
    assert [line.split() for line in lines] == [
        ["subset", "structures", "atoms", "shortest", "vector", "(Å)", "error", "(meV)"],
        ["all", "2", "4–16", "2.5–4.9", "1"],
        ["small", "1", "4", "2.5", "0.5"],
    ]
    assert format_markdown("subset", table, columns)[1:3] == [
        "| --- | --- | --- | --- | --- |",
        "| all | 2 | 4–16 | 2.5–4.9 | 1 |",
    ]
