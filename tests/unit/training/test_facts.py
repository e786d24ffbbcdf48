import numpy as np
import pytest
from ase import Atoms

from mlepi.errors import DataError
from mlepi.graphs.build import build_graph
from mlepi.models.block_targets import BlockTargets, largest_degrees
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training.facts import (
    FACTS,
    complete_model,
    extend_degrees,
    fill_facts,
    find_elements,
    fit_atomic_energies,
    subtract_dispersion,
)


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


def test_reference_energies_of_a_network_with_dispersion_are_of_the_rest():
    """A dimer: OpenMX would add −s6 C6 f r⁻⁶ to its energy."""
    atoms = Atoms("C2", positions=[[0, 0, 0], [0, 0, 3.4]], cell=[40, 40, 40], pbc=True)
    atoms.arrays["layer"] = np.array([0, 1])
    coefficient = 0.75 * 1.75 * 10.36426966
    damping = 1 / (1 + np.exp(-20 * (3.4 / 2.904 - 1)))
    dispersion = -coefficient * damping / 3.4**6
    rest = LabelledStructure("dimer", atoms, energy=-300.0 + dispersion, forces=np.ones((2, 3)))
    cutoffs = {"intra": 2.0, "inter": 4.0}
    graph = build_graph(atoms, cutoffs, rest)
    config = {"atomic_energies": None, "dispersion": "d2", "dispersion_cutoff": 10.0}
    filled = complete_model("phonon", config, [rest], [graph], cutoffs)
    assert filled["atomic_energies"] == pytest.approx([-150.0], abs=1e-6)
    [found] = subtract_dispersion([rest], [graph], 10.0)
    steps = [energy_of_dimer(3.4 + sign * 1e-5, coefficient) for sign in (1, -1)]
    slope = (steps[0] - steps[1]) / 2e-5
    np.testing.assert_allclose(found.forces[:, 2], [1 - slope, 1 + slope], atol=1e-6)
    plain = complete_model("phonon", {**config, "dispersion": "none"}, [rest], [graph], cutoffs)
    assert plain["atomic_energies"] == pytest.approx([-150.0 + dispersion / 2], abs=1e-9)


def energy_of_dimer(distance, coefficient):
    return -coefficient / distance**6 / (1 + np.exp(-20 * (distance / 2.904 - 1)))


S_P, WITH_D, WITH_F = {"6": [0, 0, 1, 1]}, {42: [0, 1, 2], 16: [0, 1]}, {58: [0, 1, 2, 3]}


@pytest.mark.parametrize(
    ("shells", "channels", "pseudo", "l_max"),
    [
        (S_P, [48, 32, 16, 8], [0, 8], 3),
        (WITH_D, [48, 32, 16, 8, 8], [0, 8, 8, 8], 4),
        (WITH_F, [48, 32, 16, 8, 8, 8, 8], [0, 8, 8, 8, 8, 8], 6),
    ],
)
def test_channels_follow_from_the_basis(shells, channels, pseudo, l_max):
    backbone = {"channels": [48, 32, 16, 8], "pseudo_channels": [0, 8], "l_max": 3, "width": [1]}
    found = extend_degrees({"network": {"backbone": backbone}, "lists": [{"l_max": 1}]}, shells)
    expected = {"channels": channels, "pseudo_channels": pseudo, "l_max": l_max, "width": [1]}
    assert found == {"network": {"backbone": expected}, "lists": [{"l_max": 1}]}


def test_largest_degrees_are_those_that_blocks_have():
    """Against the couplings that are made of the shells."""
    for shells in (S_P, WITH_D, {1: [0]}):
        targets = BlockTargets([int(z) for z in shells], shells)
        natural, unnatural = largest_degrees(shells)
        assert natural == max(l for l, count in enumerate(targets.natural) if count)
        present = [l for l, count in enumerate(targets.pseudo) if count]
        assert unnatural == max(present, default=0)


def test_an_empty_list_of_unnatural_channels_is_a_choice():
    config = {"channels": [8, 4], "pseudo_channels": []}
    assert extend_degrees(config, S_P) == {"channels": [8, 4, 4], "pseudo_channels": []}
