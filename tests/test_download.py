from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from serendip.cli.fetch import Dataset, fetch
from serendip.errors import InputError
from serendip.events import download as module
from serendip.events.download import RemoteFile, download
from serendip.events.zenodo import DATASETS, choose, find_record, record_number

CONTENT = {
    "training_files.tar": np.random.default_rng(1).bytes(3_000_000),
    "README.txt": b"read me",
}


@dataclass
class Mirror:
    """A Zenodo of one record, and what goes wrong there."""

    url: str = ""
    content: dict[str, bytes] = field(default_factory=lambda: dict(CONTENT))
    checksums: dict[str, str] = field(default_factory=dict)
    record: dict | bytes | None = None
    ranges: bool = True
    wrong_ranges: bool = False
    cut_at: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    requests: list[tuple[str, str | None, int]] = field(default_factory=list)

    def answer(self, number: str) -> dict:
        entries = [
            {
                "key": name,
                "size": len(data),
                "checksum": "md5:" + self.checksums.get(name, hashlib.md5(data).hexdigest()),
                "links": {"self": f"{self.url}/api/records/{number}/files/{name}/content"},
            }
            for name, data in self.content.items()
        ]
        metadata = {"title": "Some events", "license": {"id": "cc-by-4.0"}}
        return {"doi": f"10.5281/zenodo.{number}", "metadata": metadata, "files": entries}


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    state = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            if state.failures:
                code = state.failures.pop(0)
                state.requests.append((self.path, wanted, code))
                self.send_response(code)
                self.send_header("Retry-After", "0")
                self.end_headers()
                return
            found = re.fullmatch(r"/api/records/(\d+)(?:/files/(.+)/content)?", self.path)
            code, data, total = 200, b"", 0
            if found is None or (found.group(2) and found.group(2) not in state.content):
                code = 404
            elif found.group(2) is None:
                answer = state.answer(found.group(1)) if state.record is None else state.record
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            else:
                data = state.content[found.group(2)]
                total = len(data)
                if wanted and state.ranges:
                    code, start = 206, int(wanted.removeprefix("bytes=").removesuffix("-"))
                    data = data if state.wrong_ranges else data[start:]
            state.requests.append((self.path, wanted, code))
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            if code == 206:
                self.send_header("Content-Range", f"bytes {total - len(data)}-{total - 1}/{total}")
            self.end_headers()
            if total and state.cut_at:
                data = data[: state.cut_at.pop(0)]
            self.wfile.write(data)

    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def files_of(mirror: Mirror) -> tuple[RemoteFile, ...]:
    return find_record("3961917", url=mirror.url, pause=0).files


def codes(mirror: Mirror, name: str) -> list[tuple[str | None, int]]:
    return [(wanted, code) for path, wanted, code in mirror.requests if name in path]


def test_numbers_of_the_records() -> None:
    assert record_number("darkmachines") == "3961917"
    assert [record_number("darkmachines", part) for part in ("sm", "secret", "bsm")] == [
        "3685861",
        "4443151",
        "6772776",
    ]
    assert record_number("lhco-rd") == "6466204"
    assert record_number("lhco-blackboxes") == "4536624"
    assert record_number("top-tagging") == "2603256"
    assert {dataset.value for dataset in Dataset} == set(DATASETS)
    with pytest.raises(InputError, match="'cms' is not known; expected one of darkmachines"):
        record_number("cms")
    with pytest.raises(InputError, match="no part 'x'; expected one of hackathon, sm, secret, bsm"):
        record_number("darkmachines", "x")


def test_files_and_what_is_stated_about_them(mirror: Mirror) -> None:
    record = find_record("3961917", url=mirror.url)
    assert (record.title, record.doi, record.licence) == (
        "Some events",
        "10.5281/zenodo.3961917",
        "cc-by-4.0",
    )
    assert [file.name for file in record.files] == ["README.txt", "training_files.tar"]
    assert record.size == 3_000_007
    assert record.files[0].checksum == hashlib.md5(b"read me").hexdigest()
    assert [file.name for file in choose(record.files, ["*.tar"])] == ["training_files.tar"]
    assert choose(record.files, []) == record.files
    with pytest.raises(InputError, match=r"no file matches '\*\.h5'; the record has README\.txt, training"):
        choose(record.files, ["*.tar", "*.h5"])


