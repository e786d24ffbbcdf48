"""A trained network in the precision and on the device that is asked for."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import nn

from mlepi.arithmetic import parse_dtype
from mlepi.errors import ConfigError, StructureError, message
from mlepi.models.compilation import compile_method


class Predictor:
    """A trained network with its cutoffs, elements and history.

    Args:
        model: trained network; the predictor keeps it, frozen and in evaluation mode.
        elements: atomic numbers that the network knows.
        cutoffs: relation → cutoff of the graph, Å.
        metadata: where the network comes from; plain Python data.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        model: nn.Module,
        *,
        elements: Sequence[int],
        cutoffs: Mapping[str, float],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.elements = tuple(sorted(int(z) for z in elements))
        self.cutoffs = {name: float(cutoff) for name, cutoff in cutoffs.items()}
        self.metadata = dict(metadata or {})
        self._model = model.eval().requires_grad_(False)
        self._networks: dict[tuple[str, str], nn.Module] = {}
        self._compiled = False
        self._tabulated = False

    @property
    def reach(self) -> float:
        """How far the environment of an atom reaches, Å: layers times the longest cutoff."""
        network: Any = self._model.network
        return float(network.num_layers * max(self.cutoffs.values()))

    def compile_kernels(self) -> None:
        """Run the network's kernels compiled from now on.

        The first evaluation takes minutes more, less when cached.

        Raises:
            ConfigError: the network has no compiled kernels.
        """
        compile_method(self._model)
        self._compiled = True
        self._networks.clear()

    def tabulate_radial(self) -> None:
        """Take radial functions from tables from now on, where a processor runs the network.

        The tables are made when a network is first asked for; see ``models.radial_table``.
        Networks without tables stay as they are.
        """
        self._tabulated = True
        self._networks.clear()

    def network(self, device: str | torch.device = "cpu", dtype: str = "float64") -> nn.Module:
        """Return the network on a device and in a precision; one copy of each is kept.

        Raises:
            ConfigError: the precision is unknown or the device cannot be used.
        """
        precision = parse_dtype(dtype)
        key = (str(device), dtype)
        if key not in self._networks:
            check_device(device)
            network: Any = copy.deepcopy(self._model)
            on_processor = torch.device(device).type == "cpu"
            if self._tabulated and on_processor and hasattr(network, "tabulate_radial"):
                network.double().tabulate_radial()
            network = network.to(device=device, dtype=precision)
            if self._compiled:
                compile_method(network)()
            self._networks[key] = network
        return self._networks[key]

    def check_elements(self, numbers: Sequence[int] | NDArray[Any]) -> None:
        """Raise ``StructureError`` when a structure has an element unknown to the network."""
        missing = sorted({int(z) for z in numbers} - set(self.elements))
        if missing:
            raise StructureError(
                message(
                    "structure",
                    f"atomic numbers {missing}",
                    f"only elements of the {self.kind} network, {list(self.elements)}",
                    "Use a checkpoint trained on these elements.",
                )
            )


def check_device(device: str | torch.device) -> None:
    """Raise ``ConfigError`` when tensors cannot be put on a device."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ConfigError(
            message(
                "device", f"{str(device)!r} ({reason})", "a device of this machine", 'Use "cpu".'
            )
        ) from error
