"""Files that someone else wrote or damaged: read, or named in two lines, by every command that reads them."""

import json
import os
import shutil
import time

import pytest

from capsjax import cli
from capsjax.checks import UserError
from capsjax.runs import config, description, metrics_file
from capsjax.study.comparison_file import read_comparison_file

DEEP = 100_000


def text(content):
    return lambda path: path.write_text(content)


def raw(content):
    return lambda path: path.write_bytes(content)


def sparse(path):
    """A file of a gigabyte, without the room that it would take."""
    with path.open("wb") as file:
        file.truncate(1 << 30)


def changed(**values):
    """JSON in which some values are others; dots go deeper."""

    def change(path):
        tree = json.loads(path.read_text())
        for name, value in values.items():
            *way, last = name.split("__")
            place = tree
            for step in way:
                place = place[step]
            if value is None:
                del place[last]
            else:
                place[last] = value
        path.write_text(json.dumps(tree))

    return change


def line(**values):
    """Metrics with a line more."""
    return lambda path: path.write_text(path.read_text() + json.dumps(values) + "\n")


ANY = {
    "gone": lambda path: None,
    "empty": text(""),
    "directory": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
    "gigabyte": sparse,
    "nul": raw(b"\0" * 64),
    "not UTF-8": raw(b"\xff\xfe\x80{"),
    "words": text("once upon a time\n"),
    "list": text("[1, 2, 3]\n"),
    "number": text("1" * 5000 + "\n"),
    "deep": text("[" * DEEP),
    "deep mapping": text('{"a":' * DEEP),
    "escapes": text("\x1b[2J[bold]<script>\u202e: {\n"),
}
DESCRIBED = {
    "words for a shape": changed(data__image_shape="eight by eight"),
    "shape of words": changed(data__image_shape=["a", "b", "c"]),
    "flat shape": changed(data__image_shape=[8, 8]),
    "negative shape": changed(data__image_shape=[8, -8, 1]),
    "huge shape": changed(data__image_shape=[8, 10**30, 1]),
    "a billion classes": changed(data__num_classes=10**9),
    "no classes": changed(data__num_classes=None),
    "classes in words": changed(data__num_classes="ten"),
    "a scale of zero": changed(data__scale=0),
    "a scale in words": changed(data__scale="1/16"),
    "a fingerprint in numbers": changed(data__fingerprint=3),
    "pixels in words": changed(data__pixels="many"),
    "no data": changed(data=None),
}
MEASURED = {
    "a foreign line": line(epoch=3, loss=0.1),
    "a step in words": line(split="test", step="last", error=0.1, loss=0.1),
    "an error in words": line(split="test", step=24, error="small", loss=0.1),
    "a list for a split": line(split=["test"], step=24, error=0.1, loss=0.1),
    "a huge step": line(split="train", step=10**30, error=0.1, loss=0.1),
    "a huge number": line(split="train", step=24, error=10**400, loss=0.1),
    "a split of its own": line(split="[bold]\x1b[2J", step=24, error=0.1, loss=0.1),
    "no loss": line(split="test", step=24, error=0.1),
    "a line without end": lambda path: path.write_text(path.read_text() + "x" * 10_000_000),
}
COMPARED = {
    "no modes": changed(modes=None),
    "modes in numbers": changed(modes=[1, 2]),
    "a mode more": changed(modes=["stop", "full", "[bold]"]),
    "no full": changed(modes=["stop"]),
    "no seeds": changed(seeds=[]),
    "seeds in words": changed(seeds=["a"]),
    "errors of one mode": changed(test_error={"full": [0.1]}),
    "errors in words": changed(test_error={"full": ["a"], "stop": ["b"]}),
    "too few errors": changed(test_error__full=[]),
    "losses in words": changed(test_loss={"full": ["a"], "stop": ["b"]}),
    "too few losses": changed(test_loss={"full": [], "stop": [0.1]}),
    "wrong images of no arm": changed(test_wrong=[1]),
    "too few wrong images": changed(test_wrong={"full": {"images": 9, "wrong": ["AA=="]}}),
    "wrong images in words": changed(test_wrong={"full": {"images": 3, "wrong": ["no"]}}),
    "no cost": changed(cost=None),
    "cost in words": changed(cost__full="much"),
    "no seconds": changed(cost__full__seconds=[]),
    "alignment of words": changed(alignment=["a"]),
    "alignment without a group": changed(alignment=[{"mode": "stop", "seed": 0, "epoch": 0}]),
    "iterations in words": changed(iterations="three"),
}


