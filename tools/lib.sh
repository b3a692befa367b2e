# Functions that the tools share. Sourced, not run.

# Where the tools keep what they fetch, and in it tools/setup-cuda's nvcc; build.rs looks there too.
HIRED_CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/hired"
HIRED_CUDA="$HIRED_CACHE/cuda-11.8"

say() { printf '%s\n' "$*" >&2; }
die() {
    say "${0##*/}: $*"
    exit 1
}

# Runs a command as root, by sudo where one is needed and allowed without a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo "$@"
    else
        die "needs root for: $* (run it yourself, then start this again)"
    fi
}

# install_packages NAME...: by apt, from the sources the machine has.
install_packages() {
    command -v apt-get >/dev/null || die "no apt-get here: install $* by the means of this system"
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get install -qq -y --no-install-recommends "$@" >&2 && return
    as_root apt-get update -qq >&2
    as_root apt-get install -qq -y --no-install-recommends "$@" >&2 || die "apt cannot install $*"
}

# The C++ compiler that nvcc needs and the emulator is built with.
need_gxx() {
    command -v g++ >/dev/null || install_packages g++
}

# What bindgen reads kernels/abi.h with: libclang, and a C compiler's stdint.h, which libclang comes without.
need_libclang() {
    # Not libclang-cpp, which is another library.
    if ! compgen -G "${LIBCLANG_PATH:-/nowhere}/libclang[-.][0-9s]*" >/dev/null &&
        ! ldconfig -p 2>/dev/null | grep -qE 'libclang(-[0-9.]+)?\.so' &&
        ! compgen -G '/usr/lib/llvm-*/lib/libclang[-.][0-9s]*' >/dev/null; then
        install_packages libclang1-14
    fi
    command -v gcc >/dev/null || install_packages gcc
}

# A heading between the parts of a long run.
step() { printf '\n== %s\n' "$*"; }

# Rust, as new as Cargo.toml asks for, and the linker it needs.
need_rust() {
    local asked version
    asked=$(sed -nE 's/^rust-version = "(.*)"$/\1/p' "${BASH_SOURCE[0]%/*}/../Cargo.toml")
    local way="install Rust $asked or newer (https://rustup.rs)"
    command -v cargo >/dev/null || die "cargo is missing: $way"
    version=$(cargo --version) || die "cargo cannot say its version: $way"
    version=$(cut -d' ' -f2 <<<"$version")
    [ "$(printf '%s\n' "$asked" "$version" | sort -V | head -n 1)" = "$asked" ] ||
        die "cargo $version is too old: $way"
    command -v cc >/dev/null || install_packages gcc libc6-dev
}

# Rust's formatter and lints.
need_rust_tools() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
    command -v rustup >/dev/null || die "cargo fmt and clippy are missing: install them, or Rust by https://rustup.rs"
    rustup component add rustfmt clippy
}

# Whether build.rs will find an nvcc: it searches the same places (build/toolkit.rs).
has_nvcc() {
    local home
    [ "${HIRED_NO_CUDA:-}" != 1 ] || return 1
    [ -z "${NVCC:-}" ] || return 0
    for home in "${CUDA_HOME:-}" "${CUDA_PATH:-}" "$HIRED_CUDA"; do
        [ -z "$home" ] || [ ! -f "$home/bin/nvcc" ] || return 0
    done
    command -v nvcc >/dev/null
}

# What `cargo build` needs: where there is an nvcc it compiles the kernels, which takes a C++ compiler. The program is told
# the commit for `hired --version`.
need_build() {
    need_rust
    : "${HIRED_COMMIT:=$(git rev-parse --short HEAD 2>/dev/null)}"
    [ -z "$HIRED_COMMIT" ] || export HIRED_COMMIT
    if has_nvcc; then need_gxx; fi
}
