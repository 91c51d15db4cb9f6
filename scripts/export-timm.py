#!/usr/bin/env python3
"""How does a model of timm (PyTorch) become a manifest? By this script.

    python3 -m venv .venv && .venv/bin/pip install torch timm onnx onnxruntime    # some 6 GB from PyPI
    .venv/bin/python scripts/export-timm.py mobilenetv3_small_050 --pretrained --licence Apache-2.0 --out models/mine.onnx

Writes the ONNX file (input N x 3 x height x width in 32-bit floats, output the pooled features) and the manifest beside it, with mean, deviation
and size as timm states them, and compares ONNX Runtime with PyTorch on random input. Without --pretrained the weights are random, which is good
for trying the route out and nothing else. Without PyTorch it says so and ends well.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

MANIFEST = """\
# {model} of timm {version}. Written by export-timm.py together with the model.

name = "{name}"
file = "{file}"
sha256 = "{sha256}"
licence = "{licence}"
source = "timm {version}, {model}, {weights} weights"

[input]
name = "image"
layout = "nchw"
dtype = "f32"
width = {width}
height = {height}
channels = "rgb"
# timm's are of values from 0 to 1, these are of bytes.
mean = {mean}
std = {std}
fit = "centre_crop"
short_side = {short_side}

[output]
name = "embedding"
dims = {dims}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="timm's name of it")
    parser.add_argument("--pretrained", action="store_true", help="with timm's weights, which are downloaded")
    parser.add_argument("--licence", default="unknown", help="of the weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--upnext", help="the program `upnext`, to compare what it makes of --pictures with what PyTorch does")
    parser.add_argument("--pictures", nargs="+", default=[])
    options = parser.parse_args()
    try:
        import timm
        import torch
    except ImportError as missing:
        print(f"skipped: {missing}")
        return
    import onnxruntime

    torch.manual_seed(1)
    model = timm.create_model(options.model, pretrained=options.pretrained, num_classes=0).eval()
    data = timm.data.resolve_model_data_config(model)
    _, height, width = data["input_size"]
    pictures = torch.randn(3, 3, height, width)
    torch.onnx.export(
        model,
        (pictures,),
        str(options.out),
        input_names=["image"],
        output_names=["embedding"],
        dynamic_axes={"image": {0: "batch"}, "embedding": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    with torch.no_grad():
        expected = model(pictures).numpy()
    session = onnxruntime.InferenceSession(str(options.out), providers=["CPUExecutionProvider"])
    (got,) = session.run(["embedding"], {"image": pictures.numpy()})
    apart = abs(expected - got).max() / abs(expected).max()
    print(f"PyTorch and ONNX Runtime differ by at most {apart:.1e} of the greatest value")
    if apart > 1e-3:
        sys.exit("that is too much")
    manifest = MANIFEST.format(
        model=options.model,
        version=timm.__version__,
        name=options.out.stem,
        file=options.out.name,
        sha256=hashlib.sha256(options.out.read_bytes()).hexdigest(),
        licence=options.licence,
        weights="published" if options.pretrained else "random",
        width=width,
        height=height,
        mean=[round(255 * value, 4) for value in data["mean"]],
        std=[round(255 * value, 4) for value in data["std"]],
        short_side=max(round(max(height, width) / data["crop_pct"]), height, width),
        dims=got.shape[1],
    )
    options.out.with_suffix(".toml").write_text(manifest, encoding="utf-8")
    if options.upnext:
        compare(options, model, data)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB; {options.out.with_suffix('.toml')}")


def compare(options, model, data):
    """What the service makes of pictures, decoding and scaling included, and what PyTorch and Pillow do."""
    import numpy as np
    import torch
    from PIL import Image

    words = ["models", "embed", "--model", options.out.stem, "--set", f"inference.models_dir={options.out.parent}"]
    answer = subprocess.run([options.upnext, *words, *options.pictures], check=True, capture_output=True, text=True).stdout
    worst = 1.0
    _, height, width = data["input_size"]
    for line in answer.splitlines():
        seen = json.loads(line)
        picture = Image.open(seen["file"]).convert("RGB")
        # The middle, of which the short side has this length after scaling.
        short_side = max(round(max(height, width) / data["crop_pct"]), height, width)
        scale = min(picture.size) / short_side
        left, top = ((side - wanted * scale) / 2 for side, wanted in zip(picture.size, (width, height)))
        box = (left, top, left + width * scale, top + height * scale)
        pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box), np.float32) / 255
        pixels = (pixels - np.array(data["mean"], np.float32)) / np.array(data["std"], np.float32)
        with torch.no_grad():
            expected = model(torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())).numpy()[0]
        got = np.array(seen["embedding"], np.float32)
        worst = min(worst, float(expected @ got / np.linalg.norm(expected) / np.linalg.norm(got)))
    print(f"upnext and PyTorch: the least cosine of {len(options.pictures)} pictures is {worst:.6f}")
    if worst < 0.999:
        sys.exit("that is too little")


if __name__ == "__main__":
    main()