def test_download_and_again(mirror: Mirror, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = tmp_path / "new" / "folder"
    done = download(files_of(mirror), folder, progress=lambda *step: seen.append(step))
    assert done == {"README.txt": "downloaded", "training_files.tar": "downloaded"}
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == CONTENT
    steps = [at for name, at, _ in seen if name == "training_files.tar"]
    assert steps == sorted(steps)
    assert len(steps) >= 3
    assert seen[-1] == ("training_files.tar", 3_000_000, 3_000_000)

    before = len(mirror.requests)
    again = download(files_of(mirror), folder)
    assert set(again.values()) == {"already there"}
    assert len(mirror.requests) == before + 1


def test_a_truncated_transfer_is_resumed_where_it_ended(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cut_at = [1_000_000, 500_000]
    files = choose(files_of(mirror), ["*.tar"])
    download(files, tmp_path, pause=0)
    assert (tmp_path / "training_files.tar").read_bytes() == CONTENT["training_files.tar"]
    assert codes(mirror, "training") == [(None, 200), ("bytes=1000000-", 206), ("bytes=1500000-", 206)]


def test_the_next_call_continues_a_killed_one(mirror: Mirror, tmp_path: Path) -> None:
    part = tmp_path / "training_files.tar.part"
    part.write_bytes(CONTENT["training_files.tar"][:1_234_567])
    done = download(choose(files_of(mirror), ["*.tar"]), tmp_path, pause=0)
    assert done == {"training_files.tar": "resumed"}
    assert codes(mirror, "training") == [("bytes=1234567-", 206)]
    assert (tmp_path / "training_files.tar").read_bytes() == CONTENT["training_files.tar"]
    assert not part.exists()


def test_a_server_without_ranges_sends_everything_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.ranges = False
    mirror.cut_at = [1_000_000]
    download(choose(files_of(mirror), ["*.tar"]), tmp_path, pause=0)
    assert codes(mirror, "training") == [(None, 200), ("bytes=1000000-", 200)]
    assert (tmp_path / "training_files.tar").read_bytes() == CONTENT["training_files.tar"]


def test_a_range_that_starts_elsewhere_is_not_appended(mirror: Mirror, tmp_path: Path) -> None:
    mirror.wrong_ranges = True
    mirror.cut_at = [1_000_000]
    download(choose(files_of(mirror), ["*.tar"]), tmp_path, pause=0)
    assert codes(mirror, "training") == [(None, 200), ("bytes=1000000-", 206)]
    assert (tmp_path / "training_files.tar").read_bytes() == CONTENT["training_files.tar"]


def test_a_bad_line_that_makes_progress_is_not_given_up(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cut_at = [400_000] * 7
    download(choose(files_of(mirror), ["*.tar"]), tmp_path, pause=0)
    assert len(codes(mirror, "training")) == 8
    assert (tmp_path / "training_files.tar").read_bytes() == CONTENT["training_files.tar"]


def test_no_progress_ends_in_an_error_and_keeps_what_arrived(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cut_at = [1_000_000, *([0] * 10)]
    with pytest.raises(InputError, match="after 5 attempts: the transfer ended after 1000000 of 3000000"):
        download(choose(files_of(mirror), ["*.tar"]), tmp_path, pause=0)
    assert (tmp_path / "training_files.tar.part").stat().st_size == 1_000_000
    assert not (tmp_path / "training_files.tar").exists()
    assert len(codes(mirror, "training")) == 5


def test_a_wrong_checksum_is_refused_and_named(mirror: Mirror, tmp_path: Path) -> None:
    mirror.checksums["training_files.tar"] = "0" * 32
    found = hashlib.md5(CONTENT["training_files.tar"]).hexdigest()
    with pytest.raises(
        InputError, match=f"'training_files.tar' arrived with .*{found}, expected .*{'0' * 32}"
    ):
        download(files_of(mirror), tmp_path, pause=0)
    assert [file.name for file in tmp_path.iterdir()] == ["README.txt"]


def test_a_damaged_part_is_not_trusted(mirror: Mirror, tmp_path: Path) -> None:
    part = tmp_path / "training_files.tar.part"
    part.write_bytes(b"x" * 1000)
    files = choose(files_of(mirror), ["*.tar"])
    with pytest.raises(InputError, match="it was removed"):
        download(files, tmp_path, pause=0)
    assert list(tmp_path.iterdir()) == []
    part.write_bytes(b"x" * 4_000_000)
    assert download(files, tmp_path, pause=0) == {"training_files.tar": "downloaded"}


def test_a_server_error_is_repeated_then_explained(mirror: Mirror, tmp_path: Path) -> None:
    files = choose(files_of(mirror), ["README.txt"])
    mirror.failures = [503, 429, 500, 504]
    download(files, tmp_path, pause=0)
    assert [code for _, code in codes(mirror, "README")] == [503, 429, 500, 504, 200]

    (tmp_path / "README.txt").unlink()
    mirror.requests.clear()
    mirror.failures = [503] * 10
    with pytest.raises(
        InputError, match=r"'README\.txt' cannot be fetched .* after 5 attempts: the server answers 503"
    ):
        download(files, tmp_path, pause=0)
    assert len(codes(mirror, "README")) == 5


def test_waiting_doubles(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    files = choose(files_of(mirror), ["README.txt"])
    mirror.failures = [503] * 4
    download(files, tmp_path, pause=0.5)
    assert waits == [0.5, 1, 2, 4]


@pytest.mark.parametrize(
    ("code", "words"),
    [(404, "there is no such record or file"), (403, "it is not public"), (400, "answers 400")],
)
def test_a_final_answer_is_not_repeated(mirror: Mirror, code: int, words: str) -> None:
    mirror.failures = [code] * 5
    with pytest.raises(InputError, match=words):
        find_record("1", url=mirror.url)
    assert len(mirror.requests) == 1


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(
            InputError, match=r"record 3961917 cannot be fetched .*refused.*Is there a network"
        ):
            find_record("3961917", url=f"http://127.0.0.1:{port}", pause=0)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"<html>maintenance</html>", "not that of the Zenodo API"),
        ({"files": [{"key": "a"}]}, "not that of the Zenodo API"),
        ([1], "not that of the Zenodo API"),
        ({"metadata": {}, "files": []}, "no public files"),
        (
            {"files": [{"key": "sub/a", "size": 1, "checksum": "md5:0", "links": {"self": "/a"}}]},
            "'sub/a' is not a file name",
        ),
        (
            {"files": [{"key": "a", "size": 1, "checksum": "no:0", "links": {"self": "/a"}}]},
            "no usable size and checksum",
        ),
        (
            {"files": [{"key": "a", "size": 1, "checksum": "md5:0", "links": {"self": "file:///a"}}]},
            "not an address",
        ),
    ],
)
def test_answers_that_cannot_be_used(mirror: Mirror, record, message: str) -> None:
    mirror.record = record if isinstance(record, bytes) else json.dumps(record).encode()
    with pytest.raises(InputError, match=message):
        find_record("1", url=mirror.url, pause=0)


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="record 'x' is not a number"):
        find_record("x")
    with pytest.raises(InputError, match="'ftp://a' is not an address"):
        find_record("1", url="ftp://a")


def test_the_disk_is_checked_before(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000))
    files = files_of(mirror)
    before = len(mirror.requests)
    with pytest.raises(InputError, match=r"2\.0 MB free, but 3\.0 MB are needed"):
        download(files, tmp_path)
    assert len(mirror.requests) == before
    assert list(tmp_path.iterdir()) == []
    # what is there already needs no space
    (tmp_path / "training_files.tar.part").write_bytes(CONTENT["training_files.tar"][:1_500_000])
    assert download(files, tmp_path, pause=0)["training_files.tar"] == "resumed"


