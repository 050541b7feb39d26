#!/bin/sh
# Upload a file by tus with curl: its first half, and after a look at the offset the rest.
#
#   SLUICE_TOKEN=… sh docs/examples/tus_upload.sh http://127.0.0.1:8080 FILE
set -eu
server=$1
file=$2
tus() {
  curl --silent --show-error --fail -H 'Tus-Resumable: 1.0.0' \
    ${SLUICE_TOKEN:+-H "Authorization: Bearer $SLUICE_TOKEN"} "$@"
}
header() { tr -d '\r' | sed -n "s/^$1: //p"; }

size=$(wc -c <"$file" | tr -d ' ')
name=$(basename "$file" | tr -d '\n' | base64 | tr -d '\n')
upload=$(tus -X POST "$server/files" --dump-header - -H "Upload-Length: $size" \
  -H "Upload-Metadata: filename $name" | header location)

head -c $((size / 2)) "$file" | tus -X PATCH "$server$upload" --data-binary @- \
  -H 'Upload-Offset: 0' -H 'Content-Type: application/offset+octet-stream'

offset=$(tus --head "$server$upload" | header upload-offset)
echo "$offset of $size bytes are accepted"

tail -c +$((offset + 1)) "$file" | tus -X PATCH "$server$upload" --data-binary @- \
  -H "Upload-Offset: $offset" -H 'Content-Type: application/offset+octet-stream'
echo "$(tus --head "$server$upload" | header upload-offset) of $size bytes are accepted"
