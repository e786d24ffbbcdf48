"""Second-order perturbation theory of the low bands near K from derivatives of H and S."""
