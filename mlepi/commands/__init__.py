"""The commands of ``mlepi``: one module each, with ``main(arguments)``, listed in ``table.py``."""
