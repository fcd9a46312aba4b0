"""Standard streams that end no command: closed, full, left by their reader, ASCII."""

import codecs
import os
import subprocess
import sys
import types

import pytest
from rich.console import Console

from capsjax import streams
from capsjax.progress import reporter
from capsjax.tables import Table


@pytest.fixture(autouse=True)
def _registered():
    codecs.register_error(streams.ERRORS, streams._plain)


def test_a_reader_that_leaves_is_not_missed():
    reading, writing = os.pipe()
    stream = streams.lenient(writing)
    stream.mode = "w"  # which `open` says, and the checker of annotations asks for
    os.close(reading)
    with reporter(stream) as progress:
        progress.start("training", 3)
        for done in (1, 2, 3):
            progress.update(done)
    print("more", file=stream, flush=True)
    assert isinstance(streams._lost(stream), BrokenPipeError)
    os.close(writing)


def test_a_full_device_is_told_once_at_the_end(monkeypatch, capsys):
    full = os.open("/dev/full", os.O_WRONLY)
    stream = streams.lenient(full)
    print("result", file=stream)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert streams.end(0) == 1
        assert streams.end(2) == 2
    assert "standard output: No space left on device" in capsys.readouterr().err
    os.close(full)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_every_table_can_be_written_in_every_encoding(encoding):
    reading, writing = os.pipe()
    stream = streams.lenient(writing, types.SimpleNamespace(encoding=encoding))
    table = Table("−1 ± 3 × 4 → …", ("mode", "Ω"), (("naïve \udc80", "3"),))
    Console(file=stream, width=80).print(table.to_rich())
    stream.close()
    os.close(writing)
    with os.fdopen(reading, encoding=encoding) as file:
        text = file.read()
    if encoding == "ascii":
        assert "-1 +- 3 x 4 -> ..." in text
        assert "naive \\udc80" in text
    else:
        assert "naïve" in text


CLOSED = """
from capsjax import streams
streams.secure()
import os, sys
with open(sys.argv[1], "w") as file:
    assert file.fileno() > 2, file.fileno()
    os.write(2, b"from a library")
    print("from Python", file=sys.stderr)
    print("result")
streams.secure()
sys.exit(streams.end(0))
"""


def test_closed_streams_become_the_null_device(tmp_path):
    """Else the next file that is opened is standard error, and gets what libraries say."""
    path = tmp_path / "file"
    shell = 'exec "$0" -c "$1" "$2" 0<&- 1>&- 2>&-'
    done = subprocess.run(["/bin/sh", "-c", shell, sys.executable, CLOSED, str(path)], check=False)
    assert done.returncode == 0
    assert path.read_text() == ""


@pytest.mark.parametrize(("target", "code"), [("/dev/full", 1), ("| head -1", 0)])
def test_a_command_whose_result_cannot_be_written(target, code):
    redirect = target if target.startswith("|") else f"> {target}"
    words = f'"{sys.executable}" -m capsjax --help {redirect}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert ("No space left" in done.stderr) == bool(code)
