"""A few eigenstates of matrices with up to some hundred thousand orbitals."""

from mlepi.physics.eigenstates.sparse.factorisation import (
    Factorise,
    Factors,
    choose_backend,
    choose_factorisation,
)
from mlepi.physics.eigenstates.sparse.pencil import SparsePencil, bloch_sum_sparse, build_pencil
from mlepi.physics.eigenstates.sparse.states import (
    NumberedStates,
    count_states_below,
    prove_numbers,
    solve_numbered_states,
)

__all__ = [
    "Factorise",
    "Factors",
    "NumberedStates",
    "SparsePencil",
    "bloch_sum_sparse",
    "build_pencil",
    "choose_backend",
    "choose_factorisation",
    "count_states_below",
    "prove_numbers",
    "solve_numbered_states",
]
