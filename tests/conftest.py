"""Same conditions for every test.

Fixed seeds, one thread, no network, no trace of an earlier Hydra run.
"""

from __future__ import annotations

import os
import random
import socket
import sys

os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "WANDB_MODE": "disabled",
        "WANDB_SILENT": "true",
        "HYDRA_FULL_ERROR": "1",
    }
)

import numpy as np
import pytest
import torch
from parsed_yaml import remember_parsed_yaml

torch.set_num_threads(1)
remember_parsed_yaml()

# compared with, not bound to
LOCAL_HOSTS = ("127.", "::1", "localhost", "0.0.0.0", "::")  # noqa: S104


@pytest.fixture(autouse=True)
def _fixed_seeds():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (third parties draw from the global generator)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    connect = socket.socket.connect

    def connect_locally(self, address):
        is_internet = self.family in (socket.AF_INET, socket.AF_INET6)
        if is_internet and not str(address[0]).startswith((*LOCAL_HOSTS, socket.gethostname())):
            raise ConnectionRefusedError(
                f"a test tried to reach {address}: tests run without a network"
            )
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)


@pytest.fixture(autouse=True)
def _fresh_hydra():
    yield
    if "hydra.core.global_hydra" in sys.modules:
        sys.modules["hydra.core.global_hydra"].GlobalHydra.instance().clear()
