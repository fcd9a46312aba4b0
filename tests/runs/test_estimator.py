"""The estimator: scikit-learn's own checks, and what it is used for."""

import pickle
import pickletools
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import capsjax as cj
from capsjax.checks import UserError
from capsjax.data import Arrays, Perturbed

# As small as learns three clouds of points, since scikit-learn fits it some sixty times.
LAYERS = {
    "stem": {"kind": "dense_features", "channels": 8},
    "primary": {"kind": "primary_capsules", "types": 4, "dim": 2, "kernel": 1, "stride": 1},
    "classes": {"kind": "dense_capsules", "dim": 2},
}
TRAINING = {"epochs": None, "steps": 40, "batch_size": 32, "eval_batch_size": 16}
TINY = cj.load_config(
    "vectors",
    {
        "model.layers": LAYERS,
        "model.routing": "uniform",
        "training": TRAINING,
        "optimiser.schedule": {"kind": "constant", "rate": 0.1},
    },
)
# What scikit-learn leaves out, and why.
LEFT_OUT = {
    "check_array_api_input": "arrays of other libraries, unless SCIPY_ARRAY_API asks for them",
    "check_classifier_data_not_an_array": "its part for pandas, where that is not installed",
}
IMAGES = {
    "data": "arrays",
    "data__range": (0, 16),
    "training__epochs": 6,
    "training__batch_size": 32,
}


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(n_class=3, return_X_y=True)
    return images.reshape(-1, 8, 8)[:240], np.array(["zero", "one", "two"])[labels[:240]]


@pytest.fixture(scope="module")
def fitted(digits):
    return cj.CapsNetClassifier("smoke", **IMAGES).fit(*digits)


def test_scikit_learn_s_own_checks(as_installed):
    results = check_estimator(cj.CapsNetClassifier(TINY), on_skip=None, on_fail=None)
    status = {result["check_name"]: result["status"] for result in results}
    failed = [
        (result["check_name"], result["exception"])
        for result in results
        if result["status"] == "failed"
    ]
    assert failed == []
    assert len(results) > 50
    assert {name for name, came in status.items() if came != "passed"} <= LEFT_OUT.keys()


def test_images_with_labels_of_strings(fitted, digits):
    images, labels = digits
    assert fitted.classes_.tolist() == ["one", "two", "zero"]
    assert fitted.score(images, labels) > 0.8
    found = fitted.predict_proba(images)
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_array_equal(fitted.classes_[found.argmax(1)], fitted.predict(images))
    lengths = fitted.run_.lengths(images)
    np.testing.assert_allclose(found, lengths / lengths.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(fitted.predict(images[..., None]), fitted.predict(images))


def test_columns_in_any_unit_are_the_same():
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    X[y == 1, 0] += 2
    ours, theirs = (
        cj.CapsNetClassifier(TINY).fit(rows, y).predict_proba(rows) for rows in (X, 1000 + 100 * X)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_rows_of_many_features_and_classes_are_learned_by_the_configuration_for_tables():
    """Routing that decides before anything is learned, by large matrices, stays at chance here."""
    rows, labels = load_digits(return_X_y=True)
    network = cj.CapsNetClassifier("vectors", training__epochs=4).fit(rows[:600], labels[:600])
    assert network.score(rows[600:], labels[600:]) > 0.8


def test_transform_gives_the_poses_of_the_classes(fitted, digits):
    images, _ = digits
    poses = fitted.transform(images)
    assert poses.shape == (240, 3 * 4)
    norms = np.linalg.norm(poses.reshape(240, 3, 4), axis=-1)
    np.testing.assert_allclose(norms, fitted.run_.lengths(images), rtol=1e-4)
    assert len(fitted.get_feature_names_out()) == 12


def test_it_learns_what_a_run_learns(digits, fitted, tmp_path):
    """To the bit: fields, order and seed are those of `cj.train` on the same examples."""
    images, labels = digits
    overrides = {name.replace("__", "."): value for name, value in IMAGES.items()}
    config = cj.load_config("smoke", overrides)
    run = cj.train(
        config, {"train": (images, labels), "validation": (images, labels), "test": (images, labels)},
        out=tmp_path / "run",
    )  # fmt: skip
    for name, value in run.params.items():
        np.testing.assert_array_equal(fitted.run_.params[name], value)


def test_pickles_hold_arrays_and_values_alone(fitted, digits):
    kept = pickle.dumps(fitted)
    np.testing.assert_array_equal(
        pickle.loads(kept).predict_proba(digits[0]), fitted.predict_proba(digits[0])
    )
    words = [word for op, word, _ in pickletools.genops(kept) if isinstance(word, str)]
    assert not any(word.split(".")[0] in ("jax", "jaxlib", "flax") for word in words)


def test_a_clone_has_the_parameters_and_nothing_that_was_learned(fitted):
    other = clone(fitted)
    assert other.get_params() == fitted.get_params() == {"config": "smoke", **IMAGES}
    assert not hasattr(other, "run_")
    assert other.set_params(seed=3).get_params()["seed"] == 3
    assert "training__epochs=6" in repr(other)


def test_pipelines_searches_and_cross_validation(digits):
    images, labels = digits
    white = FunctionTransformer(lambda given: given / 16)
    brief = {"data": "arrays", "training__epochs": 1, "training__batch_size": 32}
    piped = make_pipeline(white, cj.CapsNetClassifier("smoke", **brief))
    grid = {"capsnetclassifier__training__epochs": [1, 4]}
    search = GridSearchCV(piped, grid, cv=2).fit(images, labels)
    assert search.best_params_ == {"capsnetclassifier__training__epochs": 4}
    scores = cross_val_score(search.best_estimator_, images, labels, cv=2)
    assert scores.mean() == pytest.approx(search.best_score_)


@pytest.mark.parametrize(
    ("config", "shape", "said"),
    [
        ("images", (20, 64), r"X: got rows \[20, 64\] for a configuration of images"),
        (TINY, (20, 8, 8), r"X: got \[20, 8, 8\] for a configuration of rows"),
    ],
)
def test_examples_of_another_form(config, shape, said):
    X, y = np.random.default_rng(0).random(shape), np.arange(20) % 2
    with pytest.raises(UserError, match=said):
        cj.CapsNetClassifier(config).fit(X, y)


def test_the_advice_on_forms_works():
    X, y = np.random.default_rng(0).random((20, 8, 8)), np.arange(20) % 2
    assert cj.CapsNetClassifier(TINY).fit(X.reshape(len(X), -1), y).n_features_in_ == 64
    brief = {"data": "arrays", "training__epochs": 1, "training__batch_size": 8}
    flat = X.reshape(20, 64)
    assert cj.CapsNetClassifier("smoke", **brief).fit(flat.reshape(-1, 8, 8, 1), y).run_.step == 2


def test_what_cannot_be_learned():
    X = np.zeros((6, 2))
    with pytest.raises(UserError, match="y: got one class, 'a', expected at least two"):
        cj.CapsNetClassifier(TINY).fit(X, ["a"] * 6)
    with pytest.raises(
        UserError, match=r"epoch: unknown key, with value 3\s+expected .*mean 'epochs'"
    ):
        cj.CapsNetClassifier(TINY, training__epoch=3).fit(X, [0, 1] * 3)


BRIEF = {"training__epochs": None, "training__steps": 2, "training__batch_size": 32}
GREY = {"data": {"kind": "arrays", "range": (0, 16)}}


def _params(images, labels, **overrides):
    return cj.CapsNetClassifier("smoke", **BRIEF, **overrides).fit(images, labels).run_.params


def _assert_equal(ours, theirs):
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])


