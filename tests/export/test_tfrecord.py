"""TFRecord files: the bytes by the definition, and by the programs they are for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.export.tfrecords import Features, crc32c, features, records
from tracemill.core.errors import ExportError
from tracemill.export import tf_example
from tracemill.export.containers import SplitFiles
from tracemill.export.tf_example import encode_example, frame

pytest.importorskip("google_crc32c", reason="google-crc32c is not installed")
pytest.importorskip("google.protobuf", reason="protobuf is not installed")

COLUMNS = {
    "messages": "list: json",
    "system": "dtype: string",
    "label": "dtype: bool",
    "shared": "dtype: int64",
    "score": "dtype: float64",
    "history": "list:\n      list: string",
    "turn": "struct:\n    - name: from\n      dtype: string",
    "extra": "list: json",
}
ROWS: list[dict[str, Any]] = [
    {
        "messages": [{"role": "user", "content": "é 世 \x00"}, {"a": [0.1, None]}],
        "system": "",
        "label": True,
        "shared": -3,
        "score": 0.1,
        "history": [["a", "b"], []],
        "turn": {"from": "gpt"},
    },
    {
        "messages": [],
        "system": "s",
        "label": False,
        "shared": 2**40,
        "score": -1.0,
        "history": [],
        "turn": {},
        "extra": [1],
    },
]
MADE: list[Features] = [
    {
        "messages": ['{"role":"user","content":"é 世 \\u0000"}'.encode(), b'{"a":[0.1,null]}'],
        "system": [b""],
        "label": [1],
        "shared": [-3],
        "score": [b"0.1"],
        "history": [b'["a","b"]', b"[]"],
        "turn": [b'{"from":"gpt"}'],
    },
    {
        "messages": [],
        "system": [b"s"],
        "label": [0],
        "shared": [2**40],
        "score": [b"-1.0"],
        "history": [],
        "turn": [b"{}"],
        "extra": [b"1"],
    },
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with SplitFiles(tmp_path, "train", "tfrecord", COLUMNS, None) as written:
        for row in ROWS:
            written.write_row(json.dumps(row).encode())
    return tmp_path / "train.tfrecord"


def test_the_test_computes_the_checksums_of_the_standard() -> None:
    """RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_rows_become_features(path: Path) -> None:
    assert [features(record) for record in records(path)] == MADE


def test_a_damaged_file_is_noticed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(AssertionError):
        list(records(path))


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.one_of(st.lists(st.binary()), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1)),
    )
)
def test_any_features_come_back(given_features: Features) -> None:
    data = encode_example(given_features)
    assert features(data) == given_features
    assert encode_example(dict(reversed(given_features.items()))) == data


@given(st.binary(max_size=2000))
def test_a_record_is_framed_as_defined(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one"
        path.write_bytes(frame(data) + frame(data))
        assert list(records(path)) == [data, data]


def test_without_its_packages_the_container_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf_example, "find_spec", lambda _: None)
    with pytest.raises(ExportError, match="google-crc32c") as caught:
        SplitFiles(tmp_path, "train", "tfrecord", COLUMNS, None)
    assert caught.value.hint == "Install `tracemill[tfrecord]`."


def test_tensorflow_reads_it(path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    found = []
    for record in tf.data.TFRecordDataset(str(path)):
        example = tf.train.Example.FromString(record.numpy())
        kinds = {name: feature.WhichOneof("kind") for name, feature in example.features.feature.items()}
        found.append({name: list(getattr(example.features.feature[name], kind).value) for name, kind in kinds.items()})
    assert found == MADE
    described = {
        "messages": tf.io.VarLenFeature(tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
        "system": tf.io.FixedLenFeature([], tf.string),
    }
    parsed = [tf.io.parse_single_example(record, described) for record in tf.data.TFRecordDataset(str(path))]
    assert [int(row["label"]) for row in parsed] == [1, 0]
    read = [[json.loads(text) for text in row["messages"].values.numpy()] for row in parsed]
    assert read == [row["messages"] for row in ROWS]


def test_the_tfrecord_package_reads_it(path: Path) -> None:
    if "tensorflow" in sys.modules:
        pytest.skip("TensorFlow and the tfrecord package declare the same messages, which one process does not take")
    tfrecord = pytest.importorskip("tfrecord", reason="the tfrecord package is not installed")
    described = {"system": "byte", "label": "int", "shared": "int"}
    found = list(tfrecord.tfrecord_loader(str(path), None, described))
    assert [bytes(row["system"]) for row in found] == [b"", b"s"]
    assert [(int(row["label"][0]), int(row["shared"][0])) for row in found] == [(1, -3), (0, 2**40)]
