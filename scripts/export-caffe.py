"""Makes an ONNX model of a Caffe model, and compares the two.

    pip install numpy onnx protobuf                              # to convert
    pip install onnxruntime 'opencv-python-headless<5'           # to compare, with OpenCV's own reader of Caffe's files
    python scripts/export-caffe.py deploy.prototxt net.caffemodel --output pool10 --out model.onnx
    upnext models add model.onnx --name mine --licence BSD-3-Clause --preset caffe
    python scripts/export-caffe.py --self-test                   # a small net with a layer of every kind

`--output` names the blob that is to be the embedding, best the pooled features before the classifier. Files of Caffe 1.0 are read; older
ones have to go through Caffe's `upgrade_net_proto_binary` first. Where the packages to compare are missing, it says so and goes on.
"""

import argparse
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
    import onnx
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
    from onnx import TensorProto, helper, numpy_helper
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed")
    sys.exit(0)

# Of caffe.proto, what a trained network needs: name, type, number. `*` is repeated; `[]` is packed.
SCHEMA = {
    "BlobShape": "dim:int64[]=1",
    "BlobProto": "num:int32=1 channels:int32=2 height:int32=3 width:int32=4 data:float[]=5 shape:BlobShape=7 double_data:double[]=8",
    "NetParameter": "name:string=1 input:string*=3 input_dim:int32*=4 input_shape:BlobShape*=8 layer:LayerParameter*=100 layers:Old*=2",
    "Old": "name:string=4",
    "NetStateRule": "phase:int32=1",
    "LayerParameter": "name:string=1 type:string=2 bottom:string*=3 top:string*=4 blobs:BlobProto*=7 include:NetStateRule*=8 "
    "concat_param:ConcatParameter=104 convolution_param:ConvolutionParameter=106 eltwise_param:EltwiseParameter=110 "
    "inner_product_param:InnerProductParameter=117 lrn_param:LRNParameter=118 pooling_param:PoolingParameter=121 "
    "relu_param:ReLUParameter=123 softmax_param:SoftmaxParameter=125 flatten_param:FlattenParameter=135 "
    "reshape_param:ReshapeParameter=133 batch_norm_param:BatchNormParameter=139 scale_param:ScaleParameter=142 "
    "input_param:InputParameter=143 power_param:PowerParameter=122",
    "InputParameter": "shape:BlobShape*=1",
    "ConcatParameter": "axis:int32=2~1",
    "ConvolutionParameter": "num_output:uint32=1 bias_term:bool=2~true pad:uint32*=3 kernel_size:uint32*=4 group:uint32=5~1 "
    "stride:uint32*=6 pad_h:uint32=9 pad_w:uint32=10 kernel_h:uint32=11 kernel_w:uint32=12 stride_h:uint32=13 stride_w:uint32=14 "
    "dilation:uint32*=18",
    "EltwiseParameter": "operation:Operation=1~SUM coeff:float*=2",
    "InnerProductParameter": "num_output:uint32=1 bias_term:bool=2~true axis:int32=5~1 transpose:bool=6",
    "LRNParameter": "local_size:uint32=1~5 alpha:float=2~1 beta:float=3~0.75 norm_region:Region=4~ACROSS_CHANNELS k:float=5~1",
    "PoolingParameter": "pool:Pool=1~MAX kernel_size:uint32=2 stride:uint32=3~1 pad:uint32=4 kernel_h:uint32=5 kernel_w:uint32=6 "
    "stride_h:uint32=7 stride_w:uint32=8 pad_h:uint32=9 pad_w:uint32=10 global_pooling:bool=12 round_mode:Round=13~CEIL",
    "ReLUParameter": "negative_slope:float=1",
    "SoftmaxParameter": "axis:int32=2~1",
    "FlattenParameter": "axis:int32=1~1 end_axis:int32=2~-1",
    "ReshapeParameter": "shape:BlobShape=1 axis:int32=2 num_axes:int32=3~-1",
    "BatchNormParameter": "eps:float=3~1e-5",
    "ScaleParameter": "axis:int32=1~1 bias_term:bool=4",
    "PowerParameter": "power:float=1~1 scale:float=2~1 shift:float=3",
}
ENUMS = {
    "Operation": ["PROD", "SUM", "MAX"],
    "Region": ["ACROSS_CHANNELS", "WITHIN_CHANNEL"],
    "Pool": ["MAX", "AVE", "STOCHASTIC"],
    "Round": ["CEIL", "FLOOR"],
}


