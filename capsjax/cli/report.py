"""`capsjax report`."""

import argparse
from collections.abc import Sequence

from capsjax.checks import UserError, printable
from capsjax.cli.steps import no_flags, progress, read_data, show, start_jax, written


def report(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write the report of a run, of a comparison or of several; print its tables.

    Args:
        arguments: the command's own words, as its parser read them.
        rest: flags of the data, for a single run.

    Returns:
        0.

    Raises:
        UserError: If a directory is neither a run's nor a comparison's, or a flag does not fit.
    """
    start_jax()
    from capsjax.reports.comparison_page import report_comparison
    from capsjax.reports.report import report_run
    from capsjax.reports.side_by_side import report_several
    from capsjax.reports.unfinished import report_unfinished
    from capsjax.runs.folder import Folder

    folder, *others = arguments.folders
    held = Folder(folder)
    # Only a single run's report looks at data; the others read what was measured before.
    if others or held.is_finished_comparison:
        no_flags(arguments, rest)
    if others:
        page, tables = report_several(arguments.folders, arguments.out)
        page = written(page.parent, arguments.out) / page.name
    elif arguments.out is not None:
        raise UserError(
            f"got --out with one directory, whose report goes into it: {folder}; expected --out with "
            "several, which share a page"
        )
    elif held.is_finished_comparison:
        page, tables = report_comparison(folder)
    elif held.is_comparison:
        page, tables = report_unfinished(folder)
    else:
        with progress(arguments, "preparing") as reporter:
            data = read_data(arguments, rest, folder)
            page, tables = report_run(folder, data, reporter=reporter)
    if not arguments.quiet:
        show(tables)
    print(f"report: {printable(str(page))}")
    return 0
