"""Comparing runs: what is one arm, what is an equal budget, what may be ranked, and what is refused."""

import json
import math
from dataclasses import replace
from itertools import permutations

import pytest
from scipy import stats

from swell.errors import InputError
from swell.evaluation.arms import arm_names, read_row
from swell.evaluation.compare import compare_runs
from swell.views.plan import VIEWS


def arms_of(run, **arms):
    """A run for each seed and score; `simclr=[0.8, 0.7]` has seeds 0 and 1."""
    return [
        run(f"{name}-{seed}", score, method=name, seed=seed)
        for name, scores in arms.items()
        for seed, score in enumerate(scores)
    ]


def by_name(result):
    return {arm["name"]: arm for arm in result["arms"]}


def test_runs_that_differ_in_their_seed_are_one_arm_with_mean_and_sd(run):
    paths = arms_of(run, simclr=[0.70, 0.72, 0.77], dcl=[0.75])
    result = compare_runs(paths)
    arms = by_name(result)
    assert (arms["simclr"]["n"], arms["dcl"]["n"]) == (3, 1)
    assert arms["simclr"]["scores"]["linear"]["mean"] == pytest.approx(0.73)
    assert arms["simclr"]["scores"]["linear"]["sd"] == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2))
    assert arms["dcl"]["scores"]["linear"]["sd"] is None
    assert arms["simclr"]["costs"] == pytest.approx(
        {"seconds": 10, "flops": 1e9, "views": 1280, "forwards": 1280, "teacher_forwards": 0, "pixels": 81920,
         "samples": 640, "samples_generated": 0, "generator_seconds": 0, "generator_flops": 0, "memory": 2**20, "steps": 10, "epochs": 2}
    )  # fmt: skip
    assert arms["simclr"]["label_free"] == {"rankme": {"mean": 12.0, "sd": 0.0}}
    assert [(row["arm"], row["seed"], row["path"]) for row in result["runs"]] == [
        *(("simclr", seed, str(paths[seed])) for seed in range(3)),
        ("dcl", 0, str(paths[3])),
    ]


def test_the_order_of_the_runs_changes_nothing_that_is_claimed(run):
    paths = arms_of(run, simclr=[0.70, 0.72, 0.71], dcl=[0.80, 0.825, 0.815])
    claimed = set()
    for order in list(permutations(paths))[::97]:
        result = compare_runs(order)
        ranks = {name: arm["rank"] for name, arm in by_name(result).items()}
        claimed.add((result["verdict"], result["basis"], json.dumps(ranks, sort_keys=True)))
    assert len(claimed) == 1


def test_clear_differences_are_those_of_the_paired_t_test(run):
    a, b, c = [0.700, 0.750, 0.800], [0.710, 0.762, 0.811], [0.705, 0.690, 0.830]
    result = compare_runs(arms_of(run, simclr=a, dcl=b, byol=c))
    assert result["basis"] == "seconds"
    ranks = {name: arm["rank"] for name, arm in by_name(result).items()}
    assert ranks == {"dcl": 1, "byol": 1, "simclr": 2}  # the spread within an arm is far larger than dcl - simclr
    pair = next(p for p in result["pairs"] if {p["a"], p["b"]} == {"dcl", "simclr"})
    expected = stats.ttest_rel([100 * x for x in b], [100 * x for x in a]).confidence_interval(0.95)
    assert [pair["low"], pair["high"], pair["n"]] == pytest.approx([expected.low, expected.high, 3])
    assert result["verdict"] == (
        "At equal seconds dcl and byol share the first rank by linear accuracy (76.1 to 74.2 %): no difference among "
        "them is clear of noise."
    )


def test_a_single_winner_is_named_with_its_lead(run):
    verdict = compare_runs(arms_of(run, simclr=[0.70, 0.75], dcl=[0.80, 0.851]))["verdict"]
    assert verdict.startswith("At equal seconds dcl ranks first by linear accuracy, 82.5 ± 3.6 % (n = 2), +10.0 points")
    assert verdict.endswith("] on simclr.")


