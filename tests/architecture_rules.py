"""The rules of the tree as functions of source text, so that each can be shown to fail (test_architecture.py)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

RANKS = {
    "core": 0,
    "store": 1,
    "sdk": 1,
    "drawing": 1,
    "capture": 2,
    "feedback": 2,
    "privacy": 2,
    "quality": 2,
    "dataset": 3,
    "export": 4,
    "train": 5,
    "insight": 6,
    "workspace": 7,
    "collector": 8,
    "server": 8,
    "cli": 8,
    "ship": 8,
    "demo": 8,
    "__main__": 9,
    "": 9,  # tracemill/__init__.py: the public names
}
FACES = {"cli", "server", "ship", "demo", "collector", "__main__", ""}
FACE_USES = {"cli": {"demo", "server", "ship"}, "demo": {"collector"}}
"""Faces that use another face: `tracemill demo` runs the demo, which captures as an application does; `tracemill serve`,
`tracemill ship`."""
HEAVY = {f"tracemill.store.{name}" for name in ("cold.cold", "cold.layout", "cold.sealed", "resealing")}
HEAVY |= {
    "tracemill.quality.duplicates",
    "tracemill.privacy.detect",
    "tracemill.privacy.redact",
    "tracemill.privacy.invent",
}
HEAVY |= {"tracemill.dataset.certificate", "tracemill.dataset.contamination"}
HEAVY |= {"tracemill.dataset.near", "tracemill.dataset.cluster"}
"""Modules of ours that need heavy optional packages (PyArrow, NumPy, RE2, Ray) and are imported where the archive, the search
for duplicates, redaction or a cluster is first used."""
LONGEST_FILE, LONGEST_FUNCTION = 600, 60
THIRD_PARTY_OF_CORE_AND_SDK = {"msgspec"}
INTEGRATIONS = {
    "openai": {"openai"},
    "anthropic": {"anthropic"},
    "litellm": {"litellm"},
    "langchain": {"langchain_core"},
    "dspy": {"dspy"},
    "openai_agents": {"agents"},
}
"""What a module of sdk/integrations may import besides: its own framework. Nothing else of ours imports these modules."""
CLOCK = re.compile(r"datetime\.datetime\.(now|utcnow|today)|datetime\.date\.today|time\.time(_ns)?|uuid\.uuid\d")
DYNAMIC_IMPORT = re.compile(r"importlib\.import_module|__import__")
DYNAMIC_IMPORT_ALLOWED = {
    "src/tracemill/__init__.py": "public names are imported when they are first used, to keep `import tracemill` light",
    "src/tracemill/dataset/steps.py": "a recipe in YAML may name a step as module:function",
}
DRAWERS = {"utils", "util", "helpers", "common", "misc"}


@dataclass(frozen=True)
class Import:
    """One import of our own package: the module asked for, the line, and whether it stands inside a function.

    ``names`` are what is taken out of the module, written in full: each may be a module itself.
    """

    module: str
    line: int
    deferred: bool
    names: tuple[str, ...] = ()


def room_of(path: str) -> str:
    """The folder or module directly under src/tracemill that a file belongs to."""
    inner = path.removeprefix("src/tracemill/").removesuffix(".py")
    return "" if inner == "__init__" else inner.split("/")[0]


def _import_nodes(source: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    def walk(node: ast.AST, deferred: bool, typing_only: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
        for child in ast.iter_child_nodes(node):
            inside = deferred or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                yield child, deferred and not typing_only
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from walk(child, inside, True)
            else:
                yield from walk(child, inside, typing_only)

    yield from walk(ast.parse(source), False, False)


def module_of(path: str) -> str:
    """The dotted name of the module in a file."""
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _absolute(path: str, node: ast.ImportFrom) -> str:
    """The module a ``from`` import names, with leading dots worked out from where it stands."""
    if node.level == 0:
        return node.module or ""
    package = module_of(path).split(".")
    if not path.endswith("/__init__.py"):
        package.pop()
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def own_imports(path: str, source: str) -> list[Import]:
    """Every import of tracemill's own modules in a source, relative ones too."""
    found: list[Import] = []
    for node, deferred in _import_nodes(source):
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, deferred) for alias in node.names)
            continue
        module = _absolute(path, node)
        names = tuple(f"{module}.{alias.name}" for alias in node.names)
        if module == "tracemill":
            found.extend(Import(name, node.lineno, deferred) for name in names)
        else:
            found.append(Import(module, node.lineno, deferred, names))
    return [one for one in found if one.module.split(".")[0] == "tracemill"]


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Which modules each module imports, the package itself left out: its public names are imported on use."""
    modules = {module_of(path): path for path in sources}
    return {
        module: {
            target
            for found in own_imports(path, sources[path])
            for target in (found.module, *found.names)
            if target in modules and target != module
        }
        for module, path in modules.items()
        if module != "tracemill"
    }


def third_party(source: str, standard: frozenset[str]) -> set[str]:
    """Top-level names of packages a source imports that are neither ours nor Python's."""
    found: set[str] = set()
    for node, _ in _import_nodes(source):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif node.level == 0:
            found.add((node.module or "").split(".")[0])
    return found - standard - {"tracemill", "__future__"}


