"""Exact limits, reference systems and the whole way from data to v_F(T), with known answers."""

from mlepi.verification.check import Check
from mlepi.verification.pack import PACK, Verification, run_pack, select
from mlepi.verification.table import print_table, write_table

__all__ = ["PACK", "Check", "Verification", "print_table", "run_pack", "select", "write_table"]
