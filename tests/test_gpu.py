"""What only a GPU can show: precision, memory caps, smaller tiles after running out, the stream's own copies."""

import numpy as np
import pytest
import torch
from worlds_for_tests import error, views

from deice import denoise, train
from deice.checkpoint import Model
from deice.devices import cap_memory, choose_device
from deice.filters.fitted import best_gaussian, radial_wiener
from deice.nets import ResidualCNN, UNet
from deice.prepared import RESIDENT
from deice.recipe import Recipe, from_table
from deice.training import run
from deice.verification import verify

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
CUDA = torch.device("cuda")
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


def test_tiles_shrink_when_memory_runs_out(uncapped, caplog):
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