def rank_problems(path: str, source: str) -> list[str]:
    """Imports that do not go strictly downwards, and deferred ones that hide one."""
    room = room_of(path)
    if room not in RANKS:
        return [f"{path}: {room!r} has no rank; put it into an existing room or give it one in architecture_rules.py"]
    problems = []
    for found in own_imports(path, source):
        if found.deferred and room not in FACES and found.module not in HEAVY:
            problems.append(f"{path}:{found.line} hides an import of {found.module} in a function; move it to the top")
        target = found.module.split(".")[1] if "." in found.module else ""
        if target not in RANKS:
            target = ""  # a public name of the package itself, such as __version__
        if target == room:
            continue
        allowed = RANKS[target] < RANKS[room] or target in FACE_USES.get(room, set())
        if not allowed and not (target == "" and room in FACES):
            problems.append(
                f"{path}:{found.line} {room} (rank {RANKS[room]}) imports {found.module} (rank {RANKS[target]})"
            )
    return problems


def size_problems(path: str, source: str) -> list[str]:
    """Files and functions that are too long."""
    problems = []
    lines = source.count("\n")
    if lines > LONGEST_FILE:
        problems.append(f"{path}: {lines} lines, at most {LONGEST_FILE}; split it by what its parts are about")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and "/versions/" not in path:
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                problems.append(f"{path}:{node.lineno} {node.name} has {length} lines, at most {LONGEST_FUNCTION}")
    return problems


def habit_problems(path: str, source: str) -> list[str]:
    """What this code base does not do: see the messages."""
    problems = []
    lines = source.splitlines()
    stem = path.rsplit("/", 1)[-1].removesuffix(".py")
    if stem in DRAWERS or any(part in DRAWERS for part in path.split("/")):
        problems.append(f"{path}: no drawers; a helper lives with the one who uses it, or in core")
    for number, line in enumerate(lines, 1):
        if re.search(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b", line):
            problems.append(f"{path}:{number} an unfinished thing; finish it")
        if re.search(r"\bNotImplemented" + r"Error\b", line):
            problems.append(f"{path}:{number} a stub; build it or leave it out")
    for number, name in qualified_names(source):
        if CLOCK.fullmatch(name) and path != "src/tracemill/core/ids.py":
            problems.append(f"{path}:{number} {name} reads the clock or makes an id; core/ids.py does that")
        if DYNAMIC_IMPORT.fullmatch(name) and path not in DYNAMIC_IMPORT_ALLOWED:
            problems.append(f"{path}:{number} imports by name; say why in DYNAMIC_IMPORT_ALLOWED or import plainly")
    problems.extend(
        f"{path}:{node.lineno} catches everything without a comment that says why"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and not _explained(lines, node.lineno)
    )
    problems.extend(
        f"{path}:{node.lineno} a metaclass; pass an object instead"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and any(keyword.arg == "metaclass" for keyword in node.keywords)
    )
    return problems


def qualified_names(source: str) -> list[tuple[int, str]]:
    """Every dotted name a source uses, with its line, written as what it was imported as: aliases hide nothing."""
    tree = ast.parse(source)
    known: dict[str, str] = {}
    for node, _ in _import_nodes(source):
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif alias.asname:
                known[alias.asname] = alias.name

    def written(node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return known.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (inner := written(node.value)):
            return f"{inner}.{node.attr}"
        return None

    return [
        (node.lineno, name)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Name, ast.Attribute)) and (name := written(node))
    ]


def _catches_all(handler: ast.ExceptHandler) -> bool:
    """Whether a handler takes every exception and does not pass it on."""
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    caught = {"BaseException" if one is None else ast.unparse(one) for one in types}
    last = handler.body[-1]
    passes_on = isinstance(last, ast.Raise) and last.exc is None
    return bool(caught & {"Exception", "BaseException"}) and not passes_on


def _explained(lines: list[str], number: int) -> bool:
    around = lines[max(0, number - 2) : number + 1]
    return any(re.search(r"#\s*(noqa: [A-Z0-9, ]+\s*-\s*)?(?!noqa)\w+\s+\w+", line) for line in around)


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Cycles among modules, each once (Tarjan's strongly connected components of more than one)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for following in sorted(graph.get(node, ())):
            if following not in index:
                visit(following)
                low[node] = min(low[node], low[following])
            elif following in stack:
                low[node] = min(low[node], index[following])
        if low[node] == index[node]:
            component: list[str] = []
            while not component or component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found
