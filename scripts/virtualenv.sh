# Sourced by the scripts beside it. Needs: root (the top of the clone).
#
# prepare_virtualenv NAME EXTRA [MEANWHILE] makes $root/NAME with the package (editable) and EXTRA in it, at the versions
# of constraints.txt, with Python 3.11 or newer, and sets python to its interpreter. It does nothing when that was
# done before, for the same pyproject.toml and constraints and the same place. The function MEANWHILE is called as soon
# as there is an interpreter, before the packages are there. CHATCLUSTER_PYTHON names the interpreter to use.

say() {
    printf '%s\n' "$*" >&2
}

# Prints an interpreter that can make virtual environments. The Redis wheel exists for 3.11 and 3.12.
find_python() {
    set -- python3.11 python3.12 python3.13 python3.14 python3 python
    [ -z "${CHATCLUSTER_PYTHON:-}" ] || set -- "$CHATCLUSTER_PYTHON"
    for candidate in "$@"; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

create_virtualenv() { # DIRECTORY
    rm -rf "$1"
    if found=$(find_python); then
        "$found" -m venv "$1"
    elif command -v uv >/dev/null 2>&1; then
        uv venv --quiet --seed --python 3.12 "$1"
    else
        say "Error: no Python >= 3.11 with venv found. Install one (on Debian: python3 python3-venv), or uv."
        return 1
    fi
}

prepare_virtualenv() { # NAME EXTRA [MEANWHILE]
    # What is started from here starts many processes more, and without it each compiles all of the package anew.
    unset PYTHONDONTWRITEBYTECODE
    directory=$root/$1
    python=$directory/bin/python
    stamp=$directory/.installed
    constraints=$root/scripts/constraints.txt
    wanted="$root $2 $(cat "$root/pyproject.toml" "$constraints" | cksum)"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$python" -c '' 2>/dev/null; then
        ${3:-:}
        return 0
    fi
    if [ ! -w "$root" ] || { [ -e "$directory" ] && [ ! -w "$directory" ]; }; then
        say "Error: $directory cannot be written by $(id -un). Use a clone of your own."
        return 1
    fi
    say "Installing into $1 (once) ..."
    if ! "$python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        create_virtualenv "$directory" || return 1
    fi
    ${3:-:}
    # Most of what is installed is never imported. What is gets compiled then, once, and nobody waits for the rest.
    "$python" -m pip install --quiet --quiet --disable-pip-version-check --no-compile \
        --constraint "$constraints" --editable "$root[$2]" || {
        say "Error: pip could not install the package; see above."
        return 1
    }
    printf '%s' "$wanted" >"$stamp"
}
