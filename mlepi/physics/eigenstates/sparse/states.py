"""States of a sparse pencil by number, by shift-invert Lanczos and counts from the inertia.

The count below the shift that every factorisation gives (Sylvester's law) tells which states the
Lanczos iteration has found; the Fermi level of a neutral cell then needs no other spectrum than the
window around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.block_lanczos import CLOSEST, NearestOnEachSide, block_lanczos
from mlepi.physics.eigenstates.sparse.factorisation import Factorise, Factors
from mlepi.physics.eigenstates.sparse.pencil import SparsePencil

BLOCK_WIDTH = 32
"""Vectors solved for at once: one factorisation serves them at a quarter of the price of single
ones."""

SMALL = 8 * BLOCK_WIDTH
"""Orbitals below which a pencil is diagonalised densely: blocks would exhaust its space."""

MAX_BLOCKS = 30
"""Solves with one factorisation before the shift is moved; 30 states to 1e-8 eV of the magic-angle
cell take 15."""

MAX_SHIFTS = 6
"""Factorisations before the search for the wanted states is given up."""


@dataclass(frozen=True)
class NumberedStates:
    """Neighbouring eigenstates of one pencil.

    Attributes:
        energies: (n_states,) ascending, eV.
        vectors: (n_orbitals, n_states) with c†Sc = 1.
        first: number of the lowest of them among all states, counted from 0.
        residuals: (n_states,) ‖Hc − ESc‖₂, eV; divided by the root of the smallest eigenvalue of S
            it bounds the error of E.
        n_factorisations: that were needed.
    """

    energies: NDArray[np.float64]
    vectors: NDArray[Any]
    first: int
    residuals: NDArray[np.float64]
    n_factorisations: int


def solve_numbered_states(
    pencil: SparsePencil,
    first: int,
    n_states: int,
    guess: float,
    factorise: Factorise,
    *,
    start: NDArray[Any] | None = None,
    tolerance: float = 1e-8,
) -> NumberedStates:
    """Find the states first, first + 1, …, first + n_states − 1 of H c = E S c, counted from 0.

    Args:
        pencil: H(k) and S(k).
        first: number of the lowest state wanted.
        n_states: how many.
        guess: energy near the middle of them, eV; a poor one costs further factorisations.
        factorise: from ``choose_factorisation``.
        start: (n_orbitals, m) vectors to start from, such as the states at a neighbouring k; random
            ones are added.
        tolerance: largest error of an eigenvalue, eV.

    Returns:
        The states, after a Rayleigh–Ritz step that makes their residuals those of H and S, not of
        the factors.

    Raises:
        PhysicsError: the numbers do not exist, the factorisation cannot count, or the iteration
            does not converge.
    """
    if not 0 <= first <= first + n_states <= pencil.n_orbitals or n_states < 1:
        got = f"states {first} to {first + n_states - 1}"
        expected = f"numbers from 0 to {pencil.n_orbitals - 1}"
        raise PhysicsError(message("sparse states", got, expected, "Ask for fewer states."))
    if pencil.n_orbitals < SMALL:
        return _solve_densely(pencil, first, n_states)
    shift = guess
    for attempt in range(1, MAX_SHIFTS + 1):
        found = _count_and_solve(
            pencil, factorise(pencil, shift), shift, first, n_states, start, tolerance
        )
        if found is None:
            shift += 1000.0 * CLOSEST * (1 + attempt)
            continue
        n_below, energies, vectors = found
        if first <= n_below <= first + n_states:
            energies, vectors, residuals = refine_states(pencil, vectors)
            return NumberedStates(energies, vectors, first, residuals, attempt)
        number = n_below if n_below < first else n_below - n_states
        shift = _next_shift(energies, number, first, n_states)
        start = vectors
    raise PhysicsError(
        message(
            "sparse states",
            f"no states {first} to {first + n_states - 1} near {guess:.3f} eV with {MAX_SHIFTS} "
            "factorisations",
            "a guess near their energy, and a factorisation that counts",
            "Check the number of electrons, or give another guess.",
        )
    )


def prove_numbers(
    pencil: SparsePencil, states: NumberedStates, factorise: Factorise
) -> tuple[int, int]:
    """Prove by two counts that no state is missing.

    In a gap near either end of the window, the count must be the number of the state.

    Args:
        pencil: H(k) and S(k).
        states: found with it.
        factorise: from ``choose_factorisation``.

    Returns:
        Numbers of the first and last state of the proven range; all between them are there, each
        once.

    Raises:
        PhysicsError: a count disagrees, or the factorisation cannot count.
    """
    third = max(1, len(states.energies) // 3)
    gaps = np.diff(states.energies)
    places = int(np.argmax(gaps[:third])), len(gaps) - 1 - int(np.argmax(gaps[::-1][:third]))
    for place in places:
        energy = 0.5 * float(states.energies[place] + states.energies[place + 1])
        counted, expected = count_states_below(pencil, energy, factorise), states.first + place + 1
        if counted != expected:
            raise PhysicsError(
                message(
                    "sparse states",
                    f"{counted} states below {energy:.6f} eV by inertia",
                    f"{expected} by the states found",
                    "Lower the tolerance, or move the guess: states were missed.",
                )
            )
    return states.first + places[0] + 1, states.first + places[1]


def count_states_below(pencil: SparsePencil, energy: float, factorise: Factorise) -> int:
    """Count the eigenvalues below an energy by the inertia of H − ES.

    Args:
        pencil: H(k) and S(k).
        energy: eV.
        factorise: from ``choose_factorisation``.

    Returns:
        Number of states with eigenvalues < energy.

    Raises:
        PhysicsError: the factorisation cannot count.
    """
    factors = factorise(pencil, energy)
    counted = factors.n_negative
    factors.release()
    if counted is None:
        raise PhysicsError(
            message(
                f"count of states below {energy:.6f} eV",
                "pivots away from the diagonal",
                "a factorisation that gives the inertia",
                "Move the energy a little, or install PARDISO with `pip install pypardiso`.",
            )
        )
    return counted


def refine_states(
    pencil: SparsePencil, vectors: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64]]:
    """Diagonalise H in a space of approximate states (Rayleigh–Ritz).

    Args:
        pencil: H(k) and S(k).
        vectors: (n_orbitals, n_states), linearly independent.

    Returns:
        Energies (n_states,), eV, ascending; vectors with c†Sc = 1; and ‖Hc − ESc‖₂, eV.
    """
    h, s = pencil.multiply_hamiltonian(vectors), pencil.multiply_overlap(vectors)
    small_h, small_s = vectors.conj().T @ h, vectors.conj().T @ s
    energies, change = scipy.linalg.eigh(
        0.5 * (small_h + small_h.conj().T), 0.5 * (small_s + small_s.conj().T)
    )
    residuals = np.linalg.norm(h @ change - (s @ change) * energies, axis=0)
    return energies, vectors @ change, residuals


def _solve_densely(pencil: SparsePencil, first: int, n_states: int) -> NumberedStates:
    """Diagonalise a small pencil."""
    h, s = (pencil.triangle(values).toarray() for values in (pencil.hamiltonian, pencil.overlap))
    wanted = (first, first + n_states - 1)
    _, vectors = scipy.linalg.eigh(h, s, lower=False, subset_by_index=wanted)
    energies, vectors, residuals = refine_states(pencil, vectors)
    return NumberedStates(energies, vectors, first, residuals, 0)


def _count_and_solve(
    pencil: SparsePencil,
    factors: Factors,
    shift: float,
    first: int,
    n_states: int,
    start: NDArray[Any] | None,
    tolerance: float,
) -> tuple[int, NDArray[np.float64], NDArray[Any]] | None:
    """Return the number of states below the shift, and the states next to it by energy, eV.

    None when the factors, which are released, cannot count or the shift hits a state.
    """
    try:
        n_below = factors.n_negative
        if n_below is None:
            return None
        side = min(max(n_below - first, 0), n_states)
        found = _nearest(pencil, factors, shift, side, n_states - side, start, tolerance)
        return None if found is None else (n_below, *found)
    finally:
        factors.release()


def _nearest(
    pencil: SparsePencil,
    factors: Factors,
    shift: float,
    n_below: int,
    n_above: int,
    start: NDArray[Any] | None,
    tolerance: float,
) -> tuple[NDArray[np.float64], NDArray[Any]] | None:
    """Return the nearest states on both sides of a shift by energy, eV; None when it hits one."""
    select = NearestOnEachSide(n_below, n_above, tolerance)
    first = _start_block(start, pencil)
    found = block_lanczos(
        factors.solve, pencil.multiply_overlap, first, select, tolerance, MAX_BLOCKS
    )
    if found is None:
        return None
    energies = shift + 1.0 / found[0]
    order = np.argsort(energies)
    return energies[order], found[1][:, order]


def _start_block(start: NDArray[Any] | None, pencil: SparsePencil) -> NDArray[Any]:
    """Return (n_orbitals, BLOCK_WIDTH) vectors; random ones, so that no state is missed."""
    block = (
        np.random.default_rng(0)
        .normal(size=(pencil.n_orbitals, BLOCK_WIDTH))
        .astype(pencil.overlap.dtype)
    )
    if start is not None:
        taken = start[:, : 3 * BLOCK_WIDTH // 4]
        block[:, : taken.shape[1]] += 30.0 * (np.real(taken) if pencil.is_real else taken)
    return block


def _next_shift(energies: NDArray[np.float64], lowest: int, first: int, n_states: int) -> float:
    """Choose a shift near the middle of the wanted states; ``lowest`` numbers ``energies[0]``.

    Beyond the states that are known, their mean distance tells how far to go.
    """
    spread, middle = float(np.ptp(energies)) + 1000.0 * CLOSEST, first + n_states // 2
    missing = max(middle - lowest - len(energies) + 1, lowest - middle, 0)
    if missing:
        step = spread * max(missing / len(energies), 0.5)
        return float(energies[-1]) + step if lowest < middle else float(energies[0]) - step
    place = middle - lowest
    low, high = max(place - 2, 0), min(place + 3, len(energies) - 1)
    gap = low + int(np.argmax(np.diff(energies[low : high + 1])))
    return 0.5 * float(energies[gap] + energies[gap + 1])