def test_images_are_put_on_the_canvas_of_the_data_where_they_are_learned_and_where_they_are_judged(
    digits,
):
    images, labels = digits
    canvas = {"kind": "perturbed", "canvas": 10, "source": {"kind": "arrays", "range": (0, 16)}}
    found = cj.CapsNetClassifier("smoke", data=canvas, **BRIEF).fit(images, labels)
    larger = np.pad(images, [(0, 0), (1, 1), (1, 1)])
    assert found.run_.image_shape == (10, 10, 1)
    np.testing.assert_array_equal(found.predict_proba(images), _proportions(found.run_, larger))
    # What is black in another unit is not 0 there.
    other = canvas | {"source": {"kind": "arrays", "range": (-8, 8)}}
    shifted = cj.CapsNetClassifier("smoke", data=other, **BRIEF).fit(images - 8, labels)
    np.testing.assert_array_equal(shifted.predict_proba(images - 8), found.predict_proba(images))


def _proportions(run, images):
    lengths = run.lengths(images).astype(np.float64)
    return lengths / lengths.sum(axis=1, keepdims=True)


def test_what_changes_the_data_changes_what_is_learned_from_alone(digits):
    images, labels = digits
    flip = {"kind": "flip", "probability": 1.0}
    data = {"kind": "perturbed", "changes": [flip], "source": GREY["data"]}
    _assert_equal(_params(images, labels, data=data), _params(images[..., ::-1], labels, **GREY))


def test_axes_are_in_the_order_that_the_data_state(digits):
    images, labels = digits
    _assert_equal(
        _params(images[:, None], labels, data__axes="nchw", **GREY),
        _params(images, labels, **GREY),
    )
    rows = {"kind": "arrays", "range": (0, 16), "axes": "nf"}
    found = cj.CapsNetClassifier(TINY, data=rows, training__steps=2)
    assert found.fit(images.reshape(len(images), -1), labels).run_.image_shape == (1, 64, 1)


def _on_canvas(source):
    return {"data": {"kind": "perturbed", "source": source}}


