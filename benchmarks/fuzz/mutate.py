"""Changes to files that keep them files: a checksum, a length or an archive around the change is made right again.

Plain changes of bytes seldom get past the first checksum. Each function here takes a file apart as its format does,
changes one part, by a table of values that readers have to refuse or by `plain`, and puts it together again.
"""

from __future__ import annotations

import copy
import io
import json
import random
import re
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import tomli_w

Plain = Callable[[bytes], bytes]  # the fuzzer's own changes of bytes

NUMBERS = (0, 1, -1, 2, 3, 7, 255, 4096, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 10**30, -(2**63), 0.5,
           1.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"))  # fmt: skip
WORDS = ("", ".", "..", "../x", "/etc/passwd", "a/../../b", "\0", "x" * 300, "\u00e9\u2028", "<script>alert(1)</script>",
         "NaN", "auto", "null", "1e999", "evil.py:Method", "builtins", "simclr", "byol", "resnet18", "mlp", "vit_tiny",
         "float32", "uint8", "O", ">u1", "V9", "generated", "real", "\ud800")  # fmt: skip
SHAPES = (b"(0,)", b"()", b"(1,)", b"(-1,)", b"(2, 3)", b"(9, 9)", b"(2, 8, 8)", b"(6, 1, 8, 8)", b"(2, 4611686018427387904)",
          b"(1000000000000,)", b"(100000, 100000)", b"(1.5,)", b"(True,)", b"'x'", b"(6, 0)", b"((((((2,),),),),),)",
          b"(" + b"1," * 60 + b")")  # fmt: skip
TYPES = (b"'|u1'", b"'<f4'", b"'>f8'", b"'<f2'", b"'|b1'", b"'|O'", b"'<U9'", b"'<U1000000000'", b"'|V5'", b"'<M8[s]'", b"'<c16'",
         b"'|S0'", b"[('a', '<f4')]", b"[('a', '|O')]", b"'<i8'", b"'>i2'", b"'<u4, (9,)<f8'", b"'<f16'")  # fmt: skip


def tree(value: Any, rng: random.Random) -> Any:
    """`value`, plain JSON, with one node replaced, left out, doubled, wrapped or moved."""
    root = [copy.deepcopy(value)]
    nodes: list[tuple[Any, Any]] = [(root, 0)]
    for holder, key in nodes:
        inside = holder[key]
        keys = (
            list(inside) if isinstance(inside, dict) else list(range(len(inside))) if isinstance(inside, list) else []
        )
        nodes += [(inside, k) for k in keys[:200]]
        if len(nodes) > 2000:
            break
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        holder, key = rng.choice(nodes)
        try:
            _change(holder, key, nodes, rng)
        except (LookupError, TypeError):
            continue  # its holder was taken away by the change before
    return root[0] if root else None


def _change(holder: Any, key: Any, nodes: list[tuple[Any, Any]], rng: random.Random) -> None:
    old, kind = holder[key], rng.randrange(9)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(old, (int, float)):
        holder[key] = rng.choice((old + 1, old - 1, -old, old * 2, old * 10**6, not old))
    elif kind == 2:
        other, name = rng.choice(nodes)
        holder[key] = copy.deepcopy(other[name])
    elif kind == 3:
        holder[key] = rng.choice(([old], {"x": old}, [old] * 3, [[[[[old]]]]]))
    elif kind == 4 and isinstance(holder, dict) and isinstance(key, str):
        holder[rng.choice((*WORDS, key + "x"))] = holder.pop(key)
    elif kind == 5:
        holder[key] = rng.choice((None, True, False, [], {}, [[]], {"": {}}))
    elif kind == 6 and isinstance(old, str):
        cut = rng.randrange(len(old) + 1)
        holder[key] = old[:cut] + rng.choice(WORDS) + old[cut:]
    else:
        holder[key] = rng.choice(NUMBERS if rng.random() < 0.6 else WORDS)


def json_file(content: bytes, rng: random.Random, plain: Plain) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return plain(content)
    text = json.dumps(tree(value, rng))
    if rng.random() < 0.01:  # what a parser that calls itself does not come back from
        text = text.replace('""', "[" * 5000, 1) if '""' in text else "[" * 100_000
    return text.encode()


def json_lines(content: bytes, rng: random.Random, plain: Plain) -> bytes:
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = json_file(lines[at], rng, plain)
    return b"\n".join(lines)


def toml_file(content: bytes, rng: random.Random, plain: Plain) -> bytes:
    try:
        return tomli_w.dumps(tree(tomllib.loads(content.decode()), rng)).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError, AttributeError, RecursionError):
        return plain(content)


