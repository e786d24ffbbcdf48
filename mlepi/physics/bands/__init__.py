"""What states say about bands: k-points, unfolding, spectra, velocities, geometry, optics."""
