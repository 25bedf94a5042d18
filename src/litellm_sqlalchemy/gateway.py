"""The ASGI application that uvicorn serves: LiteLLM's proxy, every exchange of which goes into the ledger.

    uvicorn litellm_sqlalchemy.gateway:app --workers 2 --lifespan on

Of what LiteLLM's own `litellm --config` does, this needs no more: the proxy reads $CONFIG_FILE_PATH itself; the rest
of the command concerns Prisma, other servers, and options that uvicorn's own command line has.
"""

import glob
import os
import re
import sys
from pathlib import Path

import yaml

from litellm_sqlalchemy import systemd
from litellm_sqlalchemy.access import Access
from litellm_sqlalchemy.ledger.asgi import App, Message, Receive, Scope, Send
from litellm_sqlalchemy.ledger.capture import Ledger
from litellm_sqlalchemy.ledger.head import Rules
from litellm_sqlalchemy.settings import AccessSettings, CaptureSettings, load

ENVIRONMENT_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


def read_credentials() -> None:
    """Put systemd's credentials with UPPERCASE names into the environment, where LiteLLM looks for keys."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    for file in sorted(Path(directory).iterdir()) if directory else ():
        if ENVIRONMENT_NAME.fullmatch(file.name):
            os.environ[file.name] = file.read_text().rstrip("\r\n")


def check_configuration() -> None:
    """Refuse to start without a configuration: LiteLLM would start, and know no model.

    Raises:
        SystemExit: $CONFIG_FILE_PATH is missing, or is no file that can be read.
    """
    path = os.environ.get("CONFIG_FILE_PATH", "")
    if not os.access(path, os.R_OK) or not Path(path).is_file():
        print(  # noqa: T201 - a command's message to its user
            f"environment variable CONFIG_FILE_PATH is {path!r}: it must name LiteLLM's configuration, a file that "
            "this user can read, for example /etc/litellm/config.yaml",
            file=sys.stderr,
        )
        raise SystemExit(2)


def passed_on() -> tuple[str, ...]:
    """Name the paths that the configuration passes on to other services: patterns, as in CaptureSettings.

    Their answers are a model's answers like any other, but no list of LiteLLM's paths can have them.
    """
    try:
        configuration = yaml.safe_load(Path(os.environ["CONFIG_FILE_PATH"]).read_bytes())
        endpoints = configuration["general_settings"]["pass_through_endpoints"]
        paths = [(glob.escape(endpoint["path"]).rstrip("/"), endpoint.get("include_subpath")) for endpoint in endpoints]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return ()  # there are none, or LiteLLM says what is wrong
    return tuple(pattern for path, has_more in paths if path for pattern in (path, *[f"{path}/*"] * bool(has_more)))


def announce(app: App) -> App:
    """Tell systemd when an application has started.

    Args:
        app: The application to wrap.
    """

    async def announced(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_tell(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                systemd.notify("READY=1")

        await app(scope, receive, send_and_tell if scope["type"] == "lifespan" else send)

    return announced


def _make_app() -> App:
    settings = load(CaptureSettings)
    check_configuration()
    read_credentials()
    # LiteLLM reads the environment when it is imported.
    from litellm.proxy.proxy_server import app as litellm_app  # noqa: PLC0415

    # LiteLLM reads the environment when it is imported.
    from litellm_sqlalchemy.ledger import usage  # noqa: PLC0415

    settings = settings.model_copy(update={"full_paths": (*settings.full_paths, *passed_on())})
    access = Access(litellm_app, load(AccessSettings), Rules(settings).is_asking)
    os.environ.pop("LITELLM_PREVIOUS_MASTER_KEYS", None)
    # The ledger has what came, also what is refused: with the key that was presented.
    ledger = Ledger(access, settings, usage.flush)
    usage.register(ledger)
    return announce(ledger)


app = _make_app()
