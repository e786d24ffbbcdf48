"""Density of states of displaced supercells and its projections."""
