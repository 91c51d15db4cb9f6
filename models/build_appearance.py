#!/usr/bin/env python3
"""How was models/appearance.onnx made? By this script, from formulas: nothing in it was learned from pictures.

    python3 -m venv .venv && .venv/bin/pip install -r models/requirements.txt
    .venv/bin/python models/build_appearance.py            # writes the .onnx and its .toml, after checking the graph
    .venv/bin/python models/build_appearance.py --check    # checks only

The graph takes 8-bit RGB pixels, N x 96 x 96 x 3, and answers with N x 229 vectors of unit length, made of four blocks that have
unit length each before they are weighed (WEIGHTS):

- colour, 60: how much of each of 20 colours there is in each of three bands from top to bottom. Colours are places in YCbCr
  (BT.601), and a pixel belongs to all of them as a softmax of its squared distances says, which is a 1 x 1 convolution and a Softmax.
- texture, 96: how much edge there is in each of 6 directions in each of 4 x 4 cells (histograms of oriented gradients, Dalal and
  Triggs 2005), with the square root taken.
- contrast, 32: the logarithm of luma's variance within neighbourhoods of 6 and of 24 pixels in each of 4 x 4 cells.
- shape, 41: the lowest frequencies of luma, 7 x 6 of its discrete cosine transform without the mean.

Each block is made deaf to the direction of view: a vector and that of the mirrored picture have the same sum and the same absolute
difference, and these are kept in place of the vector itself (of colour only the sum). Sums of colour, texture and contrast have their mean
taken away, so that what all pictures have in common counts for nothing. The script holds the graph against the same formulas written in numpy.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 96
OPSET, IR_VERSION = 17, 9

# What each block counts for; the squares add up to 1 after scaling.
WEIGHTS = {"colour": 1.0, "texture": 1.2, "contrast": 0.5, "shape": 1.0}
TINY = 1e-9

COLOUR_ROWS, COLOUR_COLUMNS = 3, 2
# Squared distances of colours (in lengths of the scale of luma) are multiplied by this before the softmax.
COLOUR_SHARPNESS = 60.0
DIRECTIONS, CELLS = 6, 4
# A gradient belongs to a direction if it deviates by less than the angle of this cosine.
DIRECTION_COSINE = 0.8
FREQUENCIES_X, FREQUENCIES_Y = 7, 6

# ITU-R BT.601, full range, centred: rows are luma, blue difference, red difference.
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def colours():
    """20 places in YCbCr: 5 greys, 6 hues pale and dim, 3 of the hues (red, green, blue) once more, strong."""
    places = [(y, 0.0, 0.0) for y in (0.04, 0.27, 0.5, 0.73, 0.96)]
    for luma, radius in ((0.65, 0.12), (0.33, 0.12)):
        for step in range(6):
            angle = np.pi / 3 * step + np.pi / 6
            places.append((luma, radius * np.cos(angle), radius * np.sin(angle)))
    for rgb in ((0.85, 0.15, 0.1), (0.2, 0.6, 0.15), (0.1, 0.25, 0.85)):
        places.append(tuple(YCBCR @ np.array(rgb)))
    return np.array(places)


def mirrored_pairs(shape, mirrored_channel):
    """Two matrices that take a flattened channels x rows x columns to the halves of sums and differences with its mirror image."""
    channels, rows, columns = shape
    index = np.arange(channels * rows * columns).reshape(shape)
    sums, differences = [], []
    for channel in range(channels):
        for row in range(rows):
            for column in range(columns):
                here = index[channel, row, column]
                there = index[mirrored_channel(channel), row, columns - 1 - column]
                if here <= there:
                    both = np.zeros((2, index.size))
                    both[0, here] += 0.5**0.5 if here != there else 0.5
                    both[0, there] += 0.5**0.5 if here != there else 0.5
                    sums.append(both[0])
                if here < there:
                    both[1, here], both[1, there] = 0.5**0.5, -(0.5**0.5)
                    differences.append(both[1])
    return np.array(sums).T, np.array(differences).T


def mirrored_direction(k):
    """Direction k is k/6 of half a turn; seen in a mirror it is the one that completes it to half a turn."""
    return (DIRECTIONS - k) % DIRECTIONS


def frequencies(side):
    """Cosine waves over side x side cells, even in x first, and how many are even; the constant is left out."""
    at = (np.arange(side) + 0.5) / side * np.pi
    waves = [
        (u, v, np.outer(np.cos(v * at), np.cos(u * at)).ravel() / (1 + np.hypot(u, v)) ** 0.5)
        for v in range(FREQUENCIES_Y)
        for u in range(FREQUENCIES_X)
        if (u, v) != (0, 0)
    ]
    even = [wave for u, _, wave in waves if u % 2 == 0]
    odd = [wave for u, _, wave in waves if u % 2 == 1]
    return np.array(even).T / side, np.array(odd).T / side


def gradient_kernels():
    """3 x 3 Sobel kernels for each direction and for x and y."""
    dx = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8.0
    angles = np.pi / DIRECTIONS * np.arange(DIRECTIONS)
    steered = [np.cos(angle) * dx + np.sin(angle) * dx.T for angle in angles]
    return np.array([*steered, dx, dx.T])[:, None]


# --- the reference ---------------------------------------------------------------------------------------------------


def reference(pictures):
    """What the graph computes, in numpy and 64-bit floats. `pictures` are N x 96 x 96 x 3 bytes; the result is N x dims."""
    rgb = pictures.astype(np.float64).transpose(0, 3, 1, 2) / 255
    pool = lambda x, h, w: x.reshape(*x.shape[:2], x.shape[2] // h, h, x.shape[3] // w, w).mean((3, 5))
    flat = lambda x: x.reshape(len(x), -1)
    centred = lambda x: x - x.mean(1, keepdims=True)
    unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY)

    small = np.einsum("kc,nchw->nkhw", YCBCR, pool(rgb, 4, 4))
    distances = ((small[:, None] - colours()[None, :, :, None, None]) ** 2).sum(2)
    belongs = np.exp(-COLOUR_SHARPNESS * distances)
    belongs /= belongs.sum(1, keepdims=True)
    places = np.sqrt(pool(belongs, 24 // COLOUR_ROWS, 24 // COLOUR_COLUMNS) + 1e-4)
    sums, _ = mirrored_pairs((len(colours()), COLOUR_ROWS, COLOUR_COLUMNS), lambda channel: channel)
    colour = centred(flat(places) @ sums)

    luma = pool(np.einsum("c,nchw->nhw", YCBCR[0], rgb)[:, None], 2, 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(luma[:, 0], ((0, 0), (1, 1), (1, 1)), "edge"), (3, 3), (1, 2))
    steered = np.einsum("kij,nhwij->nkhw", gradient_kernels()[:, 0], windows)
    strength = np.sqrt((steered[:, DIRECTIONS:] ** 2).sum(1, keepdims=True))
    edges = np.maximum(np.abs(steered[:, :DIRECTIONS]) - DIRECTION_COSINE * strength, 0)
    cells = np.sqrt(pool(edges, 48 // CELLS, 48 // CELLS) + 1e-6)
    sums, differences = mirrored_pairs((DIRECTIONS, CELLS, CELLS), mirrored_direction)
    texture = np.concatenate([centred(flat(cells) @ sums), np.abs(flat(cells) @ differences)], 1)

    contrasts = []
    for side in (3, 12):
        spread = np.maximum(pool(luma**2, side, side) - pool(luma, side, side) ** 2, 0)
        spread = pool(spread, 12 // side, 12 // side)
        sums, differences = mirrored_pairs((1, CELLS, CELLS), lambda channel: channel)
        logs = flat(np.log(spread + 1e-4))
        contrasts += [centred(logs @ sums), np.abs(logs @ differences)]

    even, odd = frequencies(24)
    tiny = flat(small[:, 0])
    shape = np.concatenate([tiny @ even, np.abs(tiny @ odd)], 1)
    blocks = {"colour": colour, "texture": texture, "contrast": np.concatenate(contrasts, 1), "shape": shape}
    total = np.sqrt(sum(weight**2 for weight in WEIGHTS.values()))
    return unit(np.concatenate([unit(blocks[name]) * (weight / total) for name, weight in WEIGHTS.items()], 1))


# --- the graph -------------------------------------------------------------------------------------------------------


class Graph:
    """Collects ONNX nodes and constants; each method adds one node and returns the name of its result."""

    def __init__(self):
        self.nodes = []
        self.constants = []

    def constant(self, values, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name

    def node(self, kind, *inputs, **attributes):
        # A number or an array is a constant.
        inputs = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        output = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def pool(self, x, height, width):
        return self.node("AveragePool", x, kernel_shape=[height, width], strides=[height, width])

    def flat(self, x):
        return self.node("Flatten", x, axis=1)

    def centred(self, x):
        # With axes as an attribute: opset 17.
        return self.node("Sub", x, self.node("ReduceMean", x, axes=[1], keepdims=1))

    def unit(self, x):
        norm = self.node("ReduceL2", x, axes=[1], keepdims=1)
        return self.node("Div", x, self.node("Max", norm, TINY))

    def mirrored(self, x, pairs, centre):
        sums, differences = (self.node("MatMul", x, matrix) for matrix in pairs)
        return self.node("Concat", self.centred(sums) if centre else sums, self.node("Abs", differences), axis=1)


def build():
    """The ONNX model."""
    graph = Graph()
    pixels = graph.node("Cast", "image", to=TensorProto.FLOAT)
    planes = graph.node("Transpose", pixels, perm=[0, 3, 1, 2])

    # Bytes become shares of 255 in the colour conversion.
    rgb = graph.pool(planes, 4, 4)
    small = graph.node("Conv", rgb, (YCBCR / 255)[:, :, None, None])
    # A softmax does not see what all distances have in common, the squared length of the pixel itself.
    kernel = 2 * COLOUR_SHARPNESS * colours()
    offset = -COLOUR_SHARPNESS * (colours() ** 2).sum(1)
    belongs = graph.node("Softmax", graph.node("Conv", small, kernel[:, :, None, None], offset), axis=1)
    places = graph.pool(belongs, 24 // COLOUR_ROWS, 24 // COLOUR_COLUMNS)
    places = graph.flat(graph.node("Sqrt", graph.node("Add", places, 1e-4)))
    sums, _ = mirrored_pairs((len(colours()), COLOUR_ROWS, COLOUR_COLUMNS), lambda channel: channel)
    colour = graph.centred(graph.node("MatMul", places, sums))

    luma = graph.pool(graph.node("Conv", planes, (YCBCR[:1] / 255)[:, :, None, None]), 2, 2)
    bordered = graph.node("Pad", luma, graph.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), mode="edge")
    steered = graph.node("Conv", bordered, gradient_kernels()[:DIRECTIONS])
    slopes = graph.node("Conv", bordered, gradient_kernels()[DIRECTIONS:])
    squares = graph.node("ReduceSum", graph.node("Mul", slopes, slopes), graph.constant([1], np.int64), keepdims=1)
    threshold = graph.node("Mul", graph.node("Sqrt", squares), DIRECTION_COSINE)
    edges = graph.node("Relu", graph.node("Sub", graph.node("Abs", steered), threshold))
    cells = graph.pool(edges, 48 // CELLS, 48 // CELLS)
    cells = graph.flat(graph.node("Sqrt", graph.node("Add", cells, 1e-6)))
    texture = graph.mirrored(cells, mirrored_pairs((DIRECTIONS, CELLS, CELLS), mirrored_direction), centre=True)

    contrasts = []
    squared = graph.node("Mul", luma, luma)
    for side in (3, 12):
        mean = graph.pool(luma, side, side)
        spread = graph.node("Sub", graph.pool(squared, side, side), graph.node("Mul", mean, mean))
        spread = graph.node("Relu", spread)
        if side != 12:
            spread = graph.pool(spread, 12 // side, 12 // side)
        logs = graph.flat(graph.node("Log", graph.node("Add", spread, 1e-4)))
        contrasts.append(graph.mirrored(logs, mirrored_pairs((1, CELLS, CELLS), lambda channel: channel), centre=True))
    contrast = graph.node("Concat", *contrasts, axis=1)

    tiny = graph.flat(graph.node("Conv", rgb, (YCBCR[:1] / 255)[:, :, None, None]))
    even, odd = frequencies(24)
    shape = graph.node(
        "Concat", graph.node("MatMul", tiny, even), graph.node("Abs", graph.node("MatMul", tiny, odd)), axis=1
    )

    total = np.sqrt(sum(weight**2 for weight in WEIGHTS.values()))
    blocks = {"colour": colour, "texture": texture, "contrast": contrast, "shape": shape}
    weighed = [graph.node("Mul", graph.unit(blocks[name]), weight / total) for name, weight in WEIGHTS.items()]
    joined = graph.node("Concat", *weighed, axis=1)
    norm = graph.node("Max", graph.node("ReduceL2", joined, axes=[1], keepdims=1), TINY)
    graph.nodes.append(helper.make_node("Div", [joined, norm], ["embedding"], name="embedding"))

    dims = reference(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape[1]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dims])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "appearance", [image], [embedding], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="build_appearance.py",
        doc_string="colour, texture, contrast and shape of a picture, by formulas",
    )
    onnx.checker.check_model(model, full_check=True)
    return model, dims


# --- the check -------------------------------------------------------------------------------------------------------


def check(content):
    """Holds the graph against the reference on made-up pictures, and mirrored pictures against each other."""
    import onnxruntime

    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (40, 12, 12, 3)).repeat(8, 1).repeat(8, 2)
    slope = np.linspace(0, 255, SIDE)[None, None, :, None] * random.uniform(0, 1, (40, 1, 1, 3))
    noise = random.normal(0, 6, (40, SIDE, SIDE, 3))
    pictures = np.concatenate([coarse + noise, slope + noise, 0.5 * coarse + 0.5 * slope])
    pictures = np.clip(pictures, 0, 255).astype(np.uint8)
    flat = np.stack([np.full((SIDE, SIDE, 3), level, np.uint8) for level in (0, 127, 255)])
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    ask = lambda x: session.run(["embedding"], {"image": np.ascontiguousarray(x)})[0]
    cosines = (ask(pictures) * reference(pictures)).sum(1)
    mirrored = (ask(pictures) * ask(pictures[:, :, ::-1])).sum(1)
    print(f"graph and reference: cosine at least {cosines.min():.6f}; mirrored pictures: {mirrored.min():.6f}")
    # In flat pictures only rounding is left to tell blocks apart, so that they must be finite and no more.
    if cosines.min() < 0.9999 or mirrored.min() < 0.999 or not np.isfinite(ask(flat)).all():
        raise SystemExit("the graph does not compute what the reference says")


MANIFEST = """\
# Colour, texture, contrast and shape of a picture, to stand beside a learned model. Written by build_appearance.py.

name = "{name}"
file = "{file}"
sha256 = "{sha256}"
licence = "Apache-2.0 OR MIT"
source = "made from formulas by build_appearance.py"

[input]
name = "image"
layout = "nhwc"
dtype = "u8"
width = {side}
height = {side}
channels = "rgb"
fit = "stretch"

[output]
name = "embedding"
dims = {dims}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("appearance.onnx"))
    parser.add_argument("--check", action="store_true", help="check the graph and write nothing")
    options = parser.parse_args()
    model, dims = build()
    content = model.SerializeToString(deterministic=True)
    check(content)
    if options.check:
        return
    out = options.out
    out.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    manifest = MANIFEST.format(name=out.stem, file=out.name, sha256=digest, side=SIDE, dims=dims)
    out.with_suffix(".toml").write_text(manifest, encoding="utf-8")
    print(f"{out}: {len(content) / 1e3:.0f} kB, {dims} dims; {out.with_suffix('.toml')}")


if __name__ == "__main__":
    main()
