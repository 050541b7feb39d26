#!/bin/sh
# Run SeaweedFS with MinIO's command line: `minio server DIRECTORY`, on port 9000.
set -eu
test "$1" = server
install -d "$2"
umask 077
cat > /tmp/identities.json <<JSON
{"identities": [{"name": "root", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
  "credentials": [{"accessKey": "$MINIO_ROOT_USER", "secretKey": "$MINIO_ROOT_PASSWORD"}]}]}
JSON
export WEED_MASTER_VOLUME_GROWTH_COPY_1=1
exec weed mini -dir="$2" -ip=127.0.0.1 -ip.bind=0.0.0.0 -s3.port=9000 \
  -s3.config=/tmp/identities.json -s3.port.iceberg=0 -s3.port.lance=0 \
  -s3.autoCreateBucket=false -admin.ui=false -webdav=false -master.telemetry=false
