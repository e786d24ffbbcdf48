"""States around the Fermi level of a large cell by sparse shift-invert, and the continuum model."""
