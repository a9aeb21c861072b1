"""What a proof means: whether the package may be deployed, and in which words it may not."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from yo_dawg.errors import PackageError
from yo_dawg.text import nearest, printable

if TYPE_CHECKING:
    from yo_dawg.jobs import ProvenFunction
    from yo_dawg.workshop.package.prove import Proof

WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"
"""A program that Lambda starts in place of the runtime: what the handler means is its business."""


def check_proof(proof: Proof, target: ProvenFunction, setting: str, staging: Path) -> list[str]:
    """Raise PackageError for an import that failed, or return a warning where it might work in Lambda.

    It might where the function has layers that could not be read, or a wrapper of its own; and, unless the operator
    set proof = require, where it failed for another reason than a missing module: it may want the network, or
    credentials.  Where the function's variables could not be read no failure counts: they may say where modules are.
    Without a proof (proof = off), only a handler of which there is no trace is refused.
    """
    if setting == "off":
        return check_unproved(target, staging)
    if proof.failure is None:
        return []
    blind = not target.has_environment
    hopeless = proof.hopeless and proof.with_layers and not target.environment.get(WRAPPER) and not blind
    text = f"The handler {target.handler} of {target.name} cannot be imported from the package: {proof.failure}"
    if not hopeless and (blind or setting != "require"):
        return [
            f"{text.rstrip('.')}. It may work in Lambda, with what the builder has not; its traceback is in the log"
        ]
    advice = (
        "Is it named in the requirements, or copied by make_dist.sh?"
        if hopeless
        else "The import has the function's environment variables, but no credentials; proof = warn in config.ini "
        "would deploy it all the same."
    )
    looked = look_for_handler(target, staging) if hopeless else ""
    if "defines no" in looked:  # no news where the import has ended before the module could define it
        cause = f"{text.rstrip('.')}. {looked if 'defines no' in proof.failure else advice}"
    else:
        cause = looked or f"{text.rstrip('.')}. {advice}"
    raise PackageError(f"{cause} The last lines of the import:\n{proof.tail}")


def check_unproved(target: ProvenFunction, staging: Path) -> list[str]:
    """Raise PackageError if there is no trace of a handler that nobody has tried to import; return warnings.

    What a look cannot tell is given the benefit of the doubt: a path of the function's own, a layer, a wrapper.
    """
    problem = look_for_handler(target, staging)
    if not problem:
        return []
    chosen = target.environment.keys() & {"PYTHONPATH", WRAPPER} or not target.has_environment
    if target.layers or chosen or find_module(target, staging):
        return [f"{problem.rstrip('.')}; nobody has tried to import it, since proof is off"]
    raise PackageError(problem)


def find_module(target: ProvenFunction, staging: Path) -> Path | None:
    """Return the file that the handler is in, as far as it lies where Python looks first."""
    module = staging / target.handler.rpartition(".")[0].replace(".", "/")
    plain = (module.with_name(f"{module.name}.py"), module / "__init__.py", module.with_name(f"{module.name}.pyc"))
    return next((path for path in (*plain, *module.parent.glob(f"{module.name}.*.so")) if path.is_file()), None)


def look_for_handler(target: ProvenFunction, staging: Path) -> str:
    """Say what of the handler is not in the package, as far as a look can tell; "" if nothing is found wanting."""
    module_name, _, function = target.handler.rpartition(".")
    source = find_module(target, staging)
    if source is None:
        there = sorted(printable(path.name) for path in staging.glob("*.py"))
        return (
            f"The handler of {target.name} is {target.handler!r}, but the package has no "
            f"{module_name.replace('.', '/')}.py. Python files at its root: {', '.join(there[:10]) or 'none'}. "
            "Change the function's Handler, or what make_dist.sh copies."
        )
    if source.suffix != ".py":
        return ""
    try:
        names = bound_names(source.read_bytes())
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = f"{error.msg} (line {error.lineno})" if isinstance(error, SyntaxError) else str(error) or "too complex"
        return (
            f"{source.relative_to(staging)}, which the handler {target.handler!r} is in, is not valid Python: {reason}."
        )
    if function not in names and "*" not in names:
        return (
            f"The handler of {target.name} is {target.handler!r}, but {source.relative_to(staging)} defines no "
            f"{function!r}{nearest(function, dict.fromkeys(names))}. Change the function's Handler or the module."
        )
    return ""


def bound_names(source: bytes) -> set[str]:
    """Return the names that a module binds at its top level; "*" stands for a star import."""
    names: set[str] = set()
    todo: list[ast.AST] = list(ast.parse(source).body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                names.add(node.id)
        elif not isinstance(node, ast.Lambda):
            todo += ast.iter_child_nodes(node)
    return names