def test_nothing_is_claimed_of_single_runs(run):
    result = compare_runs(arms_of(run, simclr=[0.7], dcl=[0.9]))
    assert [arm["rank"] for arm in result["arms"]] == [None, None]
    assert "single runs (n = 1) do not tell" in result["verdict"]
    more = compare_runs([*arms_of(run, byol=[0.7, 0.72], vicreg=[0.71, 0.7]), run("one", 0.95, method="swav")])
    assert {name: arm["rank"] for name, arm in by_name(more).items()} == {"swav": None, "byol": 1, "vicreg": 1}
    assert "No claim is made about arms of a single run (n = 1): swav." in more["notices"]
    assert not any(p["clear"] for p in more["pairs"])


def test_two_seeds_that_agree_by_chance_are_no_evidence(run):
    result = compare_runs(arms_of(run, simclr=[0.700, 0.710], dcl=[0.702, 0.712]))
    assert [arm["rank"] for arm in result["arms"]] == [1, 1]


def test_arms_without_common_seeds_are_not_told_apart(run):
    paths = [run(f"a{s}", 0.7, seed=s) for s in (0, 1)] + [run(f"b{s}", 0.9, method="dcl", seed=s) for s in (1, 2)]
    result = compare_runs(paths)
    assert [arm["rank"] for arm in result["arms"]] == [1, 1]
    assert "Fewer than two seeds in common" in " ".join(result["notices"])


def test_the_score_to_rank_by_can_be_chosen(run):
    few = {"few_shot": {"1": 0.9, "10": 0.4}}
    paths = [run("a", 0.9), run("b", 0.8, method="dcl", evaluation=few)]
    first = {by: compare_runs(paths, by=by)["arms"][0]["name"] for by in ("linear", "knn", "few_shot_1", "few_shot_10")}
    assert first == {"linear": "simclr", "knn": "simclr", "few_shot_1": "dcl", "few_shot_10": "simclr"}


@pytest.mark.parametrize(
    ("more", "basis"),
    [
        ({"seconds": 10.5}, "seconds"),
        ({"seconds": 10.51}, "flops"),
        ({"seconds": 20, "flops": 3e9}, "views"),
        ({"seconds": 20, "flops": 3e9, "views": 12800}, "samples"),
        ({"seconds": 20, "flops": 3.1e9, "views": 12800, "samples_real": 64}, None),
    ],
)
def test_the_basis_is_the_first_budget_equal_within_five_per_cent(run, more, basis):
    result = compare_runs([run("a"), run("b", method="dcl", costs=more)])
    assert result["basis"] == basis
    if basis is None:
        assert result["verdict"] == (
            "No ranking, because the arms had no equal budget: dcl had 2 times the seconds, 3.1 times the FLOPs and 10 "
            "times the views of simclr; simclr had 10 times the samples of dcl."
        )
        assert (result["pairs"], [arm["rank"] for arm in result["arms"]]) == ([], [None, None])


def test_equality_is_of_means_over_an_arm(run):
    paths = [run("a", seed=0, costs={"seconds": 5}), run("b", seed=1, costs={"seconds": 15}), run("c", method="dcl")]
    assert compare_runs(paths)["basis"] == "seconds"


def test_seconds_of_different_machines_are_no_basis_unless_asked_for(run):
    paths = [run("a"), run("b", method="dcl", machine={"gpu": "H100", "device": "cuda"})]
    result = compare_runs(paths)
    assert result["basis"] == "flops"
    assert result["machines_differ_in"] == {"gpu": [None, "H100"], "device": ["cpu", "cuda"]}
    assert any("Seconds do not compare" in notice for notice in result["notices"])
    assert compare_runs(paths, budget="seconds")["basis"] == "seconds"
    apart = [
        run("c"),
        run("d", method="dcl", machine={"cpu": "B"}, costs={"flops": 4e9, "views": 9, "samples_real": 9}),
    ]
    assert compare_runs(apart)["verdict"].endswith("; seconds of different machines do not compare.")


def test_a_budget_that_is_asked_for_must_be_equal(run):
    paths = [run("a"), run("b", method="dcl", costs={"flops": 3.1e9, "seconds": 20})]
    assert compare_runs(paths, budget="forwards")["basis"] == "forwards"
    for budget, says in (("flops", "dcl had 3.1 times the FLOPs of simclr"), ("teacher_forwards", "no run had any")):
        with pytest.raises(InputError, match=says) as error:
            compare_runs(paths, budget=budget)
        assert "equal here: views, samples, forwards, pixels, steps" in str(error.value)
    teacher = [run("c"), run("d", method="dcl", costs={"teacher_forwards": 1280})]
    with pytest.raises(InputError, match="simclr had no teacher forwards, dcl 1,280"):
        compare_runs(teacher, budget="teacher_forwards")


