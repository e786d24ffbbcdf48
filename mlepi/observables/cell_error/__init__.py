"""The cell part of the error budget of a run, from a series of cell sizes."""
