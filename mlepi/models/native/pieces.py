"""The inner functions of the sum over neighbours in C++, with first and second derivatives.

Those of ``message_pieces`` that take radial weights R, for trainings and for whatever else
differentiates forces.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from mlepi.kernels.library import address, find_library
from mlepi.models.compilation import are_operations_plain
from mlepi.models.message_paths import Path, path_blocks
from mlepi.models.message_pieces import PieceFunctions

_NUMBER, _POINTER = ctypes.c_int64, ctypes.c_void_p


class _Layout(ctypes.Structure):
    _fields_ = (
        *((name, _NUMBER) for name in ("channels", "n_inputs", "n_paths", "n_couplings")),
        ("n_rows", _NUMBER),
        ("paths", _POINTER),
    )


class _Arrays(ctypes.Structure):
    _fields_ = (
        *((name, _NUMBER) for name in ("n_atoms", "n_neighbours")),
        *((name, _POINTER) for name in ("cotangent", "senders", "weights", "couplings")),
        *((name, _POINTER) for name in ("senders_moved", "weights_moved", "couplings_moved")),
        *((name, _POINTER) for name in ("messages", "of_senders", "of_weights")),
        *((name, _POINTER) for name in ("of_weights_moved", "of_couplings")),
    )


class NativePieces:
    """Inner functions for some paths; where C++ cannot serve, others do.

    That is on other devices, for numbers of channels that do not fill vectors, inside
    ``plain_operations``, and where the kernels cannot be built. Copies and pickles keep no address.

    Args:
        paths: l1 ⊗ Y_l2 → l3, as from ``message_paths``.
        otherwise: the same functions by torch, plain or compiled.
    """

    def __init__(self, paths: tuple[Path, ...], otherwise: PieceFunctions) -> None:
        self.paths, self.otherwise = paths, otherwise
        self.known: bool | None = None  # whether the kernels have all paths; None: not yet asked
        blocks = path_blocks(paths)
        self.n_couplings = blocks[-1].coupling.stop
        self.n_rows = sum(block.size_out for block in blocks)
        self.table = torch.tensor(
            [
                (
                    *(block.size_in, block.size_out, block.senders.start, block.coupling.start),
                    *(block.messages.start, block.messages.step),
                )
                for block in blocks
            ]
        )

    @property
    def functions(self) -> PieceFunctions:
        """The three functions, from R."""
        return PieceFunctions(self.value, self.gradients, self.second)

    def value(self, senders: Tensor, weights: Tensor, couplings: Tensor) -> Tensor:
        """Return A, see ``weighted_value``."""
        library = self._library(senders)
        if library is None:
            found: Tensor = self.otherwise.value(senders, weights, couplings)
            return found
        messages = self._empty_messages(senders)
        self._run(
            library,
            0,
            {"senders": senders, "weights": weights, "couplings": couplings},
            {"messages": messages},
        )
        return messages

    def gradients(
        self, cotangent: Tensor, senders: Tensor, weights: Tensor, couplings: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the derivatives of ⟨B, A⟩, see ``weighted_gradients``."""
        library = self._library(senders)
        if library is None:
            found: tuple[Tensor, Tensor, Tensor] = self.otherwise.gradients(
                cotangent, senders, weights, couplings
            )
            return found
        of_senders, of_weights, of_couplings = _empty_like(senders, weights, couplings)
        self._run(
            library,
            1,
            {
                "cotangent": cotangent,
                "senders": senders,
                "weights": weights,
                "couplings": couplings,
            },
            {"of_senders": of_senders, "of_weights": of_weights, "of_couplings": of_couplings},
        )
        return of_senders, _flatten(of_weights), of_couplings

    def second(
        self,
        cotangent: Tensor,
        senders: Tensor,
        weights: Tensor,
        couplings: Tensor,
        senders_moved: Tensor,
        weights_moved: Tensor,
        couplings_moved: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the derivatives of ⟨B, dA⟩, see ``weighted_second``."""
        given = {
            "cotangent": cotangent,
            "senders": senders,
            "weights": weights,
            "couplings": couplings,
            "senders_moved": senders_moved,
            "weights_moved": weights_moved,
            "couplings_moved": couplings_moved,
        }
        library = self._library(senders)
        if library is None:
            found: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
            found = self.otherwise.second(*given.values())
            return found
        of_cotangent = self._empty_messages(senders)
        of_senders, of_weights, of_moved, of_couplings = _empty_like(
            senders, weights, weights, couplings
        )
        self._run(
            library,
            2,
            given,
            {
                "messages": of_cotangent,
                "of_senders": of_senders,
                "of_weights": of_weights,
                "of_weights_moved": of_moved,
                "of_couplings": of_couplings,
            },
        )
        return of_cotangent, of_senders, of_couplings, _flatten(of_weights), _flatten(of_moved)

    def _library(self, senders: Tensor) -> ctypes.CDLL | None:
        """Return the kernels for these features; None where others are to be used."""
        if senders.numel() == 0 or are_operations_plain():
            return None
        library = find_library(senders, senders.shape[3])
        if library is not None and self.known is None:
            self.known = all(library.has_piece(*path) for path in self.table[:, :2].tolist())
        return library if self.known else None

    def _empty_messages(self, senders: Tensor) -> Tensor:
        return senders.new_empty(senders.shape[0], self.n_rows, senders.shape[3])

    def _run(
        self,
        library: ctypes.CDLL,
        order: int,
        given: dict[str, Tensor],
        results: dict[str, Tensor],
    ) -> None:
        held = {name: tensor.contiguous() for name, tensor in given.items()} | results
        n_atoms, n_neighbours, n_inputs, channels = given["senders"].shape
        layout = _Layout(
            channels, n_inputs, len(self.paths), self.n_couplings, self.n_rows, address(self.table)
        )
        arrays = _Arrays(
            n_atoms, n_neighbours, **{name: address(tensor) for name, tensor in held.items()}
        )
        n_threads = min(torch.get_num_threads(), n_atoms)
        library.run_pieces(
            ctypes.byref(layout), ctypes.byref(arrays), _NUMBER(order), _NUMBER(n_threads)
        )


def _empty_like(*tensors: Tensor) -> list[Tensor]:
    return [torch.empty(tensor.shape, dtype=tensor.dtype) for tensor in tensors]


def _flatten(weights: Tensor) -> Tensor:
    """Return derivatives by R as (slots, paths·channels)."""
    return weights.flatten(0, 1).flatten(1)
