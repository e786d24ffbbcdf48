"""Physics as pure functions on arrays: phonons, sampling, overlaps, Bloch sums, unfolding, spectra, velocities."""
