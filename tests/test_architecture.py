"""The house: which module stands on which, what importing costs, and what may not be in the code at all."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prompt2model import errors

PACKAGE = Path(errors.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}

FLOORS = (
    # 0: stand on nothing of ours
    "errors home records cells deadline language vocabulary matching wording charts progress"
    " schemas pace policy fences prefixes kv_cache attention norms pieces blocks rounding",
    # 1: what is said to a teacher, in records
    "conversation gradients chat_troubles jaccard plans spelling conclusion",
    # 2: one thing each, on records and errors
    "registry teacher prompts store streams shards pairs bootstrap checkpoints hub_cards skills conversion asks"
    " choices metrics exporters stages seeds marks several twins minhash rewordings ngrams"
    " book batch_notes replay optimiser sampling losses",
    # 3
    "config weights cache ledger hub questions batches second_reading front_matter keyed outputs tables report"
    " answer_words answer_guesses quoted data_blocks servers accounts method_choice comparison draft_reading",
    # 4
    "description answers student_prompt memory decoding heads supply catalogue chat columns lines model_card"
    " failures counted filters methods strategies teachers settings recipe embeddings labels",
    # 5
    "beams second_opinion sameness headers plugin_facts",
    # 6
    "drafts answering rationales student notations patience told rows data_report batch_lines inputs",
    # 7: what a training method has at hand, the trained student as it is called, what this machine can do with it
    "course trained speed validation distributions layers rollouts pseudo_labels calibration passages asking batch_api",
    # 8: plug-ins, and the training loop
    "teachers.* methods.* strategies.* filters.* metrics.* exporters.* training",
    # 9
    "stages.* run",
    # 10
    "pipeline rehearsal",
    # 11: around the pipeline: what it would do, one of its stages made again; and what commands share
    "planning again rounds cli.screen cli.options",
    # 12
    "doctor cli.consent",
    # 13
    "show spending",
    # 14
    "show_plan",
    # 15
    "cli.telling",
    # 16: the commands
    "cli.*",
    # 17
    "cli",
    # 18
    "__init__ __main__",
)
"""A module imports only from floors below its own: no cycles, no stage that knows another, no plug-in either.

A name alone is a module, or the `__init__` of a folder; `folder.*` are the files of a folder.
"""
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "peft",
    "sklearn",
    "pandas",
    "pyarrow",
    "aiohttp",
    "openai",
    "scipy",
)
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


def floor(module: str) -> int | None:
    name = module.removesuffix(".__init__")
    folder = f"{name.partition('.')[0]}.*"
    found = [
        at for at, names in enumerate(FLOORS) if name in names.split() or ("." in name and folder in names.split())
    ]
    return found[0] if found else None


def imports(module: str) -> Iterator[str]:
    """The modules of ours that the module imports, wherever in it."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from (_ours(name.name) for name in node.names if name.name.startswith("prompt2model"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prompt2model"):
            yield from (_ours(f"{node.module}.{name.name}") for name in node.names)


def _ours(dotted: str) -> str:
    """The module that a dotted name is, or is in."""
    name = dotted.removeprefix("prompt2model").lstrip(".")
    while name and name not in MODULES and f"{name}.__init__" not in MODULES:
        name = name.rpartition(".")[0]
    return name if name in MODULES else f"{name}.__init__".lstrip(".")


def places(kind: type, wrong) -> list[str]:
    """`module:line` of every node of that kind that is wrong."""
    return [
        f"{module}:{node.lineno}"
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, kind) and wrong(node)
    ]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python's run."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.mark.parametrize("module", MODULES)
def test_a_module_stands_on_a_floor_and_imports_only_from_below(module):
    mine = floor(module)
    assert mine is not None, f"enter {module} in FLOORS"
    too_high = [other for other in imports(module) if (floor(other) or 0) >= mine]
    assert not too_high, f"{module} is on floor {mine}"


def test_every_module_on_a_floor_exists():
    entered = {name for names in FLOORS for name in names.split()}
    known = {name.removesuffix(".__init__") for name in MODULES} | {f"{name.partition('.')[0]}.*" for name in MODULES}
    assert entered - known == set()


