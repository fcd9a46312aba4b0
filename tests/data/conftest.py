"""A tiny MNIST in IDX files, written by hand, and a web server on this machine."""

import gzip
import hashlib
import http.server
import struct
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from capsjax.data.known import KnownFile


def idx_bytes(array):
    """An IDX file of bytes: magic number, sizes, values."""
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def to_idx():
    return idx_bytes


@pytest.fixture
def tiny():
    """Twelve training and five test images of 4 x 3 pixels: arrays, contents, and `files`."""
    rng = np.random.RandomState(3)
    arrays = {
        "train_images": rng.randint(0, 256, (12, 4, 3)),
        "train_labels": np.arange(12) % 10,
        "test_images": rng.randint(0, 256, (5, 4, 3)),
        "test_labels": np.arange(5),
    }
    names = {
        "train_images": "train-images-idx3-ubyte",
        "train_labels": "train-labels-idx1-ubyte",
        "test_images": "t10k-images-idx3-ubyte",
        "test_labels": "t10k-labels-idx1-ubyte",
    }
    contents = {key: idx_bytes(array) for key, array in arrays.items()}
    files = {
        key: KnownFile(names[key], len(content), hashlib.sha256(content).hexdigest())
        for key, content in contents.items()
    }

    def write(folder, compressed=True):
        folder.mkdir(parents=True, exist_ok=True)
        for key, content in contents.items():
            if compressed:
                (folder / f"{names[key]}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / names[key]).write_bytes(content)

    return SimpleNamespace(arrays=arrays, contents=contents, files=files, names=names, write=write)


@pytest.fixture
def server(monkeypatch):
    """A web server: `pages` maps paths to answers (status, body, length to declare or None).

    The body of a redirection is where it leads. A list of answers is given one at a time, the
    last for ever. `seen` lists the paths asked
    for, `encodings` the encodings accepted.
    """
    pages, seen, encodings = {}, [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            encodings.append(self.headers["Accept-Encoding"])
            answer = pages.get(self.path, (404, b"no such page", 12))
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            status, body, length = answer
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", body.decode())
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{running.server_address[1]}"
        yield SimpleNamespace(pages=pages, seen=seen, encodings=encodings, address=address)
        running.shutdown()
        thread.join()
