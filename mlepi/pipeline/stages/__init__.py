"""The stages from a structure to H and S of its displaced supercells, one folder each."""
