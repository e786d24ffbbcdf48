"""A cheap Hamiltonian that follows the electron network around the Dirac energy."""