def test_another_file_of_that_name_is_not_overwritten(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("my own notes")
    with pytest.raises(InputError, match=r"README\.txt' exists, but its content is not that of the record"):
        download(files_of(mirror), tmp_path, pause=0)
    assert (tmp_path / "README.txt").read_text() == "my own notes"


def test_a_folder_that_cannot_be_made(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be created"):
        download(files_of(mirror), tmp_path / "file" / "folder", pause=0)


# the command


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(fetch)
    return app


def test_command_lists_and_fetches(mirror: Mirror, tmp_path: Path, command: typer.Typer) -> None:
    run = CliRunner(env={"SERENDIP_ZENODO_URL": mirror.url})
    listed = run.invoke(command, ["darkmachines", "--list"])
    assert listed.exit_code == 0, listed.exception
    assert "Some events (record 3961917, 10.5281/zenodo.3961917, cc-by-4.0)" in listed.output
    assert re.search(r"3\.0 MB  training_files\.tar  md5:[0-9a-f]{32}", listed.output)
    assert "3.0 MB  in 2 files" in listed.output
    assert codes(mirror, "files") == []

    out = tmp_path / "data"
    done = run.invoke(command, ["darkmachines", "--part", "secret", "--out", str(out), "--only", "*.tar"])
    assert done.exit_code == 0, done.exception
    assert mirror.requests[-2][0] == "/api/records/4443151"
    assert "training_files.tar: 3.0 MB, downloaded, md5 agrees" in done.output
    assert "training_files.tar: 100 % of 3.0 MB" in done.output
    assert [file.name for file in out.iterdir()] == ["training_files.tar"]
    again = run.invoke(command, ["darkmachines", "--record", "1", "--out", str(out), "--url", mirror.url])
    assert "training_files.tar: 3.0 MB, already there, md5 agrees" in again.output
    assert "README.txt: 7 B, downloaded" in again.output


def test_command_refuses(mirror: Mirror, command: typer.Typer, tmp_path: Path) -> None:
    run = CliRunner(env={"SERENDIP_ZENODO_URL": mirror.url})
    for arguments, message in (
        (["darkmachines"], "give --out FOLDER"),
        (["darkmachines", "--list", "--part", "x"], "no part 'x'"),
        (["lhco-rd", "--list", "--part", "v2", "--record", "1"], "exclude each other"),
        (["top-tagging", "--list", "--only", "*.h5"], "no file matches"),
    ):
        result = run.invoke(command, arguments)
        assert isinstance(result.exception, InputError), result.output
        assert message in str(result.exception)
    assert run.invoke(command, ["atlas", "--list"]).exit_code == 2