def test_imports_are_absolute():
    assert places(ast.ImportFrom, lambda node: node.level > 0) == []


@pytest.mark.parametrize(
    "arguments", [("-c", "import prompt2model"), ("-m", "prompt2model", "--help")], ids=["import", "help"]
)
def test_nothing_heavy_is_imported_before_it_is_needed(arguments):
    # With -X importtime Python lists what it imports on standard error, one module a line.
    lines = python("-X", "importtime", *arguments).stderr.splitlines()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines if "|" in line}
    assert "prompt2model" in imported
    assert imported & set(HEAVY) == set()


def test_the_public_names_are_those_of_all():
    code = (
        "import json, types, prompt2model as p\n"
        "public = [n for n in dir(p) if n[0] != '_' and not isinstance(getattr(p, n), types.ModuleType)]\n"
        "print(json.dumps([sorted(public), sorted(p.__all__), [n for n in p.__all__ if not hasattr(p, n)]]))"
    )
    public, listed, missing = json.loads(python("-c", code).stdout)
    assert [name for name in listed if name[0] != "_"] == public
    assert missing == []


def test_no_exception_is_caught_without_its_name():
    def catches_all(node: ast.ExceptHandler) -> bool:
        caught = [node.type] if not isinstance(node.type, ast.Tuple) else node.type.elts
        return any(one is None or ast.unparse(one) in ("Exception", "BaseException") for one in caught)

    # deadline carries whatever a thread raised over to the thread that asked, and raises it there.
    assert [place for place in places(ast.ExceptHandler, catches_all) if not place.startswith("deadline:")] == []


def test_nothing_is_pickled():
    def names(node: ast.Import | ast.ImportFrom) -> set[str]:
        listed = {name.name for name in node.names} if isinstance(node, ast.Import) else {node.module or ""}
        return {name.partition(".")[0] for name in listed}

    assert places((ast.Import, ast.ImportFrom), lambda node: names(node) & PICKLES) == []

    def loads_pickles(node: ast.Call) -> bool:
        safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
        return ast.unparse(node.func) == "torch.load" and not safe

    assert places(ast.Call, loads_pickles) == []


def test_nothing_is_executed_that_was_read():
    dangerous = {"eval", "exec", "compile", "__import__", "os.system", "yaml.unsafe_load", "yaml.full_load"}
    assert places(ast.Call, lambda node: ast.unparse(node.func) in dangerous) == []

    def loads_objects(node: ast.Call) -> bool:
        safe = {"yaml.BaseLoader", "yaml.SafeLoader", "yaml.CSafeLoader", "yaml.CBaseLoader"}
        return ast.unparse(node.func) == "yaml.load" and not any(ast.unparse(w.value) in safe for w in node.keywords)

    assert places(ast.Call, loads_objects) == []

    def switched_on(word: ast.keyword) -> bool:
        return word.arg in ("trust_remote_code", "shell") and ast.unparse(word.value) != "False"

    assert places(ast.keyword, switched_on) == []


def test_nothing_is_printed_by_the_library():
    printing = places(ast.Call, lambda node: ast.unparse(node.func) == "print")
    assert [place for place in printing if not place.startswith("cli:")] == []


def test_a_function_fits_on_a_screen():
    def long(node: ast.FunctionDef) -> bool:
        return (node.end_lineno or 0) - node.lineno >= 60

    assert places((ast.FunctionDef, ast.AsyncFunctionDef), long) == []


def test_a_file_holds_one_idea():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > 350} == {}


def test_every_module_and_every_public_function_says_what_it_is():
    silent = [module for module, tree in MODULES.items() if not ast.get_docstring(tree)]
    silent += [
        f"{module}.{node.name}"
        for module, tree in MODULES.items()
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_" and not ast.get_docstring(node)
    ]
    assert silent == []


def test_no_file_is_called_utils():
    assert [module for module in MODULES if module.rpartition(".")[2] in ("utils", "helpers", "common", "misc")] == []