def test_seeds_alone_have_nothing_to_rank(run):
    result = compare_runs([run("a", 0.7), run("b", 0.8, seed=1)])
    assert (result["basis"], result["pairs"]) == (None, [])
    assert result["verdict"].endswith("75.0 ± 7.1 % (n = 2): nothing to rank.")


def plan(name, **group):
    found = VIEWS[name]()
    return replace(found, groups=(replace(found.groups[0], **group), *found.groups[1:]))


@pytest.mark.parametrize(
    ("arms", "names"),
    [
        ([{}, {"method": "dcl"}], ["simclr", "dcl"]),
        ([{}, {"views": plan("simclr", count=20)}], ["simclr views=2", "simclr views=20"]),
        ([{}, {"method": "emp_ssl", "views": VIEWS["emp_ssl"](), "generated": "g", "weight": 10.0}],
         ["simclr", "emp_ssl weight=10 generated"]),
        ([{}, {"generated": "g1"}, {"generated": "g2"}], ["simclr", "simclr generated=g1", "simclr generated=g2"]),
        ([{}, {"generated": "g", "strength": 0.5}], ["simclr", "simclr strength=0.5 generated"]),
        ([{}, {"method": "dcl", "learning_rate": 0.1, "optimizer": "sgd"}], ["simclr", "dcl"]),  # come with the method
        ([{}, {"method": "dcl", "width": 0.25}], ["simclr", "dcl width=0.25"]),
        ([{"learning_rate": 0.1}, {"learning_rate": 0.4}], ["simclr lr=0.1", "simclr lr=0.4"]),
        ([{"method_options": {"temperature": 0.5}}, {"method_options": {"temperature": 0.2}}],
         ["simclr temperature=0.5", "simclr temperature=0.2"]),
        ([{"preset": "small", "learning_rate": 0.1}, {"preset": "short", "learning_rate": 0.4}],
         ["simclr preset=small", "simclr preset=short"]),
        ([{}, {"steps": 20}], ["simclr steps=10", "simclr steps=20"]),
        ([{}, {"steps": 20, "batch_size": 32}], ["simclr batch=64", "simclr batch=32"]),
        ([{}, {"views": VIEWS["adainf"]()}], ["simclr plan=simclr", "simclr plan=adainf"]),
        ([{}, {"compile": True}], ["simclr", "simclr compile"]),
        ([{"data": {"real": "photos"}}, {"data": {"real": "scans"}}], ["simclr on=photos", "simclr on=scans"]),
        ([{"method": "a/mine.py:Mine", "data": {"method": "abcdef01"}}, {"method": "dcl"}], ["Mine", "dcl"]),
        ([{"method": "m.py:Mine", "data": {"method": "abcdef01"}}, {"method": "m.py:Mine", "data": {"method": "12345678"}}],
         ["Mine@abcdef", "Mine@123456"]),
        ([{"learning_rate": 0.1}, {"learning_rate": 0.1000000001}], ["simclr lr=0.1 #1", "simclr lr=0.1 #2"]),
    ],
)  # fmt: skip
def test_names_are_short_and_tell_arms_apart(run, arms, names):
    rows = [read_row(run(f"r{i}", **arm)) for i, arm in enumerate(arms)]
    assert arm_names(rows) == names


def test_a_plan_of_ones_own_has_a_name_of_its_own(run):
    plans = [plan("simclr", flip=0.0), plan("simclr", flip=0.1), plan("simclr", flip=0.1, count=4)]
    rows = [read_row(run(f"r{i}", views=views)) for i, views in enumerate(plans)]
    first, second, third = (name.split() for name in arm_names(rows))
    assert (first[1], second[1], third[1]) == ("views=2", "views=2", "views=4")
    assert first[2] != second[2] == third[2]
    assert first[2].startswith("plan=own-")


def test_a_users_method_is_known_by_its_text_not_by_its_place(run):
    told = [run(f"r{i}", method=f"{place}/m.py:Mine", seed=i, data={"method": "abc"}) for i, place in enumerate("ab")]
    assert [arm["n"] for arm in compare_runs(told)["arms"]] == [2]


