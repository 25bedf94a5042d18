"""Prints all routes of LiteLLM's proxy, of the release that the interpreter has; one a line, sorted."""

import importlib
import importlib.util
from collections.abc import Iterable, Iterator

from fastapi.routing import iter_route_contexts
from litellm.proxy.proxy_server import app
from starlette.routing import BaseRoute, Mount


def paths(routes: Iterable[BaseRoute]) -> Iterator[str]:
    for context in iter_route_contexts(list(routes)):
        route = getattr(context, "original_route", context)
        if not isinstance(route, Mount):
            yield str(context.path)
        elif inner := route.routes:
            yield from (f"{route.path}{path}" for path in paths(inner))
        else:
            yield f"{route.path}/{{path:path}}"


LAZY = "litellm.proxy._lazy_features"  # what newer releases load when it is first asked for
if importlib.util.find_spec(LAZY):
    for feature in importlib.import_module(LAZY).LAZY_FEATURES:
        feature.register_fn(app, importlib.import_module(feature.module_path))
print("\n".join(sorted(set(paths(app.routes)))))  # noqa: T201 - its answer
