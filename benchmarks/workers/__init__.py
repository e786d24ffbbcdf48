"""Worker processes of the speed benchmark: one per network and kind of work, spoken to by lines of JSON."""
