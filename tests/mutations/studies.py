"""Mistakes in what is concluded from a comparison's runs."""

from tests.mutations.mutation import Mutation

STATISTICS = ("tests/study/test_statistics.py",)

STUDIES = (
    Mutation(
        "a two-sided interval with all of the error at one end",
        "study/statistics/paired.py",
        "    return float(special.stdtrit(freedom, (1 + confidence) / 2))\n",
        "    return float(special.stdtrit(freedom, confidence))\n",
        STATISTICS,
    ),
    Mutation(
        "a retained gain whose interval takes the gain as known",
        "study/statistics/retained.py",
        "    A, B, C = mean_b**2 - t**2 * v_bb, mean_a",
        "    A, B, C = mean_b**2, mean_a",
        STATISTICS,
    ),
    Mutation(
        "a retained gain where routing loses",
        "study/statistics/retained.py",
        "    if gain.high < 0:\n",
        "    if gain.high < -math.inf:\n",
        STATISTICS,
    ),
    Mutation(
        "test images as the same ones for ever",
        "study/statistics/images.py",
        "    error = math.sqrt((ms_seeds + shared) / (s * i))\n",
        "    error = math.sqrt(ms_seeds / (s * i))\n",
        STATISTICS,
    ),
    Mutation(
        "an interval over two seeds and images",
        "reports/evidence.py",
        "    if len(pairs) < LEAST:\n",
        "    if len(pairs) < 2:\n",
        ("tests/reports/test_evidence.py",),
    ),
    Mutation(
        "Holm without the smaller p-values before",
        "study/statistics/significance.py",
        "    adjusted[order] = np.maximum.accumulate(scaled)\n",
        "    adjusted[order] = scaled\n",
        STATISTICS,
    ),
    Mutation(
        "equivalence by one side of the margin",
        "study/statistics/equivalence.py",
        "    nearer = margin - abs(found.mean)",
        "    nearer = margin - found.mean",
        STATISTICS,
    ),
    Mutation(
        "data sets that all have one effect",
        "study/statistics/pooled.py",
        "    if excess(0.0) > 0:\n",
        "    if excess(0.0) > math.inf:\n",
        STATISTICS,
    ),
    Mutation(
        "an optimiser's update that is shared by both gradients",
        "study/alignment.py",
        "        moved, other = updates(state, ours), updates(state, theirs)\n",
        "        moved, other = updates(state, theirs), updates(state, theirs)\n",
        ("tests/study/test_observation.py",),
    ),
    Mutation(
        "a gradient without momentum that has momentum",
        "study/alignment.py",
        "jax.tree.map(jnp.subtract, update, still)",
        "jax.tree.map(jnp.add, update, still)",
        ("tests/study/test_observation.py",),
    ),
    Mutation(
        "gradients looked at by a program for each learning rate",
        "study/observation.py",
        "    config = _without_rate(config)\n    return variant(",
        "    return variant(",
        ("tests/study/test_observation.py",),
    ),
    Mutation(
        "programs of ten arms that take turns forgotten before their next turn",
        "study/trial_runner.py",
        "lru_cache(maxsize=64)(self._look_at_gradients)",
        "lru_cache(maxsize=8)(self._look_at_gradients)",
        ("tests/study/test_observation.py",),
    ),
    Mutation(
        "any predictions taken for a run's own test",
        "study/outcomes.py",
        "        if not found.data and found.step == step:\n",
        "        if True:\n",
        ("tests/study/test_outcomes.py",),
    ),
    Mutation(
        "couplings of a child at two positions counted twice",
        "metrics/coupling.py",
        "    return apart / jnp.where(children > 0, children, 1)\n",
        "    return apart / coupling.shape[-2]\n",
        ("tests/study/test_observation.py",),
    ),
    Mutation(
        "an answer from an interval that holds 0",
        "reports/evidence.py",
        "    if one.error.low > 0 or one.error.high < 0:\n",
        "    if one.error.mean > 0 or one.error.high < 0:\n",
        ("tests/reports/test_evidence.py",),
    ),
    Mutation(
        "losses of different kinds subtracted",
        "reports/evidence.py",
        "    if comparison.arms[name].loss != comparison.arms[base].loss:\n        return None\n",
        "",
        ("tests/reports/test_evidence.py",),
    ),
    Mutation(
        "the same data set twice as two",
        "reports/forest_panels.py",
        "    if len(set(data)) < len(data) or len(kept) < 2:\n",
        "    if len(kept) < 2:\n",
        ("tests/reports/test_evidence.py",),
    ),
    Mutation(
        "the whole loss where that of the classes is compared",
        "study/ledger.py",
        "        return (self.tested or {}).get(self.trial.config.loss.kind)\n",
        '        return (self.tested or {}).get("loss")\n',
        ("tests/study/test_compare.py",),
    ),
)
