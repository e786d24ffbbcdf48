"""Programs that run in a process of their own: in another Python, or with what may be hostile."""
