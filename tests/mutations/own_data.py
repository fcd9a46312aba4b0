"""Mistakes in data of one's own: how they are read, and what is kept of what a run says of them."""

from tests.mutations.mutation import Mutation

OWN_DATA = (
    Mutation(
        "what fills a batch up kept among the predictions",
        "training/loop.py",
        '            kept.append(np.asarray(part.lengths, np.float32)[: int(sums["count"])])\n',
        "            kept.append(np.asarray(part.lengths, np.float32))\n",
        ("tests/runs/test_predictions.py",),
    ),
    Mutation(
        "rows of an estimator that train as they are, and are classified standardised",
        "runs/estimator.py",
        "        split = Split(rescaling(images), labels)\n",
        "        split = Split(images.astype(np.float32), labels)\n",
        ("tests/runs/test_estimator.py",),
    ),
    Mutation(
        "pictures of 8 bits dark to a run on 16",
        "runs/prediction.py",
        "    return images.astype(np.uint16) * (WHITE // BYTE) if of_16_bits and white == BYTE else images\n",
        "    return images\n",
        ("tests/runs/test_prediction.py",),
    ),
    Mutation(
        "predictions of other data written over those of the same name",
        "runs/predictions.py",
        "            return load(path).fingerprint == self.fingerprint\n",
        "            return load(path).split == self.split\n",
        ("tests/runs/test_predictions.py",),
    ),
    Mutation(
        "groups of which a part trains and a part tests",
        "data/own.py",
        "np.flatnonzero(np.isin(group_of, part))",
        "part",
        ("tests/data/test_folder.py",),
    ),
    Mutation(
        "pictures that are kept under their names, not their content",
        "data/reading.py",
        "    return _Looked(hashlib.sha256(content).hexdigest(), found)\n",
        "    return _Looked(hashlib.sha256(path.name.encode()).hexdigest(), found)\n",
        ("tests/data/test_folder.py",),
    ),
    Mutation(
        "pictures of another size found in the cache",
        "data/reading.py",
        "json.dumps([FORM, pillow, target, digests])",
        "json.dumps([FORM, pillow, digests])",
        ("tests/data/test_folder.py",),
    ),
    Mutation(
        "opacity that is dropped, so that what is hidden shows",
        "data/picture.py",
        "            image = Image.alpha_composite(black, image)\n",
        "            pass\n",
        ("tests/data/test_folder.py",),
    ),
    Mutation(
        "8 bits beside 16 that are nearly black",
        "data/picture.py",
        "astype(np.float32) * 257)",
        "astype(np.float32))",
        ("tests/data/test_folder.py",),
    ),
    Mutation(
        "links followed out of the folder",
        "data/walk.py",
        "            if not path.resolve().is_relative_to(root):\n",
        "            if not path.resolve().exists():\n",
        ("tests/data/test_bad_pictures.py",),
    ),
    Mutation(
        "columns standardised by the rows that test",
        "data/table.py",
        "self.of_columns(raw[parts[0]])",
        "self.of_columns(raw[parts[-1]])",
        ("tests/data/test_tables.py",),
    ),
    Mutation(
        "labels from 1 that stay as they are",
        "data/labels.py",
        "array.astype(np.int64) - 1 for",
        "array.astype(np.int64) - 0 for",
        ("tests/data/test_labels.py",),
    ),
    Mutation(
        "classes of another folder taken by their numbers",
        "runs/evaluation.py",
        "        return Split(split.images, numbers[split.labels])\n",
        "        return Split(split.images, split.labels)\n",
        ("tests/runs/test_own_pictures.py",),
    ),
    Mutation(
        "a measurement that asks for the memory of training images",
        "runs/evaluation.py",
        "        train=Split(dataset.train.images[:1].copy(), dataset.train.labels[:1]),\n",
        "",
        ("tests/runs/test_memory.py",),
    ),
)
