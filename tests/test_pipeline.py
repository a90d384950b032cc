"""Several files in flight: the same bits as one after the other, in order, each fault its own, nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from worlds_for_tests import views

import deice.resident
from deice import Geometry, read, write
from deice.batch import denoise_files
from deice.checkpoint import Model, save_model
from deice.conditions import Conditions
from deice.devices import anonymous_memory, choose_devices
from deice.errors import UserError
from deice.inference import denoise, denoise_into
from deice.lanes import STAGES, Clock, Stopped, in_order
from deice.nets import ResidualCNN, UNet
from deice.pipeline import denoise_scene, places
from deice.recipe import Recipe, from_table
from deice.scenes import expand, group

CPU = torch.device("cpu")
GEOMETRY = Geometry((1.5, 1.5, 1.5))


def model_of(axes=2, net=None, scheme="noise2noise"):
    """Random weights, which answer with something that is not nothing."""
    torch.manual_seed(2)
    net = net or UNet(size=4, depth=2)
    module = net.build(axes)
    for tensor in module.parameters():
        if tensor.shape[0] == 1:
            torch.nn.init.normal_(tensor, std=0.3)
    recipe = from_table({"scheme": {"name": scheme}})
    return Model(module.eval(), axes, None, Recipe(recipe.data, recipe.scheme, net), {})


def pictures(folder, count=6):
    """Pictures of several sizes and one pair of halves."""
    for number in range(count):
        write(folder / f"p{number}.mrc", views((90 + 11 * number, 70), count=1, seed=number)[1][0], GEOMETRY)
    for name, half in zip(("EVN", "ODD"), views((50, 60), seed=40)[1]):
        write(folder / f"q_{name}.mrc", half, GEOMETRY)
    return group(expand(folder))


def batch(scenes, out, model, devices=(CPU,), conditions=Conditions(CPU), **how):  # noqa: B008
    return list(denoise_files(scenes, out, model, conditions, devices=devices, **how))


@pytest.mark.parametrize("float16", [False, True])
def test_files_in_flight_give_the_bits_of_one_after_the_other(float16, tmp_path):
    scenes, model = pictures(tmp_path / "in"), model_of()
    for scene in scenes:
        denoise_scene(scene, tmp_path / "one" / f"{scene.name}.mrc", model, Conditions(CPU), float16=float16)
    for name, devices in (("lone", [CPU]), ("two", [CPU, CPU])):
        outcomes = batch(scenes, tmp_path / name, model, devices, float16=float16)
        assert [(outcome.scene, outcome.state) for outcome in outcomes] == [(scene, "written") for scene in scenes]
        for scene in scenes:
            one, other = (np.asarray(read(tmp_path / folder / f"{scene.name}.mrc")) for folder in ("one", name))
            assert one.dtype == (np.float16 if float16 else np.float32)
            assert np.array_equal(one, other)


@pytest.mark.parametrize("scheme", ["noise2noise", "supervised", "self2self"])
@pytest.mark.parametrize("shape", [(130, 97), (20, 31, 27)])
def test_held_whole_and_read_tile_by_tile_are_the_same(scheme, shape, monkeypatch):
    model = model_of(len(shape), ResidualCNN(depth=3, width=4), scheme)
    noisy = (7000 + 9 * views(shape, seed=3)[1]).astype(np.float32)
    noisy[(slice(None), *(4,) * len(shape))] = np.nan
    whole = np.asarray(denoise(noisy, model, tile=40, precision="fp32"), np.float64)
    monkeypatch.setitem(deice.resident.SHARE, "cpu", 1 << 40)
    tiled = np.asarray(denoise(noisy, model, tile=40, precision="fp32"), np.float64)
    assert np.abs(whole - tiled).max() <= 4 * np.spacing(np.float32(7000))
    assert np.isfinite(whole).all()


@pytest.mark.parametrize("float16", [False, True])
def test_files_too_large_to_be_held_go_tile_by_tile_in_flight_too(float16, tmp_path, monkeypatch):
    scenes, model, clock = pictures(tmp_path / "in"), model_of(), Clock()
    held = batch(scenes, tmp_path / "held", model, float16=float16)
    monkeypatch.setitem(deice.resident.SHARE, "cpu", 1 << 40)
    mapped = batch(scenes, tmp_path / "mapped", model, [CPU, CPU], clock=clock, float16=float16)
    assert clock.seconds["uploading"] == 0 < clock.seconds["writing"]
    for one, other in zip(held, mapped):
        whole, tiled = (np.asarray(read(outcome.path), np.float64) for outcome in (one, other))
        assert np.abs(whole - tiled).max() < (2e-3 if float16 else 1e-5) * whole.std()


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "<u2", "<f2", ">f4", "<f8"])
def test_every_type_of_pixel_is_taken(dtype):
    picture = np.clip(40 * views((60, 50), count=1)[1][0] + 60, 0, 120).astype(dtype)
    plain = np.asarray(denoise(picture.astype(np.float32), model_of(), precision="fp32"))
    assert np.array_equal(np.asarray(denoise(picture, model_of(), precision="fp32")), plain)


def test_the_fault_of_one_file_is_its_own_and_the_order_stays(tmp_path):
    scenes = pictures(tmp_path / "in")
    scenes[0].files[0].write_bytes(scenes[0].files[0].read_bytes()[:2000])
    write(scenes[3].files[0], np.full((30, 30), 4, np.float32))
    outcomes = batch(scenes, tmp_path / "out", model_of(), [CPU, CPU])
    assert [outcome.state for outcome in outcomes] == ["failed", *2 * ["written"], "failed", *3 * ["written"]]
    assert "cut short" in outcomes[0].reason
    assert "every value is 4" in outcomes[3].reason
    assert not list((tmp_path / "out").glob(".*"))


def test_the_clock_counts_every_stage_and_the_log_says_what_took_the_time(tmp_path, caplog):
    clock = Clock()
    with caplog.at_level("INFO", "deice"):
        batch(pictures(tmp_path / "in"), tmp_path / "out", model_of(), clock=clock)
    assert set(clock.seconds) == set(STAGES)
    assert all(seconds > 0 for seconds in clock.seconds.values())
    assert max(clock.seconds.values()) < 2 * clock.passed()
    assert "7 files in" in caplog.text
    assert "network" in caplog.text


def test_results_come_in_order_from_as_many_places_as_there_are():
    busy, most, lock = [0], [0], threading.Lock()

    def work(unit, place):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.02 * (unit == 0))
        with lock:
            busy[0] -= 1
        return unit, place

    found = list(in_order(work, range(20), "abc", threading.Event()))
    assert [unit for unit, _ in found] == list(range(20))
    assert {place for _, place in found} == set("abc")
    assert most[0] <= 3


def test_a_fault_of_ours_comes_through_and_ends_the_work():
    begun = []

    def work(unit, _):
        begun.append(unit)
        time.sleep(0.01)
        if unit == 2:
            raise ZeroDivisionError
        return unit

    found = in_order(work, range(200), "ab", threading.Event())
    with pytest.raises(ZeroDivisionError):
        list(found)
    assert len(begun) < 50


def test_who_stops_listening_stops_the_work_and_leaves_nothing_half_written(tmp_path):
    for number in range(12):
        write(tmp_path / "in" / f"p{number:02}.mrc", views((400, 300), count=1, seed=number)[1][0], GEOMETRY)
    out = tmp_path / "out"
    outcomes = denoise_files(group(expand(tmp_path / "in")), out, model_of(), Conditions(CPU), devices=[CPU, CPU])
    next(outcomes)
    outcomes.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("deice")]
    written = sorted(out.iterdir())
    assert 1 <= len(written) < 12
    assert all(path.suffix == ".mrc" and not path.name.startswith(".") for path in written)


def test_control_c_in_a_batch_ends_it_and_leaves_nothing_half_written(tmp_path):
    model = model_of()
    save_model(tmp_path / "model.safetensors", model.module.state_dict(), model.recipe, 2, {})
    for number in range(30):
        write(tmp_path / "in" / f"p{number:02}.mrc", views((500, 400), count=1, seed=number)[1][0], GEOMETRY)
    where = [str(tmp_path / "in"), "-m", str(tmp_path / "model.safetensors"), "-o", str(tmp_path / "out")]
    command = [sys.executable, "-m", "deice", "denoise", *where, "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list((tmp_path / "out").glob("p*.mrc"))) < 3:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in said
    left = list((tmp_path / "out").iterdir())
    assert 3 <= len(left) < 30
    assert not [path for path in left if path.name.startswith(".")]


def test_fewer_files_are_in_flight_where_memory_is_short(tmp_path):
    scenes = pictures(tmp_path / "in")
    roomy = Conditions(CPU, max_memory=anonymous_memory() + (1 << 30))
    tight = Conditions(CPU, max_memory=anonymous_memory() + 20_000)
    assert len(places(model_of(), roomy, [CPU], scenes, Clock())) == 2
    assert len(places(model_of(), roomy, [CPU, CPU], scenes, Clock())) == 4
    assert len(places(model_of(), tight, [CPU], scenes, Clock())) == 1
    assert len(places(model_of(), roomy, [CPU, CPU], scenes[:1], Clock())) == 2


def test_each_device_has_a_network_of_its_own_but_those_that_draw_take_one_device(tmp_path):
    scenes = pictures(tmp_path / "in")
    at = places(model_of(), Conditions(CPU), [CPU, CPU], scenes, Clock())
    assert len({id(place.estimator.module) for place in at}) == 2
    assert len({id(place.conditions.lane.turn) for place in at}) == 2
    drawing = places(model_of(scheme="self2self"), Conditions(CPU), [CPU, CPU], scenes, Clock())
    assert len({id(place.conditions.lane.turn) for place in drawing}) == 1


def test_work_that_is_not_wanted_any_more_ends_between_two_tiles():
    place = places(model_of(), Conditions(CPU, tile=16), [CPU], [], Clock())[0]
    asked = []

    def give_up(*_):
        asked.append(1)
        place.stop.set()

    place.estimator.module.register_forward_hook(give_up)
    noisy = views((64, 64), count=1)[1]
    with pytest.raises(Stopped):
        denoise_into(np.zeros((64, 64), np.float32), deice.Image(noisy), place.estimator, place.conditions)
    assert len(asked) == 1


def test_a_device_that_is_not_there_is_refused():
    assert choose_devices("cpu") == [CPU]
    with pytest.raises(UserError, match=r"cuda:77|no GPU"):
        choose_devices("cuda:77")
