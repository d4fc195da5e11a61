"""The queue against a plain list, and what survives in its state."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.errors import InputError
from swell.nets.queue import Queue


def as_set(rows):
    return sorted(map(tuple, rows.tolist()))


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 9), pushes=st.lists(st.integers(0, 25), max_size=8))
def test_holds_the_last_rows_whatever_the_sizes_of_the_pushes(size, pushes):
    queue, pushed, number = Queue(size, 2), [], 0
    for n in pushes:
        new = torch.arange(number, number + n, dtype=torch.float32)[:, None] * torch.tensor([1.0, -1.0])
        queue.push(new)
        pushed += new.tolist()
        number += n
        assert as_set(queue.held) == sorted(map(tuple, pushed[-size:]))
        assert queue.full == (len(pushed) >= size)
        assert int(queue.count) == len(pushed)


def test_the_oldest_row_makes_room():
    queue = Queue(3, 1)
    queue.push(torch.tensor([[1.0], [2.0], [3.0]]))
    queue.push(torch.tensor([[4.0]]))
    assert queue.rows.tolist() == [[4.0], [2.0], [3.0]]


def test_a_filled_queue_is_full_of_unit_rows_which_give_way_in_turn():
    queue = Queue(64, 5, fill=True)
    assert queue.full
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(64))
    assert len({tuple(row) for row in queue.rows.tolist()}) == 64
    before = queue.rows.clone()
    queue.push(torch.zeros(10, 5))
    assert not queue.rows[:10].any()
    assert torch.equal(queue.rows[10:], before[10:])


def test_a_new_queue_is_empty():
    queue = Queue(4, 3)
    assert queue.held.shape == (0, 3)
    assert not queue.full


def test_the_state_says_where_the_next_row_goes():
    queue, other = Queue(5, 2), Queue(5, 2)
    queue.push(torch.randn(7, 2))
    other.load_state_dict(queue.state_dict())
    more = torch.randn(4, 2)
    queue.push(more)
    other.push(more)
    assert torch.equal(queue.rows, other.rows)
    assert torch.equal(queue.count, other.count)


def test_rows_are_stored_without_gradient_in_float32():
    queue = Queue(4, 2)
    queue.push(torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True))
    assert queue.rows.dtype == torch.float32
    assert not queue.rows.requires_grad


def test_what_is_pushed_may_change_afterwards():
    queue, new = Queue(4, 2), torch.ones(2, 2)
    queue.push(new)
    new.zero_()
    assert queue.held.eq(1).all()


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_everything_happens_on_the_device_of_the_queue(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    queue = Queue(6, 2).to(device)  # on meta, any look at a value from the host would raise
    for n in (4, 9, 1):
        queue.push(torch.ones(n, 2, device=device))
    assert queue.rows.device.type == queue.count.device.type == device


@pytest.mark.parametrize(("size", "width"), [(0, 3), (3, 0)])
def test_an_empty_queue_is_refused(size, width):
    with pytest.raises(InputError, match="at least one"):
        Queue(size, width)
