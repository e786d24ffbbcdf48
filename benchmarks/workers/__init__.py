"""Worker processes of the speed benchmark.

One per network and kind of work, spoken to by lines of JSON.
"""
