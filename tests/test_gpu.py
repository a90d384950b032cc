"""What only a GPU can show: precision, memory caps, smaller tiles after running out, the stream's own copies."""

import json

import mrcfile
import numpy as np
import pytest
import torch
from worlds_for_tests import error, views

from deice import denoise, read, train
from deice.batch import denoise_files
from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.devices import cap_memory, choose_device, choose_devices
from deice.errors import MemoryFault
from deice.filters.fitted import best_gaussian, radial_wiener
from deice.image import Image
from deice.lanes import Clock
from deice.nets import ResidualCNN, UNet
from deice.pipeline import places
from deice.prepared import RESIDENT
from deice.recipe import Recipe, from_table
from deice.scenes import expand, group
from deice.sources import source_of
from deice.stream import ORDERS, Stream, make_order
from deice.training import run
from deice.verification import verify

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
CUDA = torch.device("cuda")
CUDA0 = torch.device("cuda", 0)
RECIPE = {"net": {"name": "unet", "size": 16, "depth": 2}, "data": {"window": 64}, "training": {"batch": 8, "lr": 2e-3}}


@pytest.fixture
def uncapped():
    """The allocator as it was, whatever a test asks of it."""
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def pairs(shape=(160, 144)):
    return [views(shape, seed=i)[1] for i in range(3)]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns(precision):
    truth, noisy = views((160, 144), seed=50)
    model = train(pairs(), recipe=RECIPE, steps=150, precision=precision, device="cuda")
    for device in ("cuda", "cpu"):
        denoised = denoise(noisy, model, device=device, precision="fp32")
        assert error(np.asarray(denoised), truth) < 0.7 * error(noisy.mean(0), truth)


def test_the_gpu_and_the_processor_agree():
    _, noisy = views((300, 200), seed=51)
    model = train(pairs(), recipe=RECIPE, steps=20, precision="fp32", device="cuda")
    torch.backends.cudnn.allow_tf32 = False
    answers = [np.asarray(denoise(noisy, model, device=device, precision="fp32")) for device in ("cuda", "cpu")]
    assert np.abs(answers[0] - answers[1]).max() < 1e-3 * answers[1].std()


@pytest.mark.parametrize("axes", [2, 3])
def test_training_and_denoising_stay_under_the_cap(axes, uncapped):
    shape, window = {2: ((2048, 2048), 128), 3: ((64, 256, 256), 32)}[axes]
    limit = 2_000_000_000
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    recipe = from_table({**RECIPE, "data": {"window": window}, "training": {"steps": 20, "batch": 4}})
    kept = []
    for _ in run(recipe, pairs(shape)[:2], None, device="cuda", max_memory=limit, keep=kept):
        pass
    denoised = denoise(pairs(shape)[0], kept[0].model(), device="cuda", max_memory=limit)
    assert np.isfinite(np.asarray(denoised)).all()
    assert torch.cuda.max_memory_reserved() <= limit


def test_tiles_shrink_when_memory_runs_out(uncapped, caplog, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # which convolutions use it depends on the tile
    model = train(pairs(), recipe=RECIPE, steps=2, device="cuda")
    noisy = views((3000, 3000), count=1)[1]
    whole = np.asarray(denoise(noisy, model, device="cuda", precision="fp32", tile=512))
    cap_memory(choose_device("cuda"), 700_000_000)
    torch.cuda.empty_cache()
    tight = np.asarray(denoise(noisy, model, device="cuda", precision="fp32", tile=3000))
    assert "out of memory with tiles of" in caplog.text
    assert np.abs(whole - tight).max() < 2e-3 * whole.std()


def test_the_same_run_twice_gives_nearly_the_same_model():
    models = [train(pairs(), recipe=RECIPE, steps=30, precision="fp32", device="cuda") for _ in range(2)]
    validations = [model.facts["validation"] for model in models]
    assert validations[0] == pytest.approx(validations[1], rel=1e-3)


def test_the_baselines_run_on_the_gpu():
    truth, noisy = (torch.from_numpy(np.asarray(array)).to(CUDA) for array in views((120, 90), count=1))
    smooth, sigma = best_gaussian(noisy[0], truth)
    assert smooth.device.type == "cuda"
    assert sigma > 0.5
    assert radial_wiener(noisy[0], truth).device.type == "cuda"


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("net", [
    ResidualCNN(), UNet(size=16), UNet(size=16, norm="batch", blocks="residual", dropout=0.3),
    UNet(size=16, depth=2, upsampling="transposed"), UNet(size=16, depth=2, upsampling="linear"),
], ids=str)  # fmt: skip
def test_the_nets_equal_their_reference_on_the_gpu(net, axes):
    torch.manual_seed(0)
    found = verify(Model(net.build(axes).eval(), axes, None, Recipe(net=net), {}), "cuda")
    assert found.faults == []
    assert {of.precision for of in found.reduced} >= {"tf32"}


def test_an_onnx_model_answers_the_same_whether_or_not_onnxruntime_can_use_the_gpu(tmp_path, caplog):
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="the extra onnx is not installed")
    from deice.onnx_model import CUDA as PROVIDER
    from deice.onnx_model import export_onnx, load_onnx

    model = train(pairs(), recipe=RECIPE, steps=20, device="cpu")
    export_onnx(model, tmp_path / "model.onnx")
    loaded, noisy = load_onnx(tmp_path / "model.onnx"), views((300, 200), seed=52)[1]
    answers = [np.asarray(denoise(noisy, m, device=device, precision="fp32"))
               for m, device in ((loaded, "cuda"), (model, "cpu"))]
    assert np.abs(answers[0] - answers[1]).max() < 1e-3 * answers[1].std()
    assert (loaded.module.session.get_providers()[0] == PROVIDER) != ("cannot use the GPU" in caplog.text)


