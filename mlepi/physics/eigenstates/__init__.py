"""Eigenstates of H(k) and S(k): Bloch sums, dense, batched, followed and sparse solvers."""