def safetensors_file(content: bytes, rng: random.Random, plain: Plain) -> bytes:
    """The header, JSON in its own texts included, with its length made right; or the numbers after it."""
    length = int.from_bytes(content[:8], "little")
    head, rest = content[8 : 8 + length], content[8 + length :]
    if rng.random() < 0.15:
        return content[: 8 + length] + plain(rest)
    try:
        told = json.loads(head)
        about = told.get("__metadata__", {})
        name = rng.choice(sorted(about)) if about and rng.random() < 0.7 else None
        if name is not None and about[name][:1] in ("{", "["):
            about[name] = json.dumps(tree(json.loads(about[name]), rng))
        else:
            told = tree(told, rng)
    except (ValueError, AttributeError, RecursionError, TypeError):
        return plain(content)
    made = json.dumps(told).encode()
    return len(made).to_bytes(8, "little") + made + rest


def npy_file(content: bytes, rng: random.Random, plain: Plain) -> bytes:
    """The header of a .npy file with another shape or type, its length made right; or the data after it."""
    length = int.from_bytes(content[8:10], "little")
    head, rest = content[10 : 10 + length], content[10 + length :]
    kind = rng.randrange(5)
    if kind == 0 or not content.startswith(b"\x93NUMPY"):
        return plain(content)
    if kind == 1:
        return content[: 10 + length] + plain(rest)
    if kind == 2:
        head = re.sub(rb"'shape': .*\)", lambda _: b"'shape': " + rng.choice(SHAPES), head)
    elif kind == 3:
        head = re.sub(rb"'descr': [^,]*,", lambda _: b"'descr': " + rng.choice(TYPES) + b",", head)
    else:
        head = plain(head)[:60_000]
    return content[:8] + len(head).to_bytes(2, "little") + head + rest


def zip_file(content: bytes, rng: random.Random, plain: Plain, member: Callable[..., bytes] | None = None) -> bytes:
    """One member changed, by its kind; renamed, doubled, left out; stored or deflated; checksums made right."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(info.file_size for info in archive.infolist()) > 1 << 20:
                return plain(content)
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        LookupError,
    ):
        return plain(content)
    if not members or rng.random() < 0.1:
        return plain(content)
    at, kind = rng.randrange(len(members)), rng.randrange(20)
    name, data = members[at]
    if kind == 0:
        del members[at]
    elif kind == 1:
        members[at] = (rng.choice(("labels.npy", "x", "images", "../" + name, "/" + name, name + name)), data)
    elif kind == 2:
        members.append((name + "2", data))
    elif kind == 3:
        members[at] = (name, data + bytes(rng.choice((10, 10_000, 3 << 20))))  # what deflates well
    else:
        members[at] = (name, (member or file_by_name)(name, data, rng, plain))
    made = io.BytesIO()
    how = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(made, "w", how) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name[:60_000]), data, how)
    return made.getvalue()


def png_file(content: bytes, rng: random.Random, plain: Plain) -> bytes:
    """One chunk changed and every checksum made right; the pixels are changed before they are deflated again."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + size]])
        at += 12 + size
    if not chunks or not content.startswith(b"\x89PNG") or rng.random() < 0.2:
        return plain(content)
    chunk = rng.choice(chunks)
    if chunk[0] == b"IDAT" and rng.random() < 0.7:
        try:
            chunk[1] = zlib.compress(plain(zlib.decompress(chunk[1])))
        except zlib.error:
            chunk[1] = plain(chunk[1])
    elif chunk[0] == b"IHDR" and rng.random() < 0.7 and len(chunk[1]) == 13:
        sides = [rng.choice((1, 2, 8, 300, 5000, 20_000, 2**31 - 1)) for _ in "wh"]
        chunk[1] = struct.pack(
            ">IIBBBBB", *sides, rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6)), 0, 0, rng.randrange(2)
        )
    elif rng.random() < 0.2:
        chunks.insert(
            rng.randrange(len(chunks)),
            [rng.choice((b"tRNS", b"eXIf", b"iCCP", b"zTXt", b"PLTE", b"gAMA")), plain(chunk[1])],
        )
    else:
        chunk[1] = plain(chunk[1])
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return content[:8] + b"".join(parts)


