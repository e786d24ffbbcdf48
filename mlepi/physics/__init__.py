"""Physics as pure functions on arrays.

Phonons, sampling, overlaps, Bloch sums, unfolding, spectra, velocities.
"""
