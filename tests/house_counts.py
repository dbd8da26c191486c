"""Counts of how the package is built: sizes of files, imports that lead to PPO, docstrings, names.

    python tests/house_counts.py [ROOT]     # of this checkout, or of another one

`test_house.py` holds the numbers that matter.
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[1]
ENTRY, ALGORITHM = "rlgen.cli.expert", "rlgen.rl.ppo"
BEGINNINGS = ("What", "How", "Where", "Whether", "Which", "Who", "Whom", "When", "Why")
# Words that prose avoids as well, and parts of identifiers that have a better word. In neither list are words that are
# the field's in another sense: draw a sample, a bundle of files, a number of steps, places on a table, half of a width.
PROSE = (ROOT / "tests" / "banned_words.txt").read_text().splitlines()
BANNED = {line.partition("->")[0] for line in PROSE} | {
    "attempt",
    "begins",
    "begun",
    "broken",
    "executed",
    "fault",
    "faults",
    "look",
    "looks",
    "sees",
    "sight",
    "weigh",
}
# Names that are not ours, and a setting.
ALLOWED = {"BrokenPipeError", "BrokenProcessPool", "num_finetuned_steps"}


@dataclass(frozen=True)
class Function:
    """A function or method with its place.

    Attributes:
      place: file and line.
      name: with the classes that it is in.
      public: neither it nor a class that it is in begins with an underscore, and it is not in a function.
      parameters: number of its parameters without `self`.
      docstring: or an empty text.
    """

    place: str
    name: str
    public: bool
    parameters: int
    docstring: str

    @property
    def has_args(self) -> bool:
        """True where `Args:` or a reference to a documented method says what its parameters are."""
        return "Args:" in self.docstring or re.search(r"[Aa]rguments as of\s+`", self.docstring) is not None


class House:
    """The sources of a checkout, parsed.

    Attributes:
      root: the checkout.
      files: path of every module of the package by its dotted name.
      trees: syntax tree of each.
    """

    def __init__(self, root: Path):
        self.root, self.files = root, {}
        for path in sorted((root / "rlgen").rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            self.files[name.removesuffix(".__init__")] = path
        self.trees = {name: ast.parse(path.read_text()) for name, path in self.files.items()}

    def lines(self) -> list[int]:
        """Returns the length of every file, in lines."""
        return [len(path.read_text().splitlines()) for path in self.files.values()]

    def imports(self) -> dict[str, set[str]]:
        """Returns the modules of the package that each module imports, wherever in it."""
        found: dict[str, set[str]] = {}
        for name, tree in self.trees.items():
            names: list[str] = []
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    names += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    modules = (f"{node.module}.{alias.name}" for alias in node.names)
                    names += [module if module in self.files else node.module for module in modules]
            found[name] = {module for module in names if module in self.files}
        return found

    def functions(self) -> Iterator[Function]:
        """Yields every function and method."""
        for name, tree in self.trees.items():
            path = self.files[name].relative_to(self.root)
            for prefix, node, public in _definitions(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                    count = sum(argument.arg not in ("self", "cls") for argument in arguments)
                    docstring = ast.get_docstring(node) or ""
                    yield Function(f"{path}:{node.lineno}", prefix + node.name, public, count, docstring)

    def docstrings(self) -> Iterator[tuple[str, str]]:
        """Yields place and text of every docstring, of modules and classes as well."""
        for name, tree in self.trees.items():
            path = self.files[name].relative_to(self.root)
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    text = ast.get_docstring(node)
                    if text:
                        yield f"{path}:{getattr(node, 'lineno', 1)}", text

    def identifiers(self) -> Iterator[tuple[str, str]]:
        """Yields module and text of every identifier in the sources."""
        for name, path in self.files.items():
            for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
                if token.type == tokenize.NAME:
                    yield name, token.string

    def classes(self) -> dict[str, list[str]]:
        """Returns the modules in which a class of a name is defined."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, tree in self.trees.items():
            for _, node, _ in _definitions(tree):
                if isinstance(node, ast.ClassDef):
                    found[node.name].append(name)
        return found


