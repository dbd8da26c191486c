"""The documents say what is there: their code runs, their commands and options exist, their links lead somewhere."""

import ast
import contextlib
import importlib
import io
import re
import shlex
import textwrap
from functools import cache
from pathlib import Path

import pytest

from rlgen.cli.main import COMMANDS, NONE, dispatch
from rlgen.libero.tasks.suites import find_task, find_tasks

ROOT = Path(__file__).resolve().parents[1]
ROOMS = sorted(path.parent for path in (ROOT / "rlgen").glob("*/__init__.py"))
PAGES = [ROOT / "README.md", ROOT / "BUILD_NOTES.md", ROOT / "experiments/README.md", ROOT / ".github/CONTRIBUTING.md"]
DOCUMENTS = [*PAGES, *sorted((ROOT / "rlgen").rglob("README.md"))]
# Guides whose code is quick enough to run.
GUIDES = ("libero", "policies", "diffusion", "data", "demos")
# What stands behind them are no tasks.
FLEET_VERBS = [["fleet", verb] for verb in COMMANDS["fleet"] if verb]


def document_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=document_id)


def python_blocks(document: Path) -> list[str]:
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```", document.read_text(), flags=re.S | re.M)
    return [textwrap.dedent(code) for _, code in blocks]


def code_spans(document: Path) -> list[str]:
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", document.read_text())


def links(document: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", document.read_text())


def file_names(span: str) -> list[str]:
    return re.findall(r"^[\w./-]+/[\w.-]+\.(?:py|md|json|csv|png)$|^[\w-]+\.py$", span)


def identifier(span: str) -> str | None:
    """What can only be an identifier: CamelCase, snake_case, CONSTANTS."""
    name = re.fullmatch(r"(?:[\w]+\.)*(\w+)(?:\([\w, ]*\))?", span)
    return name[1] if name and re.search(r"[a-z][A-Z]|[a-z0-9]_[a-z0-9]|^[A-Z]{2,}_?[A-Z]+$", name[1]) else None


def experiments(document: Path) -> list[tuple[str, str]]:
    """Scripts of experiments, each with what stands behind it."""
    text = re.sub(r"\\\n|\n", " ", document.read_text())
    return re.findall(r"experiments/(\w+\.py)((?: [^`|;#]*)?)", text)


def test_every_room_has_a_readme():
    assert [room.name for room in ROOMS if not (room / "README.md").is_file()] == []


@pytest.mark.parametrize(
    "find",
    [
        python_blocks,
        links,
        lambda document: [name for span in code_spans(document) for name in file_names(span)],
        lambda document: [span for span in code_spans(document) if identifier(span)],
        lambda document: commands(document),
        experiments,
    ],
    ids=["code", "links", "files", "names", "commands", "experiments"],
)
def test_what_is_checked_is_found(find):
    """In two documents or more: otherwise the tests below say nothing."""
    assert sum(bool(find(document)) for document in DOCUMENTS) > 1


@every_document
def test_python_code_compiles_and_its_imports_are_there(document):
    for code in python_blocks(document):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module}.{name.name}"
            elif isinstance(node, ast.Import):
                for name in node.names:
                    importlib.import_module(name.name)


@pytest.mark.parametrize("room", GUIDES)
def test_the_code_of_a_guide_runs(room, tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLGEN_OFFLINE", "1")
    monkeypatch.setenv("RLGEN_CACHE", str(cache))
    names: dict = {"__name__": "guide"}
    blocks = python_blocks(ROOT / "rlgen" / room / "README.md")
    assert blocks
    for code in blocks:
        exec(compile(code, f"{room}/README.md", "exec"), names)


@pytest.mark.parametrize("document", DOCUMENTS[1:], ids=document_id)  # the README has its own test
def test_links_lead_somewhere(document):
    for target in links(document):
        path, _, anchor = target.partition("#")
        if path.startswith("https://"):
            continue
        file = (document.parent / path) if path else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.M)
            assert anchor in [re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@every_document
def test_files_that_are_named_are_there(document):
    places = (ROOT, ROOT / "rlgen", ROOT / "tests", document.parent)
    for span in code_spans(document):
        for name in file_names(span):
            inside = "/" not in name and any(document.parent.rglob(name))
            assert inside or any((place / name).exists() for place in places), name


@every_document
def test_names_of_code_are_those_of_the_code(document):
    own = set(re.findall(r"\w+", "\n".join(python_blocks(document))))
    for span in code_spans(document):
        name = identifier(span)
        assert name is None or name in own | words_of_the_code(), span


@every_document
def test_commands_and_options_exist(document):
    for command in commands(document):
        words = command.split()
        verbs = COMMANDS.get(words[0])
        assert verbs is not None, command
        nested = isinstance(verbs, dict) and len(words) > 1 and re.fullmatch(r"[a-z]+", words[1])
        own = isinstance(verbs, dict) and NONE in verbs  # what follows may be no verb
        nested = nested and (words[1] in verbs or not own)
        assert not nested or words[1] in verbs, command
        if isinstance(verbs, dict) and not nested and not own:
            continue
        shown = help_of(*words[: 2 if nested else 1])
        for option in re.findall(r"(?<=\s)--[a-z][a-z.-]*", " ".join(words)):
            assert f"{option} " in shown, f"{option} of rlgen {command}"


@every_document
def test_tasks_that_commands_name_are_found(document):
    """Words before the first option are tasks, but for those in capitals or angle brackets, which readers replace."""
    finders = {"expert": find_task, "demos record": find_tasks, "scenes check": find_tasks, "eval": find_tasks}
    finders["fleet"] = find_tasks
    for command in commands(document):
        words = shlex.split(command.split(" --")[0])
        for verb, find in finders.items():
            if words[: len(verb.split())] == verb.split() and words[:2] not in FLEET_VERBS:
                for name in words[len(verb.split()) :]:
                    assert name.isupper() or "<" in name or find(name), command


@every_document
def test_experiments_have_the_options_that_are_named(document):
    for script, options in experiments(document):
        source = (ROOT / "experiments" / script).read_text()
        for option in re.findall(r"(?<=\s)--[a-z][a-z.-]*", options.split("  ")[0]):
            assert option in source, f"{script} {option}"


def commands(document: Path) -> list[str]:
    """What stands behind `rlgen` in code spans and in blocks of commands, without comments."""
    text = document.read_text().replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"```(?:bash|sh)\n(.*?)```", text, flags=re.S))
    lines = [*code_spans(document), *blocks.splitlines(), *re.findall(r"^    +(\S.*)$", text, flags=re.M)]
    found = (re.match(r"(?:uv run (?:--with \S+ )?)?rlgen ([a-z][^#]*)", line) for line in lines)
    return [match[1] for match in found if match]


@cache
def help_of(*words: str) -> str:
    """The help of a command; options stand in it with a space behind them."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        dispatch([*words, "--help"])
    return re.sub(r"[│,]", " ", shown.getvalue())


@cache
def words_of_the_code() -> set[str]:
    files = [path for folder in ("rlgen", "tests", "experiments") for path in (ROOT / folder).rglob("*.py")]
    text = "\n".join(path.read_text() for path in [*files, ROOT / "pyproject.toml"])
    return set(re.findall(r"\w+", text))
