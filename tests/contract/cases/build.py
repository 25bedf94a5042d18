"""How cases are written; what they mean is in runner.py."""

from typing import Any

Step = dict[str, Any]
Case = dict[str, Any]


def case(name: str, *steps: Step, sql: str = "", undo: str = "") -> Case:
    """Name steps; `sql` comes before them, and `undo` after them, where it changed more than rows."""
    return {"name": name, **({"sql": sql} if sql else {}), "steps": list(steps), **({"undo": undo} if undo else {})}


def call(method: str, *parameters: Any, **arguments: Any) -> Step:
    """Call a method; a model's is written without `litellm_`."""
    prefix = "litellm_" if "." in method else ""
    given = {"parameters": list(parameters)} if parameters else {}
    return {"call": prefix + method, **given, **({"arguments": arguments} if arguments else {})}


def json(value: Any) -> Any:
    return {"$json": value}


def moment(text: str) -> Any:
    return {"$datetime": text}


def base64(text: str) -> Any:
    return {"$base64": text}


def each(prefix: str, steps: list[Step]) -> list[Case]:
    """Make a case of each step, named by what it calls with; the second of one name has a number."""
    names = [f"{prefix}: {_short(step)}" for step in steps]
    return [
        case(f"{name} ({names[:n].count(name) + 1})" if name in names[:n] else name, step)
        for n, (name, step) in enumerate(zip(names, steps, strict=True))
    ]


def _short(step: Step) -> str:
    given = ", ".join(
        [*map(repr, step.get("parameters", [])), *(f"{name}={one}" for name, one in step.get("arguments", {}).items())]
    )
    method = step.get("call", "").removeprefix("litellm_")
    return (f"{method}({given})" if method else repr(step))[:160]
