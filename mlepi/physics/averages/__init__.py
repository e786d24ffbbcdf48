"""Averages over samples: designs, error bars, convergence, control variates, size series."""
