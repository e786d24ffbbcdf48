"""Phonons and thermal motion: force constants, sum rules, the harmonic ensemble, samplers."""
