import numpy as np
import pytest
from ase import Atoms

from mlepi.errors import DataError
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training.facts import FACTS, fill_facts, find_elements, fit_atomic_energies


def structure(symbols, energy, forces=1.0):
    atoms = Atoms(symbols, positions=np.arange(3 * len(Atoms(symbols))).reshape(-1, 3) * 1.5)
    return LabelledStructure(
        name=symbols, atoms=atoms, energy=energy, forces=np.full((len(atoms), 3), forces)
    )


def test_atomic_energies_of_two_elements_are_recovered():
    energies = {"MoS2": -10.0 - 2 * 3.0, "MoS": -10.0 - 3.0, "S2": -6.0}
    structures = [structure(symbols, energy) for symbols, energy in energies.items()]
    assert find_elements(structures) == [16, 42]
    assert fit_atomic_energies(structures) == pytest.approx([-3.0, -10.0])


def test_one_element_gets_the_mean_energy_per_atom():
    assert fit_atomic_energies([structure("C2", -4.0), structure("C4", -12.0)]) == pytest.approx(
        [-2.5]
    )


def test_force_scale_is_the_root_mean_square():
    facts = FACTS["phonon"]([structure("C2", -4.0, forces=0.3), structure("C2", -4.0, forces=0.4)])
    assert facts["energy_scale"] == pytest.approx(np.sqrt((0.3**2 + 0.4**2) / 2))


def test_labels_without_information_are_refused():
    with pytest.raises(DataError, match="training subset: got forces that are all zero"):
        FACTS["phonon"]([structure("C2", -4.0, forces=0.0)])
    with pytest.raises(DataError, match="structure 'C2': got no basis"):
        FACTS["electron"]([structure("C2", -4.0)])


def test_only_nulls_of_known_facts_are_filled():
    config = {
        "elements": None,
        "envelope_width": None,
        "inner": {"elements": None, "cutoffs": {"intra": 3.0}},
        "list": [{"elements": [7]}],
    }
    filled = fill_facts(config, {"elements": [6], "cutoffs": {"intra": 9.0}})
    assert filled == {
        "elements": [6],
        "envelope_width": None,
        "inner": {"elements": [6], "cutoffs": {"intra": 3.0}},
        "list": [{"elements": [7]}],
    }
    assert config["elements"] is None
