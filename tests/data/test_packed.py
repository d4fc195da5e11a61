"""Images in shards as samples: the same pixels as from an array, whatever is asked for and however; bad ones replaced."""

import struct
import zlib

import numpy as np
import pytest
import torch

from packing import png, shards, write_tar
from swell.data import packed, packed_open
from swell.data import stream as streams
from swell.data.arrays import resized
from swell.data.images import decode
from swell.data.mixture import WINDOW, Mixture, Stream
from swell.data.open import open_data
from swell.data.packed import block_starts
from swell.data.stream import stream_of
from swell.errors import InputError
from swell.nets.encoder import channel_statistics


@pytest.fixture
def pictures():
    return list(np.random.default_rng(0).integers(0, 256, (35, 8, 8, 3), np.uint8))


def test_any_index_gives_what_an_array_gives(tmp_path, pictures):
    samples = open_data(shards(tmp_path / "s", pictures)).samples
    expected = np.stack(pictures).transpose(0, 3, 1, 2)
    mask = np.arange(35) % 3 == 0
    for index in (slice(None), slice(3, 30, 4), slice(None, None, -2), [5, 5, -1], np.array([34, 0]), mask, 7, -1):
        np.testing.assert_array_equal(samples[index], expected[index])
    np.testing.assert_array_equal(samples.subset(mask)[1:4], expected[mask][1:4])
    np.testing.assert_array_equal(samples.subset(mask).subset([2, 0])[:], expected[mask][[2, 0]])
    np.testing.assert_array_equal(np.concatenate([samples, expected]), np.concatenate([expected, expected]))
    assert torch.equal(samples.take(torch.tensor([3, 3, 0])), torch.from_numpy(expected[[3, 3, 0]]))
    assert samples[[]].shape == (0, 3, 8, 8)
    assert samples.shape == (35, 3, 8, 8)
    assert len(samples.subset(mask)) == mask.sum()
    for wrong in ([35], [-36], np.zeros((2, 2), int)):
        with pytest.raises(IndexError):
            samples[wrong]


def test_statistics_sizes_and_colour(tmp_path, pictures):
    source = open_data(shards(tmp_path / "s", pictures))
    array = np.stack(pictures).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(channel_statistics(source.samples), channel_statistics(array))
    exact = array / 255
    np.testing.assert_allclose(channel_statistics(array), [exact.mean((0, 2, 3)), exact.std((0, 2, 3))])
    smaller = resized(source, 4)
    np.testing.assert_array_equal(smaller.samples[:3], [decode(png(p), 4, 3) for p in pictures[:3]])
    grey = open_data(shards(tmp_path / "g", [p[:, :, 0] for p in pictures]))
    assert grey.shape == (1, 8, 8)
    np.testing.assert_array_equal(grey.samples.in_colour()[:], np.repeat(grey.samples[:], 3, 1))


def test_the_unreadable_are_replaced_or_left_out(tmp_path, pictures, capsys):
    broken = list(pictures)
    broken[3] = broken[4] = broken[34] = None
    folder = shards(tmp_path / "s", broken)
    with pytest.raises(InputError, match="3 of 35 images are unreadable"):
        open_data(folder)  # a thousand headers are looked at first, which is all of them here
    samples = open_data(folder, max_bad=0.1).samples
    expected = np.stack([p if p is not None else pictures[0] for p in broken]).transpose(0, 3, 1, 2)
    expected[3] = expected[4] = expected[5]
    expected[34] = expected[0]  # after the last comes the first
    for _ in range(2):
        np.testing.assert_array_equal(samples[:], expected)
    assert len(samples.unreadable()) == 3
    assert samples.unreadable()[0].startswith("00000.tar/00003.png: ")
    assert capsys.readouterr().err.count("cannot be decoded") == 1
    labelled = open_data(folder, labels=True, max_bad=0.1)
    kept = [i for i in range(35) if i not in (3, 4, 34)]
    np.testing.assert_array_equal(labelled.samples[:], expected[kept])
    assert labelled.labels.tolist() == [i % 2 for i in kept]
    assert len(labelled.skipped) == 3


