"""Phonon frequencies of a run beside those of another method or of an experiment."""
