"""Classify files: what a run says of pictures, arrays and tables that nobody labelled."""

import csv
import io
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from capsjax.checks import UserError
from capsjax.data.classes import few
from capsjax.data.own import WHITE
from capsjax.data.unlabelled import Examples, read_examples
from capsjax.progress import Reporter
from capsjax.runs.metrics_file import strict
from capsjax.runs.run import Run

BYTE = 255


class Prediction(NamedTuple):
    """Hold what a run says of examples of files.

    Attributes:
        files: the file of each example, as it was given, [n].
        places: the place of each in its file, from 0, [n].
        classes: what the data call the class of each, [n]; of k classes of each, [n, k].
        lengths: the score of each class, mostly the length of its capsule's pose, [n, j].
        names: what the data call each class, [j].
        left_out: what could not be read, and why, in lines.
    """

    files: Sequence[str]
    places: Sequence[int]
    classes: Shaped[np.ndarray, "n *k"]
    lengths: Float[np.ndarray, "n j"]
    names: Shaped[np.ndarray, "j"]
    left_out: Sequence[str]

    def to_csv(self) -> str:
        """Return a row for each example: file, index in it, class, and the score of each class.

        Of examples that show k classes there are columns class_1 to class_k.
        """
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        found = self.classes.reshape(len(self.classes), -1)  # [n, k]
        several = [f"class_{number}" for number in range(1, found.shape[1] + 1)]
        named = ["class"] if self.classes.ndim == 1 else several
        writer.writerow(["file", "index", *named, *(f"score_{name}" for name in self.names)])
        known = zip(self.files, self.places, found.tolist(), self.lengths, strict=True)
        for file, place, classes, lengths in known:
            each = (f"{length:.6g}" for length in lengths.tolist())
            writer.writerow([file, place, *classes, *each])
        return stream.getvalue()

    def to_json(self) -> str:
        """Return a list of objects, one for each example, each on a line; several classes are a list."""
        names = [str(name) for name in self.names.tolist()]
        lines = [
            {
                "file": file,
                "index": place,
                "class": found,
                "scores": dict(zip(names, lengths, strict=True)),
            }
            for file, place, found, lengths in zip(
                self.files, self.places, self.classes.tolist(), self.lengths.tolist(), strict=True
            )
        ]
        text = ",\n".join(json.dumps(strict(line), ensure_ascii=False) for line in lines)
        return f"[\n{text}\n]\n"


def predict_files(run: Run, paths: Sequence[str], reporter: Reporter) -> Prediction:
    """Classify what is in files.

    Args:
        run: a trained run.
        paths: pictures, folders of pictures, files of arrays, tables, in any order.
        reporter: told of files that are read.

    Returns:
        What the run says of each example, in the order of the files.

    Raises:
        UserError: If there is no such file, it cannot be read as examples, or none of all can.
    """
    found, lengths = [], []
    for examples in read_examples(
        paths, run.config.data.origin(), run.image_shape, reporter.download
    ):
        found.append(examples)
        if len(examples.files):
            try:
                lengths.append(run.lengths(_in_unit(run, examples)))
            except UserError as error:
                raise UserError(f"{examples.files[0]}: {error}") from error
    left_out = [line for examples in found for line in examples.left_out]
    if not lengths:
        raise UserError(
            f"got nothing that can be read, left out: {few(left_out)}; expected pictures"
        )
    whole = np.concatenate(lengths)
    return Prediction(
        files=[file for examples in found for file in examples.files],
        places=[place for examples in found for place in examples.places],
        classes=run.named(whole),
        lengths=whole,
        names=run.classes,
        left_out=left_out,
    )


def _in_unit(run: Run, examples: Examples) -> np.ndarray:
    """Bring pictures, whose bits say what is white, to the unit that the run was trained on."""
    images = examples.images
    white = {"uint8": BYTE, "uint16": WHITE}.get(images.dtype.name)
    if not examples.pictures or white is None:
        return images
    if run.rescaling is None:
        # Bytes of bytes stay bytes; all else becomes floats from 0 to 1, which every run takes.
        same = white == BYTE and run.unit.type == "uint8" and run.scale == 1 / BYTE
        return images if same else images.astype(np.float32) / white
    of_16_bits = run.rescaling.bounded and run.rescaling.width == WHITE
    return images.astype(np.uint16) * (WHITE // BYTE) if of_16_bits and white == BYTE else images
