"""Units that cannot be right are refused; matter of all kinds is not."""

from dataclasses import replace
from pathlib import Path

import ase.build
import numpy as np
import pytest
from ase import Atoms

from mlepi.errors import DataError, StructureError
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.graphs.plausibility import (
    check_forces,
    check_hamiltonians,
    check_levels,
    check_predicted,
    check_structure,
    list_electron_numbers,
)
from mlepi.physics.overlaps import read_overlap_table
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import HamiltonianDataset, LabelledStructure, build_graphene
from mlepi.units import BOHR, HARTREE

DATA = Path(__file__).parents[3] / "data" / "hbn_openmx"


def bilayer(repeat=3, amplitude=0.04):
    atoms = build_graphene(stacking="AB").repeat((repeat, repeat, 1))
    atoms.rattle(amplitude, seed=1)
    return atoms


def scaled(atoms, factor, cell=True, positions=True):
    atoms = atoms.copy()
    places = atoms.positions * (factor if positions else 1.0)
    atoms.set_cell(atoms.cell.array * (factor if cell else 1.0))
    atoms.positions = places
    return atoms


CRYSTALS = {
    "Cs": ase.build.bulk("Cs"),
    "Na": ase.build.bulk("Na", cubic=True),
    "Au": ase.build.bulk("Au", cubic=True),
    "W": ase.build.bulk("W"),
    "Si": ase.build.bulk("Si").repeat(2),
    "diamond": ase.build.bulk("C", cubic=True),
    "NaCl": ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True),
    "CsI": ase.build.bulk("CsI", "cesiumchloride", a=4.57),
    "Ar": ase.build.bulk("Ar", cubic=True),
    "MoS2": ase.build.mx2("MoS2", vacuum=8.0),
    "graphene": ase.build.graphene(vacuum=10.0),
    "Pt surface": ase.build.fcc111("Pt", (2, 2, 3), vacuum=12.0),
    "water": Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]),
    "dimer": Atoms("C2", [[0, 0, 0], [9.0, 0, 0]], cell=[20, 20, 20], pbc=True),
    "one atom": Atoms("C", cell=[20, 20, 20], pbc=True),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_matter_of_all_kinds_is_plausible(name):
    check_structure(name, CRYSTALS[name])


@pytest.mark.parametrize("repeat", [1, 3, 6])
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"factor": 1 / BOHR}, "nearest neighbours lie further than 1.5 sums"),
        ({"factor": BOHR}, "Å apart"),
        ({"factor": 0.1}, "Å apart"),
        ({"factor": 1 / BOHR, "positions": False}, "empty space between the atoms and their"),
        ({"factor": BOHR, "positions": False}, "Å apart"),
        ({"factor": BOHR, "cell": False}, "Å apart"),
    ],
)
def test_lengths_in_other_units_are_refused(repeat, change, text):
    check_structure("here", bilayer(repeat))
    with pytest.raises(StructureError, match=text):
        check_structure("here", scaled(bilayer(repeat), **change))


def test_single_atoms_in_the_wrong_place_are_refused():
    far = bilayer()
    far.positions[5, 0] = 1e5
    with pytest.raises(StructureError, match=r"atom 5 at \(100000, .*in or near their cell"):
        check_structure("here", far)
    lonely = bilayer()
    lonely.cell[2, 2] = 60.0
    lonely.positions[5, 2] = lonely.positions[:, 2].max() + 12.0
    with pytest.raises(StructureError, match="atom 5 with no other nearer than 12"):
        check_structure("here", lonely)
    nothing = bilayer()
    nothing.positions[5, 2] = np.nan
    with pytest.raises(StructureError, match="NaN or infinity"):
        check_structure("here", nothing)
    swapped = bilayer()
    swapped.positions = np.random.default_rng(0).normal(scale=0.7, size=(36, 3))
    with pytest.raises(StructureError, match="Å apart"):
        check_structure("here", swapped)


