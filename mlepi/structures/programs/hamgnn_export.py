"""Takes the arrays out of HamGNN's ``graph_data.npz``, a pickle, without running any of it.

``python -I hamgnn_export.py GRAPH_DATA.npz FOLDER`` writes one ``NAME_00000.hamgnn.npz`` of plain
arrays per graph. A pickle is a program that calls what it names. Here every name is looked up in
``KNOWN``, whose members only put data together, and a name that is not there ends the conversion:
nothing of torch or torch_geometric is called or imported for it, and state is only ever kept, by
``Inert``. A file can still waste memory and time: the process limits both before it opens it.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np

MEMORY = 16 * 2**30
"""Bytes of address space, whatever the size of the file."""
SECONDS = 1800
FIELDS = ("z", "cell", "pos", "edge_index", "cell_shift", "Hon", "Hoff", "Son", "Soff")
OPTIONAL = ("total_energy",)
HOSTILE = "It is no graph of HamGNN, or a hostile file. Nothing of it was run."
SPIN = ("iHon", "Hon_up", "Hon_u", "spin_vec")
STORAGES = {"Float": "<f4", "Double": "<f8", "Long": "<i8", "Int": "<i4", "Half": "<f2"}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""What a stream of torch.save begins with."""


def refuse(got: str, expected: str, fix: str) -> NoReturn:
    """End the process with one message."""
    sys.exit(f"REFUSED {got.replace('|', '/')[:300]}|{expected}|{fix}")


class Inert:
    """Stands for an object of a class: keeps what the pickle gives it, does nothing with it."""

    state: Any = None

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Take any arguments."""
        return object.__new__(cls)


class Kind(Inert):
    """A numpy dtype: its code with byte order."""

    def __init__(self, code: str = "O", *_: Any) -> None:
        self.code = str(code)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of plain numbers."""
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "<"
        if self.code[:1] not in "fiub" or not self.code[1:].isdigit():
            refuse(f"an array of {self.code!r}", "numbers", "Write the file again.")
        return np.dtype(("<" if order == "|" else order) + self.code)


class Array(Inert):
    """A numpy array."""

    @property
    def value(self) -> Any:
        """The numbers, or the list of objects."""
        _, shape, kind, fortran, data = self.state
        if isinstance(data, list):
            return data
        flat = np.frombuffer(data, dtype=kind.dtype)
        return flat.reshape(shape, order="F" if fortran else "C")


def read_scalar(kind: Kind, data: bytes) -> float:
    """Return a number of numpy."""
    return float(np.frombuffer(data, dtype=kind.dtype)[0])


def build_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """Return a tensor of torch as an array, with every index inside of its storage."""
    shape, steps = tuple(map(int, size)), tuple(map(int, stride))
    last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if min((*shape, *steps, offset), default=0) < 0 or (0 not in shape and last >= len(storage)):
        refuse("a tensor that reaches out of its numbers", "one inside", "Write the file again.")
    item = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, tuple(step * item for step in steps)
    ).copy()


def read_storage(data: bytes) -> Any:
    """Return the numbers of a torch storage from the older stream of torch.save."""
    stream = io.BytesIO(data)
    head = [Reader(stream).load() for _ in range(3)]
    if head[:2] != [MAGIC, PROTOCOL]:
        refuse("a tensor in an unknown form", "torch.save's older stream", "Write it with torch.")
    reader = Reader(stream)
    whole, keys = reader.load(), Reader(stream).load()
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        if key in reader.storages:
            part = reader.storages[key]
            part[:] = np.frombuffer(stream.read(count * part.itemsize), dtype=part.dtype)
    return whole


def list_known() -> dict[tuple[str, str], Any]:
    """Return what every name in the pickle means here."""
    names: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Kind,
        ("torch._utils", "_rebuild_tensor_v2"): build_tensor,
        ("torch.storage", "_load_from_bytes"): read_storage,
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = lambda *_: Array()
        names[f"{core}.multiarray", "scalar"] = read_scalar
    for name, code in STORAGES.items():
        names["torch", f"{name}Storage"] = code
    for module, classes in {
        "data": ("Data", "DataEdgeAttr", "DataTensorAttr"),
        "storage": ("GlobalStorage", "BaseStorage"),
    }.items():
        for name in classes:
            names[f"torch_geometric.data.{module}", name] = Inert
    return names


