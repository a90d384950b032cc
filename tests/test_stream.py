"""The stream: what a batch holds is a function of (seed, number), so ranks, threads and resumes agree."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from deice import read, write
from deice.errors import PairFault, RecipeFault, UserError
from deice.groups import Groups, bytes_of, mapped_span
from deice.image import Image
from deice.ops.normalise import Affine
from deice.ranks import Ranks
from deice.sources import Source, packed_source, source_of, split_sources, windows_in
from deice.stream import (
    ORDERS,
    Place,
    Stream,
    WindowOrder,
    carried_as,
    make_order,
    normalised,
    rows_of,
    steps_per_epoch,
)

CPU = torch.device("cpu")


def numbered(index, shape=(40, 52)):
    """A picture whose values say where they are; both views alike but for their sign."""
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 100_000 * index
    return source_of(f"picture {index}", [Image(np.stack([values, -values]))], "none")


SOURCES = [numbered(i) for i in range(5)]


def batches(count, start=0, order="random", **how):
    stream = Stream(SOURCES, make_order(order, SOURCES, (8, 8), 6, seed=3), CPU, start=start, **how)
    generator = stream.batches()
    found = [next(generator).clone() for _ in range(count)]
    generator.close()
    return found


@pytest.mark.parametrize("order", ORDERS)
def test_windows_are_cut_where_they_lie_with_all_their_views(order):
    for batch in batches(4, order=order):
        assert batch.shape == (6, 2, 8, 8)
        assert torch.equal(batch[:, 0], -batch[:, 1])
        first = batch[:, 0, :1, :1]
        offsets = torch.arange(8.0)[:, None] * 52 + torch.arange(8.0)
        assert torch.equal(batch[:, 0], first + offsets)


@pytest.mark.parametrize("order", ORDERS)
def test_a_resumed_stream_goes_on_where_it_was(order):
    whole = batches(9, order=order)
    for one, two in zip(whole[5:], batches(4, start=5, order=order)):
        assert torch.equal(one, two)


def test_threads_do_not_change_what_comes():
    for one, two in zip(batches(5, threads=1, ahead=1), batches(5, threads=8, ahead=6)):
        assert torch.equal(one, two)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_each_batch_without_overlap(world):
    whole = batches(3)
    parts = [batches(3, ranks=Ranks(rank, world)) for rank in range(world)]
    for number, batch in enumerate(whole):
        together = torch.empty_like(batch)
        for rank in range(world):
            together[rank::world] = parts[rank][number]
        assert torch.equal(together, batch)


def test_the_position_counts_what_was_consumed_not_what_was_prefetched():
    stream = Stream(SOURCES, make_order("random", SOURCES, (8, 8), 6, seed=3), CPU, ahead=5)
    generator = stream.batches()
    for _ in range(3):
        next(generator)
    assert stream.position == 3
    generator.close()


def test_random_order_draws_from_every_file_as_its_size_says():
    sources = [numbered(0, (64, 64)), numbered(1, (64, 192))]
    order = make_order("random", sources, (8, 8), 50, seed=0)
    picks = [place.source for step in range(40) for place in order.batch(step)]
    assert np.mean(picks) == pytest.approx(0.75, abs=0.04)


def test_window_order_holds_few_files_and_reaches_all_in_an_epoch():
    sources = [numbered(i, (32, 32)) for i in range(10)]
    order = make_order("window", sources, (8, 8), 4, seed=0)
    steps = steps_per_epoch(sources, (8, 8), 4)
    held = [order.resident(step) for step in range(steps)]
    assert max(map(len, held)) <= 4
    assert set().union(*held) == set(range(10))
    for step in range(steps):
        assert {place.source for place in order.batch(step)} <= held[step]


def test_an_unknown_order_names_the_known():
    with pytest.raises(RecipeFault, match="random, window"):
        make_order("sorted", SOURCES, (8, 8), 6, 0)


def test_many_images_are_split_by_image():
    training, validation = split_sources(SOURCES, 0.2, (8, 8), gap=10, seed=1)
    assert len(validation) == 1
    assert {s.name for s in training}.isdisjoint(s.name for s in validation)
    assert len(training) + len(validation) == len(SOURCES)


@pytest.mark.parametrize("shape", [(64, 200), (40, 50, 120)])
def test_a_lone_image_is_split_by_regions_with_a_gap(shape):
    lone = numbered(0, shape)
    window = (8,) * len(shape)
    (training,), (validation,) = split_sources([lone], 0.2, window, gap=12, seed=0)
    axis = int(np.argmax(shape))
    assert training.region[axis][1] + 12 <= validation.region[axis][0]
    order = make_order("random", [training], window, 200, 0)
    for place in order.batch(0):
        assert place.origin[axis] + 8 <= training.region[axis][1]


def test_a_lone_image_too_small_for_two_windows_is_refused():
    with pytest.raises(RecipeFault, match="smaller --patch"):
        split_sources([numbered(0, (10, 12))], 0.1, (8, 8), gap=4, seed=0)


def test_packed_pictures_are_cut_one_at_a_time():
    stack = np.arange(6 * 16 * 16, dtype=np.float32).reshape(6, 16, 16)
    source = packed_source("packed", [stack, stack + 0.5])
    window = source.read((3, 2, 4), (8, 8))
    assert window.shape == (2, 8, 8)
    assert np.array_equal(window[0], stack[3, 2:10, 4:12])
    assert windows_in(source, (8, 8)) == 24
    stream = Stream([source], make_order("random", [source], (8, 8), 5, seed=0), CPU)
    batch = next(stream.batches())
    assert torch.equal(batch[:, 0] + 0.5, batch[:, 1])
    assert torch.equal(batch[:, 0, 0, 1:], batch[:, 0, 0, :-1] + 1)


def test_views_of_different_sizes_are_refused():
    with pytest.raises(PairFault, match="different sizes"):
        source_of("pair", [Image(np.random.rand(1, 8, 8)), Image(np.random.rand(1, 8, 9))], "standard")


@pytest.mark.parametrize("values", [np.full((1, 8, 8), np.nan), np.full((1, 8, 8), 3.0)])
def test_an_image_without_anything_to_learn_is_refused(values):
    with pytest.raises(UserError, match=r"no finite value|every value is 3"):
        source_of("flat", [Image(values)], "standard")


def test_a_target_is_normalised_by_its_input():
    noisy, clean = np.random.default_rng(0).normal(5, 2, (2, 1, 32, 32)).astype(np.float32)
    source = source_of("pair", [Image(noisy), Image(clean / 4)], "standard", directed=True)
    assert source.affines[0] == source.affines[1]


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "float16", "float32", ">f4", ">i2"])
@pytest.mark.parametrize("normaliser", ["standard", "clipped", "none"])
def test_windows_that_travel_as_they_lie_and_are_normalised_there_are_those_that_are_read(kind, normaliser):
    values = np.random.default_rng(0).normal(60, 12, (2, 30, 34)).astype(kind)
    if np.dtype(kind).kind == "f":
        values[0, 7, 8], values[1, 9, 4] = np.nan, np.inf
    source = source_of("some", [Image(values)], normaliser)
    carried = torch.empty((1, 2, 12, 14), dtype=carried_as([source]))
    assert carried.dtype.itemsize == np.dtype(kind).itemsize
    source.cut((3, 2), (12, 14), carried[0].numpy())
    source.mend(carried[0].numpy())
    assert torch.equal(normalised(carried, rows_of(source)[None])[0], torch.from_numpy(source.read((3, 2), (12, 14))))


def test_a_window_for_a_gpu_is_mended_where_its_file_is_broken_and_no_other_is_touched():
    values = np.random.default_rng(0).normal(5, 2, (3, 2, 30, 34)).astype(np.float16)
    values[1, 0, 10, 11] = np.nan
    sources = [source_of(str(n), [Image(pair)], "standard") for n, pair in enumerate(values)]
    stream = Stream(sources, make_order("random", sources, (12, 14), 3, 0), CPU)
    stream.on_gpu = True
    carried = torch.empty((3, 2, 12, 14), dtype=carried_as(sources))
    cuts = [(source, Place(n, (6, 5))) for n, source in enumerate(sources)]
    stream._cut(cuts, carried.numpy(), torch.empty((3, 2, 4)))
    stream.batches().close()
    for source, view in zip(sources, carried):
        arrived = normalised(view[None], rows_of(source)[None])[0]
        assert torch.equal(arrived, torch.from_numpy(source.read((6, 5), (12, 14))))


@pytest.mark.parametrize("normaliser", ["standard", "clipped", "none"])
@pytest.mark.parametrize("kind", ["int16", ">f4"])
def test_a_batch_on_the_processor_holds_what_each_source_reads(kind, normaliser):
    values = np.random.default_rng(2).normal(60, 12, (3, 2, 30, 34)).astype(kind)
    if kind == ">f4":
        values[2, 1, 5:25, 4:30] = np.inf
    sources = [source_of(str(n), [Image(pair)], normaliser) for n, pair in enumerate(values)]
    order = make_order("random", sources, (12, 14), 7, 0)
    batches = Stream(sources, order, CPU).batches()
    for step in range(5):
        batch = next(batches)
        for place, window in zip(order.batch(step), batch):
            assert torch.equal(window, torch.from_numpy(sources[place.source].read(place.origin, (12, 14))))
    batches.close()


def test_windows_of_other_types_travel_as_float32():
    def of(kind):
        return source_of("some", [Image(np.random.rand(1, 8, 8).astype(kind))], "none")

    assert carried_as([of("float64")]) == torch.float32
    assert carried_as([of("float16"), of("float32")]) == torch.float32
    assert carried_as([of("float16"), of("float16")]) == torch.float16


def mapped_sources(folder, count=6, shape=(64, 96)):
    rng = np.random.default_rng(1)
    for number in range(count):
        write(folder / f"m{number}.mrc", rng.normal(size=shape).astype(np.float32))
    return [source_of(f"m{n}", [read(folder / f"m{n}.mrc")], "none") for n in range(count)]


def test_a_mapped_view_knows_where_its_bytes_lie(tmp_path):
    (source,) = mapped_sources(tmp_path, 1)
    path, start, size = mapped_span(source.views[0])
    found = np.frombuffer(Path(path).read_bytes()[start : start + size], np.float32).reshape(64, 96)
    assert np.array_equal(found, source.views[0])
    assert mapped_span(np.zeros((4, 4))) is None
    assert mapped_span(source.views[0][:, 3:]) is None


def test_window_order_loads_the_next_group_while_one_is_cut_and_holds_no_more(tmp_path, monkeypatch):
    sources = mapped_sources(tmp_path)
    order = WindowOrder(sources, (16, 16), 4, seed=0, held=2)
    asked, held = [], []
    monkeypatch.setattr(Groups, "_read", lambda self, path, start, size: asked.append(Path(path).name))
    stream = Stream(sources, order, CPU, ahead=1)
    batches = stream.batches()
    for step in range(40):
        next(batches)
        held.append(set(stream.groups.loads))
        assert held[-1] >= order.resident(step)
        assert held[-1] >= order.following(step)
    batches.close()
    assert max(map(len, held)) <= 4
    assert set(asked) == {f"m{n}.mrc" for n in range(6)}


def test_a_file_system_that_cannot_send_is_read(tmp_path, monkeypatch):
    sources = mapped_sources(tmp_path, 2)
    asked = []

    def refused(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    def read(file, size, place, of_the_system=os.pread):
        asked.append(size)
        return of_the_system(file, size, place)

    monkeypatch.setattr(os, "sendfile", refused)
    monkeypatch.setattr(os, "pread", read)
    groups = Groups(sources, 2, Ranks())
    groups.readers(frozenset({0}), frozenset({1}))
    groups.close()
    assert sum(asked) >= bytes_of(sources[0])


@pytest.mark.parametrize("world", [1, 3])
def test_the_ranks_of_a_machine_read_each_byte_of_a_group_once(tmp_path, monkeypatch, world):
    monkeypatch.setattr("deice.groups.CHUNK", 1000)
    sources, asked = mapped_sources(tmp_path, 2), []
    monkeypatch.setattr(Groups, "_read", lambda self, path, start, size: asked.append((path, start, size)))
    for rank in range(world):
        groups = Groups(sources, 2, Ranks(rank, world, rank, world))
        groups.readers(frozenset({0, 1}), frozenset())
        groups.close()
    covered = {}
    for path, start, size in asked:
        covered.setdefault(path, []).extend(range(start, start + size))
    assert all(sorted(places) == list(range(1024, 1024 + 4 * 64 * 96)) for places in covered.values())
    assert len(covered) == 2


def test_files_that_must_be_decoded_are_decoded_once_and_let_go(tmp_path):
    class Decoded:
        shape, dtype, ndim, count = (32, 32), np.dtype(np.float32), 2, 0

        def __getitem__(self, key):
            self.count += key is ...
            return np.ones(self.shape, np.float32)[key]

    views = [Decoded() for _ in range(4)]
    sources = [Source(str(i), (view,), (Affine(),), ((0, 32), (0, 32))) for i, view in enumerate(views)]
    order = WindowOrder(sources, (8, 8), 4, seed=0, held=1)
    stream = Stream(sources, order, CPU, ahead=1)
    batches = stream.batches()
    for _ in range(4):
        next(batches)
    batches.close()
    assert [view.count for view in views].count(1) == 2
    assert len(stream.groups.loads) <= 2


def test_a_file_that_cannot_be_read_ends_the_stream_with_its_error(tmp_path):
    sources = mapped_sources(tmp_path, 2)
    (tmp_path / "m1.mrc").unlink()
    stream = Stream(sources, WindowOrder(sources, (16, 16), 4, seed=0), CPU)
    with pytest.raises(UserError, match=r"m1\.mrc"):
        next(stream.batches())


def test_groups_are_smaller_where_files_are_large(monkeypatch):
    monkeypatch.setattr("deice.stream.HELD_BYTES", 3 * 2 * 40 * 52 * 4)
    assert make_order("window", SOURCES, (8, 8), 6, 0).held == 3
    monkeypatch.setattr("deice.stream.HELD_BYTES", 1)
    assert make_order("window", SOURCES, (8, 8), 6, 0).held == 1
