"""Reads HDF5 files for hdf5.py, which starts it as a process of its own and says why. Not to be imported.

Requests come as lines of JSON on stdin; each is answered by a line of JSON on stdout, and as many bytes as it tells:

    {"open": PATH}                         {"nodes": {PATH INSIDE: {"dtype", "shape", "refused"}}, "attributes": {...}}
    {"names": PATH}                        {"names": [PATH INSIDE, ...]}, the first ones, for a file need not be opened
    {"read": NAME, "start": n, "stop": m}  {"dtype": "<f4", "shape": [...], "bytes": n}, and the values
                                           {"dtype": "bytes", "lengths": [...], "bytes": n}, and the texts, end to end
    whatever goes wrong                    {"error": WORDS}

While a long answer is made, empty lines say that it is being made.

It imports nothing of sakiyomi, so that it starts quickly.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, BinaryIO

os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # no code from elsewhere, whatever filter a file asks for
import h5py
import numpy as np

MEMORY = 16 * 2**30  # bytes of addresses this process may have
NODES = 500_000
DEPTH = 32
CHUNK = 2**30  # bytes that may have to be unpacked at once
INFLATES = 2000  # times: deflate does not reach 1032
MANY, FEW, LEVELS = 500, 2, 3  # names of a group, groups in it and in these, by which a format is known
SMALL = 64 * 2**20  # bytes that a dataset may have whatever is stored: unwritten parts are filled up
ATTRIBUTES = 64  # numbers or texts of one attribute
TEXT = 65_536  # signs of one


class RefusedError(Exception):
    """Something that is not read, and why."""


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    file: Any = None
    for line in requests:
        content = b""
        try:
            request = json.loads(line)
            if "open" in request:
                if file is not None:
                    file.close()
                file = None  # if the next one cannot be opened, none is
                file = h5py.File(request["open"], "r", locking=False)
                answer = survey(file, answers)
            elif "names" in request:
                with h5py.File(request["names"], "r", locking=False) as other:
                    answer = {"names": list(_names(other, "", LEVELS))}
            else:
                answer, content = read(file, request["read"], request["start"], request["stop"])
        except Exception as error:  # h5py raises nearly anything for damaged files; all of it is told
            answer, content = {"error": " ".join(str(error).split())[:300] or type(error).__name__}, b""
        answers.write(json.dumps({**answer, "bytes": len(content)}).encode("ascii") + b"\n" + content)
        answers.flush()


def survey(file: Any, answers: BinaryIO) -> dict[str, Any]:
    """All datasets by their path inside, refused ones with the reason, and the attributes of groups."""
    nodes: dict[str, Any] = {}
    attributes = {"": _attributes(file)}
    for number, (name, found) in enumerate(_walk(file, "", (file,)), 1):
        if number % 1000 == 0:
            answers.write(b"\n")
            answers.flush()
        if len(nodes) + len(attributes) > NODES:
            raise RefusedError(f"it has more than {NODES} groups and datasets")
        if isinstance(found, h5py.Group):
            attributes[name] = _attributes(found)
            continue
        try:
            if isinstance(found, Exception):
                raise found
            nodes[name] = {"dtype": _kind(found), "shape": [int(n) for n in found.shape], "refused": ""}
        except Exception as error:
            said = " ".join(str(error).split())[:300] or type(error).__name__
            nodes[name] = {"dtype": "", "shape": [], "refused": said}
    return {"nodes": nodes, "attributes": attributes}


def read(file: Any, name: str, start: int, stop: int) -> tuple[dict[str, Any], bytes]:
    """Values [start:stop] along the first axis."""
    if file is None:
        raise RefusedError("no file is open")
    dataset = file[name]
    kind = _kind(dataset)
    values = dataset[start:stop] if dataset.shape else np.asarray(dataset[()]).reshape(1)
    if kind != "bytes":
        plain = np.ascontiguousarray(values, np.dtype(kind))
        return {"dtype": kind, "shape": list(plain.shape)}, plain.tobytes()
    texts = [_bytes(value) for value in values.ravel()]
    return {"dtype": "bytes", "shape": [len(texts)], "lengths": [len(text) for text in texts]}, b"".join(texts)


def _walk(group: Any, path: str, above: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """All that hangs below a group: path and group, dataset, or the reason why it is not looked at."""
    for key in group:
        text = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
        name = f"{path}/{text}" if path else text
        try:
            if text != key:
                raise RefusedError("its name is no UTF-8")
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise RefusedError(f"a link to another file, {link.filename!r}; copy what it links to into this one")
            found = group[key]
            again = isinstance(found, h5py.Group) and found in above
            if again or len(above) > DEPTH:
                raise RefusedError("a link back to a group it is in" if again else f"more than {DEPTH} groups deep")
        except Exception as error:  # of links that lead nowhere, or in a circle, and of damaged objects
            yield name, error
            continue
        yield name, found
        if isinstance(found, h5py.Group):
            yield from _walk(found, name, (*above, found))


def _names(group: Any, path: str, levels: int) -> Iterator[str]:
    """The first names in a group, and in the first groups in it."""
    groups = 0
    for key in islice(group, MANY):
        yield f"{path}{key}"
        if levels > 1 and groups < FEW and isinstance(group.get(key, getlink=True), h5py.HardLink):
            found = group[key]
            if isinstance(found, h5py.Group):
                groups += 1
                yield from _names(found, f"{path}{key}/", levels - 1)


def _kind(dataset: Any) -> str:
    """What its values are read as: a numpy dtype, or "bytes". Raises RefusedError for what is not read."""
    if not isinstance(dataset, h5py.Dataset):
        raise RefusedError("a named type, no dataset")
    if dataset.shape is None:
        raise RefusedError("it is empty")
    if dataset.is_virtual or dataset.external:
        raise RefusedError("its values are in other files; copy them into this one (h5repack)")
    shape, dtype = dataset.shape, dataset.dtype  # each is asked of the file
    if dataset.chunks and int(np.prod(dataset.chunks, dtype=object)) * dtype.itemsize > CHUNK:
        raise RefusedError(f"its chunks are declared {dataset.chunks}, too large to be true")
    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
    stored = int(dataset.id.get_storage_size())
    if declared > max(SMALL, INFLATES * stored):
        raise RefusedError(f"its shape {shape} declares {declared} bytes, {stored} are stored")
    if dtype.kind in "biuf" and dtype.itemsize <= 8:
        return dtype.newbyteorder("<").str
    if dtype.kind == "S" or h5py.check_string_dtype(dtype) or h5py.check_vlen_dtype(dtype) == np.uint8:
        return "bytes"
    raise RefusedError(f"values of type {dtype} are not read; numbers and texts are")


def _bytes(value: Any) -> bytes:
    if isinstance(value, np.ndarray):  # of uint8, of its own length
        return value.astype(np.uint8).tobytes()
    return value.encode() if isinstance(value, str) else bytes(value)


def _attributes(group: Any) -> dict[str, Any]:
    """Those that are texts or few numbers."""
    found: dict[str, Any] = {}
    for key in list(group.attrs)[:ATTRIBUTES]:
        with suppress(Exception):  # an attribute that cannot be read is none
            count = int(np.prod(group.attrs.get_id(key).shape or (1,), dtype=object))
            if not isinstance(key, str) or count > ATTRIBUTES:
                continue
            plain = np.asarray(group.attrs[key]).tolist()
            parts = plain if isinstance(plain, list) else [plain]
            parts = [part.decode("utf-8", "replace") if isinstance(part, bytes) else part for part in parts]
            if all(isinstance(part, (str, int, float, bool)) and len(str(part)) <= TEXT for part in parts):
                found[key] = parts if isinstance(plain, list) else parts[0]
    return found


if __name__ == "__main__":
    with suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(sys.stdin.buffer, sys.stdout.buffer)
