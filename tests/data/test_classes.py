"""Classes: how many there are, that each is learned from, and that each split has its share."""

import re

import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.data import Arrays, Dataset, Digits, Split
from capsjax.data.classes import empty_classes, listed, stratify
from capsjax.data.trainable import check_classes, describe
from capsjax.progress import Silent
from capsjax.runs import directory, experiment
from capsjax.study.compare import compare

SMOKE = cj.load_config("smoke")


def images(n):
    """Image k is k everywhere, so that a split shows where its images are from."""
    return np.broadcast_to((np.arange(n) / n).reshape(n, 1, 1), (n, 8, 8))


def counts(labels, parts):
    return np.array([np.bincount(labels[part], minlength=labels.max() + 1) for part in parts])


@pytest.mark.parametrize("seed", range(5))
def test_every_part_has_its_share_of_every_class_to_within_one(seed):
    rng = np.random.RandomState(seed)
    labels = np.repeat(np.arange(5), [200, 90, 40, 11, 3])
    rng.shuffle(labels)
    n, order = len(labels), rng.permutation(len(labels))
    parts = stratify(labels, order, [50, 31])
    assert [len(part) for part in parts] == [n - 81, 50, 31]
    assert sorted(np.concatenate(parts)) == [*range(n)]
    shares = np.outer([n - 81, 50, 31], np.bincount(labels)) / n
    assert np.abs(counts(labels, parts) - shares).max() < 2
    assert (counts(labels, parts)[0] >= 1).all()
    for part in parts:  # in the order given
        places = [np.flatnonzero(order == k)[0] for k in part]
        assert places == sorted(places)


def test_equal_classes_are_split_to_the_example_and_the_order_decides_who_goes_where():
    labels = np.arange(100) % 10
    found = [stratify(labels, np.random.RandomState(s).permutation(100), [10, 20]) for s in (0, 1)]
    for parts in found:
        assert counts(labels, parts).tolist() == [[7] * 10, [1] * 10, [2] * 10]
    assert sorted(found[0][1]) != sorted(found[1][1])


def test_a_class_of_one_is_learned_from_and_not_measured_by():
    labels = np.array([0] * 30 + [1, 2] + [3] * 30)
    for seed in range(20):
        left, held_out = stratify(labels, np.random.RandomState(seed).permutation(62), [31])
        assert {30, 31} <= set(left)
        assert set(labels[held_out]) == {0, 3}


def test_own_arrays_are_split_by_class_the_same_for_the_same_seed():
    labels = np.arange(200) % 4
    first, again = (Arrays(seed=3).build((images(200), labels)) for _ in range(2))
    assert first.fingerprint() == again.fingerprint()
    assert Arrays(seed=4).build((images(200), labels)).fingerprint() != first.fingerprint()
    for split, each in zip(first.splits().values(), (40, 5, 5), strict=True):
        assert np.bincount(split.labels).tolist() == [each] * 4
    named = Arrays().build({"train": (images(200), labels), "test": (images(8), labels[:8])})
    assert np.bincount(named.validation.labels).tolist() == [5] * 4


def test_a_run_of_before_there_was_a_choice_keeps_its_split(tmp_path):
    config, _ = experiment.with_data(SMOKE, (images(90), np.arange(90) % 10))
    directory.write_config(tmp_path, config)
    assert directory.read_config(tmp_path) == config
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text().replace("  stratified: true\n", ""))
    assert directory.read_config(tmp_path).data == Arrays(stratified=False)


SEEN = np.arange(60) % 3


