"""Electron-phonon coupling from derivatives of H and S: responses of a cell, second order."""
