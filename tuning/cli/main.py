"""The command line: ``python tune.py``."""

import argparse
import sys
from collections.abc import Callable, Sequence

from common.errors import UserError, unknown_name_message
from tuning.cli.make_options import make_command
from tuning.cli.parser import FLAGS, make_parser
from tuning.cli.study_file import merge_arguments, read_study_file

COMMANDS = (
    "clean", "compare", "doctor", "export", "ls", "publish", "report", "reproduce", "resume",
    "show", "status", "trace", "validate", "verify",
)  # fmt: skip
PRINTING = ("ls", "show", "status", "trace")


def _check_simulate(args: argparse.Namespace) -> None:
    """Refuse options that a simulated search does not take.

    Raises:
        UserError: If there are any, even with their default values.
    """
    other = [flag for name, flag in FLAGS.items() if name in args and name != "trials"]
    if other:
        raise UserError(
            "--simulate accepts only --trials (everything else comes from the records); also "
            f"received {', '.join(other)}"
        )


def _load_command(name: str) -> Callable[[Sequence[str]], int]:
    """Return the function of a command; each is imported where it runs, since imports take time."""
    if name == "export":
        from tuning.cli.export import run_export

        return run_export
    if name == "compare":
        from tuning.cli.results.compare import run_compare

        return run_compare
    if name == "trace":
        from tuning.cli.results.trace import run_trace

        return run_trace
    if name == "clean":
        from tuning.cli.clean import run_clean

        return run_clean
    if name == "doctor":
        from tuning.cli.doctor import run_doctor

        return run_doctor
    if name == "status":
        from tuning.cli.status import run_status

        return run_status
    if name in ("publish", "verify"):
        from tuning.cli.publish import run_publish, run_verify

        return run_publish if name == "publish" else run_verify
    if name == "reproduce":
        from tuning.cli.reproduce import run_reproduce

        return run_reproduce
    if name == "resume":
        from tuning.cli.resume import run_resume

        return run_resume
    if name == "report":
        from tuning.cli.report import run_report

        return run_report
    if name == "show":
        from tuning.cli.show import run_show

        return run_show
    if name == "validate":
        from tuning.cli.validate import run_validate

        return run_validate
    from tuning.cli.ls import run_ls

    return run_ls


def prints_result(arguments: Sequence[str]) -> bool:
    """Return whether the result of a command is its output alone, without files or a verdict."""
    if arguments and arguments[0] == "clean":
        return "--yes" not in arguments
    is_printing = bool(arguments) and arguments[0] in PRINTING
    return is_printing or not {"--plan", "--simulate"}.isdisjoint(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 2, with a message, for a user's mistake."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if given and not given[0].startswith("-"):
            if given[0] not in COMMANDS:
                raise UserError(unknown_name_message("command", given[0], COMMANDS))
            return _load_command(given[0])(given[1:])
        parser = make_parser()
        parser.name_commands(COMMANDS)
        args = parser.parse_args(given)
        if "simulate" in args:
            from tuning.search.simulate import simulate_searches

            _check_simulate(args)
            print(simulate_searches(args.simulate, getattr(args, "trials", None)))
            return 0
        if "config" in args:
            args = merge_arguments(read_study_file(args.config), args)
        required = {"methods": "--method", "dataset": "--dataset"}
        missing = [flag for name, flag in required.items() if name not in args]
        if missing:
            parser.error(f"the following arguments are required: {', '.join(missing)}")
        command = make_command(args)
        if "plan" in args:
            from tuning.study.data_sets import print_plans

            return print_plans(command)
        from tuning.study.data_sets import run_studies

        return run_studies(command)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