FOUND = {
    "modes": ["stop", "full"],
    "seeds": [0],
    "iterations": 3,
    "test_error": {"stop": [0.1], "full": [0.2]},
    "cost": {mode: {"seconds": [0.1, 0.2, 0.1], "temp_bytes": 1000} for mode in ("stop", "full")},
    "alignment": [
        {"mode": "full", "seed": 0, "epoch": epoch, "group": "W", "cosine": 0.5, "norm_ratio": 1.0}
        for epoch in (0, 1)
    ],
}


def damages(*tables):
    return {name: damage for table in tables for name, damage in table.items()}


FEW = {name: ANY[name] for name in ("gone", "pipe", "nul", "deep")}
CASES = [
    ("run", "config.yaml", damages(ANY), ("evaluate", "report", "resume")),
    ("run", "environment.json", damages(ANY, DESCRIBED), ("evaluate", "report", "resume")),
    ("run", "metrics.jsonl", damages(ANY, MEASURED), ("resume",)),
    ("run", "metrics.jsonl", damages(FEW, MEASURED), ("report",)),
    ("comparison", "comparison.json", damages(ANY, COMPARED), ("report",)),
    ("comparison", "config.yaml", FEW, ("report",)),  # after its figures, which take their time
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run that has a last checkpoint and no test line, and a comparison."""
    place = tmp_path_factory.mktemp("damaged")
    run, comparison = place / "run", place / "comparison"
    quiet = ["--training.epochs", "1", "--training.log_every", "8"]
    assert cli.main(["train", "smoke", "--out", str(run), *quiet]) == 0
    for mode in ("stop", "full"):
        shutil.copytree(run, comparison / "runs" / f"{mode}-seed0")
    for name in ("config.yaml", "environment.json"):
        shutil.copy(run / name, comparison / name)
    (comparison / "comparison.json").write_text(json.dumps(FOUND))
    metrics = run / "metrics.jsonl"
    kept = [text for text in metrics.read_text().splitlines(True) if '"test"' not in text]
    metrics.write_text("".join(kept))
    return {"run": run, "comparison": comparison}


# What is drawn is made; to paint it and write it takes its time, and reads nothing.
@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize(("kind", "name", "table", "commands"), CASES, ids=lambda x: str(x)[:20])
def test_what_is_damaged_is_read_or_named_in_two_lines(
    kind, name, table, commands, folders, capsys, tmp_path
):
    folder = folders[kind]
    for command in commands:
        words = ["train", "--resume"] if command == "resume" else [command]
        for damage, do in table.items():
            copy = tmp_path / f"{command} {damage}"
            shutil.copytree(folder, copy)
            path = copy / name
            if do in ANY.values():
                path.unlink()
            begun = time.monotonic()
            do(path)
            capsys.readouterr()
            code = cli.main([*words, str(copy)])
            out, err = capsys.readouterr()
            case = (command, name, damage, code, err)
            assert code in (0, 2), case
            assert "Traceback" not in err, case
            assert "\x1b" not in out + err, case
            assert "\u202e" not in out + err, case
            assert time.monotonic() - begun < 300, case  # nobody waits for what has no end
            if code:
                assert len(err.splitlines()) <= 2, case
                assert len(err) < 2000, case
                assert str(copy) in err, case
            shutil.rmtree(copy)


def test_a_configuration_of_100_megabytes_is_refused_unread(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.write(b"seed: 3\n")
        file.truncate(100 << 20)
    begun = time.process_time()
    with pytest.raises(UserError, match=r"large.yaml: got 104857600 bytes, .*at most 131072 bytes"):
        config.load_config(path)
    assert time.process_time() - begun < 1


def test_a_configuration_from_a_pipe_is_named_and_nobody_waits(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match=r"pipe.yaml: got a named pipe, expected a configuration"):
        config.load_config(tmp_path / "pipe.yaml")


def test_metrics_keep_every_line_of_ours_among_others(tmp_path):
    path = tmp_path / "metrics.jsonl"
    ours = [{"split": "train", "step": n, "loss": 0.5, "error": 0.1} for n in range(1, 4)]
    texts = [json.dumps(line) for line in ours]
    long = "x" * (3 * metrics_file.LONGEST)
    path.write_text("\n".join([texts[0], long, texts[1], '{"a": 1}', "\u2028[]", "", texts[2]]))
    assert metrics_file.read_metrics(path) == ours


def test_a_description_that_is_right_is_returned(folders):
    assert description.read_data(folders["run"])["num_classes"] == 10
    assert read_comparison_file(folders["comparison"])["modes"] == ["stop", "full"]
