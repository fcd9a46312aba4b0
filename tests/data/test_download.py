import errno
import gzip
import hashlib
import os
import signal

import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.data import KnownFile, download
from capsjax.signals import Interrupted


@pytest.fixture
def file(tiny):
    return tiny.files["train_images"]


@pytest.fixture
def body(tiny):
    # Long enough for several chunks, as the file's content would be: stored, not compressed.
    return gzip.compress(tiny.contents["train_images"], compresslevel=0)


def get(file, server, folder, mirrors=("/a/",), **options):
    addresses = [server.address + mirror for mirror in mirrors]
    return download(file, addresses, folder, wait=0.0, **options)


def test_good_file_arrives_and_progress_is_told(tmp_path, file, body, server):
    server.pages[f"/a/{file.name}.gz"] = (200, body, len(body))
    reports = []

    def report(*told):
        reports.append(told)
        assert not (tmp_path / "new" / f"{file.name}.gz").exists()  # not before it is checked

    path = get(file, server, tmp_path / "new", report=report)
    assert path == tmp_path / "new" / f"{file.name}.gz"
    assert path.read_bytes() == body
    assert {(name, total) for name, _, total in reports} == {(f"{file.name}.gz", len(body))}
    done = [count for _, count, _ in reports]
    assert done == sorted(done)
    assert done[-1] == len(body)
    assert server.encodings == ["identity"]  # else the length told is not that of what comes


def test_long_file_is_told_in_pieces(tmp_path, server, to_idx):
    content = to_idx(np.zeros((200, 1000)))
    known = KnownFile("long", len(content), hashlib.sha256(content).hexdigest())
    server.pages["/a/long.gz"] = (200, content, None)  # uncompressed, length unknown
    reports = []
    path = get(known, server, tmp_path, report=lambda *report: reports.append(report))
    assert known.read(path) == content
    assert len(reports) >= 3
    assert all(total is None for _, _, total in reports)
    assert reports[-1][1] >= len(content)


def test_works_without_a_report_and_says_nothing(tmp_path, file, body, server, capfd):
    server.pages[f"/a/{file.name}.gz"] = (200, body, len(body))
    get(file, server, tmp_path)
    assert capfd.readouterr() == ("", "")


BROKEN = {
    "missing": (404, b"", 0),
    "forbidden": (403, b"", 0),
    "wrong": (200, gzip.compress(b"something else"), None),
    "no gzip": (200, b"<html>", 6),
    "broken off": (200, b"\x1f\x8b", 1000),
    "empty": (200, b"", 0),
    "page": (200, b"\n<!DOCTYPE html><html><body>Sign in to go on</body></html>", None),
    "shorter than it is": (200, gzip.compress(bytes(1000), 0), 500),  # no more of it is read
    "bomb": (200, gzip.compress(bytes(1 << 22)), None),  # 4 kB that become 4 MB
    "in circles": (302, b"/a/train-images-idx3-ubyte.gz", 0),
    "elsewhere": (301, b"file:///etc/passwd", 0),
}
TOLD = {
    "page": "is a web page, not data: found 58 bytes of HTML",
    "shorter than it is": "is truncated",
    "bomb": "holds more than",
    "in circles": "redirects in circles",
    "broken off": "the connection broke off",
    "elsewhere": "InvalidSchema",
}


@pytest.mark.parametrize("how", TOLD)
def test_what_a_mirror_did_is_told(tmp_path, file, server, how):
    server.pages[f"/a/{file.name}.gz"] = BROKEN[how]
    with pytest.raises(UserError, match=f"no mirror gave it .*{TOLD[how]}"):
        get(file, server, tmp_path, rounds=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", BROKEN)
def test_second_mirror_helps(tmp_path, file, body, server, how):
    server.pages[f"/a/{file.name}.gz"] = BROKEN[how]
    server.pages[f"/b/{file.name}.gz"] = (200, body, len(body))
    path = get(file, server, tmp_path, ["/a/", "/b/"])
    assert path.read_bytes() == body
    assert [*dict.fromkeys(server.seen)] == [f"/a/{file.name}.gz", f"/b/{file.name}.gz"]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_mirror_that_recovers_is_tried_again(tmp_path, file, body, server):
    server.pages[f"/a/{file.name}.gz"] = [(503, b"", 0), (503, b"", 0), (200, body, len(body))]
    assert get(file, server, tmp_path).read_bytes() == body
    assert len(server.seen) == 3


def test_all_fail_and_each_reason_is_told(tmp_path, file, server):
    name = f"{file.name}.gz"
    for letter, how in zip("abc", ["forbidden", "wrong", "broken off"], strict=True):
        server.pages[f"/{letter}/{name}"] = BROKEN[how]
    closed = "http://127.0.0.1:9/"  # nobody listens to the discard port
    mirrors = [f"{server.address}/{letter}/" for letter in "abcd"]
    with pytest.raises(UserError) as caught:
        download(file, [*mirrors, closed], tmp_path, rounds=2, wait=0.0)
    text = str(caught.value)
    assert text.startswith(f"{name}: no mirror gave it")
    assert f"{mirrors[0]}{name}: HTTP status 403" in text
    assert f"{mirrors[1]}{name}: what came: is truncated: found 14 bytes" in text
    assert file.sha256 in text
    assert f"{mirrors[2]}{name}: the connection broke off" in text
    assert f"{mirrors[3]}{name}: HTTP status 404" in text
    assert f"{closed}{name}: no connection" in text
    assert text.endswith(f"get it elsewhere and put it into {tmp_path}")
    assert "\n" not in text
    assert len(server.seen) == 8
    assert list(tmp_path.iterdir()) == []


def test_rounds_wait_longer_each_time(tmp_path, file, server, monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    with pytest.raises(UserError, match="HTTP status 404"):
        download(file, [server.address + "/"], tmp_path, rounds=3, wait=0.5)
    assert [wait for wait in waits if wait] == [0.5, 1.0]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("display")])
def test_interruption_leaves_nothing(tmp_path, file, body, server, error):
    server.pages[f"/a/{file.name}.gz"] = (200, body, len(body))

    def report(*_):
        raise error

    with pytest.raises(type(error)):
        get(file, server, tmp_path, report=report)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_told(tmp_path, file, body, server):
    server.pages[f"/a/{file.name}.gz"] = (200, body, len(body))

    def report(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"cannot be written: No space left on device; make room"):
        get(file, server, tmp_path, report=report)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_told(tmp_path, file, server):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"gz: cannot be written: .*CAPSJAX_DATA"):
        get(file, server, tmp_path / "file" / "mnist")
    assert server.seen == []


def test_a_server_that_sends_without_end_is_stopped(tmp_path, file, body, server):
    server.pages[f"/a/{file.name}.gz"] = (200, body + bytes(10 << 20), None)
    server.pages[f"/b/{file.name}.gz"] = (200, body, len(body))
    with pytest.raises(UserError, match=f"sends more than {file.limit} bytes"):
        get(file, server, tmp_path, rounds=1)
    assert list(tmp_path.iterdir()) == []
    assert get(file, server, tmp_path, ["/a/", "/b/"]).read_bytes() == body


def test_a_signal_ends_a_download_and_leaves_nothing(tmp_path, server):
    known = KnownFile("long", 200_000, "0" * 64)
    server.pages["/a/long.gz"] = (200, bytes(200_000), None)

    def report(name, done, total):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        get(known, server, tmp_path, report=report)
    assert list(tmp_path.iterdir()) == []