def tar_file(content: bytes, rng: random.Random, plain: Plain) -> bytes:
    """One field of one header changed and the header's checksum made right."""
    blocks = [at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"]
    if not blocks or rng.random() < 0.2:
        return plain(content)
    at = rng.choice(blocks)
    head = bytearray(content[at : at + 512])
    start, length = rng.choice(((0, 100), (124, 12), (156, 1), (345, 155), (257, 8), (124, 12), (156, 1)))
    kept = {156: [bytes([b]) for b in b"0123456789xgLKSMVX\0"], 124: [b"%011o\0" % rng.choice((0, 1, 511, 512, 513, 10**6, 8**11 - 1)),
            b"\x80" + bytes(10) + b"\x05", b"\xff" * 12, b"           9", b"-0000000001\0"], 0: [b"../a.jpg", b"/etc/x.jpg", b"a/../../b.png",
            b"a.jpg", b"a.cls", b"a.json", b"\xff\xfe.jpg", b".jpg", b"b.JPG/"]}.get(start)  # fmt: skip
    new = rng.choice(kept) if kept and rng.random() < 0.7 else plain(bytes(head[start : start + length]))
    head[start : start + length] = new[:length].ljust(length, b"\0")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % (sum(head) & 0o777777)
    return content[:at] + bytes(head) + content[at + 512 :]


def csv_file(content: bytes, rng: random.Random, plain: Plain) -> bytes:
    """A cell, a row or a column of another kind."""
    rows = [row.split(b",") for row in content.split(b"\n")[:2000]]
    if rng.random() < 0.4 or not rows:
        return plain(content)
    cell = rng.choice((b"", b"nan", b"inf", b"-1e400", b'"', b'"a,b"', b"x" * 5000, b"\xff", b"\r", b"1e308", b"label", b"0x10", b"1_0",
                       b"\0", "٣".encode(), b"\xef\xbb\xbf", b"True", b"\xe2\x80\xa8"))  # fmt: skip
    row, kind = rng.choice(rows), rng.randrange(5)
    if kind == 0:
        row[rng.randrange(len(row))] = cell
    elif kind == 1:
        rows.insert(rng.randrange(len(rows)), [cell] * len(rows[0]))
    elif kind == 2:
        for one in rows:
            one.append(cell)
    elif kind == 3:
        rows *= 3
    else:
        row.append(cell)
    delimiter = rng.choice((b",", b",", b",", b";", b"\t"))
    return b"\n".join(delimiter.join(row) for row in rows)


KINDS = {
    ".json": json_file,
    ".jsonl": json_lines,
    ".toml": toml_file,
    ".safetensors": safetensors_file,
    ".npy": npy_file,
    ".npz": zip_file,
    ".png": png_file,
    ".tar": tar_file,
    ".csv": csv_file,
}


def file_by_name(name: str, content: bytes, rng: random.Random, plain: Plain) -> bytes:
    """Changed as its ending says, or by bytes alone."""
    kind = KINDS.get("." + name.rpartition(".")[2])
    return plain(content) if kind is None or rng.random() < 0.1 else kind(content, rng, plain)
