"""Inference of MACE in C++: energies and forces alone, built on request; torch is the reference."""
