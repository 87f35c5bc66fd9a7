"""The archive in a bucket, over HTTP, with everything that goes wrong there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import boto3
import pytest

from tests.store.s3 import Fault, FaultyS3, faulty_s3
from tests.store.test_archive import archive, interaction
from tracemill.core.errors import ArchiveError
from tracemill.core.records import Interaction
from tracemill.core.settings import load_settings
from tracemill.store.base import Filter
from tracemill.store.keeping import run_archive
from tracemill.store.resealing import restore, verify_objects
from tracemill.store.tiered import TieredStore, open_store

Open = Callable[..., TieredStore]
KEY, SECRET = "test-access-key", "test-secret-that-must-not-be-printed"


@pytest.fixture(scope="module")
def service() -> Iterator[FaultyS3]:
    with faulty_s3() as running:
        yield running


def client(service: FaultyS3) -> Any:
    return boto3.client(
        "s3", endpoint_url=service.url, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )


@pytest.fixture
def bucket(service: FaultyS3, request: pytest.FixtureRequest) -> str:
    service.heal()
    service.failed = 0
    name = f"bucket-{abs(hash(request.node.nodeid)):x}"
    client(service).create_bucket(Bucket=name)
    return name


@pytest.fixture
def opened(service: FaultyS3, bucket: str, tmp_path: Path) -> Iterator[Open]:
    stores: list[TieredStore] = []

    def open_one(**more: Any) -> TieredStore:
        settings = load_settings(
            {
                "workspace": str(tmp_path / "workspace"),
                "archive_url": f"s3://{bucket}/cold/data",
                "s3_endpoint": service.url,
                "s3_access_key": KEY,
                "s3_secret_key": SECRET,
                "s3_timeout_seconds": 1.0,
                "s3_retries": 2,
                **more,
            },
            environment={},
        )
        stores.append(open_store(settings))
        return stores[-1]

    yield open_one
    service.heal()
    for store in stores:
        store.close()


def filled(store: TieredStore, number: int = 30) -> list[Interaction]:
    records = [interaction(at) for at in range(number)]
    assert store.append(records).stored == number
    return records


def objects_in(service: FaultyS3, bucket: str) -> set[str]:
    every = {entry["Key"] for entry in client(service).list_objects_v2(Bucket=bucket).get("Contents", ())}
    return {key for key in every if "/tracemill-owner-" not in key}


def assert_whole(store: TieredStore, records: list[Interaction]) -> None:
    """Every record is read once, in its order, and is where the catalogue says."""
    assert list(store.scan()) == records
    assert store.count() == len(records)
    hot = {record.id for record in store.scan_hot()}
    archived = sum(file.records for file in store.archived_files())
    assert len(hot) + archived == len(records)
    assert verify_objects(store) == []
    assert store.verify() == []


def test_records_go_to_the_bucket_and_are_read_from_it(service: FaultyS3, bucket: str, opened: Open) -> None:
    store = opened()
    records = filled(store)
    report = archive(store)
    assert report.records == 30
    assert_whole(store, records)
    keys = objects_in(service, bucket)
    assert keys == {f"cold/data/{file.object_key}" for file in store.archived_files()}
    assert all("/platform=" in key and "/day=" in key for key in keys)
    assert [record.id for _, record in store.search("question 7", Filter())] == [records[7].id]
    assert store.get(records[3].id) == records[3]
    for file in store.archived_files():
        restore(store, file)
    assert objects_in(service, bucket) == set()
    assert_whole(store, records)


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
@pytest.mark.parametrize("fault", get_args(Fault))
def test_nothing_is_lost_whatever_the_storage_does(
    service: FaultyS3, bucket: str, opened: Open, method: str, fault: Fault
) -> None:
    store = opened()
    records = filled(store, 12)
    if method == "DELETE":
        archive(store)
    service.fail(method, fault)
    said = ""
    try:
        if method == "DELETE":
            for file in store.archived_files():
                restore(store, file)
        else:
            archive(store)
    except ArchiveError as error:
        said = f"{error} {error.hint} {error.__cause__}"
    assert SECRET not in said
    assert service.failed
    service.heal()
    assert_whole(store, records)
    again = opened(archive_lease_seconds=0.001)  # what the first one left is nobody's any more
    run_archive(again, days_old=30)
    assert_whole(again, records)
    assert list(again.scan_hot()) == []
    assert objects_in(service, bucket) == {f"cold/data/{file.object_key}" for file in again.archived_files()}


@pytest.mark.parametrize("fault", ["500", "503", "hang", "half upload", "lost answer", "half download"])
def test_a_fault_that_passes_is_not_noticed(service: FaultyS3, opened: Open, fault: Fault) -> None:
    store = opened()
    records = filled(store, 6)
    service.fail("GET" if fault == "half download" else "PUT", fault, times=1)
    assert archive(store).records == 6
    assert service.failed == 1
    assert_whole(store, records)


def test_reading_says_what_is_wrong_and_succeeds_later(service: FaultyS3, opened: Open) -> None:
    store = opened()
    records = filled(store, 6)
    archive(store)
    fresh = opened()  # nothing of the archive is in its memory
    service.fail("GET", "500")
    with pytest.raises(ArchiveError) as caught:
        list(fresh.scan())
    assert SECRET not in str(caught.value)
    service.heal()
    assert_whole(fresh, records)


def test_a_versioned_bucket_keeps_no_version_of_what_was_erased(service: FaultyS3, bucket: str, opened: Open) -> None:
    client(service).put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store = opened()
    records = filled(store, 9)
    archive(store)
    before = {file.object_key for file in store.archived_files() if file.platform == "shop"}
    gone = [record for record in records if record.platform == "shop"][:2]
    assert store.erase([record.id for record in gone]) == 2
    left = [record for record in records if record not in gone]
    assert_whole(store, left)
    found = client(service).list_object_versions(Bucket=bucket)
    keys = [entry["Key"] for entry in (*found.get("Versions", ()), *found.get("DeleteMarkers", ()))]
    assert sorted(key for key in keys if "tracemill-owner" not in key) == sorted(
        f"cold/data/{file.object_key}" for file in store.archived_files()
    )
    assert not {f"cold/data/{key}" for key in before} & set(keys)


def test_wrong_credentials_and_a_missing_bucket_are_said_plainly(
    service: FaultyS3, opened: Open, tmp_path: Path
) -> None:
    store = opened(archive_url="s3://no-such-bucket-here", workspace=str(tmp_path / "other"))
    records = filled(store, 3)
    with pytest.raises(ArchiveError, match="no-such-bucket-here"):
        archive(store)
    assert list(store.scan_hot()) == records


def test_plain_http_is_for_loopback_only(tmp_path: Path) -> None:
    settings = load_settings(
        {
            "workspace": str(tmp_path), "archive_url": "s3://b", "s3_endpoint": "http://storage.example",
            "s3_access_key": "k", "s3_secret_key": "s", "s3_retries": 0, "s3_timeout_seconds": 1.0,
        },
        environment={},
    )  # fmt: skip
    store = open_store(settings)
    filled(store, 1)
    with pytest.raises(ArchiveError):
        archive(store)
    store.close()


def test_a_storage_class_is_asked_for(service: FaultyS3, bucket: str, opened: Open) -> None:
    store = opened(s3_storage_class="STANDARD_IA")
    filled(store, 3)
    archive(store)
    entries = client(service).list_objects_v2(Bucket=bucket)["Contents"]
    assert {entry["StorageClass"] for entry in entries} == {"STANDARD_IA"}
    assert {file.storage_class for file in store.archived_files()} == {"STANDARD_IA"}
