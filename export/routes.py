"""Give back their float input to nodes that the quantiser led through an INT8 pair without being asked to.

Where one quantised MatMul shares its input with other nodes, ONNX Runtime's quantiser hands the dequantised tensor to
all of them. In a post-norm encoder (HuBERT, wav2vec2) that is the residual Add, whose sum INT8 must not touch.
"""

from __future__ import annotations

import onnx

from export.policy import QUANTISED_OPERATORS


def restore_float_routes(model: onnx.ModelProto) -> int:
    """Let every node but MatMul, Gemm and Conv read the tensor before its Q/DQ pair; change the graph in place.

    Returns:
        How many inputs were led around a pair.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    before = {}
    for node in model.graph.node:
        maker = made_by.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if maker is not None and maker.op_type == "QuantizeLinear":
            before[node.output[0]] = maker.input[0]
    changed = 0
    for node in model.graph.node:
        if node.op_type not in QUANTISED_OPERATORS:
            for index, name in enumerate(node.input):
                if name in before:
                    node.input[index] = before[name]
                    changed += 1
    return changed
