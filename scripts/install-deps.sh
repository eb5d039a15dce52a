#!/usr/bin/env bash
# Installs what building and running racknest needs on Debian and Ubuntu: a C compiler, git, QEMU, the
# tools that unpack a kernel package, and the package lists from which the guest image is made.
#
# When all is there it says so, asks for nothing and touches no network. Otherwise it uses apt-get, with
# sudo where the user is not root. Rust is taken from the distribution only where that is new enough.
#
# Usage: scripts/install-deps.sh [--tests] [--bench] [--dry-run]
#   --tests     also what the checks need (clippy, rustfmt; tshark and scapy, to look at networks with)
#   --bench     also the peers that networks are measured beside (iperf3, Open vSwitch, VDE)
#   --dry-run   say what would be installed, and install nothing
set -euo pipefail
export LC_ALL=C
export PATH=$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rust_min=$(sed -nE 's/^rust-version = "(.*)"$/\1/p' "$here/Cargo.toml")
dry_run='' for_tests='' for_bench=''

say() { echo "install-deps: $*"; }
die() { echo "install-deps: $*" >&2; exit 1; }

has() { command -v "$1" >/dev/null 2>&1; }

# A compiler without the C library's headers (gcc without libc6-dev) compiles nothing of ours.
has_cc() { has cc && echo '#include <stdlib.h>' | cc -x c -fsyntax-only - 2>/dev/null; }

# The packages behind the commands that are missing.
missing_packages() {
  has_cc || echo gcc libc6-dev
  has git || echo git
  has make || echo make
  has qemu-system-x86_64 || echo qemu-system-x86
  has qemu-img || echo qemu-utils
  has xz || echo xz-utils
  has zstd || echo zstd
  has flock || echo util-linux
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  [ -z "$for_tests" ] || has tshark || echo tshark
  [ -z "$for_tests" ] || has_scapy || echo python3-scapy
  [ -z "$for_bench" ] || missing_peers
}

# The distribution's scapy is for the distribution's Python, whichever comes first on the path.
has_scapy() { /usr/bin/python3 -c 'import scapy' 2>/dev/null; }

missing_peers() {
  has iperf3 || echo iperf3
  has ip || echo iproute2
  has ping || echo iputils-ping
  has ovs-vswitchd || echo openvswitch-switch
  has vde_switch || echo vde2
}

# The guest image is unpacked from packages of the archive, for which apt must know the archive.
needs_lists() {
  [ ! -s "$here/guest/build/vmlinuz" ] && [ -z "$(apt-cache madison busybox-static 2>/dev/null)" ]
}

as_root() {
  if [ -n "$dry_run" ]; then
    say "would run: $*"
  elif [ "$(id -u)" = 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  elif has sudo; then
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  else
    die "not root, and there is no sudo: as root, run: $*"
  fi
}

candidate() { apt-cache policy "$1" 2>/dev/null | sed -nE 's/^ *Candidate: (.*)$/\1/p' | grep -v '(none)' || true; }

# Never at the price of a package that is there: apt would rather remove a newer qemu-utils than fail.
apt_install=(apt-get install --no-install-recommends --no-remove)

# Whether apt can install these; changes nothing.
would_install() { "${apt_install[@]}" --dry-run "$@" >/dev/null 2>&1; }

# Installs packages. A qemu-utils that came from elsewhere (backports, a vendor) can be newer than the
# qemu-system-x86 of the archive and shut it out; then the archive's own version takes its place.
install() {
  local version
  if would_install "$@"; then
    as_root "${apt_install[@]}" --yes --quiet "$@" || die "apt-get could not install: $*"
    return
  fi
  for version in $(candidate qemu-system-x86) $(apt-cache madison qemu-utils 2>/dev/null | awk '{ print $3 }'); do
    if would_install --allow-downgrades "$@" "qemu-utils=$version"; then
      say "qemu-utils is replaced by version $version, which goes with this distribution's qemu-system-x86"
      as_root "${apt_install[@]}" --yes --quiet --allow-downgrades "$@" "qemu-utils=$version" ||
        die "apt-get could not install: $* qemu-utils=$version"
      return
    fi
  done
  "${apt_install[@]}" --dry-run "$@" 2>&1 | grep -vE '^(NOTE|Inst|Conf|Remv)' | tail -n 20 >&2 || true
  die "apt-get cannot install: $* (its reasons are above)"
}

install_packages() {
  local packages=("$@")
  has apt-get || die "this is neither Debian nor Ubuntu; install these by hand, then run it again: ${packages[*]}"
  # A fresh machine or container knows no package yet, and old lists name files that are gone.
  as_root apt-get update --quiet || die "apt-get update failed: check the network and /etc/apt/sources.list"
  if [ ${#packages[@]} -gt 0 ]; then
    install "${packages[@]}"
  fi
}

at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

rust_version() { (cd "$here"; rustc --version 2>/dev/null || true) | awk '{ print $2 }'; }

how_to_get_rust="install it as https://rustup.rs says, then run this again"

need_rust() {
  local version
  version=$(rust_version)
  if [ -n "$version" ] && has cargo; then
    at_least "$version" "$rust_min" && return
    if has rustup; then die "Rust $version is too old, $rust_min is needed: run: rustup update stable"; fi
    die "Rust $version is too old, $rust_min is needed: $how_to_get_rust"
  fi
  install_rust
}

install_rust() {
  local packaged
  packaged=$(candidate rustc)
  # 1.85.0+dfsg3-1 is release 1.85.0
  if [ -n "$packaged" ] && at_least "${packaged%%[+~-]*}" "$rust_min"; then
    install cargo rustc rustfmt rust-clippy
  elif [ -n "$(candidate rustup)" ]; then
    install rustup
    [ -n "$dry_run" ] || rustup default stable || die "rustup could not download Rust: check the network, then run: rustup default stable"
  else
    die "Rust $rust_min or newer is missing, and this distribution has none: $how_to_get_rust"
  fi
  [ -n "$dry_run" ] || at_least "$(rust_version)" "$rust_min" || die "Rust $rust_min or newer is missing: $how_to_get_rust"
}

need_lints() {
  if cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1; then return; fi
  if has rustup; then die "clippy or rustfmt is missing: run: rustup component add clippy rustfmt"; fi
  die "clippy or rustfmt is missing: run: sudo apt-get install rust-clippy rustfmt"
}

main() {
  local argument packages
  for argument in "$@"; do
    case $argument in
      --tests) for_tests=yes ;;
      --bench) for_bench=yes ;;
      --dry-run) dry_run=yes ;;
      *) die "unknown argument $argument; usage: scripts/install-deps.sh [--tests] [--bench] [--dry-run]" ;;
    esac
  done
  [ "$(uname -sm)" = "Linux x86_64" ] || die "this is $(uname -sm); racknest's box needs Linux on x86_64"
  read -r -d '' -a packages <<<"$(missing_packages)" || true
  if [ ${#packages[@]} -gt 0 ] || needs_lists; then
    install_packages "${packages[@]}"
    [ -n "$dry_run" ] || [ -z "$(missing_packages)" ] ||
      die "installed, yet still missing: $(missing_packages | tr '\n' ' '): look at what apt-get said above"
  fi
  need_rust
  [ -z "$for_tests" ] || [ -n "$dry_run" ] || need_lints
  say "all that is needed is there"
}

main "$@"
