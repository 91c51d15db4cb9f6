#!/usr/bin/env python3
"""How does a network of TensorFlow (keras.applications) become a manifest? By this script.

    python3 -m venv .venv && .venv/bin/pip install tensorflow-cpu tf2onnx onnxruntime    # some 2 GB from PyPI
    .venv/bin/python scripts/export-tensorflow.py MobileNetV2 --size 160 --weights imagenet --licence Apache-2.0 --out models/mine.onnx

Writes the ONNX file (input N x height x width x 3 in 32-bit floats, output the pooled features) and the manifest beside it, and compares ONNX
Runtime with TensorFlow on random input. Without --weights they are random, which is good for trying the route out and nothing else. With --upnext
and --pictures it also compares what the service makes of picture files, decoding and scaling included. Without TensorFlow it says so and ends well.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

# What each way of keras to prepare a picture is in bytes: channels, mean, deviation.
PREPARED = {
    "tf": ("rgb", [127.5, 127.5, 127.5], [127.5, 127.5, 127.5]),
    "torch": ("rgb", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
    "caffe": ("bgr", [103.939, 116.779, 123.68], [1.0, 1.0, 1.0]),
    "bytes": ("rgb", [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
}

MANIFEST = """\
# {model} of keras {version}. Written by export-tensorflow.py together with the model.

name = "{name}"
file = "{file}"
sha256 = "{sha256}"
licence = "{licence}"
source = "keras {version}, {model}, {weights} weights"

[input]
name = "image"
layout = "nhwc"
dtype = "f32"
width = {size}
height = {size}
channels = "{channels}"
mean = {mean}
std = {std}
fit = "stretch"

[output]
name = "{output}"
dims = {dims}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="its name in keras.applications, for example MobileNetV2")
    parser.add_argument("--size", type=int, default=160, help="pixels of a side")
    parser.add_argument("--weights", help="`imagenet` for the published ones, which are downloaded, or a file")
    parser.add_argument("--prepared", choices=PREPARED, default="tf", help="how the network wants its pictures, by keras's names")
    parser.add_argument("--licence", default="unknown", help="of the weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--upnext", help="the program `upnext`, to compare what it makes of --pictures with what TensorFlow does")
    parser.add_argument("--pictures", nargs="+", default=[])
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
        import tensorflow as tf
        import tf2onnx
    except ImportError as missing:
        print(f"skipped: {missing}")
        return
    import numpy as np
    import onnxruntime

    keras.utils.set_random_seed(1)
    side = options.size
    build = getattr(keras.applications, options.model)
    model = build(include_top=False, pooling="avg", weights=options.weights, input_shape=(side, side, 3))
    signature = [tf.TensorSpec((None, side, side, 3), tf.float32, name="image")]
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, input_signature=signature, opset=17, output_path=str(options.out))
    pictures = np.random.default_rng(1).standard_normal((3, side, side, 3), np.float32)
    expected = model(pictures, training=False).numpy()
    session = onnxruntime.InferenceSession(str(options.out), providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0].name
    (got,) = session.run([output], {session.get_inputs()[0].name: pictures})
    apart = abs(expected - got).max() / abs(expected).max()
    print(f"TensorFlow and ONNX Runtime differ by at most {apart:.1e} of the greatest value")
    if apart > 1e-3:
        sys.exit("that is too much")
    channels, mean, std = PREPARED[options.prepared]
    manifest = MANIFEST.format(
        model=options.model,
        version=keras.__version__,
        name=options.out.stem,
        file=options.out.name,
        sha256=hashlib.sha256(options.out.read_bytes()).hexdigest(),
        licence=options.licence,
        weights=options.weights or "random",
        size=side,
        channels=channels,
        mean=mean,
        std=std,
        output=output,
        dims=got.shape[1],
    )
    options.out.with_suffix(".toml").write_text(manifest, encoding="utf-8")
    if options.upnext:
        compare(options, model)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB; {options.out.with_suffix('.toml')}")


def compare(options, model):
    """What the service makes of pictures, decoding and scaling included, and what TensorFlow and Pillow do."""
    import numpy as np
    from PIL import Image

    words = ["models", "embed", "--model", options.out.stem, "--set", f"inference.models_dir={options.out.parent}"]
    answer = subprocess.run([options.upnext, *words, *options.pictures], check=True, capture_output=True, text=True).stdout
    channels, mean, std = PREPARED[options.prepared]
    worst = 1.0
    for line in answer.splitlines():
        seen = json.loads(line)
        picture = Image.open(seen["file"]).convert("RGB").resize((options.size, options.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture, np.float32)
        pixels = pixels[..., ::-1] if channels == "bgr" else pixels
        pixels = (pixels - np.array(mean, np.float32)) / np.array(std, np.float32)
        expected = model(pixels[None], training=False).numpy()[0]
        got = np.array(seen["embedding"], np.float32)
        worst = min(worst, float(expected @ got / np.linalg.norm(expected) / np.linalg.norm(got)))
    print(f"upnext and TensorFlow: the least cosine of {len(options.pictures)} pictures is {worst:.6f}")
    if worst < 0.999:
        sys.exit("that is too little")


if __name__ == "__main__":
    main()
