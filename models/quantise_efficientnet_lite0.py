#!/usr/bin/env python3
"""How is EfficientNet-Lite0 made to compute with 8-bit integers? By this script, with photographs of one's own.

    python3 -m venv .venv && .venv/bin/pip install -r models/requirements.txt
    .venv/bin/python models/quantise_efficientnet_lite0.py PHOTOS --size 160 --out models/efficientnet-lite0-160-int8.onnx

Writes the model and its manifest. Ranges of activations are the least and greatest values seen in the photographs, of which a
few hundred of the kind that will be looked at are enough (`--limit`); weights have a scale for each output channel (QDQ format).
Then the script compares both models on photographs that it did not calibrate with, and says how alike their embeddings are.
Embeddings of the two have different model ids and are not compared with each other by the service.
"""

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def fitted(path, size):
    """As `vision::preprocess` does it: the middle of the picture, averaged."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    scale = min(picture.size) / round(size * 256 / 224)
    left, top = (picture.width - size * scale) / 2, (picture.height - size * scale) / 2
    box = (max(left, 0), max(top, 0), min(left + size * scale, picture.width), min(top + size * scale, picture.height))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box))[None]


def widened(source, size):
    """The model with 32-bit weights and fixed sides, which is what the quantiser takes."""
    model = onnx.load(source)
    sides = model.graph.input[0].type.tensor_type.shape.dim
    sides[1].dim_value = sides[2].dim_value = size
    halves = {constant.name: constant for constant in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in halves:
            constant = halves[node.input[0]]
            values = numpy_helper.to_array(constant).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            model.graph.initializer.remove(constant)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def quantise(source, size, photos, out):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Photos(CalibrationDataReader):
        def __init__(self):
            self.left = iter(photos)

        def get_next(self):
            path = next(self.left, None)
            return path and {"image": fitted(path, size)}

    with tempfile.TemporaryDirectory() as folder:
        wide, prepared = Path(folder, "wide.onnx"), Path(folder, "prepared.onnx")
        onnx.save(widened(source, size), wide)
        quant_pre_process(wide, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            out,
            Photos(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Add", "Clip"],
        )


def compare(source, out, size, photos):
    import onnxruntime

    before, after = (onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (source, out))
    cosines = []
    for path in photos:
        feed = {"image": fitted(path, size)}
        (a,), (b,) = before.run(["embedding"], feed), after.run(["embedding"], feed)
        cosines.append(float((a * b).sum()))
    print(f"{len(cosines)} photographs: cosine with the original {np.mean(cosines):.4f} on average, at least {min(cosines):.4f}")


def write_manifest(source, size, out):
    text = source.with_name("efficientnet-lite0.toml").read_text(encoding="utf-8")
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    changes = {"name = \"efficientnet": f'name = "{out.stem}"', "file =": f'file = "{out.name}"'}
    changes |= {"sha256 =": f'sha256 = "{digest}"', "width =": f"width = {size}", "height =": f"height = {size}"}
    changes |= {"short_side =": f"short_side = {round(size * 256 / 224)}", "# EfficientNet-Lite0": "# EfficientNet-Lite0 in 8 bits."}
    lines = [next((new for start, new in changes.items() if line.startswith(start)), line) for line in text.splitlines()]
    out.with_suffix(".toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder with photographs")
    parser.add_argument("--size", type=int, choices=range(96, 513, 32), default=160)
    parser.add_argument("--limit", type=int, default=200, help="photographs to calibrate with")
    parser.add_argument("--out", type=Path, help="default: beside the model, with the size and -int8 in its name")
    options = parser.parse_args()
    source = Path(__file__).with_name("efficientnet-lite0.onnx")
    out = options.out or source.with_name(f"efficientnet-lite0-{options.size}-int8.onnx")
    photos = sorted(path for path in options.photos.iterdir() if path.suffix.lower() in SUFFIXES)
    np.random.default_rng(0).shuffle(photos)
    calibrate, rest = photos[: options.limit], photos[options.limit : 2 * options.limit]
    if not calibrate:
        sys.exit(f"{options.photos} holds no photographs")
    quantise(source, options.size, calibrate, out)
    write_manifest(source, options.size, out)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")
    if rest:
        compare(source, out, options.size, rest)


if __name__ == "__main__":
    main()
