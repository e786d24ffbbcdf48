"""Optical conductivity and joint density of states of displaced supercells."""
