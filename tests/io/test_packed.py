"""The headerless pairs: shapes known or given, and every way in which two files can disagree."""

import json

import numpy as np
import pytest

from deice.errors import FileFault, PairFault, RecipeFault, UserError
from deice.io import packed


def write_bin(path, samples, space):
    data = np.random.default_rng(samples).standard_normal((samples, *space)).astype(np.float32)
    data.tofile(path)
    return data


@pytest.mark.parametrize("space", [(4, 6), (3, 4, 5)])
def test_pairs_of_another_program_open_with_the_shape_given(tmp_path, space):
    data = write_bin(tmp_path / "train_input.bin", 7, space)
    target = write_bin(tmp_path / "train_target.bin", 7, space)
    inputs, targets = packed.open_packed(tmp_path / "train_input.bin", tmp_path / "train_target.bin", space)
    np.testing.assert_array_equal(inputs, data)
    np.testing.assert_array_equal(targets, target)
    assert inputs.shape == (7, *space)
    with pytest.raises(ValueError, match="read-only"):
        inputs[0] = 0


def test_input_alone_has_no_target(tmp_path):
    write_bin(tmp_path / "train_input.bin", 2, (4, 4))
    inputs, targets = packed.open_packed(tmp_path / "train_input.bin", shape=(4, 4))
    assert inputs.shape == (2, 4, 4)
    assert targets is None


def test_input_and_target_of_different_length_are_refused_with_both_counts(tmp_path):
    write_bin(tmp_path / "i.bin", 29, (4, 4))
    write_bin(tmp_path / "t.bin", 7, (4, 4))
    with pytest.raises(PairFault, match=r"1856 bytes \(29 samples of 4×4\).*448 bytes \(7 samples"):
        packed.open_packed(tmp_path / "i.bin", tmp_path / "t.bin", (4, 4))


def test_a_broken_sample_at_the_end_is_refused(tmp_path):
    for name in ("i.bin", "t.bin"):
        write_bin(tmp_path / name, 3, (5, 5))
    with pytest.raises(FileFault, match="300 bytes are no whole number of 4×4"):
        packed.open_packed(tmp_path / "i.bin", tmp_path / "t.bin", (4, 4))


def test_shape_unknown_contradicted_or_of_several_channels(tmp_path):
    write_bin(tmp_path / "i.bin", 3, (4, 4))
    with pytest.raises(RecipeFault, match="--patch"):
        packed.open_packed(tmp_path / "i.bin")
    (tmp_path / "deice.json").write_text(json.dumps({"sample_shape": [1, 4, 4], "byte_order": "little"}))
    assert packed.open_packed(tmp_path / "i.bin")[0].shape == (3, 4, 4)
    with pytest.raises(RecipeFault, match=r"2×8 asked for.*says 4×4"):
        packed.open_packed(tmp_path / "i.bin", shape=(2, 8))
    (tmp_path / "deice.json").write_text(json.dumps({"sample_shape": [3, 4, 4]}))
    with pytest.raises(FileFault, match="3 channels"):
        packed.open_packed(tmp_path / "i.bin")
    for nonsense in ("no json", "[]", '{"sample_shape": 7}'):
        (tmp_path / "deice.json").write_text(nonsense)
        with pytest.raises(FileFault, match="does not describe"):
            packed.open_packed(tmp_path / "i.bin")


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(FileFault, match="no such file"):
        packed.open_packed(tmp_path / "i.bin", shape=(4, 4))
    (tmp_path / "i.bin").touch()
    with pytest.raises(FileFault, match="empty"):
        packed.open_packed(tmp_path / "i.bin", shape=(4, 4))


def test_the_byte_order_of_the_other_machine_is_read(tmp_path):
    data = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    data.astype(">f4").tofile(tmp_path / "i.bin")
    (tmp_path / "deice.json").write_text(json.dumps({"sample_shape": [1, 4, 4], "byte_order": "big"}))
    np.testing.assert_array_equal(packed.open_packed(tmp_path / "i.bin")[0], data)


def test_a_failure_while_writing_leaves_what_was_there(tmp_path):
    (tmp_path / "train_input.bin").write_bytes(b"old.")

    def fail_midway():
        with packed.create_packed(tmp_path, ["train_input.bin"], 4) as (outputs, _):
            outputs["train_input.bin"].write(b"new.")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    assert [path.name for path in tmp_path.iterdir()] == ["train_input.bin"]
    assert (tmp_path / "train_input.bin").read_bytes() == b"old."


def test_a_disk_too_small_is_said_before_any_work(tmp_path):
    with pytest.raises(UserError, match="GB to write"), packed.create_packed(tmp_path / "new", [], 10**18):
        pytest.fail("work was begun")
