"""Resume what stopped, whatever it is: a run or a comparison."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from capsjax.progress import Reporter
from capsjax.runs import directory, experiment
from capsjax.runs.run import Run
from capsjax.study import compare
from capsjax.training.notebook import for_python
from capsjax.training.state import TrainState


def resume(
    run_dir: str | Path,
    data: Any = None,
    *,
    overrides: Mapping[str, object] | None = None,
    reporter: Reporter | None = None,
    observe: Callable[[int, TrainState], None] | None = None,
    jobs: int | None = 1,
) -> Run | Path:
    """Resume a run or a comparison that stopped, as if it never had, to the bit.

    Args:
        run_dir: the directory of a run or a comparison.
        data: the user's own arrays, as `train` or `compare` got them, where they were such.
        overrides: what may change: of a run its length and where its data are, as `capsjax.runs` says; of a
            comparison `compare.seeds` and further arms too.
        reporter: what tells of progress; None for a line in a notebook, else for warnings alone.
        observe: of a run, as `train` takes it.
        jobs: of a comparison, how many processes train at once; None for as many as pay.

    Returns:
        The run, or the comparison's directory.

    Raises:
        UserError: If there is nothing to resume, or the data or overrides do not fit.
    """
    # By what lies in the directory: who resumes need not know what it was.
    if directory.is_comparison(Path(run_dir)):
        reporter = for_python(reporter)
        return compare.resume(run_dir, data, overrides=overrides, reporter=reporter, jobs=jobs)
    return experiment.resume(run_dir, data, overrides=overrides, reporter=reporter, observe=observe)
