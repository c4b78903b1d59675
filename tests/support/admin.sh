# Sourced by tests in shell: post PATH BODY asks the admin API of the stack whose `aethelos status --json` is in $status, and prints the whole answer.
admin_member() { grep -o "\"$1\":\"[^\"]*\"" <<<"$status" | head -1 | cut -d'"' -f4; }
host=$(admin_member admin_url) token=$(cat "$(admin_member admin_token_file)")
host=${host#http://}
post() {
  exec 4<>"/dev/tcp/${host%:*}/${host##*:}"
  printf 'POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' \
    "$1" "$host" "$token" "${#2}" "$2" >&4
  cat <&4
  exec 4>&-
}
