"""The thermal ensemble of displaced supercells."""
