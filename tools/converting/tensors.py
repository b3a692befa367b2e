"""Tensors of a folder as bytes, and safetensors files of them: without any package, as long as the folder has safetensors.

Nothing is computed: a tensor's bytes go from one file to the other as they are, whatever their format.
"""

import ctypes
import json
import mmap
from dataclasses import dataclass
from typing import Callable

SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
SHARD = 5 * 10**9  # bytes of a file at most, as on the hub
LARGEST_HEADER = 100 << 20


class Failed(Exception):
    """One line for the user."""


@dataclass
class Tensor:
    dtype: str  # as safetensors names it
    shape: list
    read: Callable  # gives its bytes

    @property
    def size(self):
        count = SIZES[self.dtype]
        for n in self.shape:
            count *= n
        return count


def opened(folder):
    """All tensors of a folder by the names that its files give them."""
    files = sorted(folder.glob("*.safetensors"))
    if files:
        read = from_safetensors
    else:
        files = sorted(folder.glob("pytorch_model*.bin"))
        read = from_pickle
    if not files:
        raise Failed(f"{folder}: there are neither *.safetensors nor pytorch_model*.bin files in this folder")
    found = {}
    for file in files:
        for name, tensor in read(file).items():
            if name in found:
                raise Failed(f"{file}: {name} is in another file too: remove one of them")
            found[name] = tensor
    return found


def from_safetensors(path):
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    length = int.from_bytes(mapped[:8], "little")
    if len(mapped) < 8 or length > min(LARGEST_HEADER, len(mapped) - 8):
        raise Failed(f"{path}: this is no whole safetensors file; download it again")
    try:
        header = json.loads(mapped[8 : 8 + length])
    except ValueError as error:
        raise Failed(f"{path}: its header cannot be read ({error}); download it again") from None
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        if entry["dtype"] not in SIZES:
            raise Failed(f"{path}: {name} is stored as {entry['dtype']}, which is not converted")
        tensor = Tensor(entry["dtype"], entry["shape"], lambda b=begin, e=end: mapped[b:e])
        if end - begin != tensor.size or end > len(mapped):
            raise Failed(f"{path}: {name} is cut short; download the file again")
        found[name] = tensor
    return found


def from_pickle(path):
    """A file of torch.save: numbers alone are unpickled, no code runs."""
    try:
        import torch
    except ImportError:
        raise Failed(f"{path.name} is a file of torch.save: install torch (its CPU build is enough)") from None
    names = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    names |= {torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"}
    names |= {torch.uint8: "U8", torch.bool: "BOOL"}
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a damaged or hostile file brings about
        what = " ".join(str(error).split())[:200]
        raise Failed(f"{path}: torch does not load it as plain weights ({what})") from None
    found = {}
    for name, tensor in loaded.items():
        if tensor.dtype not in names:
            raise Failed(f"{path}: {name} is stored as {tensor.dtype}, which is not converted")
        read = lambda t=tensor: content(t)
        found[name] = Tensor(names[tensor.dtype], list(tensor.shape), read)
    return found


def content(tensor):
    """The bytes of a torch tensor on the CPU, row after row."""
    whole = tensor.contiguous()
    return ctypes.string_at(whole.data_ptr(), whole.nbytes)


def write(folder, tensors):
    """Writes {name: tensor} in this order, in files of at most SHARD bytes with an index."""
    shards, room = [{}], SHARD
    for name, tensor in tensors.items():
        if shards[-1] and tensor.size > room:
            shards.append({})
            room = SHARD
        shards[-1][name] = tensor
        room -= tensor.size
    if len(shards) == 1:
        write_file(folder / "model.safetensors", shards[0])
        return
    places = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_file(folder / name, shard)
        places |= dict.fromkeys(shard, name)
    total = sum(tensor.size for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_file(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        end = offset + tensor.size
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            data = tensor.read()
            if len(data) != tensor.size:
                raise Failed(f"{name} has {len(data)} bytes, its shape asks for {tensor.size}")
            file.write(data)


def with_rows(tensor, rows, row):
    """The matrix, or vector, with copies of one of its rows behind it, until it has so many."""
    count, *width = tensor.shape
    bytes_of_row = tensor.size // count

    def read():
        data = tensor.read()
        return data + data[row * bytes_of_row : (row + 1) * bytes_of_row] * (rows - count)

    return Tensor(tensor.dtype, [rows, *width], read)
