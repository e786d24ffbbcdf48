"""v_F against the size of the cell, and its limit of infinite cells."""
