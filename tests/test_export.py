"""Export and import: ONNX that denoises as the model does, weight dumps to the bit, and every fault in one line."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds_for_tests import views

from deice import denoise, onnx_model
from deice.checkpoint import Model, load_model, save_model
from deice.cli import run
from deice.errors import FileFault, RecipeFault, UserError
from deice.export import export
from deice.nets import NETS, ResidualCNN, UNet
from deice.onnx_model import export_onnx, load_onnx
from deice.recipe import completed, from_table, name_of, to_table
from deice.schemes import SCHEMES
from deice.weight_dumps import Layout, read_dumps, write_dumps

EXPORTED = [(ResidualCNN(depth=3, width=4, norm="batch"), 2), (UNet(size=4, depth=2), 2),
            (ResidualCNN(depth=2, width=3), 3), (UNet(size=3, depth=1, upsampling="linear"), 3)]
DUMPED = [(ResidualCNN(depth=11, width=3), 2), (UNet(size=2, depth=2), 2), (UNet(size=2, depth=1), 3)]
LAYOUTS = [Layout(order, mirrored) for order in ("c", "fortran") for mirrored in (False, True)]


def untrained(net, axes, **data) -> Model:
    """A model whose every number is random, kernels without any symmetry, norms that have seen something."""
    torch.manual_seed(3)
    table = {"data": data, "net": {"name": name_of(net)}, "scheme": {"name": "noise2noise"}}
    module = net.build(axes)
    for tensor in module.state_dict().values():
        if tensor.ndim == 1:
            tensor.uniform_(0.1, 0.9)
        elif tensor.is_floating_point() and tensor.ndim:
            tensor.normal_(std=(1.4 / tensor[0].numel()) ** 0.5)
    recipe = completed(from_table({**table, "net": {**to_table(from_table(table))["net"], **vars(net)}}), axes)
    return Model(module.eval(), axes, 2.5, recipe, {"pixel_size": 2.5, "step": 7})


@pytest.fixture(scope="module", params=EXPORTED, ids=lambda pair: f"{name_of(pair[0])}-{pair[1]}")
def exported(request, tmp_path_factory) -> tuple[Model, Path, dict[str, float]]:
    """A model, its ONNX file, and what the check said."""
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    model = untrained(*request.param)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return model, path, export_onnx(model, path)


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """A run's folder with a small model of pictures."""
    model = untrained(UNet(size=2, depth=1), 2)
    (tmp_path / "run").mkdir()
    save_model(tmp_path / "run" / "model.safetensors", model.module.state_dict(), model.recipe, 2, model.facts)
    return tmp_path / "run"


def said(capsys, *words) -> tuple[int, str]:
    """(exit code, what stderr said) of a command."""
    code = run([str(word) for word in words])
    return code, capsys.readouterr().err


