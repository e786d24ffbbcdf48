"""Speed of a large matrix product and of the memory, in the workers' own conditions."""

from __future__ import annotations

import time
from typing import Any

import torch

from workers.protocol import Job, serve

SIZE, LENGTH, REPEATS = 2048, 1 << 26, 7


class MachineJob(Job):
    """Matrix product and copy, float32."""

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make the arrays."""
        self.matrix = torch.randn(SIZE, SIZE)
        self.source, self.target = torch.randn(LENGTH), torch.zeros(LENGTH)
        return {}

    def run(self) -> None:
        """Multiply once."""
        torch.mm(self.matrix, self.matrix)

    def check(self) -> dict[str, Any]:
        """Return the best GFLOP/s of a product and GB/s of a copy (reading and writing counted)."""
        multiply = min(self._time(self.run) for _ in range(REPEATS))
        copy = min(self._time(lambda: self.target.copy_(self.source)) for _ in range(REPEATS))
        return {
            "gflop_per_second": 2e-9 * SIZE**3 / multiply,
            "gbyte_per_second": 8e-9 * LENGTH / copy,
        }

    @staticmethod
    def _time(action: Any) -> float:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start


if __name__ == "__main__":
    serve(MachineJob)
