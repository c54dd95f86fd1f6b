"""The order of samples is a pure function of (seed, cursor)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganforge.batches import Images, Labelled, Points
from ganforge.data import Endless, Finite, Stream, from_arrays, open_source
from ganforge.data.order import BLOCK
from ganforge.errors import RequestError

CPU = torch.device("cpu")


def counted(count: int) -> Finite:
    """A source whose sample number i is the point (i)."""
    return from_arrays(np.arange(count, dtype=np.float32)[:, None])


def stream(source: Finite | Endless, seed: int = 0) -> Stream:
    return Stream(source, Points, seed=seed, device=CPU)


def served(source: Finite, cursor: int, size: int, seed: int = 0) -> list[float]:
    return stream(source, seed).at(cursor, size).x[:, 0].tolist()


@settings(deadline=None)
@given(count=st.integers(1, 40), epoch=st.integers(0, 5), seed=st.integers(0, 2**40))
def test_each_epoch_serves_each_sample_exactly_once(count: int, epoch: int, seed: int) -> None:
    assert sorted(served(counted(count), epoch * count, count, seed)) == list(range(count))


@settings(deadline=None)
@given(count=st.integers(1, 40), cursor=st.integers(0, 200), first=st.integers(1, 50), second=st.integers(1, 50))
def test_two_batches_equal_one_as_long_as_both_even_across_epochs(count: int, cursor: int, first: int, second: int) -> None:
    source = counted(count)
    halves = served(source, cursor, first) + served(source, cursor + first, second)
    assert halves == served(source, cursor, first + second)


@pytest.mark.parametrize("name", ["gaussian", "ring", "curves", "sine"])
@settings(deadline=None)
@given(cursor=st.integers(0, 3 * BLOCK), size=st.integers(1, 40))
def test_two_batches_of_an_endless_source_equal_one_double_batch(name: str, cursor: int, size: int) -> None:
    source = open_source(name)
    assert isinstance(source, Endless)
    one = stream(source)
    assert torch.equal(torch.cat([one.at(cursor, size).x, one.at(cursor + size, size).x]), stream(source).at(cursor, 2 * size).x)


def test_an_endless_batch_that_straddles_two_blocks_is_their_end_and_their_beginning() -> None:
    source = open_source("gaussian")
    assert isinstance(source, Endless)
    both = stream(source).at(BLOCK - 3, 8).x
    assert torch.equal(both, torch.cat([stream(source).at(0, BLOCK).x[-3:], stream(source).at(BLOCK, 5).x]))


@settings(deadline=None)
@given(cursors=st.lists(st.integers(0, 100), min_size=2, max_size=8))
def test_calls_in_any_order_give_equal_batches(cursors: list[int]) -> None:
    source = counted(7)
    forth, back = stream(source), stream(source)
    one = {cursor: forth.at(cursor, 5).x for cursor in cursors}
    other = {cursor: back.at(cursor, 5).x for cursor in reversed(cursors)}
    assert all(torch.equal(one[cursor], other[cursor]) for cursor in cursors)


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    source = counted(100)
    orders = [served(source, cursor, 100, seed) for cursor, seed in [(0, 0), (0, 1), (100, 0), (100, 1)]]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_seed_1_of_epoch_0_is_not_seed_0_of_epoch_1_shifted() -> None:
    source = open_source("gaussian")
    assert isinstance(source, Endless)
    assert not torch.equal(stream(source, 1).at(0, 8).x, stream(source, 0).at(BLOCK, 8).x)


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    source = open_source("grid")
    assert isinstance(source, Endless)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = stream(source).at(0, 8).x, stream(counted(9)).at(0, 8).x
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again = stream(source).at(0, 8).x, stream(counted(9)).at(0, 8).x
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_what_a_game_writes_into_its_batch_reaches_nobody_else() -> None:
    for source in (counted(6), open_source("gaussian")):
        assert isinstance(source, Finite | Endless)
        one = stream(source)
        kept = one.at(0, 4).x.clone()
        one.at(0, 4).x.zero_()
        assert torch.equal(one.at(0, 4).x, kept)


def test_labels_travel_with_their_pictures() -> None:
    values = np.arange(10, dtype=np.uint8)
    source = from_arrays(np.broadcast_to(values[:, None, None], (10, 2, 2)) * 25, values)
    batch = Stream(source, Labelled, seed=3, device=CPU).at(4, 13)
    assert isinstance(batch, Labelled)
    grey: Tensor = (batch.image.mean(dim=(1, 2, 3)) + 1) * 127.5 / 25
    torch.testing.assert_close(grey, batch.label.float())


def test_a_labelled_source_serves_plain_images_in_the_same_order() -> None:
    source = from_arrays(np.random.default_rng(0).integers(0, 256, (9, 3, 3, 3), dtype=np.uint8), np.arange(9))
    plain, labelled = (Stream(source, kind, seed=1, device=CPU).at(0, 9) for kind in (Images, Labelled))
    assert type(plain) is Images
    assert torch.equal(plain.x, labelled.x)


def test_a_lower_resolution_is_the_average_of_the_pixels_it_covers() -> None:
    checks = np.tile(np.array([[0, 255], [255, 0]], dtype=np.uint8), (1, 4, 4))
    low = Stream(from_arrays(checks), Images, seed=0, device=CPU).at(0, 1, resolution=4)
    torch.testing.assert_close(low.x, torch.zeros(1, 1, 4, 4))


def test_the_native_resolution_changes_nothing() -> None:
    source = from_arrays(np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8))
    one = Stream(source, Images, seed=0, device=CPU)
    assert torch.equal(one.at(0, 3, resolution=8).x, one.at(0, 3).x)


@pytest.mark.parametrize(("cursor", "size", "resolution"), [(-1, 4, None), (0, 0, None), (0, 4, 9), (0, 4, 0)])
def test_a_batch_that_makes_no_sense_is_refused(cursor: int, size: int, resolution: int | None) -> None:
    pictures = Stream(from_arrays(np.zeros((3, 8, 8), np.uint8)), Images, seed=0, device=CPU)
    with pytest.raises(RequestError, match="size"):
        pictures.at(cursor, size, resolution)


def test_points_have_no_resolution() -> None:
    with pytest.raises(RequestError, match="no pictures to resize"):
        stream(counted(3)).at(0, 2, resolution=4)


@pytest.mark.parametrize(
    ("name", "kind", "served_kinds"), [("ring", Images, "Points"), ("digits", Points, "Labelled, Images, Masked, LowHigh")]
)
def test_a_kind_that_the_source_cannot_serve_is_refused_with_those_it_can(
    name: str, kind: type[Images | Points], served_kinds: str
) -> None:
    with pytest.raises(RequestError, match=f"'{name}' serves {served_kinds}, not {kind.__name__}"):
        Stream(open_source(name), kind, seed=0, device=CPU)
