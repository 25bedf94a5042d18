"""How cases are written; what they mean is in runner.py."""

from typing import Any

Step = dict[str, Any]
Case = dict[str, Any]


def case(name: str, *steps: Step, sql: str | None = None) -> Case:
    return {"name": name, **({"sql": sql} if sql else {}), "steps": list(steps)}


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


def numbered(prefix: str, steps: list[Step]) -> list[Case]:
    """Make a case of each step, named by what it calls with."""
    return [case(f"{prefix}: {_short(step)}", step) for step in steps]


def _short(step: Step) -> str:
    return repr({name: one for name, one in step.items() if name != "call"} or step)[:160]
