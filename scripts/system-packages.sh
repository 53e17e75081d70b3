#!/usr/bin/env bash
# Debian packages that pip cannot bring: OpenGL without a screen, ffmpeg's libraries, a browser for the report's test.
# Installs what is missing when run as root; otherwise says what is missing.
set -euo pipefail

packages=(libegl1 libgl1 libgl1-mesa-dri libgles2 libosmesa6 ffmpeg chromium chromium-driver)

command -v dpkg-query >/dev/null || { echo "not a Debian system: please see that you have ${packages[*]}" >&2; exit 0; }

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "these Debian packages are missing: ${missing[*]}" >&2
  echo "install them with: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
