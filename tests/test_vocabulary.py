"""One term per thing: retired words do not return, functions are verbs with objects."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = ("common", "core", "datasets", "tuning", "benchmarks", "tools")
TEXTS = ("*.md", "*.yaml", "docs/*.md", "search_spaces/*.yaml", "clusters/*", ".github/**/*.md")

# Retired words and their replacements. A pattern is searched without regard to case.
RETIRED = {
    r"knobs?": "hyperparameter",
    r"(each|every|last|first|next|per|new|finished|all|of) rounds?": "epoch, evaluation interval",
    r"stop[ _]?sign": "stop condition",
    r"check-?ups?": "check (static validation), doctor (nodes)",
    r"patients?": "node",
    r"diagnos(is|es|e)": "finding",
    r"mend(s|ed|ing)?": "fix",
    r"stands? twice": "is given twice",
    r"go(es)? on with": "resume",
    r"nothing to go on": "no study found",
    r"unkept": "failed write",
    r"impatient\w*": "with short timeouts",
    r"deaths?": "crash",
    r"tangents?": "JVP",
    r"second_look": "needs_losses_after_step",
    r"solved_elsewhere": "set_weights",
    r"misfits?": "model error",
    r"misread": "tokenizer mismatch",
    r"cautions?": "warning",
    r"protocol_rules": "training config rules",
    r"whatever": "name the thing",
}
# Retired names, as whole identifiers: the words themselves have other, good uses.
RETIRED_NAMES = {
    "Tried": "Trial",
    "Duty": "RunOptions",
    "Place": "Storage",
    "Bucket": "ObjectStorage",
    "Feed": "Loader",
    "Others": "AuxiliarySampler",
    "Flat": "TaskGradients",
    "Problems": "ValidationErrors",
    "Counter": "ProgressBar",
    "DoesNotFit": "BatchTooLarge",
    "Config": "Hyperparameters",
    "Configuration": "TrialRunner",
    "sole": "exclusive_lock",
    "rounds": "epochs",
    "rounds_done": "epochs_done",
    "total_rounds": "total_epochs",
    "bind": "setup",
    "end_round": "on_epoch_end",
    "in_batches": "make_batches",
    "copies_of": "duplicate_ids",
    "optimiser": "optimizer",
    "normalise": "normalize",
    "watched": "storage_errors",
    "replacing": "atomic_write",
    "demanded": "require",
    "organise": "write_metadata",
    "shortened": "truncate",
    "explained": "wrap_os_errors",
}  # fmt: skip
# Words and endings in British spelling, in identifiers and in prose.
STEMS = (
    "atom|author|categor|character|equal|factor|general|initial|linear|local|maxim|minim|normal|"
    "optim|organ|parallel|penal|random|recogn|regular|serial|special|standard|summar|synchron|"
    "token|util|vector|visual"
)
BRITISH = re.compile(
    "artefact|behaviour|cancelled|centre|colour|favour|fulfil(?!l)|grey|labelled|learnt|licence|"
    f"metres|modelled|modelling|neighbour|({STEMS})is(e|ed|er|ers|es|ing|ation|ations)(?![a-z])",
    re.IGNORECASE,
)
# Words that tests give as a user's mistakes.
QUOTED = re.compile(r"\{optimiser: sgd\}|\"coloured_digits\"")
SINGLE_WORD_SHARE = 0.35
WHATS_PER_THOUSAND_WORDS = 1.5


def sources() -> list[Path]:
    return [path for package in CODE for path in sorted((ROOT / package).rglob("*.py"))]


def texts() -> list[Path]:
    found = [path for pattern in TEXTS for path in sorted(ROOT.glob(pattern)) if path.is_file()]
    return [path for path in found if path.name != "CHANGELOG.md"]


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the names that a file defines: functions, classes, parameters, variables, fields."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def functions() -> list[str]:
    """Return the names of all functions and methods, magic ones apart."""
    return [
        node.name
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not node.name.startswith("__")
    ]


def docstring_words() -> list[str]:
    return [
        word.lower()
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module))
        for word in re.findall(r"[A-Za-z']+", ast.get_docstring(node) or "")
    ]


@pytest.mark.parametrize("word", RETIRED)
def test_retired_words_do_not_return(word: str) -> None:
    pattern = re.compile(rf"(?<![A-Za-z]){word}(?![A-Za-z])", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in [*sources(), *texts()]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"say '{RETIRED[word]}':\n" + "\n".join(found)


def test_retired_names_do_not_return() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}, use {RETIRED_NAMES[name.strip('_')]}"
        for path in sources()
        for line, name in identifiers(ast.parse(path.read_text(encoding="utf-8")))
        if name.strip("_") in RETIRED_NAMES
    ]
    assert not found, "\n".join(found)


def test_identifiers_are_spelled_the_american_way() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources()
        for line, name in identifiers(ast.parse(path.read_text(encoding="utf-8")))
        if BRITISH.search(name.lower())
    ]
    assert not found, "\n".join(found)


def test_prose_is_spelled_the_american_way() -> None:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__).resolve()]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word[0]}"
        for path in [*sources(), *texts(), *sorted(tests)]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for word in BRITISH.finditer(QUOTED.sub("", line))
    ]
    assert not found, "\n".join(found)


def test_functions_are_verbs_with_objects() -> None:
    names = functions()
    single = [name for name in names if "_" not in name.strip("_")]
    assert len(single) <= SINGLE_WORD_SHARE * len(names), sorted(set(single))


def test_docstrings_name_things() -> None:
    words = docstring_words()
    assert 1000 * words.count("what") <= WHATS_PER_THOUSAND_WORDS * len(words)


def test_no_two_classes_share_a_name() -> None:
    seen: dict[str, Path] = {}
    for path in sources():
        if path.is_relative_to(ROOT / "benchmarks"):  # which may imitate a model on purpose
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert node.name not in seen, f"{node.name}: {seen[node.name]} and {path}"
                seen[node.name] = path
