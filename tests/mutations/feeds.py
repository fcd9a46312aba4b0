"""Mistakes in what batches hold and where they come from."""

from tests.mutations.mutation import Mutation

FEEDS = (
    Mutation(
        "last batch dropped at evaluation",
        "training/feed.py",
        "        for start in range(0, self.labels.shape[0], self.batch_size):\n",
        "        for start in range(0, self.labels.shape[0] - self.batch_size + 1, self.batch_size):\n",
        ("tests/training",),
    ),
    Mutation(
        "the same order in every epoch",
        "training/feed.py",
        "            jax.random.fold_in(self._order_key, number), self.labels.shape[0]\n",
        "            self._order_key, self.labels.shape[0]\n",
        ("tests/training",),
    ),
    Mutation(
        "a streamed epoch that begins anew where a run is resumed",
        "training/stream.py",
        "order[within * batch :][: steps * batch]",
        "order[: steps * batch]",
        ("tests/training/test_stream.py",),
    ),
    Mutation(
        "what fills up the last streamed batch counted",
        "training/stream.py",
        "            yield batch._replace(weights=jnp.asarray(inside, jnp.float32))\n",
        "            yield batch\n",
        ("tests/training/test_stream.py",),
    ),
    Mutation(
        "a streamed run that counts the whole set in memory",
        "runs/memory.py",
        "        return PARTS * room.size_of(_epoch(config, dataset).images)\n",
        "        pass\n",
        ("tests/runs/test_feeds.py",),
    ),
    Mutation(
        "every epoch with the first one's order",
        "training/feed.py",
        "                examples = examples._replace(**place(self.epoch_order(number)))\n",
        '                examples = examples._replace(first=place(self.epoch_order(number))["first"])\n',
        ("tests/training",),
    ),
    Mutation(
        "progress that does not move",
        "training/slicing.py",
        "jnp.full(self.batch_size, step / self.total_steps, jnp.float32)",
        "jnp.zeros(self.batch_size, jnp.float32)",
        ("tests/training/test_feed.py",),
    ),
)
