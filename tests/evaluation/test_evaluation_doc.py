"""docs/evaluation.md is true: its settings are the modules'. That its code runs is for tests/test_tutorial.py."""

from pathlib import Path

import pytest

from swell.evaluation import bag, calibration, corruptions, few_labels, intervals, ood, probe, protocol, retrieval

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "version",
    [
        probe.PROBE,
        calibration.CALIBRATION,
        few_labels.FEW_LABELS,
        retrieval.RETRIEVAL,
        corruptions.CORRUPTIONS,
        ood.OOD,
    ],
)
def test_versions_are_the_modules(version):
    assert f"`{version}`" in TEXT


def test_numbers_are_the_modules():
    flat = " ".join(TEXT.split())
    (noise, blur, contrast, pixelate) = (amounts for _, amounts in corruptions.OF_IMAGES.values())
    listed = "{:g}, {:g}, {:g}".format
    for amounts in (noise, contrast, pixelate, *(amounts for _, amounts in corruptions.OF_VECTORS.values())):
        assert listed(*amounts) in flat
    assert ", ".join(f"1/{1 / amount:.0f}" for amount in blur) in flat
    for told in (f"ECE over {calibration.BINS} bins", f"the {probe.K} nearest", f"{few_labels.DRAWS} draws",
                 f"{intervals.RESAMPLES:,} bootstrap resamples", f"{retrieval.MOST_QUERIES:,} queries",
                 f"a gallery of {retrieval.MOST_GALLERY:,}", f"{ood.MOST:,} samples", f"{ood.K}th nearest",
                 "recall at 1, 5, 10", f"--draws {bag.DRAWS}"):  # fmt: skip
        assert told in flat
    assert {"retrieval", "few_labels", "corruptions", "calibration"} <= {*protocol.SECTIONS}
