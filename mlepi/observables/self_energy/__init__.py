"""Self-energies and quasiparticles of the bands near K, and their v_F(T)."""
