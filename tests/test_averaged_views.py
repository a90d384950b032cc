"""What is denoised of several views: their average, or each by itself."""

import numpy as np
import pytest
import torch

import deice
from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.image import Image
from deice.nets import UNet
from deice.pipeline import denoise_scene
from deice.recipe import Recipe
from deice.scenes import Scene
from deice.schemes import Noise2Noise


def model_of(axes, scheme):
    torch.manual_seed(3)
    recipe = Recipe(scheme=scheme, net=UNet(size=4, depth=1))
    return Model(recipe.network.build(axes).eval(), axes, None, recipe, {})


def views_of(axes):
    views = np.random.default_rng(0).normal(size=(3, *(13, 18, 11)[:axes]))
    space = tuple(range(1, axes + 1))
    return (5 + 2 * (views - views.mean(space, keepdims=True)) / views.std(space, keepdims=True)).astype(np.float32)


def by_itself(view, model):
    return deice.denoise(view[None], model).views[0]


@pytest.mark.parametrize(("axes", "of_average", "averaged"), [
    (2, None, True), (3, None, False), (2, False, False), (3, True, True)])
def test_pictures_are_averaged_first_and_volumes_afterwards_unless_it_is_said(axes, of_average, averaged):
    views, model = views_of(axes), model_of(axes, Noise2Noise(of_average=of_average))
    found = deice.denoise(views, model).views[0]
    first = by_itself(views.mean(axis=0), model)
    afterwards = np.mean([by_itself(view, model) for view in views], axis=0)
    assert np.abs(first - afterwards).max() > 0.01
    np.testing.assert_allclose(found, first if averaged else afterwards, rtol=1e-4, atol=1e-4)


def test_a_pair_that_is_learnt_in_one_direction_is_not_averaged():
    assert not Noise2Noise(directed=True).averages(2)
    assert not Noise2Noise(directed=True, of_average=True).averages(2)


def test_a_value_that_is_missing_from_one_view_is_replaced():
    views, model = views_of(2), model_of(2, Noise2Noise())
    views[1, 4, 5] = np.nan
    found = deice.denoise(Image(views), model).views[0]
    assert np.isfinite(found).all()


def test_an_empty_view_is_refused():
    views, model = views_of(2), model_of(2, Noise2Noise())
    views[1] = 7.0
    with pytest.raises(deice.errors.UserError, match="varies"):
        deice.denoise(Image(views), model)


@pytest.mark.parametrize(("axes", "name", "said"), [(2, "mic", False), (3, "tomo", True), (3, "tomo_EVN", False)])
def test_a_lone_average_is_spoken_of_where_halves_are_denoised_one_by_one(axes, name, said, tmp_path, caplog):
    path = tmp_path / f"{name}.mrc"
    deice.write(path, views_of(axes)[0])
    denoise_scene(Scene(name, (path,)), tmp_path / "out.mrc", model_of(axes, Noise2Noise()),
                  Conditions(torch.device("cpu")))
    assert ("give both halves" in caplog.text) == said
