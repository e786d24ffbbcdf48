"""Bands of displaced supercells at chosen k-points, on the line through K above all.

``reference_bands`` settles what all samples share: the k-points, the equilibrium bands there and
the supercell k-points that serve them. ``unfold_sample`` is what one sample contributes.
``samples`` and ``peaks`` average it; ``velocity_estimates`` turns averages into v_F(T) with error
bars.
"""