@pytest.mark.parametrize("resident", [True, False])
def test_f2fd_prepares_its_samples_on_the_gpu_or_in_a_scratch_file(resident, monkeypatch):
    truth, noisy = views((24, 48, 40), count=1, noise=1.5, seed=3)
    if not resident:
        monkeypatch.setitem(RESIDENT, "cuda", 0)
    recipe = {
        "scheme": {"name": "f2fd", "total_samples": 4, "n_bernoulli_samples": 2, "total_samples_prediction": 2,
                   "predict_N_times": 8, "refresh": 20},
        "net": {"name": "unet", "size": 8, "depth": 1, "dropout": 0.3}, "data": {"window": 16},
    }
    model = train([noisy], recipe=recipe, steps=150, lr=3e-3, batch=4, device="cuda")
    answer = np.asarray(denoise(noisy[0], model, device="cuda"))
    assert np.array_equal(answer, np.asarray(denoise(noisy[0], model, device="cuda")))
    assert np.corrcoef(answer.ravel(), truth.ravel())[0, 1] > np.corrcoef(noisy.ravel(), truth.ravel())[0, 1] + 0.1


def test_recorrupted_learns_on_the_gpu():
    truth, noisy = views((24, 48, 40), count=1, noise=1.5, seed=4)
    recipe = {"scheme": {"name": "recorrupted"}, "net": {"name": "unet", "size": 8, "depth": 1}, "data": {"window": 16}}
    model = train([noisy], recipe=recipe, steps=200, lr=3e-3, batch=4, device="cuda")
    assert error(np.asarray(denoise(noisy[0], model, device="cuda")), truth) < 0.5 * error(noisy[0], truth)


def files_of(folder, shape=(1500, 1300), count=6, dtype=np.float32):
    """Pictures on disk, as `dtype`."""
    for number in range(count):
        picture = 40 + 9 * np.random.default_rng(number).normal(size=shape)
        with mrcfile.new(folder / f"p{number}.mrc") as file:
            file.set_data(picture.astype(dtype))
    return group(expand(folder))


def random_model(net, axes=2):
    torch.manual_seed(0)
    module = net.build(axes)
    for tensor in module.parameters():
        if tensor.shape[0] == 1:
            torch.nn.init.normal_(tensor, std=0.3)
    return Model(module.eval(), axes, None, Recipe(net=net), {})


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.int16, np.float16])
@pytest.mark.parametrize("net", [ResidualCNN(), UNet()], ids=str)
def test_files_in_flight_give_the_bits_of_one_after_the_other(dtype, net, tmp_path, monkeypatch):
    scenes, model = files_of(tmp_path, dtype=dtype), random_model(net)
    for outcome in denoise_files(scenes, tmp_path / "batch", model, Conditions(CUDA0)):
        assert outcome.state == "written"
        one = np.asarray(denoise(outcome.scene.files[0], model, device="cuda"))
        assert np.array_equal(np.asarray(read(outcome.path)), one)
    assert len(places(model, Conditions(CUDA0), [CUDA0], scenes, Clock())) > 1
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    exact = np.asarray(denoise(scenes[0].files[0], model, device="cuda", precision="fp32"))
    tiled = np.asarray(denoise(scenes[0].files[0], model, device="cuda", precision="fp32", tile=400))
    assert np.abs(exact - tiled).max() < 2e-3 * exact.std()


