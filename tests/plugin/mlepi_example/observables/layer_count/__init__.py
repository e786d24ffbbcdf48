"""How many layers the structure has."""
