"""Every reader of energies and forces gives the same labels of the same steps."""

from __future__ import annotations

from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlepi.errors import DataError
from mlepi.structures import read_forces_dataset, write_extxyz

CELL = np.array([[3.16, 0.0, 0.0], [1.58, 2.7366403, 0.0], [0.0, 0.0, 20.0]])
SYMBOLS = ["Mo", "S", "S"]
STEPS = [
    {
        "scaled": np.array([[0.0, 0.0, 0.5], [1 / 3, 1 / 3, 0.57825], [1 / 3, 1 / 3, 0.42175]]),
        "free_energy": -21.70981234,
        "energy": -21.70912345,
        "forces": np.array([[0.0, 0.0, 0.1], [0.25, -0.125, -0.15], [-0.25, 0.125, 0.05]]),
    },
    {
        "scaled": np.array([[0.01, 0.0, 0.5], [1 / 3, 1 / 3, 0.58], [1 / 3, 1 / 3, 0.42]]),
        "free_energy": -21.50981234,
        "energy": -21.50812345,
        "forces": np.array([[-1.5, 0.0, 0.0], [0.75, 0.2, 2.0], [0.75, -0.2, -2.0]]),
    },
]


class ForcesReaderContract:
    """A subclass writes ``STEPS`` as its code does; all expectations are the same."""

    name: str
    digits: float

    def write(self, path: Path) -> None:
        raise NotImplementedError

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / self.name
        self.write(path)
        return path

    def test_structures(self, path):
        structures = read_forces_dataset(path)
        assert len(structures) == 2
        for structure, step in zip(structures, STEPS, strict=True):
            assert structure.atoms.get_chemical_symbols() == SYMBOLS
            assert structure.atoms.pbc.all()
            assert structure.atoms.calc is None
            assert structure.atoms.info == {}
            np.testing.assert_allclose(structure.atoms.cell.array, CELL, atol=self.digits)
            np.testing.assert_allclose(
                structure.atoms.positions, step["scaled"] @ CELL, atol=self.digits
            )

    def test_energy_is_the_one_whose_derivative_are_the_forces(self, path):
        for structure, step in zip(read_forces_dataset(path), STEPS, strict=True):
            assert structure.energy == pytest.approx(step["free_energy"], abs=1e-8)
            assert structure.forces.dtype == np.float64
            np.testing.assert_allclose(structure.forces, step["forces"], atol=self.digits)

    def test_names_are_unique_and_provenance_tells_the_file(self, path):
        structures = read_forces_dataset(path)
        assert len({structure.name for structure in structures}) == 2
        assert all(structure.provenance["file"] == self.name for structure in structures)

    def test_extxyz_keeps_everything(self, path, tmp_path):
        structures = read_forces_dataset(path)
        write_extxyz(tmp_path / "copy.extxyz", structures)
        for copy, original in zip(
            read_forces_dataset(tmp_path / "copy.extxyz"), structures, strict=True
        ):
            assert copy.name == original.name
            assert copy.energy == original.energy
            np.testing.assert_allclose(copy.forces, original.forces, atol=1e-8)
            np.testing.assert_allclose(copy.atoms.positions, original.atoms.positions, atol=1e-8)

    def test_truncated_files_never_give_silent_data(self, path):
        """A file that ends early is refused, or read up to its last complete step."""
        text = path.read_text()
        complete = read_forces_dataset(path)
        for fraction in (0.1, 0.3, 0.5, 0.7, 0.9):
            path.write_text(text[: int(fraction * len(text))])
            try:
                structures = read_forces_dataset(path)
            except DataError as error:
                assert str(path) in str(error)  # noqa: PT017
            else:
                assert 1 <= len(structures) < 2
                np.testing.assert_array_equal(structures[0].forces, complete[0].forces)
                assert structures[0].energy == complete[0].energy


def write_frames(path):
    """The trajectory in any format of ASE."""
    frames = []
    for step in STEPS:
        atoms = Atoms(SYMBOLS, cell=CELL, scaled_positions=step["scaled"], pbc=True)
        labels = {key: step[key] for key in ("energy", "free_energy", "forces")}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    ase.io.write(path, frames)


class TestExtxyz(ForcesReaderContract):
    name, digits = "train.extxyz", 1e-8

    def write(self, path):
        write_frames(path)

    def test_energy_alone_is_taken(self, path):
        path.write_text(path.read_text().replace("free_energy=", "sigma="))
        assert [s.energy for s in read_forces_dataset(path)] == [step["energy"] for step in STEPS]


def rows(values: np.ndarray, tag: str = "v") -> str:
    return "\n".join(f"<{tag}> {x:.9f} {y:.9f} {z:.9f} </{tag}>" for x, y, z in values)


class TestVasprun(ForcesReaderContract):
    name, digits = "vasprun.xml", 1e-7

    def write(self, path):
        atoms = "\n".join(f"<rc><c>{symbol}</c><c>1</c></rc>" for symbol in SYMBOLS)

        def structure(step, name):
            return (
                f'<structure{name}><crystal><varray name="basis">{rows(CELL)}</varray></crystal>'
                f'<varray name="positions">{rows(step["scaled"])}</varray></structure>'
            )

        def energies(step):
            return (
                f'<energy><i name="e_fr_energy"> {step["free_energy"]:.8f} </i>'
                f'<i name="e_wo_entrp"> {step["energy"]:.8f} </i><i name="e_0_energy"> '
                f"{step['energy']:.8f} </i></energy>"
            )

        calculations = "\n".join(
            f"<calculation><scstep>{energies(step)}</scstep>{structure(step, '')}"
            f'<varray name="forces">{rows(step["forces"])}</varray>{energies(step)}</calculation>'
            for step in STEPS
        )
        path.write_text(
            '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n<kpoints><varray '
            'name="kpointlist"><v>0 0 0</v></varray>'
            '<varray name="weights"><v>1.0</v></varray></kpoints>\n'
            f'<atominfo><atoms>3</atoms><array name="atoms"><set>{atoms}</set></array></atominfo>\n'
            + structure(STEPS[0], ' name="initialpos"')
            + f"\n{calculations}\n</modeling>\n"
        )


