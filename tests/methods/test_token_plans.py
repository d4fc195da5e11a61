"""Token plans: what is kept or mixed goes back exactly where it was, over all sizes, groups and seeds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swell.errors import InputError
from swell.methods.token_plans import Kept, Mixed

CPU = torch.device("cpu")
ELSEWHERE = torch.tensor([-1.0, -2.0])


def numbered(samples, patches):
    """Tokens [B, L, 2] that say which sample and position they are of."""
    sample, position = torch.meshgrid(torch.arange(samples), torch.arange(patches), indexing="ij")
    return torch.stack([sample, position], -1).float()


def restored_as_it_should(tokens, restored, hidden):
    return torch.equal(restored, torch.where(hidden.unsqueeze(-1), ELSEWHERE, tokens))


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 9), patches=st.integers(2, 70), mask=st.floats(0.01, 0.99), seed=st.integers(0, 2**31))
def test_kept_tokens_go_back_where_they_were(samples, patches, mask, seed):
    torch.manual_seed(seed)
    kept = int(patches * (1 - mask) + 1e-9)
    if not 0 < kept < patches:
        with pytest.raises(InputError, match="some kept and some masked"):
            Kept.draw(samples, patches, mask, CPU)
        return
    plan, tokens = Kept.draw(samples, patches, mask, CPU), numbered(samples, patches)
    shown = plan.select(tokens)
    assert shown.shape == (samples, kept, 2)
    assert all((shown[b, :, 0] == b).all() and len(shown[b, :, 1].unique()) == kept for b in range(samples))
    assert plan.hidden.sum(1).tolist() == [patches - kept] * samples
    assert restored_as_it_should(tokens, plan.restore(shown, ELSEWHERE), plan.hidden)
    assert torch.equal(plan.of_samples(torch.arange(samples)), torch.arange(samples))


@settings(max_examples=100, deadline=None)
@given(
    group=st.integers(2, 8),
    groups=st.integers(1, 6),
    patches=st.integers(16, 70),
    seed=st.integers(0, 2**31),
    homologous=st.booleans(),
)
def test_mixed_tokens_go_back_to_their_images_and_positions(group, groups, patches, seed, homologous):
    torch.manual_seed(seed)
    samples = group * groups
    plan = Mixed.mix(samples, patches, group, CPU, homologous=homologous)
    tokens = numbered(samples, patches)
    mixed = plan.select(tokens)
    assert mixed.shape == (groups, patches, 2)
    assert (mixed[..., 1] == torch.arange(patches)).all()  # positions keep their place
    assert torch.equal(mixed[..., 0].long(), plan.members.gather(1, plan.owner))
    counts = plan.shares.sum(1)  # [N, G]
    assert counts.min() >= patches // group
    assert counts.max() <= -(-patches // group)
    assert sorted(plan.members.flatten().tolist()) == list(range(samples))
    assert plan.top_k == (patches // group if homologous else None)
    assert restored_as_it_should(tokens, plan.restore(mixed, ELSEWHERE), plan.hidden)
    assert (~plan.hidden).sum() == groups * patches
    # What a sequence has as a whole comes to each of its members.
    home = plan.of_samples(torch.arange(groups).view(-1, 1)).flatten()
    assert all(b in plan.members[home[b]] for b in range(samples))


@pytest.mark.parametrize(("patches", "group", "own"), [(64, 4, 16), (196, 4, 49), (16, 2, 8), (36, 4, 9)])
def test_every_image_owns_exactly_its_share(patches, group, own):
    plan = Mixed.mix(2 * group, patches, group, CPU)
    assert (plan.shares.sum(1) == own).all()
    assert (plan.hidden.sum(1) == patches - own).all()


def test_mixing_a_group_worked_by_hand():
    """Two images of four patches: image 1 owns positions 0 and 3, image 0 the others."""
    plan = Mixed(
        torch.tensor([[4, 1, 2, 7]]), 2, 4, members=torch.tensor([[0, 1]]), owner=torch.tensor([[1, 0, 0, 1]]),
        segments=torch.tensor([[10.0], [20.0]]),
    )  # fmt: skip
    tokens = torch.arange(8.0).view(2, 4, 1)
    assert plan.select(tokens).flatten().tolist() == [24, 11, 12, 27]
    restored = plan.restore(torch.tensor([[[1.0], [2.0], [3.0], [4.0]]]), torch.tensor([0.0]))
    assert restored.squeeze(-1).tolist() == [[0, 2, 3, 0], [1, 0, 0, 4]]
    assert plan.hidden.tolist() == [[True, False, False, True], [False, True, True, False]]
    assert plan.of_samples(torch.tensor([[5.0]])).tolist() == [[5.0], [5.0]]


def test_gradients_go_to_the_tokens_that_were_shown_and_to_the_blank():
    torch.manual_seed(0)
    tokens, blank = torch.randn(8, 16, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    plan = Mixed.mix(8, 16, 4, CPU)
    plan.restore(plan.select(tokens), blank).sum().backward()
    assert torch.equal(tokens.grad[..., 0], (~plan.hidden).float())
    assert blank.grad.tolist() == [8 * 12] * 3


def test_real_and_generated_samples_mix_and_each_draw_is_another():
    """The first half of a batch is real, say: nearly every group of four holds both."""
    torch.manual_seed(0)
    plan = Mixed.mix(256, 16, 4, CPU)
    both = (plan.members < 128).any(1) & (plan.members >= 128).any(1)
    assert both.float().mean() > 0.75
    assert not torch.equal(plan.rows, Mixed.mix(256, 16, 4, CPU).rows)
    torch.manual_seed(0)
    assert torch.equal(plan.rows, Mixed.mix(256, 16, 4, CPU).rows)


def test_all_positions_are_kept_and_owned_alike_in_the_long_run():
    torch.manual_seed(0)
    kept = (~Kept.draw(4000, 16, 0.75, CPU).hidden).float().mean(0)
    owned = Mixed.mix(8000, 16, 4, CPU).shares.mean(0)
    assert (kept - 0.25).abs().max() < 0.04
    assert (owned - 0.25).abs().max() < 0.05


@pytest.mark.parametrize(
    ("samples", "patches", "says"), [(18, 64, "18 views .* multiple of group 4"), (16, 7, "7 patches .* two for each")]
)
def test_groups_that_do_not_come_out_even_are_told(samples, patches, says):
    with pytest.raises(InputError, match=says):
        Mixed.mix(samples, patches, 4, CPU)


def test_half_precision_tokens_meet_a_full_precision_blank():
    plan = Kept.draw(2, 8, 0.5, CPU)
    restored = plan.restore(torch.ones(2, 4, 2, dtype=torch.bfloat16), ELSEWHERE)
    assert restored.dtype == torch.bfloat16
    plan = Mixed.mix(4, 8, 2, CPU, segments=torch.ones(2, 3))
    assert plan.select(torch.ones(4, 8, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16
