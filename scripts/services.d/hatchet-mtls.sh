# shellcheck shell=bash
# Hatchet that takes only TLS, and only clients with a certificate of its own authority. All else is as in hatchet.sh.

# shellcheck source=scripts/services.d/hatchet.sh
source "$ROOT/scripts/services.d/hatchet.sh"

install() {
    need openssl=openssl
    install_hatchet
}

start() {
    make_authority
    make_certificate server localhost
    make_certificate client client
    start_all "$1"
}

tls_settings() {
    printf 'SERVER_TLS_STRATEGY=mtls\n'
    printf 'SERVER_TLS_ROOT_CA_FILE=%s\nSERVER_TLS_CERT_FILE=%s\nSERVER_TLS_KEY_FILE=%s\n' \
        "$STATE/ca.crt" "$STATE/server.crt" "$STATE/server.key"
    # What the engine's own parts know each other by.
    printf 'SERVER_INTERNAL_CLIENT_BASE_INHERIT_BASE=true\nSERVER_INTERNAL_CLIENT_TLS_SERVER_NAME=localhost\n'
}

# Under names of its own: an engine without TLS may run beside it.
env() {
    printf 'export MAGEFLOW_HATCHET_MTLS_TOKEN=%q\n' "$(cat client-token)"
    printf 'export MAGEFLOW_HATCHET_MTLS_HOST_PORT=127.0.0.1:%s\n' "$1"
    printf 'export MAGEFLOW_HATCHET_MTLS_FILES=%q\n' "$STATE"
}
