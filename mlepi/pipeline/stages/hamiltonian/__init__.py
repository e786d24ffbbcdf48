"""Hamiltonian and overlap of the equilibrium structure, and of displaced supercells."""