def apart(a, b) -> float:
    """The largest difference in units of the picture's standard deviation."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max() / a.std())


def test_every_net_is_exported_on_two_and_three_axes():
    assert {(name_of(net), axes) for net, axes in EXPORTED} == {(name, axes) for name in NETS for axes in (2, 3)}


def test_the_file_agrees_with_pytorch_at_any_size(exported):
    model, path, differences = exported
    stride = model.net.stride
    assert len(differences) == 3
    assert max(differences.values()) < 1e-5
    for shape in differences:
        assert all(int(size) // stride % 2 for size in shape.split("×")[1:])  # odd multiples
    net = load_onnx(path).module
    for batch, multiples in ((1, (1, 1, 1)), (3, (2, 11, 5))):
        picture = torch.randn(batch, 1, *(stride * multiple for multiple in multiples[: model.axes]))
        with torch.no_grad():
            assert (net(picture) - model.module(picture)).abs().max() < 1e-5


def test_the_file_says_what_denoising_needs(exported):
    import onnxruntime

    model, path, _ = exported
    loaded = load_onnx(path)
    assert (loaded.recipe, loaded.axes, loaded.pixel_size, dict(loaded.facts)) == (
        model.recipe, model.axes, model.pixel_size, dict(model.facts))  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert {key: metadata[key] for key in ("stride", "halo", "pixel_size", "scheme", "normaliser")} == {
        "stride": str(model.net.stride), "halo": str(model.net.halo), "pixel_size": "2.5",
        "scheme": "noise2noise", "normaliser": "standard"}  # fmt: skip
    (taken,) = session.get_inputs()
    times = f"{model.net.stride}*" if model.net.stride > 1 else ""
    assert taken.shape == ["batch", 1, *(f"{times}{axis}" for axis in "zyx"[-model.axes :])]


def test_denoising_gives_the_same_picture_tiled_or_whole(exported):
    model, path, _ = exported
    _, noisy = views((83, 61) if model.axes == 2 else (14, 25, 19), seed=3)
    noisy = 40 * noisy + 300  # two halves in grey values
    for tile in (16, 128):
        assert apart(denoise(noisy, model, tile=tile, precision="fp32"), denoise(noisy, path, tile=tile)) < 1e-4


def test_a_file_that_fails_its_check_is_not_left_behind(exported, tmp_path, monkeypatch):
    model, *_ = exported
    monkeypatch.setattr(onnx_model, "TOLERANCE", 0.0)
    monkeypatch.setattr(onnx_model, "_program", lambda model: Written())
    monkeypatch.setattr(onnx_model, "compare", lambda model, path: {"1×8×8": float(path.exists())})
    with pytest.raises(UserError, match=r"differ by 1 .* no file was written"):
        export_onnx(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


class Written:
    """Stands for an exported program."""

    class model:  # noqa: N801
        metadata_props: dict[str, str] = {}  # noqa: RUF012

    def save(self, path):
        """Write something."""
        path.write_bytes(b"onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_named(package, run_folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    code, line = said(capsys, "export", run_folder, "-o", run_folder / "model.onnx")
    assert (code, line.count("\n")) == (2, 1)
    assert f"the package {package}, which is not installed" in line
    assert "[onnx]" in line
    assert not (run_folder / "model.onnx").exists()


def test_a_scheme_that_draws_is_refused(tmp_path):
    drawing = [kind for kind in SCHEMES.values() if getattr(kind(), "random_estimate", False)]
    for kind in drawing:
        model = untrained(UNet(size=2, depth=1), 2)
        with pytest.raises(RecipeFault, match="dropout"):
            export_onnx(replace(model, recipe=replace(model.recipe, scheme=kind())), tmp_path / "model.onnx")
    assert drawing
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_onnx_model_of_ours_is_one_line(tmp_path, run_folder, capsys):
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["a"], ["b"])], "g", value[:1], value[1:])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "foreign.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(FileFault, match="without deice's metadata"):
        load_onnx(tmp_path / "foreign.onnx")
    with pytest.raises(FileFault, match="onnxruntime cannot read it"):
        load_onnx(tmp_path / "text.onnx")
    with pytest.raises(FileFault, match="no such file"):
        load_onnx(tmp_path / "none.onnx")
    code, line = said(capsys, "export", tmp_path / "text.onnx", "-o", tmp_path / "again.onnx")
    assert code == 2
    assert "only denoises" in line


def test_from_a_run_to_denoised_files_by_way_of_onnx(tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    import deice

    small, run_folder = untrained(ResidualCNN(depth=2, width=2), 2), tmp_path / "run.safetensors"
    save_model(run_folder, small.module.state_dict(), small.recipe, 2, small.facts)
    for name, half in zip(("EVN", "ODD"), views((50, 70))[1]):
        deice.write(tmp_path / "halves" / f"m_{name}.mrc", half, deice.Geometry((2.5, 2.5, 2.5)))
    code, line = said(capsys, "export", run_folder, "-o", tmp_path / "m.onnx", "--json", tmp_path / "check.json")
    assert code == 0
    assert "differ by at most" in line
    assert max(json.loads((tmp_path / "check.json").read_text())["differences"].values()) < 1e-5
    for model, out, more in ((run_folder, "a", ["--precision", "fp32"]), (tmp_path / "m.onnx", "b", [])):
        code, line = said(capsys, "denoise", tmp_path / "halves", "-m", model, "-o", tmp_path / out, *more)
        assert code == 0, line
    assert apart(deice.read(tmp_path / "a" / "m.mrc"), deice.read(tmp_path / "b" / "m.mrc")) < 1e-4
    code, line = said(capsys, "denoise", tmp_path / "halves", "-m", tmp_path / "m.onnx", "-o", tmp_path / "c",
                      "--precision", "bf16")
    assert code == 0
    assert "computes in fp32" in line


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("net", "axes"), DUMPED, ids=lambda value: str(value)[:11])
def test_weights_come_back_from_dumps_to_the_bit(net, axes, layout, tmp_path):
    model = untrained(net, axes, normaliser="percentile")
    write_dumps(tmp_path / "dumps", model, layout)
    other = Layout("fortran" if layout.order == "c" else "c", layout.mirrored)
    for reading, same in ((layout, True), (other, False), (Layout(layout.order, not layout.mirrored), False)):
        back = read_dumps(tmp_path / "dumps", model.recipe, axes, reading, {}).module.state_dict()
        equal = [torch.equal(value, back[name]) for name, value in model.module.state_dict().items()]
        assert all(equal) == same
    export(tmp_path / "dumps", tmp_path / "again.safetensors", {})
    again = load_model(tmp_path / "again.safetensors")
    assert (again.recipe, again.axes, dict(again.facts)) == (model.recipe, axes, dict(model.facts))
    assert all(torch.equal(value, again.module.state_dict()[key]) for key, value in model.module.state_dict().items())


def test_the_orders_are_those_of_the_languages():
    """A Fortran array (x, y, in, out) is our order c; a Fortran array (out, in, y, x) our order fortran."""
    shape = (2, 3, 4, 5)  # out, in, y, x: all different
    weight = np.zeros(shape, np.float32)
    fortran_xyio, fortran_oiyx = np.zeros(shape[::-1], np.float32), np.zeros(shape, np.float32)
    for o, i, y, x in np.ndindex(shape):
        weight[o, i, y, x] = fortran_xyio[x, y, i, o] = fortran_oiyx[o, i, y, x] = 1000 * o + 100 * i + 10 * y + x
    tensor = torch.from_numpy(weight)
    assert Layout("c").pack(tensor).tobytes() == weight.tobytes("C") == fortran_xyio.tobytes("F")
    assert Layout("fortran").pack(tensor).tobytes() == fortran_oiyx.tobytes("F") != weight.tobytes("C")
    for layout in LAYOUTS:
        assert torch.equal(layout.unpack(layout.pack(tensor), shape), tensor)


@pytest.mark.parametrize("mirrored", [True, False])
def test_mirrored_kernels_are_those_of_a_convolution(mirrored, tmp_path):
    """A point seen by a convolution is the kernel itself, by a correlation the kernel turned by 180°."""
    kernel = np.arange(1, 10, dtype="<f4").reshape(3, 3)
    point = np.zeros((3, 3), "<f4")
    point[1, 1] = 1
    for name, numbers in (("conv01", kernel), ("conv02", point)):
        numbers.tofile(tmp_path / f"{name}_weights.bin")
        np.zeros(1, "<f4").tofile(tmp_path / f"{name}_bias.bin")
    options = {"net": "residual_cnn:depth=2,width=1,residual=false", "order": "c", "mirrored": mirrored}
    export(tmp_path, tmp_path / "model.safetensors", options)
    picture = torch.zeros(1, 1, 5, 5)
    picture[0, 0, 2, 2] = 1
    with torch.no_grad():
        seen = load_model(tmp_path / "model.safetensors").module(picture)[0, 0, 1:4, 1:4].numpy()
    assert np.array_equal(seen, kernel if mirrored else kernel[::-1, ::-1])


def test_files_are_named_as_the_programs_of_the_source_documents_name_them(tmp_path):
    names = write_dumps(tmp_path / "unet", untrained(UNet(), 2), Layout("c"))
    layers = [*(f"enc{level}_conv{part}" for level in (1, 2, 3) for part in (1, 2)), "bottleneck1", "bottleneck2",
              *(f"dec{level}_conv{part}" for level in (3, 2, 1) for part in (1, 2)), "final"]  # fmt: skip
    assert names == [f"{layer}_{kind}.bin" for layer in layers for kind in ("weights", "bias")]
    sizes = {path.name: path.stat().st_size // 4 for path in (tmp_path / "unet").glob("*_weights.bin")}
    assert sizes["dec3_conv1_weights.bin"] == 128 * (256 + 128) * 9
    assert sum(path.stat().st_size // 4 for path in (tmp_path / "unet").glob("*.bin")) == 1_946_305
    residual = untrained(ResidualCNN(), 2)
    names = write_dumps(tmp_path / "residual", residual, Layout("c"))
    assert names[:2] + names[-1:] == ["conv01_weights.bin", "conv01_bias.bin", "conv12_bias.bin"]
    for path in (tmp_path / "residual").glob("conv0*"):  # the older programs do not pad
        path.rename(path.with_name(path.name.replace("conv0", "conv")))
    back = read_dumps(tmp_path / "residual", residual.recipe, 2, Layout("c"), {}).module.state_dict()
    assert all(torch.equal(value, back[name]) for name, value in residual.module.state_dict().items())


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


def with_record_markers(path):
    path.write_bytes(b"\x24\0\0\0" + path.read_bytes() + b"\x24\0\0\0")


def with_a_nan(path):
    numbers = np.fromfile(path, "<f4")
    numbers[1] = np.nan
    numbers.tofile(path)


def big_endian(path):
    np.fromfile(path, "<f4").astype(">f4").tofile(path)


SPOILT = [
    (cut, "140 bytes; expected 144 bytes (4×1×3×3 float32, out × in × kernel)"),
    (with_record_markers, "access='stream'"),
    (with_a_nan, "1 of 36 numbers are not finite"),
    (big_endian, "little-endian"),
    (Path.unlink, "no such file; expected 144 bytes"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILT, ids=lambda value: getattr(value, "__name__", ""))
def test_a_spoilt_dump_is_one_line_that_names_file_and_size(spoil, words, tmp_path, capsys):
    folder = tmp_path / "dumps"
    write_dumps(folder, untrained(ResidualCNN(depth=3, width=4), 2), Layout("fortran"))
    (folder / "deice.json").unlink()
    spoil(folder / "conv01_weights.bin")
    command = ["export", folder, "--net", "residual_cnn:depth=3,width=4", "--order", "fortran"]
    code, line = said(capsys, *command, "-o", tmp_path / "model.safetensors")
    assert (code, line.count("\n")) == (2, 1)
    assert "conv01_weights.bin: " in line
    assert words in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dumps"]


def test_what_dumps_do_not_say_must_be_said_and_not_against_what_they_say(tmp_path, run_folder, capsys):
    folder, model, a_folder = tmp_path / "dumps", tmp_path / "model.safetensors", tmp_path / "folder.onnx"
    a_folder.mkdir()
    expected = [
        (["export", run_folder, "-o", folder], "give --order c or --order fortran"),
        (["export", run_folder, "-o", folder, "--order", "c", "--axes", 3], "--axes: said of weight dumps"),
        (["export", run_folder, "-o", model, "--order", "c"], "--order: said of weight dumps"),
        (["export", run_folder, "-o", model, "--net", "unet"], "no file ends with _weights.bin"),
        (["export", run_folder, "-o", folder, "--order", "c"], None),
        (["export", run_folder, "-o", folder, "--order", "c"], "not an empty folder"),
        (["export", folder, "-o", model, "--order", "fortran"], "order is 'c', the command 'fortran'"),
        (["export", folder, "-o", model, "--net", "unet:size=3"], "net size is 2, the command 3"),
        (["export", folder, "-o", model, "--net", "unet:size=2", "--order", "c", "--axes", 2], None),
        (["export", run_folder, "-o", a_folder], "a folder stands where the file should"),
        (["export", folder, "-o", tmp_path / "other", "--order", "c"], "would both be weight dumps"),
    ]
    for command, words in expected:
        code, line = said(capsys, *command)
        assert code == (0 if words is None else 2), line
        assert words is None or words in line
    (folder / "deice.json").unlink()
    for command, words in [
        ([], "give --net"),
        (["--net", "unet:size=2,depth=1"], "give --order"),
        (["--net", "unet:size=2,depth=2", "--order", "c"], "no such file; expected"),
        (["--net", "residual_cnn", "--order", "c"], "expected 12 layers, conv01 to conv12"),
        (["--net", "unet:size=2,depth=1,norm=batch", "--order", "c"], "all that weight dumps hold"),
    ]:
        code, line = said(capsys, "export", folder, "-o", model, *command)
        assert (code, line.count("\n")) == (2, 1)
        assert words in line
