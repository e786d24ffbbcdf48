"""Bands, A(k, E) near K and v_F(T) by several estimators."""
