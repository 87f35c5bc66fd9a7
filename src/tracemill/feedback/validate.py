"""Checking a workflow: is it whole, do its references lead somewhere, and how did its user change it?

A workflow is any JSON object with a list of steps (``steps``, ``nodes``, ``actions``, ``tasks`` or ``modules``). What is said
of it depends on that structure alone, never on a vendor. An error is something no runtime could carry out, a warning
something that looks unintended. The score is ``100 - 20 * errors - 5 * warnings``, not below 0; a workflow without errors
passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

LISTS = ("steps", "nodes", "actions", "tasks", "modules")
EDGES = ("edges", "connections", "links")
_NEXT = ("next", "next_step", "depends_on", "after", "parent")
_TYPES = ("type", "action", "app", "tool", "module", "uses", "name")
_ENDS = (("source", "target"), ("from", "to"))
ERROR_COST, WARNING_COST = 20, 5
_MOST = 200
"""Findings that are listed of each kind; a workflow with more is not made clearer by them."""


@dataclass
class Checked:
    """What a check found. ``score`` is 0 to 100."""

    errors: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    @property
    def score(self) -> float:
        """See the module."""
        return float(max(0, 100 - ERROR_COST * len(self.errors) - WARNING_COST * len(self.warnings)))

    def error(self, path: str, code: str, message: str) -> None:
        """Note an error at a JSON Pointer."""
        if len(self.errors) < _MOST:
            self.errors.append({"path": path, "code": code, "message": message})

    def warn(self, path: str, code: str, message: str) -> None:
        """Note a warning at a JSON Pointer."""
        if len(self.warnings) < _MOST:
            self.warnings.append({"path": path, "code": code, "message": message})


def check_workflow(workflow: Any) -> Checked:
    """Check a workflow of any shape; nothing in it can make this fail."""
    checked = Checked()
    if not isinstance(workflow, dict):
        checked.error("", "not_an_object", "a workflow is a JSON object")
        return checked
    if not workflow:
        checked.error("", "empty", "the workflow is empty")
        return checked
    name = next((name for name in LISTS if name in workflow), None)
    if name is None:
        checked.warn(
            "", "unknown_shape", f"it has no list of steps ({', '.join(LISTS)}); its structure was not checked"
        )
        return checked
    steps = workflow[name]
    if isinstance(steps, dict):  # by id, as some write it
        steps = [{"id": key, **value} if isinstance(value, dict) else value for key, value in steps.items()]
    if not isinstance(steps, list):
        checked.error(f"/{name}", "not_a_list", "the steps are no list")
    elif not steps:
        checked.error(f"/{name}", "empty", "there are no steps")
    else:
        ids = _check_steps(f"/{name}", steps, checked)
        _check_references(f"/{name}", steps, ids, checked)
        _check_edges(workflow, ids, checked)
    if "trigger" in workflow and not workflow["trigger"]:
        checked.warn("/trigger", "empty", "the trigger is empty")
    return checked


def _check_steps(path: str, steps: list[Any], checked: Checked) -> set[str]:
    ids: set[str] = set()
    for index, step in enumerate(steps):
        here = f"{path}/{index}"
        if not isinstance(step, dict):
            checked.error(here, "not_an_object", "a step is an object")
            continue
        identity = step.get("id")
        if identity is not None:
            if not isinstance(identity, (str, int)) or isinstance(identity, bool):
                checked.error(f"{here}/id", "bad_id", "an id is text or a number")
            elif str(identity) in ids:
                checked.error(f"{here}/id", "duplicate_id", "another step has this id")
            ids.add(str(identity))
        if not any(step.get(key) for key in _TYPES):
            checked.warn(here, "untyped", f"nothing says what the step does ({', '.join(_TYPES)})")
        for key in ("parameters", "params", "inputs", "config"):
            if key in step and not isinstance(step[key], (dict, list)) and step[key] is not None:
                checked.error(f"{here}/{key}", "bad_parameters", f"{key} is neither an object nor a list")
    return ids


def _check_references(path: str, steps: list[Any], ids: set[str], checked: Checked) -> None:
    for index, step in enumerate(steps):
        for key, target in _targets(step):
            if ids and target not in ids:
                checked.error(f"{path}/{index}/{key}", "dangling_reference", "it refers to a step that does not exist")
            elif isinstance(step, dict) and str(step.get("id")) == target:
                checked.error(f"{path}/{index}/{key}", "refers_to_itself", "a step refers to itself")


def _targets(step: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(step, dict):
        return
    for key in _NEXT:
        value = step.get(key)
        for target in value if isinstance(value, list) else (value,):
            if isinstance(target, (str, int)) and not isinstance(target, bool) and target != "":
                yield key, str(target)


def _check_edges(workflow: dict[str, Any], ids: set[str], checked: Checked) -> None:
    for name in EDGES:
        edges = workflow.get(name)
        for index, edge in enumerate(edges if isinstance(edges, list) else ()):
            if not isinstance(edge, dict):
                continue
            ends = next((pair for pair in _ENDS if pair[0] in edge), None)
            for end in ends or ():
                value = edge.get(end)
                if isinstance(value, (str, int)) and ids and str(value) not in ids:
                    checked.error(
                        f"/{name}/{index}/{end}", "dangling_reference", "it refers to a step that does not exist"
                    )
