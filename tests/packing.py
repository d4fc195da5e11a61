"""Pictures into tar files, for several tests."""

import io
import tarfile

from PIL import Image


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def write_tar(path, contents):
    """Pairs of name and bytes."""
    with tarfile.open(path, "w") as tar:
        for name, content in contents:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def shards(folder, pictures, each=10):
    """Pictures uint8 [N, H, W, C] (None: not a picture), labelled 0 and 1 in turn, in tar files of `each`."""
    folder.mkdir()
    for s in range(0, len(pictures), each):
        contents = []
        for i in range(s, min(s + each, len(pictures))):
            contents.append((f"{i:05d}.png", b"no picture" if pictures[i] is None else png(pictures[i])))
            contents.append((f"{i:05d}.cls", b"%d" % (i % 2)))
        write_tar(folder / f"{s:05d}.tar", contents)
    return folder
