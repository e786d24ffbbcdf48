"""Structures and data: layers, builders, bases, readers and writers, and the on-disk formats."""
