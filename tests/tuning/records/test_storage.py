"""Storage of records: one contract, held by a folder and by a bucket of a stand-in for S3."""

import io
import json
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import fs

from common.errors import UserError
from tuning.options import locate_records
from tuning.records import object_storage
from tuning.records.object_storage import S3_FLAGS, ObjectStorage
from tuning.records.open_storage import check_storage, open_storage
from tuning.records.storage import Storage


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A moto server on loopback: an S3 that lives as long as the tests; gives its address."""
    pytest.importorskip("moto", reason="needs moto[server]")
    pytest.importorskip("flask", reason="needs moto[server]")
    code = (
        "import sys; from moto.server import ThreadedMotoServer as S; "
        "s = S('127.0.0.1', 0, verbose=False); s.start(); "
        "print(*s.get_host_and_port(), flush=True); sys.stdin.read(); s.stop()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert server.stdout is not None
    host, port = server.stdout.readline().split()
    yield f"{host}:{port}"
    server.communicate(timeout=30)


def bucket(address: str, monkeypatch: pytest.MonkeyPatch, name: str) -> Storage:
    for variable, value in (
        ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):  # fmt: skip
        monkeypatch.setenv(variable, value)
    options = f"scheme=http&endpoint_override={address}&region=us-east-1"
    return open_storage(f"s3://records/{name}?{options}&allow_bucket_creation=true")


@pytest.fixture(params=["folder", "bucket"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    """An empty storage of each kind."""
    if request.param == "folder":
        return open_storage(tmp_path / "records")
    address = request.getfixturevalue("s3")
    found = bucket(address, monkeypatch, tmp_path.name)
    found.store.create_dir("records")  # type: ignore[attr-defined]  # the bucket itself
    return found


def test_what_is_written_is_read(storage: Storage) -> None:
    assert storage.read_bytes("a") is None
    assert not storage.exists("a")
    storage.write_bytes("a", b"1")
    storage.write_bytes("a", b"2")
    storage.write_bytes("deep/er/b", b"")
    assert storage.read_bytes("a") == b"2"
    assert storage.exists("deep/er/b")
    assert (storage / "deep" / "er").read_bytes("b") == b""
    assert storage.read_bytes("deep") is None
    assert storage.read_bytes("a/b") is None


def test_names_are_the_first_parts(storage: Storage) -> None:
    assert storage.list_names() == []
    hidden = (".DS_Store", "._b", "runs/._1", "runs/1/._end.json")
    for name in ("b", "runs/2/end.json", "runs/1/run.json", "runs/1/end.json", *hidden):
        storage.write_bytes(name, b"{}")
    assert storage.list_names() == ["b", "runs"]
    assert (storage / "runs").list_names() == ["1", "2"]
    assert (storage / "runs/1").list_names() == ["end.json", "run.json"]


def test_modification_times_are_of_all_files_below(storage: Storage) -> None:
    assert storage.list_modification_times() == {}
    begin = time.time()
    for name in ("a", "runs/1/end.json", "runs/2/end.json"):
        storage.write_bytes(name, b"{}")
    times = storage.list_modification_times()
    assert sorted(times) == ["a", "runs/1/end.json", "runs/2/end.json"]
    assert min(times.values()) >= begin - 2  # a store may keep whole seconds
    assert (storage / "runs").list_modification_times() == {
        name.removeprefix("runs/"): when for name, when in times.items() if name != "a"
    }


class CountingHandler(fs.FSSpecHandler):  # type: ignore[misc]  # pyarrow has no types
    """Counts the listings and the requests of single objects."""

    listings = 0
    lookups = 0

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        self.lookups += len(paths)
        found: list[fs.FileInfo] = super().get_file_info(paths)
        return found

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        self.listings += 1
        found: list[fs.FileInfo] = super().get_file_info_selector(selector)
        return found


def test_modification_times_take_one_listing(tmp_path: Path) -> None:
    files = pytest.importorskip("fsspec").filesystem("file", auto_mkdir=True)
    handler = CountingHandler(files)
    stored = ObjectStorage(fs.PyFileSystem(handler), str(tmp_path), "s3")
    for run in range(20):
        stored.write_bytes(f"runs/{run}/end.json", b"{}")
    handler.listings = handler.lookups = 0
    assert len((stored / "runs").list_modification_times()) == 20
    assert (handler.listings, handler.lookups) == (1, 0)


def test_deleting(storage: Storage) -> None:
    storage.delete("absent")
    storage.write_bytes("x/a", b"1")
    storage.write_bytes("x/b", b"1")
    (storage / "x").delete("a")
    assert (storage / "x").list_names() == ["b"]
    storage.delete("x/b/c")


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=3000), name=st.from_regex(r"[A-Za-z0-9_.-]{1,30}", fullmatch=True))
def test_any_bytes_under_any_key(storage: Storage, data: bytes, name: str) -> None:
    if name.strip(".") and not name.startswith(".new-"):
        (storage / "any").write_bytes(name, data)
        assert (storage / "any").read_bytes(name) == data


def test_a_state_goes_and_comes_back_by_memory_alone(storage: Storage) -> None:
    """As records would store it: no file between, nothing unpickled."""
    state = {"epochs_done": 3, "model": {"w": torch.arange(6.0).reshape(2, 3)}}
    written = io.BytesIO()
    torch.save(state, written)
    storage.write_bytes("last.pt", written.getvalue())
    back = storage.read_bytes("last.pt")
    assert back is not None
    found = torch.load(io.BytesIO(back), weights_only=True)
    assert torch.equal(found["model"]["w"], state["model"]["w"])  # type: ignore[index]


def test_a_reader_never_sees_half(storage: Storage) -> None:
    versions = [json.dumps({"rows": [number] * 20_000}).encode() for number in range(4)]
    storage.write_bytes("rows.json", versions[0])

    def write(number: int) -> None:
        for _ in range(5):
            storage.write_bytes("rows.json", versions[number])

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, number) for number in (1, 2)]
        seen = set()
        while not all(writer.done() for writer in writers):
            seen.add(storage.read_bytes("rows.json"))
        for writer in writers:
            writer.result()
    assert seen <= set(versions)


def test_a_storage_can_be_sent_to_another_process(storage: Storage) -> None:
    storage.write_bytes("a", b"1")
    assert pickle.loads(pickle.dumps(storage)).read_bytes("a") == b"1"


def test_a_usable_storage_is_left_as_it_was(storage: Storage) -> None:
    check_storage(storage)
    assert storage.list_names() == []


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    where = open_storage(tmp_path)
    where.write_bytes("a", b"old")
    with pytest.raises(TypeError):
        where.write_bytes("a", "text")  # type: ignore[arg-type]
    assert where.read_bytes("a") == b"old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("secret", ["pass", "pa/ss", "p%40s/s"])
@pytest.mark.parametrize("scheme", ["s3", "gs", "s4"])
def test_credentials_are_refused_and_not_told(scheme: str, secret: str) -> None:
    with pytest.raises(UserError, match="without credentials") as refused:
        open_storage(f"{scheme}://user:{secret}@bucket/x")
    assert secret not in str(refused.value)


@pytest.mark.parametrize(("url", "expected"), [("s3://", "s3://BUCKET/"), ("gs:///x", "gs://BUCK")])
def test_a_url_without_a_bucket_is_refused(url: str, expected: str) -> None:
    with pytest.raises(UserError, match=f"received '{url}', expected {expected}"):
        open_storage(url)


def test_a_check_asks_google_for_seconds_only() -> None:
    def connected(options: str) -> fs.FileSystem:
        return fs.FileSystem.from_uri(f"gs://bucket/x{options}")[0]

    where = open_storage("gs://bucket/x")
    assert isinstance(where, ObjectStorage)
    assert where.store == connected("")
    brief = where.with_short_timeouts()
    assert isinstance(brief, ObjectStorage)
    assert brief.store == connected("?retry_limit_seconds=10") != where.store
    assert str(brief) == str(where)


def test_a_check_keeps_the_options_of_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that pyarrow reads from a URL; it refuses other options."""
    where = bucket("127.0.0.1:9", monkeypatch, "x")
    assert isinstance(where, ObjectStorage)
    for option in (*S3_FLAGS, "tls_ca_file_path"):
        query = f"{where.query}&{option}=true"
        assert open_storage(f"s3://records/x?{query}").with_short_timeouts().name == "x"
    expected = fs.S3FileSystem(
        region="us-east-1", scheme="http", endpoint_override="127.0.0.1:9",
        allow_bucket_creation=True, connect_timeout=3.0, request_timeout=5.0,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
    )  # fmt: skip
    brief = where.with_short_timeouts()
    assert isinstance(brief, ObjectStorage)
    assert brief.store == expected != where.store
    with pytest.raises(UserError, match="Unexpected query parameter"):
        open_storage("s3://records/x?region=us-east-1&background_writes=true")


