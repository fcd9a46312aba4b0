import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from capsjax.checks import FieldError, UserError
from capsjax.data import Arrays, Digits, Mnist


def pair(n=20, shape=(3, 2), classes=4, dtype=np.uint8):
    """Image k has the pixel value k everywhere, so that a split shows where its images are from."""
    images = np.broadcast_to(np.arange(n, dtype=dtype).reshape(n, 1, 1), (n, *shape))
    return images, np.arange(n) % classes


def origin(split):
    return split.images[:, 0, 0, 0].astype(int).tolist()


def test_pair_is_split_by_a_fixed_permutation():
    dataset = Arrays(stratified=False).build(pair())
    order = np.random.RandomState(0).permutation(20).tolist()
    assert origin(dataset.train) == order[:16]
    assert origin(dataset.validation) == order[16:18]
    assert origin(dataset.test) == order[18:]
    for split in dataset.splits().values():
        assert split.labels.tolist() == [k % 4 for k in origin(split)]


def test_fractions_and_seed_are_obeyed():
    fields = {"validation_fraction": 0.25, "test_fraction": 0.5, "seed": 5}
    assert [len(split) for split in Arrays(**fields).build(pair()).splits().values()] == [5, 5, 10]
    dataset = Arrays(**fields, stratified=False).build(pair())
    order = np.random.RandomState(5).permutation(20).tolist()
    assert [len(split) for split in dataset.splits().values()] == [5, 5, 10]
    assert origin(dataset.train) == order[:5]


def test_small_fractions_still_give_an_example():
    dataset = Arrays(validation_fraction=0.001, test_fraction=0.001).build(pair(4, classes=2))
    assert [len(split) for split in dataset.splits().values()] == [2, 1, 1]


def test_mapping_with_all_splits_is_taken_as_it_is():
    parts = {name: pair(n) for name, n in {"test": 3, "train": 5, "validation": 4}.items()}
    dataset = Arrays().build(parts)
    assert [origin(split) for split in dataset.splits().values()] == [
        [*range(5)],
        [*range(4)],
        [*range(3)],
    ]


def test_validation_is_split_from_train_where_it_is_not_named():
    dataset = Arrays(validation_fraction=0.25, stratified=False).build(
        {"train": pair(20), "test": pair(3)}
    )
    order = np.random.RandomState(0).permutation(20).tolist()
    assert origin(dataset.train) == order[:15]
    assert origin(dataset.validation) == order[15:]
    assert origin(dataset.test) == [0, 1, 2]


def test_nothing_validates_where_the_fraction_is_zero():
    whole = {"validation_fraction": 0.0, "stratified": False}
    dataset = Arrays(test_fraction=0.5, **whole).build(pair())
    order = np.random.RandomState(0).permutation(20).tolist()
    assert dataset.validation is None
    assert [origin(split) for split in dataset.splits().values()] == [order[:10], order[10:]]
    named = Arrays(validation_fraction=0.0).build({"train": pair(20), "test": pair(3)})
    assert named.validation is None
    assert sorted(origin(named.train)) == [*range(20)]


def test_dataset_is_returned_as_it_is():
    dataset = Arrays().build(pair())
    assert Arrays(seed=3).build(dataset) is dataset


@pytest.mark.parametrize(
    ("dtype", "kept", "scale"),
    [
        (np.uint8, np.uint8, 1 / 255),
        (np.float16, np.float32, 1.0),
        (np.float32, np.float32, 1.0),
        (np.float64, np.float32, 1.0),
    ],
)
def test_pixel_types(dtype, kept, scale):
    images, labels = pair(10)
    dataset = Arrays().build((images.astype(dtype) / dtype(16) if scale == 1 else images, labels))
    assert dataset.train.images.dtype == kept
    assert dataset.scale == scale


def test_channels_are_kept_and_an_axis_is_added_without_them():
    images, labels = pair()
    assert Arrays().build((images, labels)).image_shape == (3, 2, 1)
    colours = np.stack([images] * 3, axis=-1)
    assert Arrays().build((colours, labels)).image_shape == (3, 2, 3)


