"""Triton's model configuration as Protocol Buffers reads it: the messages and fields that we write, and no others.

Source of names, numbers and types: ``protobuf/model_config.proto`` of triton-inference-server/common, commit
08365eae35e2305723a46383a02083a7d73f9abd, package ``inference``. The text format refuses every field and every name of
a number that is not in here, so what is written with a slip of the pen does not parse.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

Field = descriptor_pb2.FieldDescriptorProto
_KINDS = ("string", "int32", "uint32", "int64")
# Field: number and type; "*" for repeated ones.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelConfig": {
        "name": (1, "string"),
        "version_policy": (3, "ModelVersionPolicy"),
        "max_batch_size": (4, "int32"),
        "input": (5, "*ModelInput"),
        "output": (6, "*ModelOutput"),
        "instance_group": (7, "*ModelInstanceGroup"),
        "parameters": (14, "*ModelConfig.ParametersEntry"),
        "backend": (17, "string"),
    },
    "ModelConfig.ParametersEntry": {"key": (1, "string"), "value": (2, "ModelParameter")},
    "ModelParameter": {"string_value": (1, "string")},
    "ModelVersionPolicy": {"latest": (1, "ModelVersionPolicy.Latest")},
    "ModelVersionPolicy.Latest": {"num_versions": (1, "uint32")},
    "ModelInput": {"name": (1, "string"), "data_type": (2, "DataType"), "dims": (4, "*int64")},
    "ModelOutput": {
        "name": (1, "string"),
        "data_type": (2, "DataType"),
        "dims": (3, "*int64"),
        "label_filename": (4, "string"),
    },
    "ModelInstanceGroup": {"count": (2, "int32"), "kind": (4, "ModelInstanceGroup.Kind")},
}
_ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_FP16": 10, "TYPE_FP32": 11},
    "ModelInstanceGroup.Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}


def parse_config(text: str) -> Any:
    """Return the ``ModelConfig`` of a ``config.pbtxt``.

    Raises:
        google.protobuf.text_format.ParseError: it is not of that form, or names a field that is not known.
    """
    return text_format.Parse(text, _ModelConfig())


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    made: dict[str, Any] = {}
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        message = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=name)
        made[name] = message
        message.options.map_entry = name.endswith("Entry")
        for field, (number, kind) in fields.items():
            base = kind.removeprefix("*")
            label = Field.LABEL_REPEATED if kind.startswith("*") else Field.LABEL_OPTIONAL
            if base in _KINDS:
                message.field.add(name=field, number=number, label=label, type=Field.Type.Value(f"TYPE_{base.upper()}"))
            else:
                which = Field.TYPE_ENUM if base in _ENUMS else Field.TYPE_MESSAGE
                message.field.add(name=field, number=number, label=label, type=which, type_name=f".inference.{base}")
    for name, values in _ENUMS.items():
        outer, _, inner = name.rpartition(".")
        enum = made[outer].enum_type.add(name=inner) if outer else file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())
_ModelConfig = message_factory.GetMessageClass(_pool.FindMessageTypeByName("inference.ModelConfig"))
