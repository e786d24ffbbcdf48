"""Kernels in C++ are built once for all tests of networks."""

import pytest

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
