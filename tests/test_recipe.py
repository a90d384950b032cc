"""Recipes: TOML in and out, faults that help, flags over files."""

import pytest

from deice.errors import FileFault, RecipeFault
from deice.nets import ResidualCNN, UNet
from deice.recipe import completed, from_table, merged, parse_component, read_recipe, to_table, to_toml
from deice.schemes import Noise2Void


def test_toml_and_back_is_the_same_recipe(tmp_path):
    table = {
        "data": {"inputs": ['odd "name"\\x', "b"], "window": [32, 64], "axes": "zyx"},
        "scheme": {"name": "noise2void", "share": 0.02},
        "net": {"name": "residual_cnn", "depth": 5},
        "training": {"steps": 7, "lr": 1e-4, "turns": False},
    }
    recipe = from_table(table)
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe))
    assert read_recipe(path) == recipe
    assert recipe.net == ResidualCNN(depth=5)
    assert recipe.scheme == Noise2Void(share=0.02)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"training": {"learning_rate": 1}}, r"\[training\]: unknown key 'learning_rate'.*"),
        ({"training": {"stepz": 1}}, "did you mean 'steps'"),
        ({"net": {"name": "unet", "dept": 3}}, "did you mean 'depth'"),
        ({"net": {"name": "umet"}}, "expected one of residual_cnn, unet; did you mean 'unet'"),
        ({"scheme": {"name": "noise2nose"}}, "did you mean 'noise2noise'"),
        ({"training_": {}}, "did you mean 'training'"),
        ({"training": 5}, r"expected a table \[training\]"),
        ({"training": {"steps": "many"}}, "steps is 'many'; expected int"),
        ({"training": {"turns": 1}}, "turns is 1; expected bool"),
        ({"data": {"window": ["a"]}}, "window"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_known(table, message):
    with pytest.raises(RecipeFault, match=message):
        from_table(table)


def test_a_file_that_is_no_toml_is_a_file_fault(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("steps = = 3")
    with pytest.raises(FileFault, match="not TOML"):
        read_recipe(path)
    with pytest.raises(FileFault, match="No such file"):
        read_recipe(tmp_path / "absent.toml")


def test_flags_stand_over_the_recipe_and_a_length_replaces_another():
    table = {"training": {"epochs": 3.0, "batch": 4}, "net": {"name": "unet", "size": 8}}
    over = {"training": {"steps": 10, "batch": None}, "net": {"name": "residual_cnn"}, "scheme": {}}
    result = merged(table, over)
    assert result["training"] == {"steps": 10, "batch": 4}
    assert result["net"] == {"name": "residual_cnn"}
    assert table["training"] == {"epochs": 3.0, "batch": 4}


def test_a_recipe_completes_itself_for_pictures_and_volumes():
    flat, deep = completed(from_table({}), 2), completed(from_table({}), 3)
    assert flat.net == UNet(depth=4)
    assert len(flat.data.window) == 2
    assert len(deep.data.window) == 3
    assert flat.training.minutes == 10
    assert completed(from_table(to_table(flat)), 2) == flat
    with pytest.raises(RecipeFault, match="one size, or 3"):
        completed(from_table({"data": {"window": [8, 8]}}), 3)


def test_components_as_flags_say_them():
    assert parse_component("unet") == {"name": "unet"}
    assert parse_component("unet:size=16,residual=true") == {"name": "unet", "size": 16, "residual": True}
    assert parse_component("supervised:noise=poisson") == {"name": "supervised", "noise": "poisson"}
