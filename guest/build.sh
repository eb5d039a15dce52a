#!/usr/bin/env bash
# Builds the tiny Linux guest that "live" VMs boot: build/vmlinuz, build/initramfs.cpio and build/cmdline.
#
# Everything comes from the distribution's package archive (kernel, its modules, busybox-static), so it
# works where only that archive can be reached, and it needs no root: packages are unpacked, not installed.
#
# A stamp over this script, rootfs/ and the package versions makes a second run do nothing. Downloads stay
# in build/download, so that a changed script rebuilds without the network.
#
# Usage: guest/build.sh [--force]     prints one line: what it built, or that there was nothing to do
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$here/build
download=$out/download

# Modules the guest loads when it finds the device (see rootfs/sbin/racknest-device), and the ACPI power
# button. What is built into the kernel (Ubuntu's virtio) is not found as a file, and is not needed.
modules=(virtio_pci virtio_net virtio_blk virtio_balloon virtio_console button evdev)

die() { echo "guest/build.sh: $*" >&2; exit 1; }

need() { command -v "$1" >/dev/null || die "$1 is missing: install it with: sudo apt-get install $2"; }

# The packages a meta-package stands for: the first alternative of each dependency named like a kernel.
kernel_packages() {
  local package
  for package in $(apt-cache depends --no-recommends --no-suggests "$1" 2>/dev/null |
    sed -nE 's/^ *\|?Depends: (linux-(image|modules)-[0-9][^ ]*)$/\1/p'); do
    # linux-image-* of Ubuntu depends on linux-modules-*; Debian's holds its modules itself.
    echo "$package"
    apt-cache depends --no-recommends --no-suggests "$package" 2>/dev/null |
      sed -nE 's/^ *\|?Depends: (linux-modules-[0-9][^ ]*)$/\1/p'
  done | sort -u
}

# The smallest kernel that this distribution has for virtual machines.
choose_kernel() {
  local meta packages
  for meta in linux-image-cloud-amd64 linux-image-virtual linux-image-amd64 linux-image-generic; do
    packages=$(kernel_packages "$meta")
    if [ -n "$packages" ]; then echo "$packages"; return; fi
  done
  die "no kernel package found: run apt-get update, or check /etc/apt/sources.list"
}

version_of() { apt-cache policy "$1" | sed -nE 's/^ *Candidate: (.*)$/\1/p'; }

# Downloads the packages that are not there yet. Each lands under a name without colons, whole or not at all.
fetch() {
  local package version target
  mkdir -p "$download"
  for package in "$@"; do
    version=$(version_of "$package")
    [ -n "$version" ] && [ "$version" != "(none)" ] || die "the archive has no package $package: run apt-get update"
    target=$download/$package-${version//[^A-Za-z0-9.+~-]/_}.deb
    if [ ! -s "$target" ]; then
      local dir
      dir=$(mktemp -d "$download/fetch.XXXXXX")
      (cd "$dir" && apt-get -q -q -o APT::Sandbox::User=root download "$package" >/dev/null) ||
        die "cannot download $package from the package archive: check the network and run apt-get update"
      mv "$dir"/*.deb "$target"
      rmdir "$dir"
    fi
    echo "$target"
  done
}

# The names in a module's own "depends=" record: needs neither kmod nor depmod.
module_depends() { tr '\0' '\n' <"$1" | sed -nE 's/^depends=(.*)$/\1/p' | tr ',-' '\n_'; }

# Copies module $1 and what it needs, dependencies first, and writes the load order to its list.
add_module() {
  local name=$1 list=$2 file plain dependency
  if grep -qx "$name" "$list"; then return; fi
  file=$(find "$unpacked" -name "$name.ko*" -o -name "${name//_/-}.ko*" | head -n 1)
  [ -n "$file" ] || return 0
  plain=$stage/lib/modules/$name.ko
  case $file in
    *.ko) cp "$file" "$plain" ;;
    *.ko.xz) need xz xz-utils; xz -dc "$file" >"$plain" ;;
    *.ko.zst) need zstd zstd; zstd -qdc "$file" >"$plain" ;;
    *) die "cannot unpack the module $file" ;;
  esac
  for dependency in $(module_depends "$plain"); do add_module "$dependency" "$list"; done
  echo "$name" >>"$list"
}

build() {
  local deb busybox kernel module applet
  work=$(mktemp -d "$out/work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  unpacked=$work/unpacked stage=$work/stage
  mkdir -p "$unpacked" "$stage"/{bin,dev,etc,lib/modules,proc,root,run,sbin,sys,tmp,www}
  for deb in "$@"; do dpkg-deb -x "$deb" "$unpacked"; done

  kernel=$(find "$unpacked/boot" -name 'vmlinuz-*' | head -n 1)
  [ -n "$kernel" ] || die "the kernel package holds no vmlinuz"
  busybox=$(find "$unpacked" -path '*bin/busybox' -type f | head -n 1)
  [ -n "$busybox" ] || die "the package busybox-static holds no busybox"

  cp "$busybox" "$stage/bin/busybox"
  for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$stage/bin/$applet"
  done
  cp -R "$here/rootfs/." "$stage/"
  chmod 0755 "$stage/init" "$stage"/sbin/*
  for module in "${modules[@]}"; do
    : >"$work/order"
    add_module "$module" "$work/order"
    if [ -s "$work/order" ]; then cp "$work/order" "$stage/lib/modules/$module.order"; fi
  done

  # Not compressed: an emulated CPU takes longer to unpack it than QEMU takes to copy it.
  (cd "$stage" && find . -mindepth 1 | sort | "$busybox" cpio -o -H newc 2>/dev/null) >"$work/initramfs.cpio"
  mv "$kernel" "$out/vmlinuz.new" && mv "$out/vmlinuz.new" "$out/vmlinuz"
  mv "$work/initramfs.cpio" "$out/initramfs.cpio"
  # Found by measuring: docs/measurements/guest.md.
  echo "console=tty0 console=ttyS0 quiet loglevel=3 panic=1 mitigations=off no_timer_check random.trust_cpu=on ipv6.disable=1 init_on_alloc=0 nokaslr cryptomgr.notests 8250.nr_uarts=1 i8042.noaux memhp_default_state=online" >"$out/cmdline"
}

main() {
  need apt-get apt; need apt-cache apt; need dpkg-deb dpkg; need sha256sum coreutils
  mkdir -p "$out"
  exec 9>"$out/lock"
  if command -v flock >/dev/null; then flock 9; fi

  local sources stamp packages debs package
  # Without the archive's lists (a machine cut off after the first build) the last choice stands.
  sources=$(cd "$here" && find build.sh rootfs -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-64)
  if [ "${1:-}" != --force ] && [ -s "$out/vmlinuz" ] && [ -s "$out/initramfs.cpio" ] && [ -s "$out/cmdline" ] &&
    [ "$(cat "$out/stamp" 2>/dev/null)" = "$sources" ]; then
    echo "guest image: up to date ($out)"
    return
  fi

  packages="$(choose_kernel) busybox-static"
  # shellcheck disable=SC2086 # a list of words
  debs=$(fetch $packages)
  stamp=$sources
  rm -f "$out/stamp"
  # shellcheck disable=SC2086
  build $debs
  # The stamp is written last: a build that was killed half-way is done again.
  echo "$stamp" >"$out/stamp"
  package=$(echo "$packages" | head -n 1)
  echo "guest image: built from $package and busybox-static, $(du -k "$out/vmlinuz" | cut -f1) KiB kernel," \
    "$(du -k "$out/initramfs.cpio" | cut -f1) KiB initramfs ($out)"
}

main "$@"
