"""What errors about data advise, executed to the letter on what provoked them, until nothing is refused.

No advice is trusted to be right because it is well put: the outcome is compared with the right data.
"""

import ast
import dataclasses
import re
import shlex

import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.data import Arrays, Dataset, Split
from capsjax.progress import Silent
from capsjax.runs import experiment

SMOKE = cj.load_config("smoke")
START = re.compile(r"keep = |np\.\w+\(|images(?= / |\[|\.)|labels(?= - |\[|\.)")


def code_of(message):
    """Return the first code of the advice, the longest text from there that Python can read."""
    advice = message.split("expected", 1)[1]
    for match in START.finditer(advice):
        for end in range(len(advice), match.end(), -1):
            if advice[end : end + 1].isalnum():  # in the middle of a word
                continue
            try:
                return ast.parse(advice[match.start() : end].strip())
            except SyntaxError:
                continue
    raise AssertionError(f"no code in: {message}")


def execute(code, images, labels, **names):
    """Execute advice; return images and labels after it."""
    names |= {"images": images, "labels": labels, "np": np}
    *before, last = code.body
    exec(compile(ast.Module(before, []), "advice", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "advice", "eval"), names)
    if isinstance(value, tuple):
        return value
    used = {node.id for node in ast.walk(last) if isinstance(node, ast.Name)}
    return (value, labels) if "images" in used else (images, value)


def accept(data, source):
    """Take data as a run does that begins with them."""
    config, data = experiment.with_data(cj.load_config("smoke", {"data": "arrays"}), data)
    config = dataclasses.replace(config, data=source)
    dataset = experiment.load_data(config, data, Silent())
    experiment.check_data(config, dataset, data, Silent())
    return dataset


def follow(images, labels, source):
    """Do what errors say until there is none; return what was taken, its scale, and the errors."""
    said = []
    while True:
        try:
            return images, labels, accept((images, labels), source).scale, said
        except UserError as error:
            said.append(str(error))
        assert len(said) < 5, said
        images, labels = execute(code_of(said[-1]), images, labels)


RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (60, 8, 8, 1)).astype(np.uint8)
UNIT = BYTES / 255
BINARY = BYTES % 2
NIBBLES = BYTES // 15  # 0 to 17
LABELS = np.arange(60) % 3
NAMES = np.array(["cat", "dog", "ant"])[LABELS]
BY_NAME = np.array([1, 2, 0])[LABELS]  # ant, cat, dog
BROKEN = np.where(np.arange(60)[:, None, None, None] == 7, np.nan, UNIT)
WHOLE = np.delete(np.arange(60), 7)
COLOUR = RNG.random((60, 24, 24, 3))