@pytest.fixture(scope="module")
def labelled():
    springs, structures = HoneycombSprings(), []
    for seed in range(3):
        atoms = build_graphene(stacking="AB").repeat((3, 3, 1))
        atoms.rattle(0.04, seed=seed)
        atoms.calc = springs
        structures.append(LabelledStructure(name=str(seed), atoms=atoms, forces=atoms.get_forces()))
    return structures


@pytest.mark.parametrize("factor", [1.0, 3.0, 1 / 3.0])
def test_forces_of_bonds_are_plausible(labelled, factor):
    check_forces("here", [replace(s, forces=factor * s.forces) for s in labelled])


@pytest.mark.parametrize("unit", [HARTREE / BOHR, HARTREE / BOHR / 2, 1000.0])
def test_forces_in_other_units_are_refused(labelled, unit):
    for factor in (unit, 1 / unit):
        wrong = [replace(s, forces=factor * s.forces) for s in labelled]
        with pytest.raises(DataError, match=r"eV/Å² per bond; expected .* eV/Å²\. Check the units"):
            check_forces("here", wrong)
    broken = replace(labelled[0], forces=np.full((36, 3), np.inf))
    with pytest.raises(DataError, match="here, 0: got forces with NaN or infinity"):
        check_forces("here", [broken])


def test_structures_at_rest_and_strained_as_a_whole_say_nothing_of_forces(labelled):
    rest = build_graphene(stacking="AB")
    check_forces("here", [LabelledStructure(name="a", atoms=rest, forces=np.zeros((4, 3)))])
    check_forces("here", [replace(labelled[0], forces=None)])


@pytest.fixture(scope="module")
def hamiltonians():
    data = HamiltonianDataset(DATA / "hamiltonians.h5")
    table = read_overlap_table(DATA / "overlap_B7.0-s2p2_N6.0-s2p2.h5")
    names = ["hbn1_ideal", "hbn3_000", "hbn3_001"]
    return [complete_overlaps(data[name], table) for name in names]


@pytest.mark.parametrize(
    ("numbers", "counts"),
    [
        ([6, 6], {8, 12}),
        ([42, 16, 16], {6 + 12, 14 + 12}),  # with and without the semi-core shell of Mo
        ([5, 7], {8}),
        ([29], {11, 19}),
        ([1], {1}),
    ],
)
def test_electrons_that_pseudopotentials_leave(numbers, counts):
    found = list_electron_numbers(np.array(numbers))
    assert counts <= set(found)
    assert found[-1] == sum(numbers)


def test_hamiltonians_of_dft_are_plausible(hamiltonians):
    check_hamiltonians("here", hamiltonians)
    check_levels("here", replace(hamiltonians[0], fermi_energy=None))


@pytest.mark.parametrize("factor", [HARTREE, 1 / HARTREE, HARTREE / 2, 2 / HARTREE, 1000.0])
def test_hamiltonians_in_other_units_are_refused(hamiltonians, factor):
    first = hamiltonians[0]
    wrong = replace(first, hamiltonian_blocks=factor * first.hamiltonian_blocks)
    for fermi in (first.fermi_energy, factor * first.fermi_energy):
        with pytest.raises(DataError, match=r"here: got .* in (another|different) unit"):
            check_levels("here", replace(wrong, fermi_energy=fermi))
    with pytest.raises(DataError, match="here, hbn1_ideal: got on-site elements of H of"):
        check_hamiltonians("here", [wrong, *hamiltonians[1:]])


@pytest.mark.parametrize("n_electrons", ["valence", None])
def test_predictions_are_compared_with_their_valence_electrons(hamiltonians, n_electrons):
    structure = hamiltonians[0]
    number = None if n_electrons is None else 4.0 * len(structure.atoms)
    check_predicted("here", structure, number)
    for factor in (27.2114, 1 / 27.2114):
        wrong = replace(structure, hamiltonian_blocks=factor * structure.hamiltonian_blocks)
        with pytest.raises(DataError, match="occupied levels of the predicted H over"):
            check_predicted("here", wrong, number)
