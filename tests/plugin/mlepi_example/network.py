"""A backbone: MACE under a name of its own."""

from mlepi.models import MACE


class ExampleMACE(MACE):
    """Everything is inherited; its constructor is the schema of its config."""