@pytest.mark.parametrize(
    ("images", "right"),
    [
        pytest.param(BINARY == 1, BINARY, id="bool"),
        pytest.param(BINARY, BINARY, id="bytes of 0 and 1"),
        pytest.param(BINARY.astype(int), BINARY, id="integers of 0 and 1"),
        pytest.param(NIBBLES, NIBBLES / 17, id="dark bytes"),
        pytest.param(NIBBLES.astype(float), NIBBLES / 17, id="floats above 1"),
        pytest.param(BYTES.astype(np.uint16), UNIT, id="bytes in 16 bits"),
        pytest.param(BYTES.astype(int), UNIT, id="bytes in 64 bits"),
        pytest.param(BYTES * np.uint16(16), BYTES * 16.0 / 4095, id="12 bits"),
        pytest.param(BYTES.astype(np.int8), (BYTES.astype(np.int8) + 128.0) / 255, id="signed"),
        pytest.param(BYTES * 1.0, UNIT, id="bytes as floats"),
        pytest.param(UNIT * 2 - 1, UNIT, id="from -1 to 1"),
        pytest.param(UNIT * 8 - 3, UNIT, id="standardised"),
        pytest.param(UNIT / 255, UNIT, id="divided twice"),
        pytest.param(UNIT * 1e300, UNIT, id="beyond float32"),
        pytest.param(np.asarray(jnp.asarray(NIBBLES, jnp.bfloat16)), NIBBLES / 17, id="bfloat16"),
        pytest.param(BYTES.astype(object), UNIT, id="objects"),
        pytest.param(UNIT.astype(str), UNIT, id="numbers as text"),
        pytest.param(BYTES.reshape(60, 64), UNIT, id="flat"),
        pytest.param(np.moveaxis(BYTES, 0, -1), UNIT, id="examples last"),
        pytest.param(np.moveaxis(BYTES[..., 0], 0, -1), UNIT[..., 0], id="examples last, grey"),
        pytest.param(np.moveaxis(COLOUR, -1, 1), COLOUR, id="channels first"),
        pytest.param(np.moveaxis(COLOUR, -1, 1) * 255, COLOUR, id="channels first, to 255"),
    ],
)
def test_advice_about_images(images, right):
    found, labels, scale, said = follow(images, LABELS, Arrays())
    assert said
    np.testing.assert_allclose(found * scale, right, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("type_", [np.float16, np.float64])
@pytest.mark.parametrize("axis", [False, True])
def test_advice_about_pixels_that_are_not_finite(value, type_, axis):
    images = np.where(np.isnan(BROKEN), value, BROKEN).astype(type_)
    images = images if axis else images[..., 0]
    found, labels, scale, said = follow(images, LABELS, Arrays())
    assert len(said) == 1
    np.testing.assert_array_equal(found * scale, images[WHOLE])
    np.testing.assert_array_equal(labels, LABELS[WHOLE])


@pytest.mark.parametrize(
    ("labels", "right", "fields"),
    [
        pytest.param(LABELS.astype(object), LABELS, {}, id="numbers as objects"),
        pytest.param(LABELS.astype(jnp.bfloat16), LABELS, {}, id="whole floats of 16 bits"),
        pytest.param(LABELS / 2, LABELS, {}, id="halves"),
        pytest.param(LABELS * 1e12, LABELS, {}, id="huge floats"),
        pytest.param(LABELS == 1, LABELS == 1, {}, id="bool"),
        pytest.param(LABELS + 97, LABELS, {}, id="from 97"),
        pytest.param(LABELS * 2, LABELS, {}, id="every other"),
        pytest.param(LABELS - 1, LABELS, {}, id="from -1"),
        pytest.param(LABELS * 2**40, LABELS, {}, id="beyond int32"),
        pytest.param(LABELS.astype(np.uint64) + 2**63, LABELS, {}, id="beyond int64"),
        pytest.param(LABELS + 1, LABELS, {"num_classes": 3}, id="from 1 of 3"),
        pytest.param(LABELS * 5, LABELS, {"num_classes": 3}, id="out of 3"),
        pytest.param(LABELS - 1, LABELS, {"num_classes": 3}, id="from -1 of 3"),
    ],
)
def test_advice_about_labels(labels, right, fields):
    images, found, scale, said = follow(BYTES, labels, Arrays(**fields))
    assert said
    np.testing.assert_array_equal(found, right)
    np.testing.assert_allclose(images * scale, UNIT)


@pytest.mark.parametrize(
    ("labels", "right"),
    [
        pytest.param(LABELS[:, None], LABELS, id="a column"),
        pytest.param(np.ones((60, 1), int), np.ones(60, int), id="a column of ones"),
        pytest.param(np.eye(3)[LABELS], LABELS, id="one-hot"),
    ],
)
def test_advice_about_the_shape_of_a_split_s_labels(labels, right):
    with pytest.raises(UserError, match=r"labels: got shape \[60, ") as caught:
        Split(BYTES, labels)
    _, found = execute(code_of(str(caught.value)), BYTES, labels)
    np.testing.assert_array_equal(Split(BYTES, found).labels, right)


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(np.where(LABELS, np.nan, 1.0), id="NaN"),
        pytest.param(np.ones((60, 3)), id="several classes"),
        pytest.param(np.full((60, 3), 0.3), id="soft labels"),
        pytest.param(np.where(LABELS, None, "x"), id="nothing"),
        pytest.param(LABELS.astype("datetime64[D]"), id="days"),
        pytest.param(LABELS * 1j, id="complex"),
        pytest.param(LABELS[:50], id="too few"),
        pytest.param(LABELS.reshape(4, 3, 5), id="three axes"),
    ],
)
def test_no_advice_that_would_do_harm_about_labels(labels):
    with pytest.raises(UserError, match="labels: got") as caught:
        accept((BYTES, labels), Arrays())
    with pytest.raises(AssertionError, match="no code"):
        code_of(str(caught.value))


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(BYTES * 1j, id="complex"),
        pytest.param(np.full(BYTES.shape, "x"), id="text"),
        pytest.param(np.full(BYTES.shape, None), id="nothing"),
        pytest.param(BYTES.reshape(60, 4, 2, 8, 1), id="five axes"),
        pytest.param(BYTES[:, :5].reshape(60, 40), id="flat, not square"),
    ],
)
def test_no_advice_that_would_do_harm_about_images(images):
    with pytest.raises(UserError, match="images: got") as caught:
        accept((images, LABELS), Arrays())
    with pytest.raises(AssertionError, match="no code"):
        code_of(str(caught.value))


