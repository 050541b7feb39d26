#!/bin/bash
# Check that the broker accepts connections: `kafka-broker-api-versions.sh --bootstrap-server HOST:PORT`.
# It opens its listeners last.
exec 3<>"/dev/tcp/${2%:*}/${2##*:}"