def refused(tmp_path, data, config=SMOKE):
    with pytest.raises(UserError) as caught:
        cj.train(config, data, out=tmp_path / "run")
    with pytest.raises(UserError) as compared:
        compare(config, data, out=tmp_path / "run", reporter=Silent())
    assert str(compared.value) == str(caught.value)
    assert not (tmp_path / "run").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (SEEN + 97, "got 3 classes, from 97 to 99, and no example of 0, 1, 2, 3, 4 and 92 more;"),
        (SEEN + 2, "got 3 classes, from 2 to 4, and no example of 0, 1;"),
        (SEEN * 2, "got 3 classes, from 0 to 4, and no example of 1, 3;"),
        (np.where(SEEN, SEEN, 999_999), "from 1 to 999999, .* 0, 3, 4, 5, 6 and 999,992 more;"),
        (SEEN + 2**31 - 4, "from 2147483644 to 2147483646, and no example of 0, 1, 2, 3, 4 and"),
    ],
)
def test_numbers_that_no_label_names_are_no_classes_unless_someone_says_so(
    tmp_path, labels, message
):
    said = refused(tmp_path, (images(60), labels))
    assert re.search(message, said)
    assert f"Arrays(num_classes={labels.max() + 1})" in said
    followed = eval(said.split("from 0: ")[1].split("; or")[0], {"labels": labels, "np": np})
    assert followed.tolist() == np.searchsorted(np.unique(labels), labels).tolist()


def test_classes_without_examples_are_said_where_their_number_is_given(tmp_path):
    dataset = Arrays(num_classes=7).build((images(60), SEEN * 2))
    check_classes(dataset)
    assert describe(dataset) == (
        "arrays: 3 of 7 classes, none of class 1, 3, 5, 6; 60 images [8, 8, 1], of which 48 train, "
        "6 validation, 6 test"
    )
    # A class that only another split shows is there, and not trained.
    few = (images(60), np.where(np.arange(60) % 3 == 2, 0, np.arange(60) % 3))
    given = {"train": few, "test": (images(60), np.arange(60) % 3)}
    assert describe(Arrays().build(given)).startswith(
        "arrays: 3 classes, and none of 2 in train; 120"
    )
    named = {
        key: (of, np.array(["ant", "bee", "cat"])[labels]) for key, (of, labels) in given.items()
    }
    assert describe(Arrays().build(named)).startswith(
        "arrays: 3 classes, and none of cat in train (ant 60, bee 40, cat 20); 120"
    )
    assert describe(Digits().load()).startswith(
        "digits: 10 classes; 1797 images [8, 8, 1], of which 1097 train,"
    )


def test_a_class_that_is_tested_but_not_trained_is_refused(tmp_path):
    many = np.arange(60) % 10
    for name in ("validation", "test"):
        data = {"train": (images(60), many % 9), "test": (images(60), many % 9)}
        data[name] = (images(60), many)
        said = refused(tmp_path, data)
        assert said.startswith(f"{name} labels: got class 9, of which train has no example")
        names = {"images": images(60), "labels": many, "train_labels": many % 9, "np": np}
        exec(said.split(": ")[-1], names)
        keep = names["keep"]
        np.testing.assert_array_equal(many[keep], many[many < 9])
    split = Split(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 2, 2]))
    other = Split(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 2, 3]))
    said = refused(tmp_path, Dataset("mine", split, None, other, 4, 1 / 255))
    assert said.startswith("test labels: got class 3,")


def test_one_example_of_each_class_trains_nothing_that_is_tested():
    with pytest.raises(UserError, match=r"got 10 examples of 10 classes, of which 2 .*at least 10"):
        Arrays().build((images(10), np.arange(10)))
    with pytest.raises(UserError, match="smaller validation_fraction and test_fraction, or name"):
        Arrays(test_fraction=0.8).build((images(20), np.arange(20) % 10))
    assert len(Arrays(test_fraction=0.4).build((images(20), np.arange(20) % 10)).test) == 8


def test_the_first_numbers_that_are_missing_are_found_without_making_them_all():
    first, count = empty_classes(np.array([0, 2, 3, 2**31 - 2]), 2**31 - 1)
    assert (first.tolist(), count) == ([1, 4, 5, 6, 7], 2**31 - 5)
    assert listed(first, count) == "1, 4, 5, 6, 7 and 2,147,483,638 more"
    first, count = empty_classes(np.array([1, 1, 0]), 2)
    assert (first.tolist(), count) == ([], 0)