@pytest.mark.filterwarnings("ignore:Setting the dtype:DeprecationWarning")  # of mrcfile, by numpy 2.5
def test_the_header_of_what_a_gpu_denoised_is_true(tmp_path):
    scenes = files_of(tmp_path, count=2)
    for float16 in (False, True):
        for outcome in denoise_files(scenes, tmp_path / str(float16), random_model(ResidualCNN()), Conditions(CUDA0),
                                     float16=float16):  # fmt: skip
            with mrcfile.open(outcome.path) as file:
                data, header = file.data.astype(np.float64), file.header
                assert header.mode == (12 if float16 else 2)
                assert [header.dmin, header.dmax] == pytest.approx([data.min(), data.max()], rel=1e-6)
                assert [header.dmean, header.rms] == pytest.approx([data.mean(), data.std()], rel=1e-5)


def test_pixels_that_are_not_finite_are_mended_on_the_gpu_as_on_the_processor(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model, noisy = random_model(ResidualCNN(depth=3)), views((300, 200), count=1, seed=8)[1][0]
    noisy[4:7, 9] = np.nan
    noisy[100, 100] = np.inf
    answers = [np.asarray(denoise(noisy, model, device=device, precision="fp32")) for device in ("cuda", "cpu")]
    assert np.abs(answers[0] - answers[1]).max() < 1e-3 * answers[1].std()


@pytest.mark.parametrize("limit", [1_000_000_000, 4_000_000_000])
def test_a_batch_stays_under_the_cap(limit, tmp_path, uncapped):
    scenes, model = files_of(tmp_path, (3000, 3000), 5), random_model(UNet())
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    outcomes = list(denoise_files(scenes, tmp_path / "out", model, Conditions(CUDA0, max_memory=limit)))
    assert {outcome.state for outcome in outcomes} == {"written"}
    assert torch.cuda.max_memory_reserved() <= limit


def test_a_batch_goes_on_with_smaller_tiles_when_memory_runs_out(tmp_path, uncapped, caplog, monkeypatch):
    monkeypatch.setattr("deice.tile_sizes.CONVOLUTION_WORKSPACE", 0.1)  # so that the plan is too bold
    scenes, model = files_of(tmp_path, (3000, 3000), 4), random_model(UNet())
    limit = 2_000_000_000
    outcomes = list(denoise_files(scenes, tmp_path / "out", model, Conditions(CUDA0, max_memory=limit)))
    assert {outcome.state for outcome in outcomes} == {"written"}
    assert "out of memory with tiles of" in caplog.text


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU here")
def test_all_gpus_share_the_files_and_the_bits_are_those_of_one(tmp_path):
    scenes, model = files_of(tmp_path, count=12), random_model(UNet())
    devices = choose_devices("cuda")
    batches = [list(denoise_files(scenes, tmp_path / str(len(shared)), model, Conditions(devices[0]), devices=shared))
               for shared in (devices[:1], devices)]
    for one, other in zip(*batches):
        assert np.array_equal(np.asarray(read(one.path)), np.asarray(read(other.path)))


@pytest.mark.parametrize("kind", ["int8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("order", ORDERS)
def test_windows_normalised_on_the_gpu_are_those_of_the_processor(kind, order):
    values = np.random.default_rng(0).normal(60, 12, (3, 2, 90, 100)).astype(kind)
    if kind.startswith("float"):
        values[1, 0, 20:24, 30:34] = np.nan
    sources = [source_of(str(n), [Image(pair)], "clipped") for n, pair in enumerate(values)]
    where = make_order(order, sources, (48, 40), 5, 0)
    streams = [Stream(sources, where, device).batches() for device in (CUDA, torch.device("cpu"))]
    for _ in range(12):
        one, other = (next(stream) for stream in streams)
        assert torch.equal(one.cpu(), other)
    for stream in streams:
        stream.close()


def test_the_most_memory_is_kept_and_a_run_that_does_not_fit_says_so(tmp_path, uncapped):
    recipe = {**RECIPE, "training": {"batch": 8, "steps": 12}}
    train(pairs(), tmp_path / "run", recipe, device="cuda")
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 < last["gpu_allocated"] <= last["gpu_reserved"]
    large = from_table({**RECIPE, "training": {"batch": 512, "steps": 12}})
    with pytest.raises(MemoryFault, match=r"512 windows of 64×64 .* 0.3 GB granted; use a smaller --batch"):
        for _ in run(large, pairs(), None, device="cuda", max_memory=300_000_000):
            pass