def test_more_bad_ones_than_allowed_end_the_work(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(packed_open, "LOOKED_AT", 2)
    broken = [p if i not in (3, 20) else None for i, p in enumerate(pictures)]
    samples = open_data(shards(tmp_path / "s", broken), max_bad=0.03).samples
    assert samples[3].shape == (3, 8, 8)  # one is allowed
    with pytest.raises(InputError, match="2 of 35 images are unreadable"):
        samples[:]


def test_a_bomb_is_no_image(tmp_path, pictures):
    bomb = bytearray(png(np.zeros((8, 8), np.uint8)))
    bomb[16:24] = (60_000).to_bytes(4) * 2  # as many pixels as nobody has
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    write_tar(tmp_path / "x.tar", [*((f"{i}.png", png(p)) for i, p in enumerate(pictures)), ("z.png", bytes(bomb))])
    samples = open_data(tmp_path / "x.tar", max_bad=0.1).samples
    np.testing.assert_array_equal(samples[35], samples[0])
    assert "too many pixels" in samples.unreadable()[0]


def test_a_shard_that_changes_is_noticed(tmp_path, pictures):
    folder = shards(tmp_path / "s", pictures)
    samples = open_data(folder).samples
    samples[0]
    path = folder / "00000.tar"
    with path.open("r+b") as file:  # in place, while it is open
        file.truncate(2048)
    for _ in range(2):
        with pytest.raises(InputError, match="changed since it was looked at"):
            samples[0]
    (folder / "00010.tar").unlink()
    with pytest.raises(InputError, match=r"00010.tar .no such file"):
        samples[12]


def test_more_than_memory_holds_is_refused(tmp_path, pictures, monkeypatch):
    samples = open_data(shards(tmp_path / "s", pictures)).samples
    monkeypatch.setattr(packed, "available_memory", lambda: 1.0)
    huge = samples.at_size(4096)
    with pytest.raises(InputError, match=r"35 images .* at once"):
        huge[:]
    assert huge[:1].shape == (1, 3, 4096, 4096)


def test_parts_leave_out_what_cannot_be_read(tmp_path, pictures, monkeypatch, capsys):
    monkeypatch.setattr(streams, "ROWS", 8)
    monkeypatch.setattr(streams, "BYTES", 1)
    broken = [p if i not in (3, 20) else None for i, p in enumerate(pictures)]
    parts = list(stream_of(shards(tmp_path / "s", broken), (3, 8, 8), max_bad=0.1).parts)
    kept = [i for i in range(35) if i not in (3, 20)]
    assert np.concatenate([p.ids for p in parts]).tolist() == kept
    assert [len(p.samples) for p in parts] == [8, 8, 8, 8, 1]
    np.testing.assert_array_equal(
        np.concatenate([p.samples for p in parts]), np.stack(pictures)[kept].transpose(0, 3, 1, 2)
    )
    assert [path for p in parts for path in p.paths][:2] == ["00000.tar/00000.png", "00000.tar/00001.png"]
    assert "2 of 35 images left out" in capsys.readouterr().err
    with pytest.raises(InputError, match="in colour"):
        list(stream_of(tmp_path / "s", (1, 8, 8), max_bad=0.1).parts)


def test_blocks_are_runs_of_neighbours_and_chosen_by_the_size(tmp_path, pictures, monkeypatch):
    samples = open_data(shards(tmp_path / "s", pictures)).samples
    assert block_starts(samples, "auto") is None
    monkeypatch.setattr(packed, "BLOCK_BYTES", 2.5 * samples.index.size.mean())
    starts = block_starts(samples, "blocks")
    assert set(range(0, 35, 10)) <= set(starts.tolist())  # no block goes beyond a file
    assert 2 <= np.diff(np.append(starts, 35)).max() <= 4
    for name, value in (("MANY", 4), ("LARGE", 1)):
        assert block_starts(samples, "auto") is None
        monkeypatch.setattr(packed, name, value)
    assert block_starts(samples, "auto").tolist() == starts.tolist()
    assert block_starts(samples, "all") is None
    with pytest.raises(InputError, match="in memory"):
        block_starts(samples[:], "blocks")


def test_an_order_by_blocks_is_a_permutation_that_stays_near():
    n, blocks = 20_000, np.arange(0, 20_000, 25)
    stream = Stream(n, 32, 5, "real", blocks)
    for epoch in range(2):
        order = stream._permutation(epoch)
        assert sorted(order.tolist()) == list(range(n))
        window = order[: 25 * WINDOW] if epoch == 0 else order[32 : 25 * WINDOW - 32]
        assert len(set((window // 25).tolist())) <= WINDOW + 3  # the head is cleared of what the last batch held
        assert (window[1:] - window[:-1]).abs().float().mean() > 1000  # and yet far from sorted
    assert not torch.equal(stream._permutation(0), stream._permutation(1))
    again = Stream(n, 32, 5, "real", blocks)
    for t in (0, 624, 625, 1000):  # across the border of epochs, in any order
        assert torch.equal(stream.draws(32 * t, 32 * t + 32, t), again.draws(32 * t, 32 * t + 32, t))


def test_two_epochs_are_kept(monkeypatch):
    mixture = Mixture(100, 0, batch=10)
    made = []
    raw = mixture._real._raw
    monkeypatch.setattr(mixture._real, "_raw", lambda epoch: made.append(epoch) or raw(epoch))
    for t in (9, 10, 9, 10, 9, 11):  # batches are prepared ahead of those in use
        mixture(t)
    assert made == [0, 1, 0]
