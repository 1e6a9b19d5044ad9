# shellcheck shell=bash
# A Redis master named mymaster, one replica, and three sentinels that fail it over when it is gone for 2 s, or at once on
# `redis-cli -u "$REDIS_SENTINEL" sentinel failover mymaster`.

install() { need redis-server=redis-server redis-cli=redis-tools redis-sentinel=redis-sentinel; }

# The file `sentinels` has the port of each sentinel, a line each.
start() {
    local port replica sentinels
    replica=$(free_port)
    sentinels=("$(free_port)" "$(free_port)" "$(free_port)")
    printf '%s\n' "${sentinels[@]}" >sentinels
    printf '%s\n' "$replica" >replica
    server "$1"
    server "$replica" --replicaof 127.0.0.1 "$1"
    for port in "${sentinels[@]}"; do
        mkdir "sentinel-$port"
        cat >"sentinel-$port/sentinel.conf" <<CONF
sentinel monitor mymaster 127.0.0.1 $1 2
sentinel down-after-milliseconds mymaster 2000
sentinel failover-timeout mymaster 10000
CONF
        redis-sentinel "sentinel-$port/sentinel.conf" --bind 127.0.0.1 --port "$port" --dir "$STATE/sentinel-$port" \
            --daemonize no &
    done
    supervise true
}

server() {
    local port=$1
    shift
    mkdir "server-$port"
    # A copy is sent without a file and without a wait of 5 s for more replicas.
    redis-server --bind 127.0.0.1 --port "$port" --dir "$STATE/server-$port" --daemonize no --save "" --appendonly no \
        --repl-diskless-sync yes --repl-diskless-sync-delay 0 "$@" &
}

# The replica has its copy, and each sentinel knows it and the others: then a failover can succeed.
ready() {
    local port sentinels known
    redis-cli -h 127.0.0.1 -p "$1" config get dir | grep -qx "$STATE/server-$1" || return 1
    redis-cli -h 127.0.0.1 -p "$(cat replica)" info replication | grep -q '^master_link_status:up' || return 1
    mapfile -t sentinels <sentinels
    for port in "${sentinels[@]}"; do
        known=$(redis-cli -h 127.0.0.1 -p "$port" info)
        [[ $known == *"config_file:$STATE/sentinel-$port/sentinel.conf"* ]] || return 1
        [[ $known == *"status=ok,address=127.0.0.1:"*",slaves=1,sentinels=3"* ]] || return 1
    done
}

env() {
    local sentinels
    sentinels=$(sed 's/^/127.0.0.1:/' sentinels | paste -sd ,)
    printf 'export REDIS_SENTINEL_URL=redis-sentinel://%s/mymaster\n' "$sentinels"
    # One of them, to be told what to do.
    printf 'export REDIS_SENTINEL=redis://%s\n' "${sentinels%%,*}"
}

stop() { kill -TERM "$PID"; }
