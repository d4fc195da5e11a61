"""Who races against whom."""

from __future__ import annotations

from runner import Arm
from setting import METHODS

PLAIN, ON = "as it comes: fp32, NCHW, threads unbound, 2 workers", "bf16 autocast, channels_last, threads bound"
SWITCHES = ("--bf16", "--bound")


def of_method(method: str) -> dict[str, Arm]:
    """The arms of a method. Those whose names end in `-w0` or `-compiled` are tried on SimCLR alone, unless named."""
    choose = (f"--method={method}",)
    arms = {"swell": Arm("swell", "swell_arm.py", choose, True, "swell.pretrain as the command line starts it")}
    arms["swell-fp32"] = Arm("swell", "swell_arm.py", (*choose, "--fp32"), False, "the same in float32")
    arms["swell-as-lightly"] = Arm("swell", "swell_arm.py", (*choose, "--as-peer"), False, "with what lightly is given")
    for peer, script in (("lightly", "lightly_arm.py"), ("solo-learn", "solo_arm.py")):
        for name, switches, is_ in (
            ("", ("--workers=2",), PLAIN),
            ("-on", (*SWITCHES, "--workers=2"), f"{ON}, 2 workers on all cores"),
            ("-on-w0", SWITCHES, f"{ON}, no workers"),
            ("-on-compiled", (*SWITCHES, "--workers=2", "--compile"), f"{ON}, 2 workers, network compiled"),
        ):
            arms[peer + name] = Arm(peer, script, (*choose, *switches), bool(name), is_)
    return arms


CONTESTS: dict[str, dict[str, Arm]] = {method: of_method(method) for method in METHODS}
CONTESTS["samples"] = {
    "swell": Arm("swell", "samples_arm.py", ("--tool=swell",), True, "Diffusion.sample as it comes, fp32"),
    "swell-bf16": Arm("swell", "samples_arm.py", ("--tool=swell", "--bf16"), True, "the same with precision bf16"),
    "diffusers": Arm("diffusers", "samples_arm.py", ("--tool=diffusers",), False, "DDIMPipeline as it comes"),
    "diffusers-on": Arm(
        "diffusers",
        "samples_arm.py",
        ("--tool=diffusers", "--bf16", "--bound"),
        True,
        f"DDIMPipeline with {ON}, heads of 64",
    ),
}
CONTESTS["neighbours"] = {
    "swell": Arm("swell", "neighbours_arm.py", ("--tool=swell",), True, "swell.evaluation.knn.neighbours"),
    "faiss": Arm("faiss", "neighbours_arm.py", ("--tool=faiss",), False, "IndexFlatIP"),
}
SIMCLR_ALONE = ("lightly-on-w0", "solo-learn-on-w0")
BY_REQUEST = ("swell-fp32", "swell-as-lightly", "lightly-on-compiled", "solo-learn-on-compiled")


def arms_of(contest: str, asked: list[str]) -> dict[str, Arm]:
    """The arms that run: those `asked` for by name, or the usual ones."""
    arms = CONTESTS[contest]
    if asked:
        return {name: arm for name, arm in arms.items() if name in asked}
    left_out = (*BY_REQUEST, *(() if contest == "simclr" else (*SIMCLR_ALONE,)))
    return {name: arm for name, arm in arms.items() if name not in left_out}
