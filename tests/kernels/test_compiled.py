"""Run-time compilation, which needs no GPU: every source for every architecture, and what is kept on disk."""

import threading
from importlib.resources import files

import pytest
import torch

pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed (extra test)")

from deice.kernels import compiled
from deice.kernels.compiled import NotCompiled, machine_code, why_not

ELF, CUDA = b"\x7fELF", 190
STACK, GRADIENTS, UNET = "convolution_stack.cu", "weight_gradient.cu", "unet.cu"
FUNCTIONS = {
    STACK: (b"layer", b"layer_gradient", b"first", b"last", b"last_gradient"),
    GRADIENTS: (b"weight_gradient", b"correlate_picture", b"correlate_picture_fp32", b"add_blocks"),
    UNET: (b"bias_relu", b"place_and_pool", b"enlarge", b"project", b"relu_gradient", b"enlarge_gradient",
           b"place_and_pool_gradient", b"project_gradient", b"add_blocks"),
}
CASES = [
    *[(STACK, f"sm_{number}", macros) for number in (80, 89, 90) for macros in ((), ("FP16",))],
    *[(STACK, "sm_90a", ("WGMMA", *macros)) for macros in ((), ("FP16",))],
    *[(GRADIENTS, f"sm_{number}", ("ELEMENT_BF16=1", f"STAGES={stages}"))
      for number, stages in ((80, 3), (89, 2), (90, 4))],
    (GRADIENTS, "sm_90a", ("ELEMENT_BF16=0", "STAGES=4")),
    *[(UNET, f"sm_{number}", macros) for number in (80, 89, 90) for macros in (("DEPTH=1",), ("DEPTH=2", "FP16"))],
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "deice" / "kernels"


@pytest.mark.parametrize(("source", "architecture", "macros"), CASES)
def test_every_source_is_machine_code_for_every_architecture(source, architecture, macros):
    image = machine_code(source, architecture, macros)
    assert image[:4] == ELF
    assert int.from_bytes(image[18:20], "little") == CUDA
    assert all(b".text." + function in image for function in FUNCTIONS[source])
    assert (b".text.two_layers" in image) == ("WGMMA" in macros)


def test_what_was_compiled_is_kept(cache, monkeypatch):
    first = machine_code(STACK, "sm_80")
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(compiled, "compiled", lambda *_: pytest.fail("compiled again"))
    assert machine_code(STACK, "sm_80") == first


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 5000])
def test_a_damaged_file_is_compiled_again(cache, damage, monkeypatch):
    monkeypatch.setattr(compiled, "compiled", lambda *_: b"code" * 1000)
    first = machine_code(STACK, "sm_80")
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage or whole[:-100])
    assert machine_code(STACK, "sm_80") == first
    assert kept.read_bytes() == whole


def test_several_at_once_leave_one_whole_file(cache, monkeypatch):
    monkeypatch.setattr(compiled, "compiled", lambda *_: b"code" * 100000)
    found = []
    threads = [threading.Thread(target=lambda: found.append(machine_code(STACK, "sm_80"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"code" * 100000] * 8
    assert len(list(cache.iterdir())) == 1


def test_without_a_place_to_keep_it_is_compiled_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(compiled, "compiled", lambda *_: b"code")
    assert machine_code(STACK, "sm_80") == b"code"


def test_another_source_another_key(cache, monkeypatch):
    monkeypatch.setattr(compiled, "compiled", lambda text, *_: text[:8])
    for macros in ((), ("FP16",)):
        for source in (STACK, GRADIENTS):
            machine_code(source, "sm_80", macros)
    machine_code(STACK, "sm_89")
    assert len(list(cache.iterdir())) == 5


def test_what_does_not_compile_says_the_compilers_words():
    with pytest.raises(NotCompiled, match=r"broken\.cu does not compile: .*nonsense"):
        compiled.compiled(b"nonsense here;", "broken.cu", ["--gpu-architecture=sm_80"])


def test_no_gpu_is_a_reason():
    assert why_not(torch.device("cpu")) == "no NVIDIA GPU"
    with pytest.raises(NotCompiled, match="no NVIDIA GPU"):
        compiled.kernel(STACK, "layer", torch.device("cpu"))


def test_the_sources_need_no_header():
    for source in FUNCTIONS:
        assert "#include" not in files("deice.kernels").joinpath(source).read_text()
