"""Bands of labelled supercells: H and S of the labels beside those of the electron network."""
