#!/usr/bin/env bash
# Creates the secret that all nodes of a cluster and everybody who submits to it share. It is never printed or passed as
# an argument.
#
#   token.sh                     creates ~/.ray/auth_token if there is none, readable by its owner only
#   token.sh HOST [HOST ...]     also copies it to the same place on these hosts, through ssh
#
# RAY_AUTH_TOKEN_PATH chooses another file on this machine; on the hosts it is always ~/.ray/auth_token.
set -euo pipefail

file="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
umask 077

if [[ ! -s "$file" ]]; then
    mkdir -p "$(dirname "$file")"
    # Written next to the final path and then linked, so that two scripts that run at once use the same token.
    new="$(mktemp "$file.XXXXXX")"
    trap 'rm -f "$new"' EXIT
    head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$new"
    ln "$new" "$file" 2>/dev/null || true
fi
chmod 600 "$file"
echo "token: $file"

for host in "$@"; do
    # shellcheck disable=SC2016  # $HOME is the other host's
    ssh -- "$host" 'umask 077 && mkdir -p "$HOME/.ray" && cat >"$HOME/.ray/auth_token.new" && mv "$HOME/.ray/auth_token.new" "$HOME/.ray/auth_token"' <"$file"
    echo "copied to $host"
done