FEW = {"train": (BYTES, LABELS), "test": (BYTES[:2], LABELS[:2])}  # test lacks a class


@pytest.mark.parametrize(
    ("change", "right"),
    [
        pytest.param(lambda y: y + 97, lambda y: y, id="from 97"),
        pytest.param(lambda y: 7 - 2 * y, lambda y: 2 - y, id="downwards"),
        pytest.param(lambda y: y - 1, lambda y: y, id="from -1"),
        pytest.param(lambda y: y / 2, lambda y: y, id="halves"),
        pytest.param(lambda y: y * 2**40, lambda y: y, id="beyond int32"),
    ],
)
def test_advice_about_labels_numbers_all_splits_alike(change, right):
    data = {key: (images, change(labels)) for key, (images, labels) in FEW.items()}
    with pytest.raises(UserError) as caught:
        accept(data, Arrays())
    code = code_of(str(caught.value))
    followed = {key: execute(code, *pair, data=data) for key, pair in data.items()}
    accept(followed, Arrays())
    for key, (_, labels) in followed.items():
        np.testing.assert_array_equal(labels, right(FEW[key][1]))


@pytest.mark.parametrize("key", ["train", "test"])
def test_advice_about_splits_of_two_types(key):
    data = FEW | {key: (FEW[key][0] / 255, FEW[key][1])}
    with pytest.raises(UserError, match="bring the bytes to floats") as caught:
        accept(data, Arrays())
    (named,) = re.findall(r"0 to 1, in (.*): images", str(caught.value))
    for part in set(named.split(" and ")) & set(data):  # validation is split off train
        data[part] = execute(code_of(str(caught.value)), *data[part])
    accept(data, Arrays())
    for part in data:
        np.testing.assert_allclose(data[part][0], FEW[part][0] / 255, rtol=1e-6)


def test_advice_about_a_range_is_one_for_all_splits():
    data = {key: (images * 1.0, labels) for key, (images, labels) in FEW.items()}
    data["test"] = (data["test"][0] / 9, data["test"][1])
    with pytest.raises(UserError) as caught:
        accept(data, Arrays())
    followed = {key: execute(code_of(str(caught.value)), *pair) for key, pair in data.items()}
    accept(followed, Arrays())
    np.testing.assert_allclose(followed["train"][0], UNIT)
    np.testing.assert_allclose(followed["test"][0], UNIT[:2] / 9)