@pytest.mark.parametrize(
    ("overrides", "said", "remedy"),
    [
        (
            {"data__validation_fraction": 0.2},
            r"data\.validation_fraction: got an override .* expected range, axes, num_classes alone.*; "
            "leave data__validation_fraction out$",
            {},
        ),
        (
            {"data": {"kind": "arrays", "path": "x.npz"}},
            r"^data\.path: got an override.*; leave path out of data$",
            {"data": {"kind": "arrays"}},
        ),
        (
            {"data": Arrays(path="x.npz", range=(0.0, 1.0))},
            r"^data\.path: got an override.*; leave path out of data$",
            {"data": Arrays(range=(0.0, 1.0))},
        ),
        ({"data": "usps", "data__validation": 3}, "expected no field of them", {"data": "usps"}),
        (
            _on_canvas({"kind": "arrays", "test_fraction": 0.2}),
            r"^data\.source\.test_fraction: got.*; leave source\.test_fraction out of data$",
            _on_canvas("arrays"),
        ),
        (
            _on_canvas("arrays") | {"data__source": {"seed": 3}},
            r"^data\.source\.seed: got.*; leave seed out of data__source$",
            _on_canvas("arrays"),
        ),
        (
            {"data": Perturbed(source=Arrays(test_fraction=0.2))},
            r"^data\.source\.test_fraction: got.*; leave source\.test_fraction out of data$",
            {"data": Perturbed(source=Arrays())},
        ),
        ({"data__num_classes": 5}, "got 5 for y of 3 classes", {"data__num_classes": None}),
        (
            {"data": {"kind": "folder", "size": 9}},
            r"data\.size: got 9 for images \[240, 8, 8, 1\]",
            {"data": {"kind": "folder", "size": None}},
        ),
        (
            {"data": {"kind": "folder", "channels": 3}},
            r"data\.channels: got 3",
            {"data": {"kind": "folder", "channels": None}},
        ),
        ({"data": "overlapping"}, r"data\.kind: got overlapping", {"data": "arrays"}),
        (_on_canvas("overlapping"), r"data\.source\.kind: got overlapping", {"data": "arrays"}),
        ({"data__axes": "hwcn"}, "set data.axes to 'nhwc'", {"data__axes": "nhwc"}),
        (
            _on_canvas({"kind": "arrays", "axes": "hwcn"}),
            r"^data\.source\.axes: got .* set data\.source\.axes to 'nhwc'$",
            _on_canvas({"kind": "arrays", "axes": "nhwc"}),
        ),
        (
            _on_canvas({"kind": "arrays", "axes": "nhw"}),
            r"^data\.source\.axes: got 'nhw' for images \[240, 8, 8, 1\]",
            _on_canvas({"kind": "arrays", "axes": "nhwc"}),
        ),
        (
            _on_canvas(_on_canvas({"kind": "folder", "size": 9})["data"]),
            r"^data\.source\.source\.size: got 9 .* or set data\.source\.source\.size to None$",
            _on_canvas(_on_canvas({"kind": "folder", "size": None})["data"]),
        ),
        (
            _on_canvas({"kind": "folder", "channels": 3}),
            r"^data\.source\.channels: got 3 .* set data\.source\.channels to None$",
            _on_canvas({"kind": "folder", "channels": None}),
        ),
    ],
)
def test_data_that_say_what_no_array_has_are_refused_with_advice_that_works(
    digits, overrides, said, remedy
):
    images, labels = digits
    images = images[..., None] / 16
    base = {"data": "arrays", **BRIEF}
    with pytest.raises(UserError, match=said):
        cj.CapsNetClassifier("smoke", **(base | overrides)).fit(images, labels)
    assert cj.CapsNetClassifier("smoke", **(base | remedy)).fit(images, labels).run_.step == 2


def test_a_configuration_with_metrics_of_two_labels_learns_one_without_them(digits):
    images, labels = digits
    brief = BRIEF | {"optimiser__schedule__warmup": 0}
    found = cj.CapsNetClassifier("multimnist", data="arrays", metrics=[], **brief)
    with pytest.raises(UserError, match=r"leave out metrics of two labels"):
        cj.CapsNetClassifier("multimnist", **brief).fit(images / 16, labels)
    assert found.fit(np.pad(images, [(0, 0), (8, 8), (8, 8)]) / 16, labels).run_.step == 2


@pytest.mark.parametrize("first", [False, True])
def test_channels_on_the_other_side_are_told_with_what_turns_them(first, digits):
    images, labels = digits
    colour = np.repeat(images.reshape(-1, 8, 8, 1), 3, axis=-1)
    last, turned = (colour, np.moveaxis(colour, -1, 1))
    X, other = (turned, last) if first else (last, turned)
    axes = {"data__axes": "nchw"} if first else {}
    found = cj.CapsNetClassifier("smoke", data="arrays", data__range=(0, 16), **BRIEF, **axes)
    found.fit(X, labels)
    with pytest.raises(
        UserError, match="along the second axis, as in fit; if the channels"
    ) as caught:
        found.predict(other)
    (code,) = re.findall(r"np\.moveaxis\([^)]*\)", str(caught.value))
    np.testing.assert_array_equal(
        found.predict(eval(code, {"np": np, "X": other})), found.predict(X)
    )
    with pytest.raises(UserError, match="fit; give images of the size that was fitted"):
        found.predict(X[:, :2, :2, :2])
