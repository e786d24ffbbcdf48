"""Files that run in the Python of other programs: each imports nothing of mlepi.

They have a folder of their own, since Python looks for modules beside a script first.
"""
