"""Recipes: strict, typed, and whole after a round trip through TOML."""

from dataclasses import replace

import pytest
import tomli_w

from swell.errors import InputError
from swell.recipes import RECIPES, Recipe, differences, load_recipe
from swell.views.plan import VIEWS


@pytest.mark.parametrize("name", [entry.name for entry in RECIPES])
def test_named_recipes_are_documented_and_survive_a_file(name, tmp_path):
    make = RECIPES[name]
    assert make.__doc__
    recipe = make()
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(recipe.to_dict()))
    assert load_recipe(str(path)) == recipe


def test_a_plan_inside_a_recipe_survives_a_file(tmp_path):
    recipe = Recipe(steps=3, views=VIEWS["asymmetric"]())
    path = tmp_path / "r.toml"
    path.write_text(tomli_w.dumps(recipe.to_dict()))
    assert load_recipe(str(path)) == recipe


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batchsize = 3", "did you mean 'batch_size'"),
        ("batch_size = 2.5", "a whole number"),
        ("batch_size = true", "a whole number"),
        ("optimizer = 3", "a value like"),
        ('optimizer = "adam"', "did you mean 'adamw'"),
        ("strength = 1.5", "from 0 to 1"),
        ("learning_rate = nan", "learning_rate nan"),
        ("steps = 5\nepochs = 2.0", "one of steps, epochs, minutes"),
        ("steps = 0", "above 0"),
        ('minutes = "ten"', "minutes"),
        ('views = "simclrr"', "did you mean 'simclr'"),
        ("[views]\ngroup = 3", "group"),
        ("method_options = 3", "method_options"),
        ("backbone_options = 3", "backbone_options"),
        ("beta2 = 1.0", "beta2 1.0: expected a number from 0 to 1"),
        ('beta2 = "high"', "beta2 'high'"),
        ("seed = [", "readable TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, text, says):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_recipe(str(path))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_options_of_a_backbone_and_beta2_survive_a_file(tmp_path):
    recipe = Recipe(steps=3, backbone="vit_tiny", backbone_options={"patch": 4, "positions": "learned"}, beta2=0.95)
    path = tmp_path / "r.toml"
    path.write_text(tomli_w.dumps(recipe.to_dict()))
    assert load_recipe(str(path)) == recipe


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(InputError, match="did you mean 'digits'"):
        load_recipe("digit")


def test_a_budget_replaces_the_other_kinds():
    recipe = Recipe(epochs=100).with_budget(steps=None, minutes=5)
    assert (recipe.steps, recipe.epochs, recipe.minutes) == (None, None, 5)
    assert Recipe(steps=7).with_budget(steps=None) == Recipe(steps=7)


def test_differences_name_what_changed():
    a = Recipe(steps=3)
    assert differences(a, a) == []
    assert differences(a, replace(a, seed=4, views=VIEWS["adainf"]())) == ["views: another plan", "seed: 0 -> 4"]
