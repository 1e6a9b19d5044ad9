# shellcheck shell=bash
# Hatchet: one process with engine and API, and the PostgreSQL that it keeps everything in. A fresh database each time.
#
# MAGEFLOW_HATCHET_ENGINE and MAGEFLOW_HATCHET_POSTGRES are what a test stops them with: the file NAME.pid has the process.
# When it ends it is started again, as soon as there is no file NAME.hold. (Without PostgreSQL the engine may end too.)
# MAGEFLOW_HATCHET_NEW_TOKEN is a program that prints a token: new-token NAME TIME, which is for how long it holds (`10s`).

# The tenant that Hatchet makes in a new database.
TENANT=707d0855-80ab-4e1f-a156-f1c4546cbf52
# What the engine says it is: clients take their newer or older ways by it.
VERSION=$(awk '$1 == "github.com/hatchet-dev/hatchet" { print $2 }' "$ROOT/scripts/hatchet-engine/go.mod")
ENGINE=$(hatchet_engine)

install() { install_hatchet; }

install_hatchet() {
    need curl=curl
    # Debian keeps PostgreSQL's programs outside of the PATH.
    [ -n "$(postgres_programs)" ] || need initdb=postgresql
    [ -n "$(postgres_programs)" ] || die 1 "PostgreSQL is installed, but its programs are not found"
    build_engine
}

# The folder with the programs of the newest PostgreSQL there is; nothing if there is none.
postgres_programs() {
    local newest
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
    [ -x "$newest" ] || newest=$(readlink -f "$(command -v initdb)" || true)
    printf '%s\n' "${newest%/*}"
}

# Once for each content of go.mod and go.sum. A download and a build of two minutes on two cores.
build_engine() (
    mkdir -p "${ENGINE%/*}"
    exec 8>"$ENGINE.lock"
    flock 8
    [ ! -e "$ENGINE/complete" ] || return 0
    go=$(go_for "$ROOT/scripts/hatchet-engine")
    say "building Hatchet $VERSION; it is kept in $ENGINE"
    rm -rf "$ENGINE"
    mkdir "$ENGINE"
    cd "$ROOT/scripts/hatchet-engine" || exit 1
    CGO_ENABLED=0 "$go" build -mod=readonly -buildvcs=false -ldflags "-s -w -X main.Version=$VERSION" -o "$ENGINE/" \
        github.com/hatchet-dev/hatchet/cmd/hatchet-{migrate,admin,lite} >&2
    touch "$ENGINE/complete"
)

start() { start_all "$1"; }

# The ports, one a line: gRPC, PostgreSQL, REST behind the proxy, REST, static files, health.
start_all() {
    local programs database_password
    printf '%s\n' "$1" "$(free_port)" "$(free_port)" "$(free_port)" "$(free_port)" "$(free_port)" >ports
    database_password=$(random_word)
    printf '%s\n' "$database_password" >password
    mkdir static config
    printf '<html></html>\n' >static/index.html
    programs=$(postgres_programs)
    create_database "$programs"
    keep postgres INT unprivileged "$programs/postgres" -D "$STATE/postgres"
    supervise start_engine "$programs"
}

random_word() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# port LINE: of the file `ports`.
port() { sed -n "$1p" ports; }

# PostgreSQL refuses to run as root.
unprivileged() {
    if [ "$(id -u)" -eq 0 ]; then
        exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"
    fi
    exec "$@"
}

create_database() {
    mkdir postgres
    if [ "$(id -u)" -eq 0 ]; then
        # Its user has to get there, but not to read what else is there.
        chmod o+x "$STATE/.." "$STATE"
        chown postgres: postgres password
    fi
    (unprivileged "$1/initdb" -D "$STATE/postgres" --username=hatchet --auth=scram-sha-256 \
        --pwfile="$STATE/password" --encoding=UTF8 --locale=C --no-sync)
    cat >>postgres/postgresql.conf <<CONF
listen_addresses = '127.0.0.1'
port = $(port 2)
unix_socket_directories = ''
max_connections = 200
timezone = 'UTC'
fsync = off
synchronous_commit = off
full_page_writes = off
CONF
}

# keep NAME SIGNAL COMMAND…: runs it in the background, again whenever it has ended. SIGNAL ends it. One that ends before
# all were ready cannot be started: its port may be taken.
keep() {
    (
        name=$1 signal=$2 process=
        shift 2
        trap 'trap - TERM EXIT; [ -z "$process" ] || kill "-$signal" "$process" 2>/dev/null || true; wait; exit' TERM EXIT
        while :; do
            "$@" &
            process=$!
            printf '%d\n' "$process" >"$name.pid"
            wait "$process" || true
            [ -e was-ready ] || exit 1
            sleep 0.1
            while [ -e "$name.hold" ]; do sleep 0.05; done
        done
    ) &
}

