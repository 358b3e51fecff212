"""Refuse own data beside the records of other data with the same name."""

from common.errors import UserError
from datasets.benchmark import Benchmark
from datasets.groups.folder import Folder
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.open_storage import open_storage


def refuse_other_data(options: Options, benchmark: Benchmark) -> None:
    """Refuse to compare methods on different own data in one table.

    Raises:
        UserError: If a study in the records has the data set's name and was made with other data.
    """
    if not isinstance(benchmark, Folder):
        return
    storage = open_storage(options.records) / benchmark.name
    for method in storage.list_names():
        records = MethodRecords(storage / method)
        stored, context = records.read_definition(), records.read_context()
        if stored is None or stored.data_hash == benchmark.data_hash:
            continue
        place = context.command.dataset if context else ""
        is_same_place = place in ("", benchmark.reference)
        raise UserError(
            f"'{storage / method}' was made with other data of the name '{benchmark.name}' "
            f"(hash {stored.data_hash}, now {benchmark.data_hash}"
            + (": the folder has changed since)" if is_same_place else f", in {place})")
            + "; choose another --results folder"
            + ("" if is_same_place else ", or give one of the folders another name")
        )