KNOWN = list_known()


class Reader(pickle._Unpickler):  # type: ignore[name-defined, misc, unused-ignore]
    """Reads a pickle with nothing but ``KNOWN``; the one in Python, whose steps can be replaced."""

    stack: list[Any]

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.storages: dict[str, Any] = {}

    def keep_state(self) -> None:
        """Give its state to an object that only keeps it."""
        state = self.stack.pop()
        if type(self.stack[-1]) not in (Inert, Kind, Array):
            refuse("a pickle with state of another object", "of arrays and graphs", HOSTILE)
        self.stack[-1].state = state

    base: ClassVar[Any] = pickle._Unpickler.dispatch  # type: ignore[attr-defined, unused-ignore]
    dispatch: ClassVar[Any] = {**base, pickle.BUILD[0]: keep_state}

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name means here, or end the process."""
        if (module, name) not in KNOWN:
            refuse(f"a pickle that asks for {module}.{name}", "numbers of HamGNN alone", HOSTILE)
        return KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Return the storage that torch names: empty until its numbers are read."""
        word, code, key, _, count = pid[:5]
        if word != "storage" or code not in STORAGES.values() or not 0 <= count < 2**34:
            refuse(f"a tensor of {word!r}", "a storage of real numbers", "Write the file again.")
        return self.storages.setdefault(key, np.zeros(count, dtype=code))


def read_graphs(path: str) -> list[dict[str, Any]]:
    """Return the fields of every graph of a file."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("graph.npy") as file:
            version = np.lib.format.read_magic(file)
            read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
            _, _, dtype = read(file)
            if not dtype.hasobject:
                refuse(f"an array of {dtype}", "HamGNN's graphs", "Check the file.")
            array = Reader(file).load()
        (content,) = array.value
        graphs = list(content.values() if isinstance(content, dict) else content)
        return [fields_of(graph) for graph in graphs]
    except MemoryError:
        refuse("more than its memory may hold", f"at most {MEMORY >> 30} GiB", "Divide the file.")
    except Exception as error:  # whatever a damaged file makes of it
        got = f"no graphs of HamGNN ({type(error).__name__}: {error})".replace("\n", " ")
        refuse(got, "np.savez(graph={0: Data, …})", "Check the file.")


def fields_of(graph: Any) -> dict[str, Any]:
    """Return the arrays of a graph, of torch_geometric 2 or older."""
    state = graph.state
    if "_store" in state:
        state = state["_store"].state["_mapping"]
    if any(key in state for key in SPIN):
        refuse("spin in a graph", "a calculation without", "Repeat the calculation without spin.")
    missing = [key for key in FIELDS if key not in state]
    if missing:
        refuse(f"a graph without {missing}", f"{list(FIELDS)}", "Write it with HamGNN's tools.")
    given = {key: state[key] for key in (*FIELDS, *OPTIONAL) if key in state}
    arrays = {key: np.asarray(v.value if isinstance(v, Array) else v) for key, v in given.items()}
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu":
            refuse(f"{key} of {array.dtype}", "real numbers", "Write it with HamGNN's tools.")
    return arrays


def limit() -> None:
    """Limit memory, processor time and what a file may hold, where the system can."""
    try:
        import resource
    except ImportError:
        return
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, SECONDS)):
        resource.setrlimit(what, (most, most))


def main(path: str, folder: str) -> None:
    """Convert a file."""
    limit()
    for k, graph in enumerate(read_graphs(path)):
        np.savez(Path(folder) / f"{Path(path).stem}_{k:05d}.hamgnn.npz", **graph)


if __name__ == "__main__":
    main(*sys.argv[1:])