@pytest.mark.parametrize(
    ("images", "right"),
    [
        (BYTES[..., 0], UNIT),
        (BYTES.astype(int), UNIT),
        (BYTES * 1.0, UNIT),
        (BYTES.reshape(60, 64), UNIT),
    ],
)
def test_advice_about_splits_and_datasets_made_by_hand(images, right):
    scale = 1 / 16  # which is not these images'
    for _ in range(4):
        try:
            split = Split(images, LABELS)
            Dataset("mine", split, None, split, 3, scale)
            break
        except UserError as error:
            images, _ = execute(code_of(str(error)), images, LABELS)
            scale = 1.0 if "with scale=1" in str(error) else scale
    np.testing.assert_allclose(images * scale, right, rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "options"),
    [
        pytest.param(BYTES.astype(np.int16), ["[0, 255]"], id="16 bits"),
        pytest.param(BYTES.astype(np.int16) - 9, ["[-9, 246]"], id="signed"),
        pytest.param(BINARY.astype(int), ["[0, 1]"], id="0 and 1"),
        pytest.param(BYTES * np.uint16(16), ["[0, 4095]"], id="12 bits"),
        pytest.param(BYTES * 1.0, ["[0, 255]"], id="floats"),
        pytest.param((UNIT * 2 - 1).astype(np.float32), ["[-1, 1]", "any"], id="from -1 to 1"),
        pytest.param(
            (UNIT * 8 - np.float32(1.1)).astype(np.float32), [None, "any"], id="standardised"
        ),
    ],
)
def test_the_range_that_is_advised_is_taken(images, options):
    """What a file holds is not changed for it: the option is the same in YAML and as a flag."""
    with pytest.raises(UserError, match=r"data\.range") as caught:
        accept((images, LABELS), Arrays())
    said = re.findall(r"data\.range (.*?)(?:;|$)", str(caught.value))
    words = shlex.split(caught.value.on_command_line)
    assert [
        words[n + 1].rstrip(";") for n, word in enumerate(words) if word == "--data.range"
    ] == said
    assert [one if two else None for one, two in zip(said, options, strict=True)] == options
    for one in said:
        ends = one if one == "any" else tuple(ast.literal_eval(one))
        found = Arrays(range=ends).build((images, LABELS)).train.images
        if ends != "any":
            assert 0 <= found.min() < 0.01
            assert 0.99 < found.max() <= 1


@pytest.mark.parametrize("size", [(60, 64), (60, 40)])
def test_rows_of_features_are_taken_as_advised(size):
    rows = np.resize(BYTES, size)
    with pytest.raises(UserError, match=r"; for rows of features: data\.axes nf$") as caught:
        accept((rows, LABELS), Arrays())
    assert caught.value.on_command_line.endswith("for rows of features: --data.axes nf")
    assert Arrays(axes="nf").build((rows, LABELS)).image_shape == (1, size[1], 1)
    with pytest.raises(
        UserError, match=r"labels: got 59 labels for 60 images, expected one label for each image$"
    ):
        Arrays().build((rows, LABELS[1:]))


def test_advice_about_too_few_examples():
    data = (BYTES[:10], np.arange(10))
    with pytest.raises(UserError, match="or name the splits") as caught:
        accept(data, Arrays())
    named = str(caught.value).split("splits: ")[1]
    accept(eval(named, {"images": data[0], "labels": data[1]}), Arrays())
    with pytest.raises(UserError, match="smaller validation_fraction and test_fraction"):
        accept((BYTES[:20], np.arange(20) % 10), Arrays(test_fraction=0.8))
    accept((BYTES[:20], np.arange(20) % 10), Arrays(test_fraction=0.1))


def test_advice_about_the_number_of_classes():
    for labels in (LABELS * 0, LABELS * 0 + 5, LABELS + 97):
        with pytest.raises(UserError, match="num_classes=") as caught:
            accept((BYTES, labels), Arrays())
        count = int(re.findall(r"num_classes=(\d+)", str(caught.value))[-1])
        assert accept((BYTES, labels), Arrays(num_classes=max(2, count))).num_classes >= 2
    with pytest.raises(UserError, match="or there are num_classes=6") as caught:
        accept((BYTES, LABELS + 3), Arrays(num_classes=3))
    assert accept((BYTES, LABELS + 3), Arrays(num_classes=6)).num_classes == 6
