"""Effective masses of the edge bands against temperature."""
