"""Berry curvature, quantum metric and Berry phases of the averaged Bloch Hamiltonian."""
