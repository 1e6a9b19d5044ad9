# shellcheck shell=bash
# What the scripts share. Sourced; expects `set -euo pipefail`.

# A failure inside $(…) ends the script too.
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Names that parts may have, in the order in which they run. A part exists once it has a file in scripts/parts.
PART_NAMES=(core store taskiq hatchet celery temporal worker)

say() { printf '%s\n' "$*" >&2; }

# die STATUS MESSAGE…
die() {
    local status=$1
    shift
    say "$*"
    exit "$status"
}

# need COMMAND=PACKAGE… installs Debian packages whose command is missing, and says so. Does nothing where all are there.
need() {
    local pair packages=() as_root=(command env)
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || packages+=("${pair#*=}")
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null 2>&1 || die 1 "missing, and there is no apt-get to install it: ${packages[*]}"
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo env); fi
    say "installing Debian packages: ${packages[*]}"
    # RUNLEVEL=1 keeps a package from starting its service: the tests start private ones.
    "${as_root[@]}" apt-get update -qq >&2
    "${as_root[@]}" DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${packages[@]}" >&2
}

# The one thing that a Rust toolchain does not bring.
need_linker() { need cc=gcc cc=libc6-dev; }

# Where things are kept between runs, outside of the clone. May be removed at any time.
cache_folder() { printf '%s\n' "${MAGEFLOW_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mageflow-ci}"; }

# python_with NAME: the interpreter of a virtual environment with the packages of scripts/requirements/NAME.txt. Makes it
# where it is missing, one for each interpreter and each content of that file.
python_with() (
    file=$ROOT/scripts/requirements/$1.txt
    need python3=python3
    # Debian keeps this module in a package of its own, which brings no command to look for.
    python3 -c 'import ensurepip' 2>/dev/null || need ensurepip=python3-venv
    version=$(python3 -c 'import sys; print(sys.executable, sys.version)')
    key=$({ printf '%s\n' "$version" && cat "$file"; } | sha256sum)
    folder=$(cache_folder)/python/$1-${key:0:16}
    mkdir -p "${folder%/*}"
    exec 8>"$folder.lock"
    flock 8
    if [ ! -e "$folder/complete" ]; then
        say "installing Python packages: $1"
        rm -rf "$folder"
        python3 -m venv "$folder" >&2
        # Without dependencies, and then a check that none is missing: what the file does not name is not installed.
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps -r "$file" >&2
        "$folder/bin/python" -m pip --disable-pip-version-check check >&2
        touch "$folder/complete"
    fi
    printf '%s\n' "$folder/bin/python"
)

# go_for FOLDER: a `go` that can build the module in this folder: the one on the PATH, unless it is too old. Debian's may be;
# one comes as a Python package.
go_for() {
    local python
    if (cd "$1" && go list -m) >/dev/null 2>&1; then
        command -v go
    else
        python=$(python_with go)
        printf '%s/go\n' "${python%/*}"
    fi
}

# hatchet_engine: the folder where Hatchet's engine is kept, once it was built from these files.
hatchet_engine() {
    local key
    key=$(cat "$ROOT"/scripts/hatchet-engine/go.{mod,sum} | sha256sum)
    printf '%s/hatchet-engine/%s\n' "$(cache_folder)" "${key:0:16}"
}

# engine_is_built: whether Hatchet's engine is there.
engine_is_built() { [ -e "$(hatchet_engine)/complete" ]; }

# targets test|bench|example: the names of such targets, one a line. Cargo prints this list when a name is left out, which
# spares us a JSON parser. Root package only for examples.
targets() {
    local command answer
    case $1 in
        example) command=(run) ;;
        bench) command=(bench --workspace) ;;
        *) command=(test --workspace) ;;
    esac
    answer=$(cd "$ROOT" && cargo "${command[@]}" "--$1" 2>&1) || true
    case $answer in
        *"No $1"*"available"*) ;;
        *"Available $1"*) sed -n 's/^    \([A-Za-z0-9_-]*\)$/\1/p' <<<"$answer" ;;
        *) die 1 "cannot list the $1 targets: $answer" ;;
    esac
}

# part_of TARGET: the part that runs a test target or an example. `taskiq` and `taskiq_…` belong to taskiq once that part
# exists, so that core needs no server; everything else is core's, so that nothing is run by nobody.
part_of() {
    local name
    for name in "${PART_NAMES[@]}"; do
        if [[ $1 == "$name" || $1 == "$name"_* ]] && [ -e "$ROOT/scripts/parts/$name" ]; then
            printf '%s\n' "$name"
            return
        fi
    done
    printf 'core\n'
}

# targets_of PART test|example: the part's own targets, one a line.
targets_of() {
    local all target
    all=$(targets "$2")
    for target in $all; do
        if [ "$(part_of "$target")" = "$1" ]; then printf '%s\n' "$target"; fi
    done
}

# seconds_since START: whole seconds since a value of SECONDS.
seconds_since() { printf '%d s' "$((SECONDS - $1))"; }

# A port of 127.0.0.1 that nobody listens on. Below the range from which outgoing connections get theirs. It can be taken
# before the server has it: `scripts/services up` tries again then.
free_port() {
    local port
    while :; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            printf '%d\n' "$port"
            return
        fi
    done
}

# make_authority: makes ca.key and ca.crt here.
make_authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -days 30 \
        -subj "/CN=authority for tests" -addext basicConstraints=critical,CA:TRUE
}

# make_certificate NAME SUBJECT: makes NAME.key, and a certificate NAME.crt that the authority has signed.
make_certificate() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$2"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" -extfile <(
        printf 'basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n'
    )
}

# supervise COMMAND…: for a service of several processes, which this shell has started in the background. Runs COMMAND,
# then waits. Once it is asked to end, or one of them has ended, all end.
supervise() {
    # shellcheck disable=SC2046 # one word for each process
    trap 'trap - TERM EXIT; kill -TERM $(jobs -p) 2>/dev/null || true; wait; exit' TERM EXIT
    "$@"
    wait -n
}
