"""Suites before anything is trained: what is shipped fits all kinds of data, and slips cost one line."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from swell.data.source import Provenance, Source
from swell.errors import InputError
from swell.methods import METHODS
from swell.recipes import Recipe
from swell.suites import SUITES, Arm, Generated
from swell.suites.plan import is_suite, make_plan, rows_of
from swell.training.build import resolve

CPU = torch.device("cpu")


def source(*shape):
    rng = np.random.default_rng(0)
    images = len(shape) == 4
    samples = rng.integers(0, 256, shape).astype(np.uint8) if images else rng.normal(size=shape).astype(np.float32)
    return Source(samples, Provenance("real", "array"))


DATA = {"grey": source(1200, 1, 8, 8), "colour": source(1200, 3, 32, 32), "vectors": source(1200, 20)}


def plan_of(suite, data, seeds=2, budget=None, **options):
    return make_plan(suite, data, seeds, options, budget or {}, CPU)


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("suite", [entry.name for entry in SUITES])
def test_every_shipped_suite_fits_all_kinds_of_data(suite, kind):
    data = DATA[kind]
    plan = plan_of(suite, data)
    assert len(plan.jobs) == 2 * len(plan.arms) > 2
    assert len({job.folder for job in plan.jobs}) == len(plan.jobs)
    assert [job.seed for job in plan.jobs] == sorted(job.seed for job in plan.jobs)
    assert {job.inflate for job in plan.jobs} - {""} == {*plan.generated}


def test_adainf_has_the_six_cells_that_there_are():
    arms = plan_of("adainf", DATA["grey"]).arms
    cells = {(arm.inflate is not None, arm.recipe.weight > 1, arm.recipe.strength < 1) for arm in arms.values()}
    assert cells == {(made, weighted, weak) for made in (0, 1) for weighted in (0, made) for weak in (0, 1)}
    assert next(iter(arms)) == "none"


def test_methods_are_all_there_are_and_vectors_go_without_those_that_mask_patches():
    assert set(plan_of("methods", DATA["colour"]).arms) == {entry.name for entry in METHODS}
    assert {"mae", "mixed_ae"} & set(plan_of("methods", DATA["vectors"]).arms) == set()


def test_scarce_rows_are_nested_and_the_generator_sees_no_others():
    plan = plan_of("scarce", DATA["grey"])
    assert [arm.rows for arm in plan.arms.values()] == [1000, 1000, 1200, 1200]
    assert sorted(rows for _, rows in plan.generated.values()) == [1000, 1200]
    few, more = (rows_of(DATA["grey"], n).samples for n in (100, 300))
    kept = {row.tobytes() for row in more}
    assert len(kept) == 300
    assert all(row.tobytes() in kept for row in few)
    assert rows_of(DATA["grey"], 1200) is DATA["grey"]


@pytest.mark.parametrize(
    ("budget", "equal"),
    [
        ({"steps": 7}, lambda r: r.steps),
        ({"samples": 5120}, lambda r: r.steps * r.batch_size),
        ({"patches": 102_400}, lambda r: r.steps * r.batch_size * r.views.count),
    ],
)
def test_a_budget_is_the_same_in_every_arm(budget, equal):
    data = DATA["grey"]
    for suite in ("emp-ssl", "diffaug", "scarce"):
        for arm in plan_of(suite, data, budget=budget).arms.values():
            resolved = resolve(arm.recipe, rows_of(data, arm.rows), CPU)
            wanted, step = next(iter(budget.values())), equal(replace(resolved, steps=1))
            assert wanted <= equal(resolved) <= wanted + step  # whole steps


FILES = {
    "good.py": """
        from swell import Recipe
        from swell.suites import Arm, Generated
        def suite(data, steps=5):
            return {"a": Recipe(steps=steps), "b / c": Arm(Recipe(steps=steps), Generated("kde", 10, 1), rows=50)}
        """,
    "broken.py": "def suite(data): return {",
    "fails.py": "def suite(data): return {'a': data.nothing}",
    "empty.py": "def suite(data): return {}",
    "listed.py": "from swell import Recipe\ndef suite(data): return [Recipe()]",
    "numbers.py": "def suite(data): return {'a': 3}",
    "nameless.py": "from swell import Recipe\ndef suite(data): return {'': Recipe(), 'b': Recipe()}",
    "value.py": "suite = 3",
    "none.py": "x = 3",
    "recipe.py": "from swell import Recipe\ndef suite(data): return {'a': Recipe(steps=-1)}",
    "method.py": "from swell import Recipe\ndef suite(data): return {'a': Recipe(method='simcrl')}",
    "rows.py": "from swell import Recipe\nfrom swell.suites import Arm\ndef suite(data): return {'a': Arm(Recipe(), rows=10**6)}",
    "made.py": "from swell import Recipe\nfrom swell.suites import Arm, Generated\ndef suite(data): return {'a': Arm(Recipe(), Generated('kd'))}",
    "count.py": "from swell import Recipe\nfrom swell.suites import Arm, Generated\ndef suite(data): return {'a': Arm(Recipe(), Generated(count=0))}",
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    import textwrap

    for name, text in FILES.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_names_its_function_or_has_one_called_suite(files):
    for place in ("good.py", "good.py:suite", str(files / "good.py")):
        assert is_suite(place)
        plan = plan_of(place, DATA["grey"], steps=9)
        assert plan.suite == "good.py:suite"
        assert [job.folder for job in plan.jobs][:2] == ["runs/00-a/seed0", "runs/01-b-c/seed0"]
        assert {job.recipe.steps for job in plan.jobs} == {9}
    assert plan_of(lambda data: {"a": Recipe(), "b": Recipe(seed=4)}, DATA["grey"]).jobs[1].recipe.seed == 0


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("adaimf", "did you mean 'adainf'"),
        ("nowhere.py", "a file that exists"),
        ("broken.py", "SyntaxError"),
        ("fails.py", "AttributeError"),
        ("empty.py", "a dict of recipes by the names"),
        ("listed.py", "a list returned"),
        ("numbers.py", "arm 'a' is a int"),
        ("nameless.py", "a name of up to"),
        ("value.py", "a function of the data"),
        ("none.py", "a name of none.py"),
        ("recipe.py", "steps -1"),
        ("method.py", "arm 'a': method 'simcrl'.*did you mean 'simclr'"),
        ("rows.py", "no more than the 1,200"),
        ("made.py", "did you mean 'kde'"),
        ("count.py", "count=0"),
    ],
)
def test_a_bad_suite_is_told_in_one_line(files, place, says):
    with pytest.raises(InputError, match=says) as error:
        plan_of(place, DATA["grey"])
    assert "\n" not in str(error.value)


def test_options_and_seeds_are_checked():
    with pytest.raises(InputError, match="did you mean 'weight'"):
        plan_of("adainf", DATA["grey"], wieght=3)
    with pytest.raises(InputError, match="--seeds 0"):
        plan_of("adainf", DATA["grey"], seeds=0)
    with pytest.raises(InputError, match="a suite of one run"):
        plan_of(lambda data: {"a": Recipe()}, DATA["grey"], seeds=1)
    with pytest.raises(InputError, match="a Recipe"):
        Arm("simclr")
    with pytest.raises(InputError, match="Generated"):
        Arm(Recipe(), inflate="made")
    assert Generated(options={"width": 2}).to_dict()["options"] == {"width": 2}
