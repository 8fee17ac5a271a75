"""Attention's parts: what they equal, and what may not be seen."""

import math

import pytest
import torch
from torch import Tensor, nn

from sakiyomi.errors import SakiyomiError
from sakiyomi.layers.attention import (
    Block,
    MultiHead,
    Norm,
    Other,
    Residual,
    View,
    Words,
    angles,
    attend,
    back,
    looked,
    real_places,
    sinusoids,
    turned,
)

B, T, S, W, H = 3, 5, 7, 24, 4
CPU = torch.device("cpu")
NORMS: tuple[Norm, ...] = ("pre", "post")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def alike() -> tuple[MultiHead, nn.MultiheadAttention]:
    """Ours and torch's with the same weights."""
    ours, theirs = MultiHead(W, H), nn.MultiheadAttention(W, H, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    ours.project.load_state_dict({"weight": theirs.in_proj_weight, "bias": theirs.in_proj_bias})
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    return ours, theirs


def padding() -> Tensor:
    """Which of S places are real, bool [B, S]."""
    return torch.arange(S) < torch.tensor([[S], [4], [1]])


def test_multi_head_is_torchs_with_padding() -> None:
    ours, theirs = alike()
    x, places, real = torch.randn(B, T, W), torch.randn(B, S, W), padding()
    wanted, weights = theirs(x, places, places, key_padding_mask=~real, average_attn_weights=False)
    queries, held, view = ours.queries(x), ours.held(places), real_places(real)
    torch.testing.assert_close(ours.look(queries, held, view), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.weights(queries, held, view), weights, atol=1e-5, rtol=1e-5)


def test_multi_head_is_torchs_with_a_causal_mask() -> None:
    ours, theirs = alike()
    x = torch.randn(B, T, W)
    mask = nn.Transformer.generate_square_subsequent_mask(T)
    wanted, weights = theirs(x, x, x, attn_mask=mask, average_attn_weights=False)
    found, held = ours(x, None, back(T, T, CPU))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.weights(ours.queries(x), held, back(T, T, CPU)), weights, atol=1e-5, rtol=1e-5)


def test_gradients_are_torchs() -> None:
    ours, theirs = alike()
    x, mask = torch.randn(B, T, W, requires_grad=True), nn.Transformer.generate_square_subsequent_mask(T)
    upstream = torch.randn(B, T, W)
    (wanted,) = torch.autograd.grad(theirs(x, x, x, attn_mask=mask)[0], x, upstream)
    (found,) = torch.autograd.grad(ours(x, None, back(T, T, CPU))[0], x, upstream)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "view",
    [View(), View(causal=True), View(padding()[:, None, None, :T]), back(T, T, CPU, window=2)],
    ids=["everywhere", "causal", "padding", "window"],
)
def test_written_out_equals_fused(view: View) -> None:
    q, k, v = torch.randn(3, B, H, T, 8, dtype=torch.float64).requires_grad_()
    written, weights = attend(q, k, v, view.seen(T, CPU))
    fused = looked(q, k, v, view)
    torch.testing.assert_close(written, fused, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, T, dtype=torch.float64))
    upstream = torch.randn_like(fused)
    for ours, theirs in zip(
        torch.autograd.grad(written, (q, k, v), upstream), torch.autograd.grad(fused, (q, k, v), upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("view", [View(), View(causal=True)])
def test_bfloat16_is_near(view: View) -> None:
    """It goes another way on a CPU."""
    q, k, v = torch.randn(3, B, H, T, 8)
    found = looked(q.bfloat16(), k.bfloat16(), v.bfloat16(), view)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), looked(q, k, v, view), atol=0.05, rtol=0.05)


def test_scores_are_divided_by_the_root_of_a_heads_numbers() -> None:
    """Not of the model's width, which has H times as many."""
    heads, size = 4, 16
    q, k, v = torch.randn(3, 2, heads, 3, size)
    by_hand = torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(size)
    torch.testing.assert_close(attend(q, k, v)[1], by_hand.softmax(-1))
    trap = (torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(heads * size)).softmax(-1)
    assert (attend(q, k, v)[1] - trap).abs().amax() > 0.1
    queries = torch.randn(1000, 1, size)
    scores = (queries @ torch.randn(1000, size, 1) / math.sqrt(size)).flatten()
    assert scores.std().item() == pytest.approx(1, abs=0.1)  # what the division is for


@pytest.mark.parametrize(("steps", "places"), [(5, 5), (3, 7), (1, 7), (1, 1), (7, 7)])
@pytest.mark.parametrize("window", [0, 1, 3, 7])
def test_back_is_what_it_says(steps: int, places: int, window: int) -> None:
    seen = back(steps, places, CPU, window).seen(steps, CPU)
    seen = torch.ones(steps, places, dtype=torch.bool) if seen is None else seen.expand(steps, places)
    for t in range(steps):
        here = places - steps + t
        for s in range(places):
            assert seen[t, s] == (s <= here and (not window or here - s < window))


