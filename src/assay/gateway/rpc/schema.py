"""The messages of the inference protocol's gRPC form, made of one table when they are needed.

No generated code and no entry in the process-wide pool of names, where it would collide with
that of any other library of the same protocol.

References
----------
Open Inference Protocol, "gRPC inference protocol", version 2: names and numbers of fields.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from assay.errors import MissingDependency

__all__ = ["METHODS", "SERVICE", "messages", "needed"]

SERVICE = "inference.GRPCInferenceService"

METHODS: dict[str, tuple[str, str]] = {
    name: (f"{name}Request", f"{name}Response")
    for name in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
}
"""The methods that are served, with their messages."""

_PACKAGE = "inference"
_TENSOR = "name:string:1 datatype:string:2 shape:int64*:3"
_PARAMETERS = "parameters:InferParameter@:4"
# name:type:number, with * for lists and @ for maps from text; a name in capitals is another message.
_TABLE: dict[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool:1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool:1",
    "ModelReadyRequest": "name:string:1 version:string:2",
    "ModelReadyResponse": "ready:bool:1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string:1 version:string:2 extensions:string*:3",
    "ModelMetadataRequest": "name:string:1 version:string:2",
    "ModelMetadataResponse": (
        "name:string:1 versions:string*:2 platform:string:3 "
        "inputs:ModelMetadataResponse.TensorMetadata*:4 outputs:ModelMetadataResponse.TensorMetadata*:5"
    ),
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "InferParameter": (
        "bool_param:bool:1 int64_param:int64:2 string_param:string:3 double_param:double:4 "
        "uint64_param:uint64:5"
    ),
    "InferTensorContents": (
        "bool_contents:bool*:1 int_contents:int32*:2 int64_contents:int64*:3 uint_contents:uint32*:4 "
        "uint64_contents:uint64*:5 fp32_contents:float*:6 fp64_contents:double*:7 bytes_contents:bytes*:8"
    ),
    "ModelInferRequest": (
        f"model_name:string:1 model_version:string:2 id:string:3 {_PARAMETERS} "
        "inputs:ModelInferRequest.InferInputTensor*:5 "
        "outputs:ModelInferRequest.InferRequestedOutputTensor*:6 raw_input_contents:bytes*:7"
    ),
    "ModelInferRequest.InferInputTensor": f"{_TENSOR} {_PARAMETERS} contents:InferTensorContents:5",
    "ModelInferRequest.InferRequestedOutputTensor": "name:string:1 parameters:InferParameter@:2",
    "ModelInferResponse": (
        f"model_name:string:1 model_version:string:2 id:string:3 {_PARAMETERS} "
        "outputs:ModelInferResponse.InferOutputTensor*:5 raw_output_contents:bytes*:6"
    ),
    "ModelInferResponse.InferOutputTensor": f"{_TENSOR} {_PARAMETERS} contents:InferTensorContents:5",
}
_ONE_OF = {"InferParameter": "parameter_choice"}


def needed(module: str) -> Any:
    """Import a module of the packages that gRPC needs.

    Raises
    ------
    MissingDependency
        If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        msg = "gRPC needs the packages grpcio and protobuf: pip install 'assay-ml[grpc]'"
        raise MissingDependency(msg) from error


@cache
def messages() -> SimpleNamespace:
    r"""Return the message classes by name.

    Raises
    ------
    MissingDependency
        If protobuf is not installed.

    Examples
    --------
    >>> found = messages().ModelReadyRequest(name="net")
    >>> found.SerializeToString()
    b'\n\x03net'
    """
    kinds = needed("google.protobuf.descriptor_pb2")
    pools, factory = needed("google.protobuf.descriptor_pool"), needed("google.protobuf.message_factory")
    file = kinds.FileDescriptorProto(name="assay/inference.proto", package=_PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for name in _TABLE:
        outer, _, inner = name.rpartition(".")
        into = made[outer].nested_type if outer else file.message_type
        made[name] = into.add(name=inner)
    for name, fields in _TABLE.items():
        message = made[name]
        if name in _ONE_OF:
            message.oneof_decl.add(name=_ONE_OF[name])
        for field in fields.split():
            _add_field(kinds, message, name, field)
    pool = pools.DescriptorPool()
    pool.Add(file)
    classes = {
        name: factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _TABLE
        if "." not in name
    }
    return SimpleNamespace(**classes)


def _add_field(kinds: Any, message: Any, owner: str, field: str) -> None:
    name, kind, number = field.split(":")
    proto = kinds.FieldDescriptorProto
    made = message.field.add(name=name, number=int(number), json_name=name)
    made.label = proto.LABEL_REPEATED if kind[-1] in "*@" else proto.LABEL_OPTIONAL
    if owner in _ONE_OF:
        made.oneof_index = 0
    plain = kind.rstrip("*@")
    if kind.endswith("@"):
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=proto.LABEL_OPTIONAL, type=proto.TYPE_STRING)
        value = entry.field.add(name="value", number=2, label=proto.LABEL_OPTIONAL, type=proto.TYPE_MESSAGE)
        value.type_name = f".{_PACKAGE}.{plain}"
        plain = f"{owner}.{entry.name}"
    if plain[0].isupper():
        made.type, made.type_name = proto.TYPE_MESSAGE, f".{_PACKAGE}.{plain}"
    else:
        made.type = getattr(proto, f"TYPE_{plain.upper()}")
