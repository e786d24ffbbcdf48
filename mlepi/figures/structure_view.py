"""A structure from above and from the side, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

ELEMENT_COLOURS = {
    "C": "#5b6675", "B": "#c98a5e", "N": "#4a74d9", "O": "#d9534f", "H": "#9fb0c3", "S": "#b99a1d",
    "Mo": "#2f9e9e", "W": "#4f8f6f", "Se": "#c07a1f", "Si": "#b58b52", "P": "#d97a2b",
}  # fmt: skip
OTHER_COLOUR = "#8b6fb8"

SHOWN = 16.0
"""Å of a crystal that a view shows at least along either direction in the plane."""

MOST_COPIES = 400
"""Atoms up to which a cell is repeated."""

MOST_BONDED = 2000
"""Atoms up to which bonds are drawn."""

BOND = 1.2
"""A bond is shorter than this times the sum of the covalent radii."""


def draw_structure(atoms: Atoms) -> str:
    """Return one SVG with the view along the normal above and the view along b below.

    Args:
        atoms: one cell; it is repeated in the plane, and its outline is drawn.
    """
    flat = _turn(atoms)
    copies = _repeat(flat)
    bonds = _bonds(copies)
    above = _view(copies, bonds, flat, (0, 1), "from above")
    beside = _view(copies, bonds, flat, (0, 2), "from the side")
    return f'<div class="structure">{above}{beside}</div>'


def describe_structure(atoms: Atoms) -> str:
    """Say in words what the picture shows, for those who cannot see it."""
    layers = len(set(atoms.arrays["layer"])) if "layer" in atoms.arrays else 1
    cell = " × ".join(f"{length:.2f}" for length in atoms.cell.lengths()[:2])
    plural = "s" if layers > 1 else ""
    formula = atoms.get_chemical_formula()
    return f"{formula}, {layers} layer{plural}, cell {cell} Å, from above and from the side"


def _turn(atoms: Atoms) -> Atoms:
    """Lay the first two lattice vectors into the plane of the paper, the first to the right."""
    turned = atoms.copy()
    if turned.cell.rank == 3:
        turned.set_cell(turned.cell.standard_form()[0], scale_atoms=True)
    return turned


def _repeat(atoms: Atoms) -> Atoms:
    lengths = atoms.cell.lengths()
    counts = [1, 1, 1]
    for axis in (0, 1):
        wanted = int(np.ceil(SHOWN / lengths[axis])) if lengths[axis] > 0 else 1
        most = max(1, int(np.sqrt(MOST_COPIES / len(atoms))))
        counts[axis] = min(wanted, most) if atoms.pbc[axis] else 1
    return atoms.repeat(counts)


def _bonds(atoms: Atoms) -> NDArray[np.int64]:
    """Return pairs of bonded atoms inside the picture, (n_bonds, 2)."""
    if len(atoms) > MOST_BONDED:
        return np.empty((0, 2), dtype=np.int64)
    free = atoms.copy()
    free.pbc = False
    reach = (BOND * covalent_radii[atoms.numbers]).tolist()
    first, second = neighbor_list("ij", free, reach)
    return np.stack([first, second], axis=1)[first < second]


def _view(
    atoms: Atoms, bonds: NDArray[np.int64], cell: Atoms, axes: Sequence[int], name: str
) -> str:
    """Draw one projection; one path per element, dots as lines of no length."""
    places = atoms.positions[:, axes] * (1.0, -1.0)
    low, high = places.min(axis=0) - 1.2, places.max(axis=0) + 1.2
    if axes[1] == 2 and high[1] - low[1] < 5.0:
        middle = 0.5 * (high[1] + low[1])
        low[1], high[1] = middle - 2.5, middle + 2.5
    width, height = high - low
    parts = [
        f'<svg viewBox="{low[0]:.2f} {low[1]:.2f} {width:.2f} {height:.2f}" role="img" '
        f'aria-label="{name}">'
    ]
    if len(bonds):
        lines = "".join(f"M{a[0]:.2f} {a[1]:.2f}L{b[0]:.2f} {b[1]:.2f}" for a, b in places[bonds])
        parts.append(f'<path class="bonds" d="{lines}"/>')
    symbols = np.array(atoms.get_chemical_symbols())
    small = 0.3 if len(atoms) <= MOST_BONDED else 0.8
    for symbol in dict.fromkeys(symbols):
        chosen = symbols == symbol
        heights = atoms.positions[chosen, 3 - sum(axes)]
        dots = "".join(
            f"M{x:.2f} {y:.2f}h0" for x, y in places[chosen][np.argsort(heights, kind="stable")]
        )
        size = 2.0 * small * covalent_radii[atoms.numbers[chosen][0]] * 1.5
        colour = ELEMENT_COLOURS.get(str(symbol), OTHER_COLOUR)
        parts.append(
            f'<path class="atoms" d="{dots}" stroke="{colour}" stroke-width="{size:.2f}"/>'
        )
    if axes[1] == 1:
        a, b = np.asarray(cell.cell)[:2, :2] * (1.0, -1.0)
        corners = [np.zeros(2), a, a + b, b]
        outline = "L".join(f"{x:.2f} {y:.2f}" for x, y in corners)
        parts.append(f'<path class="outline" d="M{outline}Z"/>')
    return "".join(parts) + "</svg>"