def test_what_is_hidden_has_no_gradient() -> None:
    ours, real = MultiHead(W, H), padding()
    places = torch.randn(B, S, W, requires_grad=True)
    found = ours.look(ours.queries(torch.randn(B, T, W)), ours.held(places), real_places(real))
    (gradient,) = torch.autograd.grad(found.square().sum(), places)
    assert ((gradient.abs().amax(-1) > 0) == real).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_depends_on_itself_and_those_before(norm: Norm) -> None:
    block = Block(W, H, 16, 0.0, norm)
    x = torch.randn(1, T, W, requires_grad=True)
    for t in range(T):
        made, _ = block(x, None, back(T, T, CPU))
        (gradient,) = torch.autograd.grad(made[0, t].square().sum() + made[0, t, 0], x)
        reached = gradient[0].abs().amax(-1) > 0
        assert reached.tolist() == [s <= t for s in range(T)]


@pytest.mark.parametrize("norm", NORMS)
def test_step_by_step_with_what_is_held(norm: Norm) -> None:
    block = Block(W, H, 16, 0.0, norm).double()
    x = torch.randn(B, T, W, dtype=torch.float64)
    whole, held = block(x, None, back(T, T, CPU))
    past, steps = held[:, :0], []
    for t in range(T):
        made, past = block(x[:, t : t + 1], past, back(1, t + 1, CPU))
        steps.append(made)
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(past, held, atol=1e-10, rtol=1e-10)


def test_pre_and_post_norm() -> None:
    """Post-norm: what comes out is normalised. Pre-norm: a part that adds nothing leaves everything as it is."""
    x, made = torch.randn(2, T, W) * 5 + 3, torch.randn(2, T, W)
    post = Residual(W, 0.0, "post")
    assert post.enter(x) is x
    out = post.leave(x, made)
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, T), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(-1, unbiased=False), torch.ones(2, T), atol=1e-4, rtol=0)
    pre = Residual(W, 0.0, "pre")
    torch.testing.assert_close(pre.enter(x), post.norm(x))
    torch.testing.assert_close(pre.leave(x, made), x + made)


def test_dropout_leaves_out_what_is_added_and_never_what_was_there() -> None:
    part = Residual(W, 0.5, "pre").train()
    x, made = torch.full((4, T, W), 7.0), torch.ones(4, T, W)
    added = part.leave(x, made) - x
    assert set(added.unique().tolist()) == {0.0, 2.0}


def test_where_a_block_gazes_are_its_weights() -> None:
    block = Block(W, H, 16, 0.0, "pre", across=True)
    x, source = torch.randn(B, T, W), torch.randn(B, S, W)
    other, view = Other(block.held_of(source), real_places(padding())), back(T, T, CPU)
    gaze = block.gaze(x, None, view, other)
    assert gaze.shape == (B, T, S)
    torch.testing.assert_close(gaze.sum(-1), torch.ones(B, T))
    assert (gaze[~padding()[:, None].expand(B, T, S)] == 0).all()
    with pytest.raises(SakiyomiError, match="give it what is held"):
        block(x, None, view)
    alone = Block(W, H, 16, 0.0, "pre")
    for wrong in (lambda: alone.gaze(x, None, view, other), lambda: alone(x, None, view, other)):
        with pytest.raises(SakiyomiError, match="own sequence only"):
            wrong()


def test_sinusoids_by_hand() -> None:
    table = sinusoids(torch.arange(50.0, dtype=torch.float64), 6)
    for position in (0, 1, 49):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle))
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle))


def test_a_shift_of_sinusoids_is_a_rotation() -> None:
    """What lets a linear layer look so many places back, wherever it is."""
    table = sinusoids(torch.arange(40.0, dtype=torch.float64), 8)
    map_of_shift = torch.linalg.lstsq(table[:20], table[5:25]).solution
    torch.testing.assert_close(table[10:30] @ map_of_shift, table[15:35], atol=1e-8, rtol=0)


def test_rotary_products_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(2, 8, dtype=torch.float64)
    at = angles(torch.arange(60.0, dtype=torch.float64), 8)
    products = turned(q.expand(60, 8), at) @ turned(k.expand(60, 8), at).T
    for distance in (-9, 0, 1, 30):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert products[0].std() > 0.1  # but on that it depends
    torch.testing.assert_close(turned(q.expand(60, 8), at).norm(dim=-1), q.norm().expand(60))
    torch.testing.assert_close(turned(q, at[0]), q)


def test_shared_embeddings_are_one_parameter() -> None:
    shared, apart = Words(11, W, share=True), Words(11, W, share=False)
    assert [tuple(p.shape) for p in shared.parameters()] == [(11, W)]
    assert [tuple(p.shape) for p in apart.parameters()] == [(11, W), (11, W)]
    assert list(shared.state_dict()) == ["table.weight"]  # no second name for it in a checkpoint
    vectors = torch.randn(2, W)
    torch.testing.assert_close(shared.logits(vectors), vectors @ shared.table.weight.T)
    torch.testing.assert_close(shared(torch.tensor([3]))[0], shared.table.weight[3] * math.sqrt(W))


def test_what_cannot_be_built_is_said() -> None:
    with pytest.raises(SakiyomiError, match=r"--model\.width 10 does not divide into --model\.heads 4"):
        MultiHead(10, 4)
    with pytest.raises(SakiyomiError, match=r"--model\.heads is 0"):
        MultiHead(10, 0)
    with pytest.raises(SakiyomiError, match="unknown norm"):
        Residual(W, 0.0, "before")  # pyright: ignore[reportArgumentType]
    with pytest.raises(SakiyomiError, match="even"):
        angles(torch.arange(3.0), 5)
