"""Graphs: field names, neighbour lists, Atoms → HeteroData, real-space block matrices."""
