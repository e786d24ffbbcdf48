"""Inference of one MACE network by the kernels in C++."""

from __future__ import annotations

import math
import subprocess
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from mlepi.errors import message
from mlepi.models.backbone import Edges
from mlepi.models.channel_linear import (
    ChannelLinear,
    ElementLinear,
    apply_by_element,
    degree_slice,
)
from mlepi.models.interaction import Interaction
from mlepi.models.native.contraction import NativeContraction
from mlepi.models.native.sums import NeighbourSums, SortedEdges, sort_edges
from mlepi.models.radial_table import RadialTables
from mlepi.models.symmetric_contraction import SymmetricContraction
from mlepi.models.wigner import AXES

if TYPE_CHECKING:
    from mlepi.models.mace import MACE


class NativeLayers:
    """What the kernels need to know of a network's layers; made at the first use.

    Copies and pickles are empty and make it again.

    Args:
        asked: whether compiled inference is wanted.
    """

    reported: set[str] = set()  # noqa: RUF012 - reasons that a warning has told, in this process

    def __init__(self, asked: bool = False) -> None:
        self.asked = asked
        self.rows: list[Tensor] = []
        self.sums: list[NeighbourSums] = []
        self.contractions: list[NativeContraction] = []
        self.matrices: dict[tuple[object, ...], tuple[list[tuple[int, int]], list[Tensor]]] = {}

    def __deepcopy__(self, memo: object) -> NativeLayers:
        """Return one without addresses of the original."""
        return NativeLayers(self.asked)

    def __reduce__(self) -> tuple[type[NativeLayers], tuple[bool]]:
        """Pickle what is wanted, without addresses."""
        return NativeLayers, (self.asked,)

    def sort_edges(self, network: MACE, species: Tensor, edges: Edges) -> SortedEdges | None:
        """Sort the edges by receivers; None where the kernels are not to be used.

        That is where they are not wanted or cannot be built, on other devices, and where an edge is
        shorter than the tables.
        """
        tables = network.radial_tables
        if not self.asked or tables is None or edges.vectors.device.type != "cpu":
            return None
        if edges.lengths.shape[0] == 0 or float(edges.lengths.detach().min()) < tables.shortest:
            return None
        if not self._prepare(network, tables):
            return None
        start, order = sort_edges(edges.target, species.shape[0])
        kinds, kind = torch.unique(species, return_inverse=True)
        return SortedEdges(
            n_atoms=species.shape[0],
            start=start,
            edge=order,
            source=edges.source.contiguous(),
            curve=tables.curve_of_relation[edges.relation],
            kinds=kinds,
            kind=kind,
            vectors=edges.vectors[:, AXES],
        )

    def _prepare(self, network: MACE, tables: RadialTables) -> bool:
        """Make what the layers need, again where tables have changed; tell whether that works.

        Where it does not, a warning says why, once.
        """
        rows = [tables.rows_of(layer) for layer in range(network.num_layers)]
        if len(self.rows) == len(rows) and all(map(Tensor.is_set_to, self.rows, rows)):
            return True
        try:
            self.sums = [
                NeighbourSums(part.paths if layer > 0 else (), part.l_max, tables, layer)
                for layer, part in enumerate(cast("Sequence[Interaction]", network.interactions))
            ]
            self.contractions = [
                NativeContraction(part, rows[0].dtype)
                for part in cast("Sequence[SymmetricContraction]", network.contractions)
            ]
        except (OSError, subprocess.SubprocessError) as error:
            self.asked = False
            self._report(error)
            return False
        self.rows = rows
        return True

    def _report(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if reason in self.reported:
            return
        self.reported.add(reason)
        text = message(
            "compile (energies and forces of MACE)",
            f"no compiled code, {reason}",
            "a C++ compiler, g++ ≥ 12 or clang++, and a folder for what it builds",
            "Results are the same, only slower. Install one (set CXX), or set compile: false.",
        )
        warnings.warn(text, RuntimeWarning, stacklevel=2)

    def update_nodes(
        self, network: MACE, layer: int, nodes: Tensor, species: Tensor, edges: SortedEdges
    ) -> Tensor:
        """Return the features after one layer, as ``MACE.update_nodes``."""
        interaction = cast(Interaction, network.interactions[layer])
        connection = cast(ElementLinear, network.self_connections[layer])
        if layer > 0:
            sums = self.sums[layer](edges, self._apply(interaction.linear_up, nodes))
            mixing = self._keep(
                ("mixing", layer),
                list(interaction.mixing),
                lambda: [interaction.normalised_mixing(l) for l in range(len(interaction.mixing))],
            )
        else:
            sums = self.sums[layer](edges)
            mixing = self._keep(
                ("moments", *edges.kinds.tolist()),
                [network.embedding, *interaction.parameters()],
                lambda: interaction.moment_matrices(network.embed_elements(edges.kinds)),
            )
        messages = torch.cat(
            [
                (part @ matrix).view(edges.n_atoms, -1, matrix.shape[1])
                for part, matrix in zip(sums, mixing, strict=True)
            ],
            dim=1,
        )
        on_messages = layer == 0 and network.first_self_connection == "message"
        if on_messages:
            messages = self._connect(connection, messages, species)
        linear = cast(ChannelLinear, network.linears[layer])
        result = self._apply(linear, self.contractions[layer](messages, species))
        return result if on_messages else result + self._connect(connection, nodes, species)

    def _apply(self, linear: ChannelLinear, features: Tensor) -> Tensor:
        """Return what a linear map does, with its matrices kept."""
        scale = 1.0 / math.sqrt(linear.weight.shape[1])
        matrices = self._keep((id(linear),), [linear.weight], lambda: list(linear.weight * scale))
        return multiply_degrees(features, matrices)

    def _connect(self, linear: ElementLinear, features: Tensor, species: Tensor) -> Tensor:
        """Return what a linear map of every element does, with its matrices kept."""
        scale = 1.0 / math.sqrt(linear.num_elements * linear.weight.shape[2])
        matrices = self._keep(
            (id(linear),), [linear.weight], lambda: list((linear.weight * scale).flatten(0, 1))
        )
        n_degrees = linear.l_max + 1
        mixed = apply_by_element(
            lambda part, element: multiply_degrees(
                part, matrices[element * n_degrees : (element + 1) * n_degrees]
            ),
            features,
            species,
            linear.num_elements,
        )
        return nn.functional.pad(mixed, (0, 0, 0, linear.missing)) if linear.missing else mixed

    def _keep(
        self,
        key: tuple[object, ...],
        parameters: Sequence[Tensor],
        make: Callable[[], list[Tensor]],
    ) -> list[Tensor]:
        """Return matrices made of parameters, again where these have changed."""
        versions = [(parameter.data_ptr(), parameter._version) for parameter in parameters]
        if key not in self.matrices or self.matrices[key][0] != versions:
            with torch.no_grad():
                self.matrices[key] = (versions, make())
        return self.matrices[key][1]


def multiply_degrees(features: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Multiply the components of every l by a matrix: as ``mix_channels``, as one product per l."""
    parts = [
        (features[:, degree_slice(l)].reshape(-1, matrix.shape[0]) @ matrix).view(
            features.shape[0], -1, matrix.shape[1]
        )
        for l, matrix in enumerate(matrices)
    ]
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