def _definitions(tree: ast.AST, prefix: str = "", public: bool = True) -> Iterator[tuple[str, ast.AST, bool]]:
    """Yields definitions in modules and classes, not those in functions, with prefix and whether they are public."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            here = public and not node.name.startswith("_")
            yield prefix, node, here
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node, f"{prefix}{node.name}.", here)
        elif not isinstance(node, ast.expr):
            yield from _definitions(node, prefix, public)


def ppo_files(house: House, rooms: Iterable[str]) -> list[str]:
    """Returns the files between the command and the loss of PPO.

    They are the shortest chain of imports from `rlgen expert` to the algorithm, and whatever the algorithm imports,
    directly or through others, in `rooms`.
    """
    imports = house.imports()
    if ENTRY not in imports or ALGORITHM not in imports:
        return []
    chains, queue = {ENTRY: [ENTRY]}, [ENTRY]
    for module in queue:
        for target in sorted(imports[module] - chains.keys()):
            chains[target] = [*chains[module], target]
            queue.append(target)
    found, waiting = set(chains.get(ALGORITHM, [])), [ALGORITHM]
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting += [m for m in imports[module] - found if m.split(".")[1] in rooms]
    return sorted(found, key=lambda module: (len(chains.get(module, [])), module))


def wrong_beginnings(house: House) -> list[str]:
    """Returns places of docstrings that begin with a question word."""
    return [place for place, text in house.docstrings() if re.match(rf"({'|'.join(BEGINNINGS)})\b", text)]


def without_args(house: House) -> tuple[list[Function], int]:
    """Returns public functions of three or more parameters without `Args:`, and how many such functions there are."""
    large = [function for function in house.functions() if function.public and function.parameters >= 3]
    return [function for function in large if not function.has_args], len(large)


def banned_identifiers(house: House) -> dict[str, Counter[str]]:
    """Returns identifiers with a part of `BANNED`, counted for each room."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for module, identifier in house.identifiers():
        parts = {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)}
        if parts & BANNED and identifier not in ALLOWED:
            found[module.split(".")[1] if "." in module else module][identifier] += 1
    return found


def doubles(house: House) -> dict[str, list[str]]:
    """Returns names that several classes have, and their modules."""
    return {name: modules for name, modules in house.classes().items() if len(modules) > 1}


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"    {line}")


def main() -> None:
    """Prints all counts."""
    house = House(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
    lines = house.lines()
    print(f"files: {len(lines)}, {sum(lines)} lines")
    print(f"length of a file: median {median(lines):.0f}, 90th percentile {quantiles(lines, n=10)[-1]:.0f}")
    for rooms in (("rl",), ("rl", "policies", "diffusion")):
        files = ppo_files(house, rooms)
        print(f"from the command to PPO's loss, with all that it imports in {', '.join(rooms)}: {len(files)} files")
        _print_lines(files)
    wrong = wrong_beginnings(house)
    print(f"docstrings that begin with What, How, Where, Whether ...: {len(wrong)}")
    _print_lines(wrong)
    missing, large = without_args(house)
    print(f"public functions of three or more parameters: {large}, {large - len(missing)} of them with Args")
    _print_lines(f"{function.place} {function.name}" for function in missing)
    banned = banned_identifiers(house)
    print(f"banned words in identifiers: {sum(map(Counter.total, banned.values()))}")
    for room, counter in sorted(banned.items()):
        print(f"    {room} {counter.total()}: {', '.join(f'{name} {count}' for name, count in counter.most_common())}")
    double = doubles(house)
    print(f"names that several classes have: {len(double)}")
    _print_lines(f"{name}: {', '.join(modules)}" for name, modules in sorted(double.items()))


if __name__ == "__main__":
    main()
