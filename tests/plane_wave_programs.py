"""Settings of VASP and Quantum ESPRESSO for tests, and a genuine calculation of the latter.

``tests/data/espresso_bn.txt`` is what pw.x 6.7 printed for ``bn()`` with ``ESPRESSO`` and the
pseudopotentials of Debian's quantum-espresso-data, our own run, folders of files cut out;
``espresso_bn_2_steps.txt`` is of the same with two steps of self-consistency. VASP was not run: see
``test_force_programs``.
"""

from ase import Atoms

COMMON = {
    "hours": 0.5,
    "potential_folder": None,
    "electronic_temperature": 300.0,
    "k_spacing": 1.5,
    "vacuum": 6.0,
    "steps": 40,
    "mixing": 0.6,
}
VASP = {
    **COMMON,
    "command": "vasp_std",
    "potentials": {"Mo": "Mo_sv", "S": "S"},
    "cutoff": 400.0,
    "criterion": 1e-7,
    "incar": {"IVDW": 12},
}
ESPRESSO = {
    **COMMON,
    "command": "pw.x",
    "potentials": {"B": "B.pbe-n-rrkjus_psl.1.0.0.UPF", "N": "N.pbe-n-rrkjus_psl.1.0.0.UPF"},
    "cutoff": 30.0,
    "density_cutoff": 240.0,
    "dispersion": None,
    "criterion": 1e-8,
    "system": {"nosym": True},
    "electrons": {},
}


def bn():
    """Return two displaced atoms of boron nitride in a flat cell."""
    cell = [[2.51, 0.0, 0.0], [-1.255, 2.1737237635, 0.0], [0.0, 0.0, 8.0]]
    return Atoms("BN", [[0.02, 0.0, 0.1], [0.0, 1.4491491757, 0.0]], cell=cell, pbc=True)
