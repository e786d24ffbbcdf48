"""Configs of the package, in the groups of mlepi."""
