"""Tar headers: the same members as tarfile finds, wherever it wrote them; damage and mischief told in one line."""

import io
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.data.tars import walk
from swell.errors import InputError


def members(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        return list(walk(handle, os.path.getsize(path), str(path)))
    finally:
        os.close(handle)


def written(path, contents, format=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


NAMES = [
    "a.png",
    "folder/b.png",
    "long/" + "x" * 300 + ".png",
    "ümläut/日本.png",
    "y" * 99 + ".png",
    "p" * 90 + "/" + "q" * 90,
]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_members_tarfile_finds(tmp_path, format):
    sizes = [0, 1, 63, 64, 511, 512, 513, 5000]
    names = [name for name in NAMES if format != tarfile.USTAR_FORMAT or (len(name) < 200 and name[0] != "y")]
    contents = {f"{i}-{name}": os.urandom(size) for i, size in enumerate(sizes) for name in names}
    if format == tarfile.USTAR_FORMAT:
        contents = {name.encode("ascii", "ignore").decode(): content for name, content in contents.items()}
    path = written(tmp_path / "x.tar", contents, format)
    found = members(path)
    assert found.pop().kind == "end"
    with tarfile.open(path) as tar:
        expected = [(info.name, info.offset_data, info.size) for info in tar]
    assert [(m.name, m.offset, m.size) for m in found] == expected
    whole = path.read_bytes()
    assert {m.name: whole[m.offset : m.offset + m.size] for m in found} == contents
    assert [m.tail for m in found] == [content[-64:] for content in contents.values()]


def test_links_devices_and_folders_are_no_files(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for kind in (
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.BLKTYPE,
            tarfile.FIFOTYPE,
            tarfile.DIRTYPE,
        ):
            info = tarfile.TarInfo(f"kind-{kind.decode()}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("real.png")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    found = members(tmp_path / "x.tar")
    assert [m.kind for m in found] == ["other"] * 6 + ["file", "end"]


def test_cut_short_everywhere(tmp_path):
    whole = written(tmp_path / "x.tar", {"a.png": b"1" * 700, "b.png": b"2" * 100}).read_bytes()
    cut = tmp_path / "cut.tar"
    for length in range(0, 512 + 1024 + 512 + 512, 97):
        cut.write_bytes(whole[:length])
        if length in (512 + 1024, 512 + 1024 + 512 + 512):
            continue
        with pytest.raises(InputError, match=r"cut short|empty file"):
            members(cut)
    cut.write_bytes(whole[: 512 + 1024])  # at a border: nothing to see but that the mark is missing
    assert [m.kind for m in members(cut)] == ["file"]


def header(name=b"a.png", size=b"00000000010\0", kind=b"0"):
    block = bytearray(512)
    block[: len(name)] = name
    block[124:136] = size
    block[156:157] = kind
    block[257:265] = b"ustar\00000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8b" + b"\0" * 600, "gunzip"),
        (b"x" * 1024, "no tar header"),
        (header(size=b"77777777777\0"), "cut short"),
        (header(size=b"\xff" * 12), "cut short"),  # minus one
        (header(size=b"\x80" + b"\xff" * 11), "cut short"),
        (header(size=b"0000000009x\0"), "no number"),
        (header(kind=b"S"), "sparse"),
        (header(kind=b"x", size=b"00000000012\0") + b"99 path=a\n".ljust(512, b"\0"), "pax"),
        (header(kind=b"x", size=b"00000000012\0") + b"10 siz=-1\n".ljust(512, b"\0") + header(), "cut short"),
        (header(kind=b"x", size=b"00000000013\0") + b"11 size=-1\n".ljust(512, b"\0") + header(), "no number"),
        (header(kind=b"L", size=b"%011o\0" % (2 << 20)) + b"\0" * (2 << 20), "a header of"),
    ],
)
def test_mischief_is_told(tmp_path, content, words):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(InputError, match=words) as told:
        members(tmp_path / "x.tar")
    assert "\n" not in str(told.value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_ends_soon_and_in_one_way(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    whole = bytearray(written(path, {"a.png": b"1" * 700, "l" * 200: b"2" * 10}).read_bytes()[:5000])
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        found = members(path)
    except InputError:
        return
    assert all(m.offset + m.size <= len(whole) for m in found)
