#!/usr/bin/env bash
# The secret that all nodes of a cluster, and everybody who submits to it, share. Never printed, never an argument.
#
#   token.sh                     makes ~/.ray/auth_token where there is none, readable by its owner alone
#   token.sh HOST [HOST ...]     and copies it to the same place on these hosts, through ssh
#
# RAY_AUTH_TOKEN_PATH names another file here; on the hosts it is always ~/.ray/auth_token.
set -euo pipefail

file="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
umask 077

if [[ ! -s "$file" ]]; then
    mkdir -p "$(dirname "$file")"
    # Written beside its place and linked there: two that run at once agree on one token.
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
