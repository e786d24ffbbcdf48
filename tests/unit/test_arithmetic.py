"""Dtypes by name; how float32 products are computed, restored also after an error."""

import pytest
import torch

from mlepi.arithmetic import float32_precision, parse_dtype
from mlepi.errors import ConfigError


@pytest.mark.parametrize("before", ["highest", "high"])
@pytest.mark.parametrize(("tf32", "inside"), [(False, "highest"), (True, "high")])
def test_choice_holds_inside_and_the_former_one_returns(before, tf32, inside):
    at_start = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    try:
        with float32_precision(tf32):
            assert torch.get_float32_matmul_precision() == inside
            assert torch.backends.cuda.matmul.allow_tf32 is tf32
        assert torch.get_float32_matmul_precision() == before
        with pytest.raises(ZeroDivisionError), float32_precision(tf32):
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(at_start)


def test_scopes_nest():
    with float32_precision(True):
        with float32_precision(False):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"


def test_dtypes_by_name():
    assert (parse_dtype("float32"), parse_dtype("float64")) == (torch.float32, torch.float64)
    with pytest.raises(
        ConfigError, match=r"dtype: got 'half'; expected one of \['float32', 'float"
    ):
        parse_dtype("half")