def test_lists_and_device_arrays_are_arrays():
    images, labels = pair()
    expected = Arrays().build((images, labels)).fingerprint()
    assert Arrays().build([jnp.asarray(images), labels.tolist()]).fingerprint() == expected


def test_classes_are_counted_over_all_splits_or_given():
    parts = {"train": pair(20), "test": pair(9, classes=9)}
    assert Arrays().build(parts).num_classes == 9
    assert Arrays(num_classes=12).build(parts).num_classes == 12


IMAGES, LABELS = pair()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, r"data: got int, expected \(images, labels\), or a dict"),
        ((IMAGES,), "data: got tuple of 1, expected"),
        ({"train": IMAGES, "test": (IMAGES, LABELS)}, r"data\['train'\]: got ndarray, expected"),
        ({"train": (IMAGES, LABELS)}, "data: got no key 'test'"),
        ({"train": (IMAGES, LABELS), "tset": 1}, "data: got key 'tset', .*did you mean 'test'"),
        ((IMAGES.reshape(20, 6), LABELS), r"data: images: got shape \[20, 6\]"),
        ((IMAGES, LABELS[1:]), "data: labels: got 19 labels for 20 images"),
        ((IMAGES.astype(int), LABELS), r"data: images: got type int64, expected uint8 .*astype"),
        (
            (IMAGES.astype(np.float32), LABELS),
            "data images: pixels run from 0 to 19, expected 0 to 1.*divide",
        ),
        ((IMAGES - 1.0, LABELS), "data images: pixels run from -1 to 18, expected 0 to 1"),
        (
            (np.full((20, 3, 2), 1e300), LABELS),
            "data: images: pixels run from 1e\\+300 to 1e\\+300",
        ),
        ((np.full((20, 3, 2), np.inf), LABELS), "data: images: image 0 has a pixel"),
        (([[[1.0]], [[1.0, 2.0]]], [0, 1]), "data: got lists of unequal lengths"),
        ((IMAGES, LABELS - 1), "data labels: label 0 is -1, expected an integer from 0 to 2"),
        ((IMAGES, LABELS * 0), "got num_classes=1, expected at least 2.*num_classes=2 or more"),
        ((IMAGES[:2], LABELS[:2]), "data: got 2 examples of 2 classes, of which 2 would validate"),
        (
            {"train": (IMAGES, LABELS), "test": (IMAGES / 255, LABELS)},
            "test images have type float32, expected uint8",
        ),
    ],
)
def test_build_refuses(data, message):
    with pytest.raises(UserError, match=message):
        Arrays().build(data)


def test_label_out_of_the_given_range_is_named_by_the_users_index():
    labels = np.zeros(20, int)
    labels[13] = 5
    with pytest.raises(UserError, match=r"data labels: label 13 is 5, expected .* 0 to 3"):
        Arrays(num_classes=4).build((IMAGES, labels))
    parts = {"train": (IMAGES, LABELS), "test": (IMAGES, labels)}
    with pytest.raises(UserError, match="test labels: label 13 is 5"):
        Arrays(num_classes=4).build(parts)


def test_load_says_where_arrays_come_from():
    with pytest.raises(UserError, match=r"data: got none, .*: data=\(images, labels\), or a file"):
        Arrays().load()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"test_fraction": 0.0}, "test_fraction"),
        ({"test_fraction": 1.5}, "test_fraction"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "test_fraction"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"num_classes": 1}, "num_classes"),
    ],
)
def test_fields_out_of_range(fields, named):
    with pytest.raises(FieldError) as caught:
        Arrays(**fields)
    assert caught.value.field == named


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"kind": "digits"}', Digits()),
        ('{"kind": "mnist", "folder": "x", "train_limit": 9}', Mnist(folder="x", train_limit=9)),
        ('{"kind": "arrays", "test_fraction": 0.2}', Arrays(test_fraction=0.2)),
    ],
)
def test_built_from_a_configuration(text, expected):
    built = TypeAdapter(Digits | Mnist | Arrays).validate_json(text, strict=True)
    assert built == expected
    assert hash(built) == hash(expected)


def test_a_configuration_out_of_range_is_refused():
    with pytest.raises(ValidationError, match=r"Arrays\.seed: got -1"):
        TypeAdapter(Arrays).validate_json('{"seed": -1}', strict=True)