class TestOutcar(ForcesReaderContract):
    name, digits = "OUTCAR", 1e-5  # positions are printed with five decimals, forces with six

    def write(self, path):
        lines = [
            " vasp.6.4.2 20Jul23 (build Jan 01 2024) complex",
            " POTCAR:    PAW_PBE Mo 08Apr2002",
            " POTCAR:    PAW_PBE S 06Sep2000",
            " POTCAR:    PAW_PBE Mo 08Apr2002",
            " POTCAR:    PAW_PBE S 06Sep2000",
            "   ISPIN  =      1    spin polarized calculation?",
            "   ions per type =               1   2",
            "   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of "
            "bands    NBANDS=      4",
            " k-points in reciprocal lattice and weights: automatic",
            "   0.00000000  0.00000000  0.00000000      1.000",
            "",
        ]
        for number, step in enumerate(STEPS, start=1):
            lines += [
                f"--------------------------------------- Iteration    {number}(   1)  "
                "------------------------"
            ]
            lines += ["      direct lattice vectors                 reciprocal lattice vectors"]
            reciprocal = np.linalg.inv(CELL).T
            lines += [
                " ".join(f"{x:15.9f}" for x in (*a, *b))
                for a, b in zip(CELL, reciprocal, strict=True)
            ]
            lines += [
                "",
                " POSITION                                       TOTAL-FORCE (eV/Angst)",
                " " + "-" * 83,
            ]
            both = np.hstack([step["scaled"] @ CELL, step["forces"]])
            lines += [" ".join(f"{x:13.6f}" for x in row) for row in both]
            lines += [" " + "-" * 83, "", "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)"]
            lines += ["  ---------------------------------------------------"]
            lines += [f"  free  energy   TOTEN  = {step['free_energy']:20.8f} eV", ""]
            lines += [
                f"  energy  without entropy= {step['energy']:18.8f}  energy(sigma->0) = "
                f"{step['energy']:18.8f}",
                "",
            ]
        path.write_text("\n".join(lines) + "\n")


class TestMlAb(ForcesReaderContract):
    """The text of VASP's force fields, by its published layout."""

    name, digits = "ML_AB", 1e-8

    def write(self, path):
        double, single, line = "*" * 50, "=" * 50, "-" * 50

        def section(title, body, rule=single):
            return f"{rule}\n     {title}\n{line}\n{body}\n"

        def table(values):
            return "\n".join("".join(f"{v:22.15f}" for v in row) for row in values)

        text = " 1.0 Version\n" + section("The number of configurations", "  2", double)
        text += section("The atom types in the data file", "     Mo S", double)
        for number, step in enumerate(STEPS):
            text += f"{double}\n     Configuration num.{number + 1:7d}\n"
            text += section("System name", "     MoS2") + section("The number of atom types", "  2")
            text += section("The number of atoms", "  3")
            text += section("Atom types and atom numbers", "     Mo    1\n     S     2", double)
            text += section("CTIFOR", "   0.02") + section(
                "Primitive lattice vectors (ang.)", table(CELL)
            )
            text += section("Atomic positions (ang.)", table(step["scaled"] @ CELL))
            text += section("Total energy (eV)", f"  {step['free_energy']:.12f}")
            text += section("Forces (eV ang.^-1)", table(step["forces"]))
            text += section("Stress (kbar)", f"{line}\n     XX YY ZZ\n{line}\n 0.1 0.2 0.3")
        path.write_text(text + double + "\n")


class BinaryContract(ForcesReaderContract):
    def test_truncated_files_never_give_silent_data(self, path):
        content = path.read_bytes()
        for fraction in (0.1, 0.5, 0.9):
            path.write_bytes(content[: int(fraction * len(content))])
            with pytest.raises(DataError, match=self.name):
                read_forces_dataset(path)


class TestVaspout(BinaryContract):
    name, digits = "vaspout.h5", 1e-12

    def write(self, path):
        with h5py.File(path, "w") as file:
            steps = file.create_group("intermediate/ion_dynamics")
            tags = ["free energy    TOTEN   ", "energy without entropy ", "energy(sigma->0)       "]
            steps["energies_tags"] = np.array(tags, dtype="S23")
            rows = [[s["free_energy"], s["energy"], s["energy"]] for s in STEPS]
            steps["energies"] = np.array(rows)
            steps["forces"] = np.array([s["forces"] for s in STEPS])
            steps["position_ions"] = np.array([s["scaled"] for s in STEPS])
            steps["lattice_vectors"] = np.array([CELL / 2.0] * 2)
            where = file.create_group("results/positions")
            where["scale"] = 2.0
            where["ion_types"] = np.array(["Mo_pv ", "S     "], dtype="S6")
            where["number_ion_types"] = np.array([1, 2])


class TestAseDatabase(BinaryContract):
    name, digits = "train.db", 1e-12

    def write(self, path):
        write_frames(path)