def test_runs_of_different_data_are_compared_only_when_asked_and_said(run):
    paths = [run("a"), run("b", method="dcl", data={"real": "r2"})]
    with pytest.raises(InputError, match=r"b .pre-trained on /data/r2 r2, .*a on /data/r1 r1.*--across-data"):
        compare_runs(paths)
    result = compare_runs(paths, across_data=True)
    assert [arm["name"] for arm in result["arms"]] == ["simclr on=r1", "dcl on=r2"]
    assert "pre-trained on different data, /data/r1 (r1) and /data/r2 (r2)" in result["notices"][0]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"probe": "swell-probe-2"}, "other probe than .*swell-probe-2 instead of swell-probe-1"),
        ({"data": {"train": "t1", "test": "x"}}, "other test data than .*x instead of t2"),
        ({"data": {"train": "x", "test": "t2"}}, "other training data than"),
        ({"n_test": 7}, "other n_test than .*7 instead of 1000"),
        ({"settings": {"seed": 1}}, "other settings than"),
    ],
)
def test_runs_judged_by_different_tests_are_refused(run, other, says):
    with pytest.raises(InputError, match=says):
        compare_runs([run("a"), run("b", method="dcl", evaluation=other)])


def test_bags_of_features_are_taken_over(run):
    bag = {
        "patches": 4,
        "mode": "grid",
        "forwards_per_sample": 4,
        "knn": {"accuracy": 0.5},
        "linear": {"accuracy": 0.6},
    }
    other = {**bag, "linear": {"accuracy": 0.7}}
    paths = [
        run("a", evaluation={"bag_of_features": bag}),
        run("b", seed=1, evaluation={"bag_of_features": other}),
        run("c", method="dcl", evaluation={"bag_of_features": bag}),
        run("d", method="dcl", seed=1, evaluation={"bag_of_features": {**bag, "patches": 9}}),
    ]
    arms = by_name(compare_runs(paths))
    assert arms["simclr"]["bag_of_features"]["linear"] == pytest.approx({"mean": 0.65, "sd": 0.1 / math.sqrt(2)})
    assert arms["dcl"]["bag_of_features"] is None  # of unequal patches


def test_what_one_must_know_is_said(run):
    paths = [run("a", data={"real": "t2"}), run("b", method="dcl", data={"real": "t2"}, generated="g")]
    ledger = json.loads((paths[1] / "ledger.json").read_text())
    ledger["sampling"]["seconds"] = 5.0
    (paths[1] / "ledger.json").write_text(json.dumps(ledger))
    with (paths[1] / "recipe.toml").open("a") as file:
        file.write("labels_used = true\n")  # of the last table, [provenance.generated]
    told = " ".join(compare_runs(paths)["notices"])
    assert all(words in told for words in ("the very test samples", "with the help of labels", "comes on top"))


def one_line(call):
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_comparison_is_refused(run, tmp_path):
    a, copy = run("a"), run("copy")
    assert "at least two runs" in one_line(lambda: compare_runs([a]))
    assert "the same folder" in one_line(lambda: compare_runs([a, a.parent / "." / "a"]))
    assert "the same recipe and seed" in one_line(lambda: compare_runs([a, copy]))
    assert "did you mean 'linear'" in one_line(lambda: compare_runs([a, copy], by="liner"))
    assert "did you mean 'flops'" in one_line(lambda: compare_runs([a, copy], budget="flop"))
    assert "finished run" in one_line(lambda: compare_runs([a, tmp_path]))
    assert "finished run" in one_line(lambda: compare_runs([a, tmp_path / "nowhere"]))
    (copy / "evaluation.json").unlink()
    assert f"swell evaluate {copy} DATA" in one_line(lambda: compare_runs([a, copy]))


