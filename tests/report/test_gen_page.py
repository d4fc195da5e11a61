"""The page of a generated set says what one must know before mixing it in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from swell.data.source import Provenance, Source
from swell.generators.generate import generate
from swell.report.gen_page import write_gen_report


def source(vectors: bool, labels_used: bool = False) -> Source:
    rng = np.random.default_rng(0)
    if vectors:
        return Source(rng.standard_normal((120, 5)).astype(np.float32), Provenance("real", "array"))
    images = rng.integers(0, 256, (120, 3, 8, 8), dtype=np.uint8)
    return Source(images, Provenance("real", "photos", labels_used=labels_used))


@pytest.mark.parametrize("vectors", [False, True])
def test_verdict_costs_and_closest_pairs_are_there(tmp_path: Path, vectors: bool) -> None:
    data = source(vectors)
    out = generate(data, tmp_path / "gen", generator="copies", count=150, quiet=True)
    write_gen_report(out, data)
    page = (out / "report.html").read_text()
    assert "Poor: easy to tell" in page  # they are copies, and the first sentence says so
    assert "training samples" in page
    assert ("closest to a training sample" in page) is not vectors
    assert "encoder trained on the real samples" in page
    assert "nan" not in page.lower().replace("nanmean", "").split("<script")[0]


def test_labels_and_filters_are_told_first(tmp_path: Path) -> None:
    data = source(False, labels_used=True)
    out = generate(data, tmp_path / "gen", generator="shuffled", count=200, filter_share=0.2, quiet=True)
    write_gen_report(out, data)
    page = (out / "report.html").read_text()
    assert page.index("Labels helped to make these samples") < page.index("How like real samples are they?")
    assert "The samples were filtered" in page
