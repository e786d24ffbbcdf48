"""The equilibrium structure of a run: as given, or relaxed with the phonon network."""
