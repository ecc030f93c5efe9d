"""Imports run one way: a module imports only from floors below its own."""

import ast
from pathlib import Path

import bulkmail

PACKAGE = Path(bulkmail.__file__).parent

FLOORS = [
    {"errors", "model"},
    {"address", "pace", "reserved", "compose", "report", "smtp"},
    {"campaign", "engine", "ledger", "sandbox", "transport"},
    {"delivery"},
    {"cluster", "preview"},
    {"cli"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
PURE = {room for floor in FLOORS[:2] for room in floor}
IMPURE_MODULES = {"asyncio", "os", "pathlib", "random", "socket", "sqlite3", "ssl", "time"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules.add(node.module or "")
    return modules


def test_imports_go_down() -> None:
    """No room imports from its own floor or from one above, but for modules of pure floors."""
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        if room in ("__init__", "__main__"):
            continue
        for module in imported(path):
            target = module.split(".")[1] if module.startswith("bulkmail.") else room
            if target == room:
                continue
            below = FLOOR[target] < FLOOR[room] or (FLOOR[target] == FLOOR[room] and room in PURE)
            if not below:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert wrong == []


def test_no_circles_among_modules() -> None:
    """Modules import each other in one order."""
    arrows = {
        "bulkmail." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts): {
            module for module in imported(path) if module.startswith("bulkmail.")
        }
        for path in PACKAGE.rglob("*.py")
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for target in arrows.get(module, ()):
                visit(target, (*trail, module))
            done.add(module)

    for module in arrows:
        visit(module, ())


def test_pure_floors_know_no_world() -> None:
    """The two lowest floors import nothing that reads files, sockets, clocks or dice."""
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in PACKAGE.rglob("*.py")
        if room_of(path) in PURE
        for module in imported(path)
        if module.split(".")[0] in IMPURE_MODULES
    ]
    assert wrong == []
