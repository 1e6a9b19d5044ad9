# shellcheck shell=bash
# Redis. Keeps nothing on disk unless MAGEFLOW_REDIS_ARGS says otherwise, for instance `--appendonly yes`.

install() { need redis-server=redis-server redis-cli=redis-tools; }

start() {
    local extra
    read -ra extra <<<"${MAGEFLOW_REDIS_ARGS:-}"
    # An empty --save and no append-only file: no persistence.
    exec redis-server --bind 127.0.0.1 --port "$1" --unixsocket "$STATE/redis.sock" --unixsocketperm 700 \
        --dir "$STATE" --daemonize no --save "" --appendonly no ${extra[@]+"${extra[@]}"}
}

# Another server may have been quicker on this port; it would not have our process id.
ready() {
    [ "$(redis-cli -h 127.0.0.1 -p "$1" ping)" = PONG ] &&
        redis-cli -h 127.0.0.1 -p "$1" info server | tr -d '\r' | grep -qx "process_id:$PID"
}

env() {
    printf 'export REDIS_URL=redis://127.0.0.1:%s/0\n' "$1"
    printf 'export REDIS_SOCKET=%q\n' "$STATE/redis.sock"
}

stop() { kill -TERM "$PID"; }
