#!/usr/bin/env bash
# Debian packages that pip cannot bring: OpenGL without a screen and ffmpeg's libraries; with the word `browser` also the
# one that tests open reports in, unless there is one or POSA_VLA_WITHOUT_BROWSER=1.
# Installs what is missing when run as root; otherwise says what is missing.
set -euo pipefail

packages=(libegl1 libgl1 libgl1-mesa-dri libgles2 libosmesa6 ffmpeg)
hint=""
has_browser() { command -v chromium && command -v chromedriver; }
if [ "${1:-}" = browser ] && [ "${POSA_VLA_WITHOUT_BROWSER:-}" != 1 ] && ! has_browser >/dev/null; then
  packages+=(chromium chromium-driver)
  hint=" (POSA_VLA_WITHOUT_BROWSER=1 leaves out the tests that need a browser)"
fi

command -v dpkg-query >/dev/null || { echo "not a Debian system: please see that you have ${packages[*]}$hint" >&2; exit 0; }

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

advice="these Debian packages are missing: ${missing[*]}
install them with: sudo apt-get install ${missing[*]}$hint"
if [ "$(id -u)" -ne 0 ]; then
  echo "$advice" >&2
  exit 1
fi
apt-get update -qq
if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
  echo "$advice" >&2
  exit 1
fi
