# shellcheck shell=bash
# A Redis Cluster of three masters without replicas.

install() { need redis-server=redis-server redis-cli=redis-tools; }

# The file `ports` has the port of each node, a line each.
start() {
    local port ports=("$1") bus
    ports+=("$(free_port)" "$(free_port)")
    printf '%s\n' "${ports[@]}" >ports
    for port in "${ports[@]}"; do
        mkdir "node-$port"
        bus=$(free_port)
        redis-server --bind 127.0.0.1 --port "$port" --dir "$STATE/node-$port" --daemonize no --save "" --appendonly no \
            --cluster-enabled yes --cluster-port "$bus" --cluster-node-timeout 5000 &
    done
    supervise form "${ports[@]}"
}

form() {
    local port addresses=()
    for port in "$@"; do
        until [ "$(redis-cli -h 127.0.0.1 -p "$port" ping 2>/dev/null)" = PONG ]; do sleep 0.1; done
        addresses+=("127.0.0.1:$port")
    done
    redis-cli --cluster create "${addresses[@]}" --cluster-replicas 0 --cluster-yes
}

# Each node has to be ours and to know that all slots are served.
ready() {
    local port ports
    mapfile -t ports <ports
    for port in "${ports[@]}"; do
        redis-cli -h 127.0.0.1 -p "$port" config get dir | grep -qx "$STATE/node-$port" || return 1
        redis-cli -h 127.0.0.1 -p "$port" cluster info | grep -q '^cluster_state:ok' || return 1
        redis-cli -h 127.0.0.1 -p "$port" cluster info | grep -q '^cluster_known_nodes:3' || return 1
    done
}

env() { printf 'export REDIS_CLUSTER_URL=redis-cluster://%s\n' "$(sed 's/^/127.0.0.1:/' ports | paste -sd ,)"; }

stop() { kill -TERM "$PID"; }
