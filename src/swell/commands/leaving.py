"""`swell embed` and `swell export`: features and encoders for other programs."""

from __future__ import annotations

from dataclasses import dataclass

from swell.commands import Result
from swell.options import argument, option


@dataclass(frozen=True)
class Embed:
    """Write the features of DATA to a file: .npz, .parquet, or an .h5ad that is DATA with them in obsm["X_swell"]."""

    run: str = argument("RUN folder, or what swell export wrote as .safetensors")
    data: str = argument("what to encode, of any size: it is read in parts")
    out: str = option("file to write, ending in .npz, .parquet or .h5ad")
    patches: int | None = option("mean features of this many patches of each sample", None, "the whole sample")
    patch_mode: str | None = option("grid (the same patches every time) or random", None, "grid")
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.verbs import embed

        done = embed(self.run, self.data, self.out, patches=self.patches, patch_mode=self.patch_mode)
        n, width = done.shape
        text = f"features [{n:,}, {width}] in {self.out}; {done.rate:,.0f} samples/s"
        text += f", {done.left_out:,} files left out" if done.left_out else ""
        return {"out": self.out, **done.to_dict()}, text


@dataclass(frozen=True)
class Export:
    """Write the encoder of RUN for other programs, its preparation with it: .safetensors, .onnx or .pt2."""

    run: str = argument("RUN folder, or what swell export wrote as .safetensors")
    out: str = option("file to write, ending in .safetensors, .onnx or .pt2")
    timm: bool = option(".safetensors: name the weights as timm does", False)
    data: str | None = option("images to compare the file with torch on", None, "made-up samples")
    json_: bool = option("print the result as one JSON object", False)

    def __call__(self) -> Result:
        from swell.verbs import export

        made = export(self.run, self.out, timm=self.timm, data=self.data)
        size = f"{made['bytes'] / 1e6:.1f} MB in {self.out}"
        if self.timm:
            return (
                made,
                f"{size}: weights for timm.create_model({made['architecture']!r}, ...); arguments in its metadata",
            )
        agrees = "" if made["difference"] is None else f"within {made['difference']:.1e} of torch on "
        return made, f"{size}; {agrees}{made['compared_on']}"
