# shellcheck shell=bash
# Sourced: lets uv use the package index and the CA certificates that pip and the system use here.

if [ -z "${SSL_CERT_FILE:-}" ] && [ -e /etc/ssl/certs/ca-certificates.crt ]; then
    export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
fi
if [ -z "${UV_DEFAULT_INDEX:-}" ]; then
    UV_DEFAULT_INDEX=${PIP_INDEX_URL:-$("${PYTHON:-python3}" -m pip config get global.index-url 2>/dev/null || true)}
    if [ -n "$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX; else unset UV_DEFAULT_INDEX; fi
elif [ -z "${PIP_INDEX_URL:-}" ]; then
    export PIP_INDEX_URL=$UV_DEFAULT_INDEX
fi

package_index_settings() {
    cat <<'SETTINGS'
set what your network asks for, and try again:
    a mirror     export PIP_INDEX_URL=https://mirror.example/simple   (or UV_DEFAULT_INDEX)
    a proxy      export https_proxy=http://proxy.example:3128
    an extra CA  put it into /usr/local/share/ca-certificates/ and run update-ca-certificates, or export SSL_CERT_FILE
SETTINGS
}