def net_class():
    """The class of `NetParameter`, with the fields above; others are passed over."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, values in ENUMS.items():
        # Values share a name space: they go into messages of their own.
        holder = file.message_type.add(name=f"In{name}").enum_type.add(name=name)
        for number, value in enumerate(values):
            holder.value.add(name=value, number=number)
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for text in fields.split():
            label, _, rest = text.partition(":")
            kind, _, number = rest.partition("=")
            number, _, default = number.partition("~")
            field = message.field.add(name=label, number=int(number))
            bare = kind.rstrip("*[]")
            field.label = kinds.LABEL_REPEATED if bare != kind else kinds.LABEL_OPTIONAL
            field.options.packed = kind.endswith("[]")
            if not kind.endswith("[]"):
                field.ClearField("options")
            if bare in SCHEMA:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".caffe.{bare}"
            elif bare in ENUMS:
                field.type, field.type_name = kinds.TYPE_ENUM, f".caffe.In{bare}.{bare}"
            else:
                field.type = getattr(kinds, f"TYPE_{bare.upper()}")
            if default:
                field.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


Net = net_class()


def array(blob):
    shape = list(blob.shape.dim) or [blob.num, blob.channels, blob.height, blob.width]
    return np.array(blob.data or blob.double_data, np.float32).reshape(shape)


def pair(values, by_name, default):
    """Height and width of what Caffe says once, twice, or by name."""
    if any(by_name):
        return list(by_name)
    values = list(values) if not isinstance(values, int) else [values]
    return (values * 2)[:2] if values else [default] * 2


class Converter:
    def __init__(self, net, weights):
        self.net, self.weights = net, {layer.name: [array(blob) for blob in layer.blobs] for layer in weights.layer}
        self.nodes, self.constants, self.inputs = [], [], []
        # Caffe computes in place: the newest value of each blob.
        self.now, self.count = {}, 0

    def constant(self, values):
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def emit(self, kind, inputs, **attributes):
        self.count += 1
        name = f"value_{self.count}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def model(self, output):
        shapes = [list(shape.dim) for shape in self.net.input_shape]
        shapes = shapes or [list(self.net.input_dim[i : i + 4]) for i in range(0, len(self.net.input_dim), 4)]
        for name, shape in zip(self.net.input, shapes):
            self.take_in(name, shape)
        for layer in self.net.layer:
            # Rules for phase 0, TRAIN, are of no use here.
            if any(rule.HasField("phase") and rule.phase == 0 for rule in layer.include):
                continue
            if layer.type == "Input":
                for name, shape in zip(layer.top, layer.input_param.shape):
                    self.take_in(name, list(shape.dim))
                continue
            convert = getattr(self, layer.type.lower(), None)
            if convert is None:
                sys.exit(f"the layer `{layer.name}` is of the kind {layer.type}, which this script does not know")
            made = convert(layer, [self.now[bottom] for bottom in layer.bottom], self.weights.get(layer.name, []))
            for top in layer.top:
                self.now[top] = made
        if output not in self.now:
            sys.exit(f"there is no blob `{output}`; there are {', '.join(self.now)}")
        # Whatever the shape is, the embedding is all numbers of a picture.
        self.nodes.append(helper.make_node("Flatten", [self.now[output]], ["embedding"], axis=1))
        made = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", None])
        graph = helper.make_graph(self.nodes, self.net.name or "caffe", self.inputs, [made], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="export-caffe.py")
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(model)
        return model

    def take_in(self, name, shape):
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape[1:]]))
        self.now[name] = name

    def convolution(self, layer, bottoms, blobs):
        p = layer.convolution_param
        pad = pair(p.pad, (p.pad_h, p.pad_w), 0)
        return self.emit(
            "Conv",
            [bottoms[0], *map(self.constant, [blobs[0], *(blob.ravel() for blob in blobs[1:])])],
            kernel_shape=pair(p.kernel_size, (p.kernel_h, p.kernel_w), 1),
            strides=pair(p.stride, (p.stride_h, p.stride_w), 1),
            dilations=pair(p.dilation, (), 1),
            pads=pad * 2,
            group=p.group,
        )

    def innerproduct(self, layer, bottoms, blobs):
        matrix = blobs[0].reshape(blobs[0].shape[-2:])
        flat = self.emit("Flatten", bottoms, axis=layer.inner_product_param.axis)
        rest = [self.constant(blob.ravel()) for blob in blobs[1:]]
        return self.emit("Gemm", [flat, self.constant(matrix), *rest], transB=int(not layer.inner_product_param.transpose))

    def pooling(self, layer, bottoms, _):
        p = layer.pooling_param
        kind = {0: "Max", 1: "Average"}.get(p.pool) or sys.exit(f"`{layer.name}`: stochastic pooling is for training")
        if p.global_pooling:
            return self.emit(f"Global{kind}Pool", bottoms)
        attributes = {"count_include_pad": 1} if kind == "Average" else {}
        return self.emit(
            f"{kind}Pool",
            bottoms,
            kernel_shape=pair(p.kernel_size, (p.kernel_h, p.kernel_w), 1),
            strides=pair(p.stride, (p.stride_h, p.stride_w), 1),
            pads=pair(p.pad, (p.pad_h, p.pad_w), 0) * 2,
            ceil_mode=int(p.round_mode == 0),
            **attributes,
        )

    def relu(self, layer, bottoms, _):
        slope = layer.relu_param.negative_slope
        return self.emit("LeakyRelu", bottoms, alpha=slope) if slope else self.emit("Relu", bottoms)

    def prelu(self, layer, bottoms, blobs):
        return self.emit("PRelu", [bottoms[0], self.constant(blobs[0].reshape(-1, 1, 1))])

    def lrn(self, layer, bottoms, _):
        p = layer.lrn_param
        if p.norm_region != 0:
            sys.exit(f"`{layer.name}`: normalisation within channels is not known to ONNX")
        return self.emit("LRN", bottoms, size=p.local_size, alpha=p.alpha, beta=p.beta, bias=p.k)

    def batchnorm(self, layer, bottoms, blobs):
        mean, variance, scale = (blob.ravel() for blob in blobs)
        factor = np.float32(1 / scale[0]) if scale[0] else np.float32(0)
        one, zero = np.ones_like(mean), np.zeros_like(mean)
        constants = map(self.constant, [one, zero, mean * factor, variance * factor])
        return self.emit("BatchNormalization", [bottoms[0], *constants], epsilon=layer.batch_norm_param.eps)

    def scale(self, layer, bottoms, blobs):
        if len(bottoms) > 1 or layer.scale_param.axis != 1:
            sys.exit(f"`{layer.name}`: only a factor for each channel is known")
        scaled = self.emit("Mul", [bottoms[0], self.constant(blobs[0].reshape(-1, 1, 1))])
        return self.emit("Add", [scaled, self.constant(blobs[1].reshape(-1, 1, 1))]) if len(blobs) > 1 else scaled

    def eltwise(self, layer, bottoms, _):
        p = layer.eltwise_param
        if p.operation == 2:
            return self.emit("Max", bottoms)
        made = bottoms
        if p.operation == 1 and any(factor != 1 for factor in p.coeff):
            made = [self.emit("Mul", [b, self.constant(np.float32(factor))]) for b, factor in zip(bottoms, p.coeff)]
        result = made[0]
        for other in made[1:]:
            result = self.emit("Mul" if p.operation == 0 else "Add", [result, other])
        return result

    def concat(self, layer, bottoms, _):
        return self.emit("Concat", bottoms, axis=layer.concat_param.axis)

    def softmax(self, layer, bottoms, _):
        return self.emit("Softmax", bottoms, axis=layer.softmax_param.axis)

    def flatten(self, layer, bottoms, _):
        return self.emit("Flatten", bottoms, axis=layer.flatten_param.axis)

    def reshape(self, layer, bottoms, _):
        shape = np.array(layer.reshape_param.shape.dim, np.int64)
        return self.emit("Reshape", [bottoms[0], self.constant(shape)])

    def power(self, layer, bottoms, _):
        p = layer.power_param
        made = self.emit("Mul", [bottoms[0], self.constant(np.float32(p.scale))])
        made = self.emit("Add", [made, self.constant(np.float32(p.shift))])
        return made if p.power == 1 else self.emit("Pow", [made, self.constant(np.float32(p.power))])

    def sigmoid(self, layer, bottoms, _):
        return self.emit("Sigmoid", bottoms)

    def tanh(self, layer, bottoms, _):
        return self.emit("Tanh", bottoms)

    def dropout(self, layer, bottoms, _):
        return bottoms[0]

    split = dropout


def convert(prototxt, caffemodel, output):
    net, weights = Net(), Net()
    text_format.Parse(Path(prototxt).read_text(), net, allow_unknown_field=True)
    weights.ParseFromString(Path(caffemodel).read_bytes())
    if weights.layers or net.layers:
        sys.exit("the files are older than Caffe 1.0; upgrade them with Caffe's upgrade_net_proto_text and …_binary")
    return Converter(net, weights).model(output)


def compare(model, prototxt, caffemodel, output):
    """The greatest difference to what OpenCV makes of Caffe's files, as a share of the greatest value."""
    try:
        import cv2
        import onnxruntime
    except ImportError as missing:
        print(f"not compared: {missing.name} is not installed")
        return None
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [taken] = session.get_inputs()
    reference = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    # OpenCV knows blobs by the last layer that writes them.
    net = text_format.Parse(Path(prototxt).read_text(), Net(), allow_unknown_field=True)
    layer = [layer.name for layer in net.layer if output in layer.top][-1]
    worst = 0.0
    for seed in range(3):
        picture = np.random.default_rng(seed).normal(0, 50, (1, *taken.shape[1:])).astype(np.float32)
        reference.setInput(picture, taken.name)
        expected = reference.forward(layer).reshape(-1)
        [got] = session.run(None, {taken.name: picture})
        worst = max(worst, float(np.abs(got.reshape(-1) - expected).max() / np.abs(expected).max()))
    print(f"ONNX Runtime and OpenCV differ by {worst:.1e} of the greatest value")
    return worst


