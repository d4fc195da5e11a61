"""The suites that are shipped. Each takes the opened DATA and options by name, and returns its arms; the first is the
baseline. `recipe`, a name or TOML file, is what all of them start from; a budget on the command line replaces theirs.
"""

from __future__ import annotations

from dataclasses import replace

from swell.data.source import Source
from swell.methods import METHODS, find_method
from swell.recipes import Recipe, load_recipe
from swell.suites.registry import SUITES, Arm, Generated
from swell.views.checks import STRENGTHS

WEIGHT = 10.0  # AdaInf's: one real sample counts as ten generated ones
LAMBDAS = (0.25, 0.5, 0.75, 1.0)
CONTROLS = ("zeros", "shuffled", "copies")
PATCHES = (2, 4, 8, 16, 32)
ROWS = (1_000, 5_000, 50_000)
VIEWS_A_SAMPLE = 200  # of the patch curve: 100 epochs of two views


@SUITES.register("adainf", "generated data yes or no, weighted or not, weak views or strong", "arXiv 2403.12448")
def adainf(
    data: Source,
    recipe: str = "default",
    generator: str = "diffusion",
    generator_steps: int = 1500,
    count: int = 10_000,
    weight: float = WEIGHT,
) -> dict[str, Arm]:
    """AdaInf's 2 x 2 x 2, of which six are left, as there is nothing to weigh without generated samples. Weak views on
    real samples alone, which the paper misses, are among them."""
    base, made = load_recipe(recipe), Generated(generator, count, generator_steps)
    arms = {}
    for views, strength in (("", STRENGTHS["strong"]), ("weak", STRENGTHS["weak"])):
        plain = replace(base, strength=strength, weight=1.0)
        arms[views or "none"] = Arm(plain)
        arms[" + ".join(filter(None, ["generated", views]))] = Arm(plain, made)
        arms[" + ".join(filter(None, ["generated", "weight", views]))] = Arm(replace(plain, weight=weight), made)
    return arms


@SUITES.register("emp-ssl", "EMP-SSL at 2 to 32 patches an image, beside SimCLR, at equal patches", "arXiv 2304.03977")
def emp_ssl(data: Source, recipe: str = "default") -> dict[str, Arm]:
    """More patches of a sample for fewer samples: the patches processed are the same in all arms."""
    base = load_recipe(recipe).with_budget(patches=VIEWS_A_SAMPLE * len(data))
    arms = {"simclr": Arm(_by(base, "simclr"))}
    for count in PATCHES:
        arms[f"{count} patches"] = Arm(replace(_by(base, "emp_ssl"), view_count=count))
    return arms


@SUITES.register("diffaug", "positives from a generator: the share lambda, and controls it has to beat", "ICML 2024")
def diffaug(
    data: Source, recipe: str = "default", method: str = "diffaug", generator: str = "conditional"
) -> dict[str, Arm]:
    """lambda is the share of positives that a generator makes: 0 are hand-made views alone. The controls replace all of
    them by what knows nothing of the sample, or nothing but the sample."""
    base = replace(_by(load_recipe(recipe), method), positives="", phases=())
    arms = {"views (lambda 0)": Arm(replace(base, generator_positives="none", replace=1.0))}
    for share in LAMBDAS:
        arms[f"lambda {share:g}"] = Arm(replace(base, generator_positives=generator, replace=share))
    arms["neighbours"] = Arm(replace(base, generator_positives="none", positives="neighbours"))
    for control in CONTROLS:
        arms[control] = Arm(replace(base, generator_positives=control))
    return arms


@SUITES.register("methods", "every method there is, on hand-made views")
def methods(data: Source, recipe: str = "default") -> dict[str, Arm]:
    """DiffAug stands here for its loss alone; the suite `diffaug` is about its positives. Those that mask patches need
    images."""
    base = load_recipe(recipe)
    names = [m.name for m in METHODS if data.is_images or not find_method(m.name).needs_tokens]
    return {name: Arm(replace(_by(base, name), generator_positives="none")) for name in names}


@SUITES.register("scarce", "1,000, 5,000 and 50,000 rows, with and without generated data")
def scarce(
    data: Source,
    recipe: str = "default",
    steps: int = 2000,
    generator: str = "diffusion",
    generator_steps: int = 1500,
    count: int = 10_000,
    weight: float = WEIGHT,
) -> dict[str, Arm]:
    """The generator sees the same rows as the encoder and no others. Equal steps whatever the rows; where DATA hold
    fewer than 50,000, all of them stand in for the larger numbers."""
    base = load_recipe(recipe).with_budget(steps=steps)
    sizes = [rows for rows in ROWS if rows < len(data)]
    sizes += [len(data)] if len(sizes) < len(ROWS) else []
    arms = {}
    for rows in sizes:
        arms[f"{rows:,} rows"] = Arm(replace(base, weight=1.0), rows=rows)
        made = Generated(generator, count, generator_steps)
        arms[f"{rows:,} rows + generated"] = Arm(replace(base, weight=weight), made, rows)
    return arms


def _by(base: Recipe, method: str) -> Recipe:
    """`base` by another method, with the settings of that one. What masks patches brings its backbone and its views."""
    if method == base.method:
        return base
    if find_method(method).needs_tokens:
        base = replace(base, backbone="auto", backbone_options={}, views="auto")
    return replace(base, method=method, method_options={})