def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens and never answers; by default pyarrow asks a hundred seconds."""
    monkeypatch.setattr(object_storage, "CHECK_REQUEST_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = bucket(f"127.0.0.1:{server.getsockname()[1]}", monkeypatch, "x")
        with pytest.raises(UserError, match=r"cannot write in .*Timeout was reached"):
            check_storage(where)


def test_a_storage_that_cannot_be_used_is_refused(
    tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="begins with s3:// or gs://"):
        open_storage("ftp://somewhere/records")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write in"):
        check_storage(open_storage(tmp_path / "file"))
    absent = bucket(s3, monkeypatch, "x")
    absent.path = "no-such-bucket/x"  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"cannot write in 's3://no-such-bucket/x[?]"):
        check_storage(absent)


def test_a_misspelled_url_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text, right in (
        ("s3:/bucket/x", "expected s3://bucket/x"), ("s3:b", "expected s3://b"),
        ("gs:/bucket", "expected gs://bucket"), ("S3://bucket/x", "expected s3://bucket/x"),
        ("s3:/KEY:SECRET@bucket", "expected s3://bucket"), ("s4://bucket", "s3:// or gs://"),
        ("hdfs:/x", "s3:// or gs://"), ("C:\\records", "s3:// or gs://"),
    ):  # fmt: skip
        for find in (open_storage, lambda text: open_storage(locate_records(Path("r"), text))):
            with pytest.raises(UserError, match="--storage: received") as caught:
                find(text)
            assert right in str(caught.value)
            assert "SECRET" not in str(caught.value)
    for text in ("run:1", "a/b:/c", "./s3:/bucket", str(tmp_path / "s3:")):
        assert str(open_storage(locate_records(Path("r"), text))) == str(Path(text).absolute())
    assert not list(tmp_path.iterdir())