SELF_TEST = """
name: "every kind"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 31 dim: 37 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { use_global_stats: true } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "lrn" type: "LRN" bottom: "conv" top: "lrn" lrn_param { local_size: 5 alpha: 0.01 beta: 0.75 } }
layer { name: "max" type: "Pooling" bottom: "lrn" top: "max" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "deep" type: "Convolution" bottom: "max" top: "deep"
  convolution_param { num_output: 8 kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 group: 4 bias_term: false } }
layer { name: "leaky" type: "ReLU" bottom: "deep" top: "deep" relu_param { negative_slope: 0.1 } }
layer { name: "own" type: "PReLU" bottom: "deep" top: "own" }
layer { name: "sum" type: "Eltwise" bottom: "own" bottom: "max" top: "sum" eltwise_param { operation: SUM coeff: 1 coeff: -0.5 } }
layer { name: "both" type: "Concat" bottom: "sum" bottom: "deep" top: "both" }
layer { name: "average" type: "Pooling" bottom: "both" top: "average" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "average" top: "average" }
layer { name: "tanh" type: "TanH" bottom: "average" top: "tanh" }
layer { name: "pooled" type: "Pooling" bottom: "tanh" top: "pooled" pooling_param { pool: AVE global_pooling: true } }
layer { name: "inner" type: "InnerProduct" bottom: "tanh" top: "inner" inner_product_param { num_output: 10 } }
layer { name: "prob" type: "Softmax" bottom: "inner" top: "prob" }
"""
SELF_TEST_BLOBS = {
    "conv": [(8, 3, 3, 3), (8,)],
    "norm": [(8,), (8,), (1,)],
    "scale": [(8,), (8,)],
    "deep": [(8, 2, 3, 1)],
    "own": [(8,)],
    "inner": [(10, 16 * 4 * 4), (10,)],
}


