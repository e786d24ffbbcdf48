"""v_F(T) with the noise taken off that a cheap Hamiltonian shares with the network."""
