"""Floating-point arithmetic of a run: its dtype, and whether float32 products may be rounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlepi.errors import ConfigError, message

DTYPES = {"float32": torch.float32, "float64": torch.float64}
"""Values of the configuration key ``dtype``: precisions of training and evaluation."""


def parse_dtype(name: str) -> torch.dtype:
    """Return the floating-point type of a run; ``ConfigError`` when the name is unknown."""
    if name not in DTYPES:
        raise ConfigError(
            message("dtype", repr(name), f"one of {sorted(DTYPES)}", "Edit the config.")
        )
    return DTYPES[name]


@contextmanager
def float32_precision(tf32: bool) -> Iterator[None]:
    """Choose how float32 matrix products are computed inside a ``with`` block.

    TF32 rounds the factors to 10 bits of mantissa, a relative error of about 5e-4 instead of 6e-8.
    float64 is never touched.

    Args:
        tf32: True lets tensor cores compute in TF32 where the device has them; False forbids it,
            also where the environment asks for it.
    """
    # Not the newer torch.backends.*.fp32_precision: after one assignment to it, torch refuses the
    # question for the precision that Lightning and the compiler ask.
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