def changed(path, *keys, value=None):
    """`path` with one value of its JSON replaced, or removed."""
    held = json.loads(path.read_text())
    part = held
    for key in keys[:-1]:
        part = part[key]
    if value is None:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value
    path.write_text(json.dumps(held))


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        *(("evaluation.json", keys, None) for keys in (["probe"], ["data"], ["data", "test"], ["n_test"], ["knn"])),
        ("evaluation.json", ["linear", "accuracy"], "high"),
        ("evaluation.json", ["linear", "accuracy"], math.nan),
        ("evaluation.json", ["linear", "accuracy"], 80.0),
        ("evaluation.json", ["few_shot"], [0.5]),
        ("evaluation.json", ["bag_of_features"], {"knn": 0.5}),
        ("evaluation.json", ["dense"], 0.5),
        ("evaluation.json", ["finetune"], {"accuracy": "high"}),
        ("evaluation.json", ["bag_of_features"], {"knn": {"accuracy": 1}, "linear": {"accuracy": 1}, "patches": [4]}),
        ("evaluation.json", ["n_test"], 0.0),
        ("ledger.json", ["pretraining"], None),
        ("ledger.json", ["pretraining", "flops"], -1.0),
        ("ledger.json", ["pretraining", "seconds"], math.nan),
        ("ledger.json", ["pretraining", "views"], 0.0),
        ("environment.json", ["cpu"], None),
        ("environment.json", ["packages"], "torch"),
        ("environment.json", ["cpu"], ["A", "B"]),
    ],
)
def test_damaged_values_are_told_in_one_line_with_the_file(run, name, keys, value):
    a, b = run("a"), run("b", method="dcl")
    changed(b / name, *keys, value=value)
    assert str(b / name) in one_line(lambda: compare_runs([a, b]))


@pytest.mark.parametrize("name", ["evaluation.json", "ledger.json", "environment.json", "recipe.toml"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_files_that_are_not_what_they_were_are_told_in_one_line(run, name, text):
    a, b = run("a"), run("b", method="dcl")
    (b / name).write_text(text)
    assert str(b / name) in one_line(lambda: compare_runs([a, b]))


def test_the_size_of_an_epoch_may_be_unknown_and_that_is_said(run, capsys):
    paths = [run("a"), run("b", method="dcl")]
    (paths[1] / "run.log").unlink()
    assert [arm["costs"]["epochs"] for arm in compare_runs(paths)["arms"]] == [2, None]
    assert f"{paths[1] / 'run.log'} does not say how many samples" in capsys.readouterr().err


def test_what_is_clear_is_so_after_holms_correction_for_all_pairs(run):
    """Three arms a little apart from one another, each pair clear by itself at 0.02 to 0.04, none of them after all."""
    a, b, c = [0.70, 0.75, 0.80], [0.724, 0.771, 0.835], [0.752, 0.785, 0.862]
    pairs = compare_runs(arms_of(run, simclr=a, dcl=b, byol=c))["pairs"]
    by_hand = {frozenset((p["a"], p["b"])): p["p"] for p in pairs}
    scores = {"simclr": a, "dcl": b, "byol": c}
    for names, p in by_hand.items():
        x, y = (scores[name] for name in names)
        assert p == pytest.approx(stats.ttest_rel(x, y).pvalue)
    ordered = sorted(pairs, key=lambda pair: pair["p"])
    assert all(pair["p"] < 0.05 for pair in ordered)
    assert [pair["p_holm"] for pair in ordered] == pytest.approx(
        [3 * ordered[0]["p"], max(3 * ordered[0]["p"], 2 * ordered[1]["p"]),
         max(3 * ordered[0]["p"], 2 * ordered[1]["p"], ordered[2]["p"])]
    )  # fmt: skip
    assert [pair["clear"] for pair in ordered] == [pair["p_holm"] < 0.05 for pair in ordered]
    assert not any(pair["clear"] for pair in ordered)


def test_patches_are_views_and_steps_are_a_budget_too(run):
    paths = [run("a"), run("b", method="dcl", costs={"flops": 3e9, "seconds": 20})]
    assert compare_runs(paths, budget="patches")["basis"] == "views"
    assert compare_runs(paths, budget="steps")["basis"] == "steps"


def test_arms_may_be_named_whatever_their_recipes_are(run):
    paths = [run("a"), run("b"), run("c", seed=1), run("d", seed=1)]  # twice the same recipe and seed
    result = compare_runs(paths, named=["x", "y", "x", "y"], chosen_from=("steps",))
    assert {arm["name"]: arm["n"] for arm in result["arms"]} == {"x": 2, "y": 2}
    assert result["basis"] == "steps"
    with pytest.raises(InputError, match="the same recipe and seed"):
        compare_runs(paths, named=["x", "x", "x", "y"])
