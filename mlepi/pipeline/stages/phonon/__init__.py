"""Force constants of the supercell from the phonon network, with bands and density of states."""