def self_test():
    random, net = np.random.default_rng(1), Net()
    text_format.Parse(SELF_TEST, net, allow_unknown_field=True)
    for layer in net.layer:
        for shape in SELF_TEST_BLOBS.get(layer.name, []):
            values = random.uniform(0.1, 1, shape) if layer.name == "norm" else random.normal(0, 0.3, shape)
            layer.blobs.add(data=values.ravel().astype(np.float32)).shape.dim.extend(shape)
    with tempfile.TemporaryDirectory() as folder:
        prototxt, caffemodel = Path(folder) / "deploy.prototxt", Path(folder) / "net.caffemodel"
        prototxt.write_text(SELF_TEST)
        caffemodel.write_bytes(net.SerializeToString())
        for output in ["pooled", "prob", "both"]:
            worst = compare(convert(prototxt, caffemodel, output), prototxt, caffemodel, output)
            if worst is not None and worst > 1e-4:
                sys.exit(f"the blob `{output}` differs")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prototxt", nargs="?")
    parser.add_argument("caffemodel", nargs="?")
    parser.add_argument("--output", help="the blob that is to be the embedding")
    parser.add_argument("--out", type=Path, default=Path("model.onnx"))
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    if not (arguments.prototxt and arguments.caffemodel and arguments.output):
        parser.error("prototxt, caffemodel and --output are needed")
    model = convert(arguments.prototxt, arguments.caffemodel, arguments.output)
    onnx.save(model, str(arguments.out))
    print(f"wrote {arguments.out}")
    worst = compare(model, arguments.prototxt, arguments.caffemodel, arguments.output)
    if worst is not None and worst > 1e-3:
        sys.exit("the models answer differently")


if __name__ == "__main__":
    main()
