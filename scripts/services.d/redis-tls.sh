# shellcheck shell=bash
# Redis that takes only TLS, and only clients with a certificate of its own authority. REDIS_ACL_URL is a user who may use
# only keys and channels that begin with `allowed`.

install() { need redis-server=redis-server redis-cli=redis-tools openssl=openssl; }

start() {
    make_authority
    make_certificate server localhost
    make_certificate client client
    openssl rand -hex 16 >password
    cat >users.acl <<ACL
user default on nopass ~* &* +@all
user limited on >$(cat password) ~allowed* &allowed* +@all -@admin -@dangerous +info
ACL
    exec redis-server --bind 127.0.0.1 --port 0 --tls-port "$1" --dir "$STATE" --daemonize no --save "" --appendonly no \
        --tls-cert-file server.crt --tls-key-file server.key --tls-ca-cert-file ca.crt --tls-auth-clients yes \
        --aclfile users.acl
}

# ask WORDS…: redis-cli on this server.
ask() {
    redis-cli -h 127.0.0.1 -p "$PORT" --tls --cacert "$STATE/ca.crt" --cert "$STATE/client.crt" --key "$STATE/client.key" "$@"
}

ready() {
    [ "$(ask ping)" = PONG ] && ask info server | tr -d '\r' | grep -qx "process_id:$PID"
}

env() {
    local files="ca=$STATE/ca.crt&cert=$STATE/client.crt&key=$STATE/client.key"
    printf 'export REDIS_TLS_URL=%q\n' "rediss://127.0.0.1:$1/0?$files"
    printf 'export REDIS_ACL_URL=%q\n' "rediss://limited:$(cat "$STATE/password")@127.0.0.1:$1/0?prefix=allowed&$files"
    # The same server without the certificate that it asks for.
    printf 'export REDIS_TLS_BARE_URL=%q\n' "rediss://127.0.0.1:$1/0?ca=$STATE/ca.crt"
}

stop() { kill -TERM "$PID"; }
