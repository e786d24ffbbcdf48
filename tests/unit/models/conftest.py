"""Kernels in C++ are built once for all tests of networks."""

import pytest
import torch

from mlepi.kernels import library


@pytest.fixture(scope="module")
def built_kernels(tmp_path_factory):
    """Let kernels be kept where all processes of the tests find them."""
    folder = tmp_path_factory.getbasetemp().parent / "kernels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        library.load_library.cache_clear()
        yield folder
        library.load_library.cache_clear()


@pytest.fixture(params=[1, 3])
def threads(request):
    """Run a test with one thread, and with several."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
