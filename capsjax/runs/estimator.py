"""A capsule network as an estimator of scikit-learn."""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from capsjax.checks import UserError
from capsjax.data import Dataset
from capsjax.metrics.classification import shares
from capsjax.progress import Silent
from capsjax.runs.config import Config, load_config
from capsjax.runs.feeds import train_feed
from capsjax.runs.fitted_data import as_images, check_second_axis, check_used, make_dataset, placed
from capsjax.runs.plan import plan
from capsjax.runs.run import Run
from capsjax.runs.sources import check_data
from capsjax.schema.text import to_tree
from capsjax.schema.tree import build
from capsjax.training.loop import fit

# By its name: what is known of scikit-learn's types is older than `validate_data`.
validation = importlib.import_module("sklearn.utils.validation")
ARRAYS = ("params", "statistics")  # of a run, on a device


class CapsNetClassifier(
    ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseEstimator
):
    """Classify images, or rows of numbers, by a capsule network, as scikit-learn's estimators do.

    Every example that `fit` gets trains; nothing validates, and nothing is written. Pickling, cloning and
    searches over parameters are scikit-learn's own. X and y take the place of the configuration's data, of
    which hold the range of pixels, the order of axes, and what images become where they are made from
    others: a larger canvas, and in `fit` their changes.

    Args:
        config: a configuration, a path to one, or the name of one that ships: "images" for images
            [n, h, w, c] or [n, h, w], "vectors" for rows [n, features], whose columns are standardised.
        **overrides: fields of the configuration, with `__` for the dots: `training__epochs=5`,
            `model__routing__num_iters=3`, `data__range=(0, 16)`, `seed=1`. They are parameters, which
            `GridSearchCV` and `set_params` change.

    Attributes:
        classes_: the labels, of any type that can be sorted, [j].
        run_: the trained network as a run, which has no directory.
        n_features_in_: columns of a row; rows of pixels of an image.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images, labels = load_digits(n_class=2, return_X_y=True)
        >>> found = CapsNetClassifier("smoke", data="arrays", data__range=(0, 16), training__epochs=9)
        >>> found.fit(images.reshape(-1, 8, 8), labels).classes_
        array([0, 1])
    """

    def __init__(self, config: Config | str | Path = "images", **overrides: Any):
        self.config = config
        vars(self).update(overrides)  # parameters like any other

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the configuration and the overrides by their names.

        Args:
            deep: unused, as no parameter is an estimator.
        """
        del deep
        # scikit-learn keeps what is learned or private under names that end or begin with an underscore.
        return {
            name: value
            for name, value in vars(self).items()
            if not (name.startswith("_") or name.endswith("_"))
        }

    def set_params(self, **params: Any) -> "CapsNetClassifier":
        """Change the configuration or overrides; `fit` says what does not fit.

        Args:
            **params: as the class takes them.

        Returns:
            The estimator.
        """
        vars(self).update(params)
        return self

    def fit(self, X: Any, y: Any) -> "CapsNetClassifier":
        """Train on all examples.

        Args:
            X: images [n, h, w, c] or [n, h, w], or rows [n, features], as the configuration has them.
            y: labels, numbers or strings, [n].

        Returns:
            The estimator.

        Raises:
            UserError: If the configuration, the examples or the labels are not as they should be.
        """
        config = self._config()
        X, y = validation.validate_data(self, X, y, allow_nd=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            (only,) = self.classes_.tolist()
            raise UserError(
                f"y: got one class, {only!r}, expected at least two, as there is nothing to tell apart"
            )
        images, count = as_images(config.data, X), len(self.classes_)
        dataset = make_dataset(config.data, images, labels.astype(np.int32), count)
        batch = min(config.training.batch_size, len(labels))
        training = dataclasses.replace(config.training, batch_size=batch)
        config = dataclasses.replace(config, training=training)
        check_data(config, dataset, dataset, Silent())
        self.run_ = _train(config, dataset)
        return self

    def predict(self, X: Any) -> Shaped[np.ndarray, "n"]:
        """Return the label of each example, [n]."""
        lengths = self._lengths(X)
        return self.classes_[lengths.argmax(-1)]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n j"]:
        """Return scores of the classes, scaled to add up to 1, [n, j]."""
        return shares(self._lengths(X))

    def transform(self, X: Any) -> Float[np.ndarray, "n f"]:
        """Return the poses of the class capsules, one after the other, [n, j e], float64."""
        images, run = self._images(X), self.run_
        size = run.config.training.eval_batch_size
        # Batch by batch: outputs hold every coupling beside the poses.
        parts = [
            np.asarray(run.outputs(images[first : first + size]).poses)
            for first in range(0, len(images), size)
        ]
        return np.concatenate(parts).reshape(len(images), -1).astype(np.float64)

    @property
    def _n_features_out(self) -> int:
        first = np.zeros((1, *self.run_.image_shape), np.float32)
        return self.run_.outputs(first).poses[0].size

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: parameters, NumPy arrays and plain values."""
        state: dict[str, Any] = super().__getstate__()  # with the version of scikit-learn
        if "run_" not in state:
            return state
        fields = {of.name: getattr(self.run_, of.name) for of in dataclasses.fields(Run)}
        arrays = {name: jax.device_get(fields[name]) for name in ARRAYS}
        return state | {"run_": fields | arrays}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what `__getstate__` returned."""
        if "run_" in state:
            arrays = {name: jax.tree.map(jnp.asarray, state["run_"][name]) for name in ARRAYS}
            state = state | {"run_": Run(**(state["run_"] | arrays))}
        super().__setstate__(state)

    def _config(self) -> Config:
        given = {name: value for name, value in self.get_params().items() if name != "config"}
        overrides = {name.replace("__", "."): value for name, value in given.items()}
        if isinstance(self.config, Config):
            found = build(Config, to_tree(self.config), source="config", overrides=overrides)
        else:
            found = load_config(self.config, overrides)
        check_used(found, overrides)
        return found

    def _images(self, X: Any) -> np.ndarray:
        """Check examples to classify; rows become images."""
        check_is_fitted(self)
        check_second_axis(X, vars(self)["n_features_in_"])
        X = validation.validate_data(self, X, reset=False, allow_nd=True)
        source = self.run_.config.data
        return placed(source, as_images(source, X), self.run_.rescaling)

    def _lengths(self, X: Any) -> np.ndarray:
        images = self._images(X)  # which says if nothing is fitted yet
        return self.run_.lengths(images)


def _train(config: Config, dataset: Dataset) -> Run:
    """Train in memory."""
    planned = plan(config, dataset)
    planned.check_parameters()
    feed = train_feed(config, dataset.train, planned.slicer)
    state, steps = planned.initial_state(config.seed), planned.total_steps
    for moment in fit(planned.compiled, state, feed, total_steps=steps, log_every=steps):
        state = moment.state
    state = planned.compiled.strategy.unreplicate(state)
    known: Mapping[str, Any] = {
        "params": jax.device_put(state.params, planned.compiled.strategy.devices[0]),
        "statistics": jax.device_put(state.statistics, planned.compiled.strategy.devices[0]),
        "scale": dataset.scale,
        "image_shape": dataset.image_shape,
        "num_classes": dataset.num_classes,
        "step": steps,
        "pixels": dataset.pixels,
        "rescaling": dataset.rescaling,
    }
    return Run(config, Path(), **known)
