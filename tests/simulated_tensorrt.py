"""A simulated ``tensorrt`` for the simulated driver.

Parsing and building are real: NVIDIA's own code in ``tensorrt_rtx``, whose interface is the same. What is simulated is
the device: an "engine" holds the ONNX graph, and executing it runs ONNX Runtime on what lies in simulated GPU memory.
"""

import json
import os
import pickle
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnxruntime
import tensorrt_rtx as real

from tests.simulated_cuda import GPU, BrokenRuleError, stream_of

_MAGIC = b"simulated engine"
ALIKE = ("BuilderFlag", "DataType", "ILogger", "LayerInformationFormat", "MemoryPoolType", "ProfilingVerbosity")


def version() -> str:
    return os.environ.get("SIMULATED_TENSORRT", "10.3.0.30")


class _Builder:
    graphs: dict[int, Path] = {}  # noqa: RUF012

    def __init__(self, log):
        self._real = real.Builder(log)
        self._log = log

    def create_network(self, flags):
        return self._real.create_network(flags)

    def create_builder_config(self):
        return self._real.create_builder_config()

    def create_optimization_profile(self):
        self.profile = self._real.create_optimization_profile()
        return self.profile

    def build_serialized_network(self, network, config):
        built = self._real.build_serialized_network(network, config)
        if built is None:
            return None
        content = {
            "version": version(),
            "graph": _Builder.graphs[id(network)].read_bytes(),
            "profile": [tuple(shape) for shape in self.profile.get_shape("pcm")],
            "flags": config.flags,
            "workspace": config.get_memory_pool_limit(real.MemoryPoolType.WORKSPACE),
            "int8": b"QuantizeLinear" in _Builder.graphs[id(network)].read_bytes(),
        }
        return _MAGIC + pickle.dumps(content)


class _Parser:
    def __init__(self, network, log):
        self._real = real.OnnxParser(network, log)
        self._network = network

    def parse_from_file(self, path):
        _Builder.graphs[id(self._network)] = Path(path)
        return self._real.parse_from_file(path)

    @property
    def num_errors(self):
        return self._real.num_errors

    def get_error(self, index):
        return self._real.get_error(index)


class _Runtime:
    def __init__(self, log):
        self._log = log

    def deserialize_cuda_engine(self, plan):
        error = real.ILogger.Severity.ERROR
        if not bytes(plan).startswith(_MAGIC):
            self._log.log(error, "Magic tag does not match: the serialized engine is damaged")
            return None
        try:
            content = pickle.loads(bytes(plan)[len(_MAGIC) :])
        except Exception:
            self._log.log(error, "Serialized engine ends before its end")
            return None
        if content["version"] != version():
            self._log.log(error, f"Version tag does not match: {content['version']}, library {version()}")
            return None
        return _Engine(content, self._log)


class _Engine:
    def __init__(self, content, log):
        self._content, self._log = content, log
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(content["graph"], options)
        self.shapes = {
            value.name: tuple(-1 if isinstance(size, str) else size for size in value.shape)
            for value in [*self.session.get_inputs(), *self.session.get_outputs()]
        }
        self.num_io_tensors = len(self.shapes)

    def get_tensor_name(self, index):
        return list(self.shapes)[index]

    def get_tensor_shape(self, name):
        return self.shapes[name]

    def get_tensor_dtype(self, name):
        return real.DataType.FLOAT

    def get_tensor_profile_shape(self, name, profile):
        assert (name, profile) == ("pcm", 0)
        return self._content["profile"]

    def create_execution_context(self):
        if GPU.room < 1 << 20:
            self._log.log(real.ILogger.Severity.ERROR, "Requested amount of GPU memory could not be allocated")
            return None
        return _Execution(self)

    def create_engine_inspector(self):
        """Layers as TensorRT 10 writes them."""
        kind = "Thirty-two wide channel vectorized row major Int8 format" if self._content["int8"] else "Half"
        layer = {"Name": "fc1/MatMul", "LayerType": "gemm", "Inputs": [{"Name": "x", "Format/Datatype": kind}]}
        report = json.dumps({"Layers": [layer], "Bindings": list(self.shapes)})
        return SimpleNamespace(get_engine_information=lambda format_: report)


class _Execution:
    def __init__(self, engine):
        self._engine = engine
        self._addresses = {}
        self._shape = None

    def set_tensor_address(self, name, address):
        GPU.check()
        GPU.at(address)
        self._addresses[name] = address
        return name in self._engine.shapes

    def set_input_shape(self, name, shape):
        GPU.check()
        shortest, _, longest = self._engine._content["profile"]
        if not shortest[1] <= shape[1] <= longest[1]:
            return False
        self._shape = shape
        return True

    def execute_async_v3(self, handle):
        GPU.check()
        GPU.launches += 1
        if GPU.fail_launch or self._shape is None or len(self._addresses) != self._engine.num_io_tensors:
            self._engine._log.log(
                real.ILogger.Severity.ERROR, "Error code 1: Cuda Runtime (unspecified launch failure)"
            )
            return False
        shape = self._shape

        def run():
            if self._shape != shape:
                raise BrokenRuleError("the input's shape changed while the engine ran")
            feeds = {}
            for name in (each.name for each in self._engine.session.get_inputs()):
                dims = shape if name == "pcm" else self._engine.shapes[name]
                memory = GPU.at(self._addresses[name])
                feeds[name] = np.frombuffer(memory, np.float32)[: int(np.prod(dims))].reshape(dims)
            names = [each.name for each in self._engine.session.get_outputs()]
            outputs = self._engine.session.run(names, feeds)
            random = np.random.default_rng(0)
            for name, exact in zip(names, outputs, strict=True):
                value = exact + random.normal(0, 1, exact.shape).astype(np.float32) * np.float32(GPU.noise)
                GPU.at(self._addresses[name])[: value.nbytes] = value.tobytes()

        stream_of(handle).waiting.append(run)
        return True


def tensorrt_module(name: str, spec: ModuleSpec | None = None) -> ModuleType:
    """Return what `import tensorrt` is to find."""
    module = ModuleType(name)
    module.__spec__ = spec
    module.__version__ = version()
    for alike in ALIKE:
        setattr(module, alike, getattr(real, alike))
    # TensorRT 11 may do without the flag.
    flags = real.NetworkDefinitionCreationFlag if version().startswith("10.") else SimpleNamespace()
    module.NetworkDefinitionCreationFlag = flags
    module.Builder, module.OnnxParser, module.Runtime = _Builder, _Parser, _Runtime
    return module