tls_settings() { printf 'SERVER_GRPC_INSECURE=t\n'; }

# with_settings COMMAND…: with the engine's settings and nothing else in its environment.
with_settings() { exec ./with-settings "$@"; }

write_programs() {
    local settings=(
        "DATABASE_URL=postgresql://hatchet:$(cat password)@127.0.0.1:$(port 2)/hatchet?sslmode=disable"
        DATABASE_MAX_CONNS=15
        SERVER_MSGQUEUE_KIND=postgres
        "SERVER_URL=http://127.0.0.1:$(port 3)"
        "SERVER_PORT=$(port 4)"
        SERVER_GRPC_BIND_ADDRESS=127.0.0.1
        "SERVER_GRPC_PORT=$(port 1)"
        "SERVER_GRPC_BROADCAST_ADDRESS=127.0.0.1:$(port 1)"
        "SERVER_HEALTHCHECK_PORT=$(port 6)"
        SERVER_AUTH_COOKIE_DOMAIN=127.0.0.1
        SERVER_AUTH_COOKIE_INSECURE=t
        SERVER_AUTH_SET_EMAIL_VERIFIED=t
        SERVER_SECURITY_CHECK_ENABLED=false
        # All but gRPC listens on every address, which cannot be changed: no account that anybody could log in to.
        SERVER_ALLOW_SIGNUP=false
        "ADMIN_PASSWORD=Aa1$(cat password)"
        SERVER_LOGGER_LEVEL=warn
        "LITE_STATIC_ASSET_DIR=$STATE/static"
        "LITE_FRONTEND_PORT=$(port 5)"
        "LITE_RUNTIME_PORT=$(port 3)"
    )
    mapfile -t -O "${#settings[@]}" settings < <(tls_settings)
    {
        printf '#!/usr/bin/env bash\nexec env -i'
        printf ' %q' PATH="$PATH" HOME="$STATE" "${settings[@]}"
        printf ' "$@"\n'
    } >with-settings
    {
        printf '#!/usr/bin/env bash\nexec'
        printf ' %q' "$STATE/with-settings" "$ENGINE/hatchet-admin" token create --config "$STATE/config" --tenant-id "$TENANT"
        # shellcheck disable=SC2016 # expanded by the program
        printf ' --name "$1" --expiresIn "$2"\n'
    } >new-token
    chmod +x with-settings new-token
}

start_engine() {
    until "$1/pg_isready" -q -h 127.0.0.1 -p "$(port 2)"; do sleep 0.05; done
    PGPASSWORD=$(cat password) "$1/createdb" -h 127.0.0.1 -p "$(port 2)" -U hatchet hatchet
    write_programs
    (with_settings "$ENGINE/hatchet-migrate")
    (with_settings "$ENGINE/hatchet-admin" quickstart --skip certs --generated-config-dir "$STATE/config" --overwrite=false)
    ./new-token tests 8760h >client-token
    keep engine TERM with_settings "$ENGINE/hatchet-lite" --config "$STATE/config"
}

# Ours, since it ends where a port is taken.
ready() {
    kill -0 "$(cat engine.pid)" && [ -s client-token ] || return 1
    curl -fs -o /dev/null "http://127.0.0.1:$(port 6)/ready" || return 1
    curl -fs -o /dev/null "http://127.0.0.1:$(port 3)/api/ready" || return 1
    touch was-ready
}

env() {
    printf 'export HATCHET_CLIENT_TOKEN=%q\n' "$(cat client-token)"
    printf 'export HATCHET_CLIENT_TLS_STRATEGY=none\n'
    printf 'export HATCHET_CLIENT_HOST_PORT=127.0.0.1:%s\n' "$1"
    printf 'export HATCHET_CLIENT_SERVER_URL=http://127.0.0.1:%s\n' "$(port 3)"
    printf 'export MAGEFLOW_HATCHET_READY_URL=http://127.0.0.1:%s/ready\n' "$(port 6)"
    printf 'export MAGEFLOW_HATCHET_ENGINE=%q\n' "$STATE/engine"
    printf 'export MAGEFLOW_HATCHET_POSTGRES=%q\n' "$STATE/postgres"
    printf 'export MAGEFLOW_HATCHET_NEW_TOKEN=%q\n' "$STATE/new-token"
}

stop() { kill -TERM "$PID"; }
