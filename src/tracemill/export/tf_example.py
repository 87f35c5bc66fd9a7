"""``tf.train.Example`` in TFRecord files, without TensorFlow.

The message is declared here as TensorFlow declares it (tensorflow/core/example/feature.proto and example.proto, Apache-2.0):
field names, numbers and types are what makes it the same message on the wire. A record of a file is (TensorFlow's guide,
«TFRecord and tf.train.Example»)::

    uint64 length, uint32 masked CRC of length, byte data[length], uint32 masked CRC of data

little endian, the CRC being Castagnoli's (RFC 3720), masked as ``rotate_right(crc, 15) + 0xa282ead8``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

from tracemill.core.errors import ExportError

_MASK_DELTA = 0xA282EAD8
_PACKAGE = "tensorflow"


def require_tfrecord() -> None:
    """Raise ExportError where the packages that TFRecord needs are missing."""
    if find_spec("google_crc32c") is None or find_spec("google.protobuf") is None:
        raise ExportError("TFRecord needs google-crc32c and protobuf", hint="Install `tracemill[tfrecord]`.")


@cache
def example_class() -> type[Any]:
    """The message class of ``tf.train.Example``."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415 - an optional part

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tracemill/tf_example.proto", package=_PACKAGE, syntax="proto3")

    def message(name: str, *fields: Any) -> Any:
        made = file.message_type.add(name=name)
        made.field.extend(fields)
        return made

    def one(name: str, number: int, kind: str, **more: Any) -> Any:
        label = field.LABEL_OPTIONAL
        return field(
            name=name, number=number, label=label, type=field.TYPE_MESSAGE, type_name=f".{_PACKAGE}.{kind}", **more
        )

    def many(name: str, kind: Any, **more: Any) -> Any:
        return field(name=name, number=1, label=field.LABEL_REPEATED, type=kind, **more)

    packed = descriptor_pb2.FieldOptions(packed=True)
    message("BytesList", many("value", field.TYPE_BYTES))
    message("FloatList", many("value", field.TYPE_FLOAT, options=packed))
    message("Int64List", many("value", field.TYPE_INT64, options=packed))
    kinds = (("bytes_list", 1, "BytesList"), ("float_list", 2, "FloatList"), ("int64_list", 3, "Int64List"))
    feature = message("Feature", *(one(*kind, oneof_index=0) for kind in kinds))
    feature.oneof_decl.add(name="kind")
    features = message("Features", many("feature", field.TYPE_MESSAGE, type_name=f".{_PACKAGE}.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    key = field(name="key", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    entry.field.extend([key, one("value", 2, "Feature")])
    message("Example", one("features", 1, "Features"))
    pool = descriptor_pool.DescriptorPool()  # of its own: TensorFlow may be in this process too
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


def encode_example(features: Mapping[str, list[bytes] | list[int]]) -> bytes:
    """An Example's bytes; the same features give the same bytes. Integers are signed, of 64 bits."""
    example = example_class()()
    for name, values in features.items():
        feature = example.features.feature[name]
        if values and isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(values)
            feature.bytes_list.SetInParent()  # a list without elements is there all the same
    data: bytes = example.SerializeToString(deterministic=True)
    return data


def frame(data: bytes) -> bytes:
    """A record of a TFRecord file."""
    checksum = _crc32c()
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked(checksum(length)), data, _masked(checksum(data))))


@cache
def _crc32c() -> Callable[[bytes], int]:
    import google_crc32c  # noqa: PLC0415 - an optional part

    value: Callable[[bytes], int] = google_crc32c.value
    return value


def _masked(crc: int) -> bytes:
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF)
