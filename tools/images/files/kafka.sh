#!/bin/sh
# Start one node of Apache Kafka as the official image does: KAFKA_NODE_ID becomes node.id.
set -eu
config=/tmp/server.properties
logs=${KAFKA_LOG_DIRS:-/tmp/kafka-logs}
classes='/opt/kafka/libs/*'
echo "log.dirs=$logs" > "$config"
env | while IFS='=' read -r name value; do
  case $name in
    KAFKA_HEAP_OPTS | KAFKA_LOG_DIRS) ;;
    KAFKA_*) echo "$(echo "${name#KAFKA_}" | tr 'A-Z_' 'a-z.')=$value" >> "$config" ;;
  esac
done
if [ ! -e "$logs/meta.properties" ]; then
  java -cp "$classes" kafka.tools.StorageTool format \
    -t "${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}" -c "$config"
fi
# Unquoted on purpose: these are several options.
exec java ${KAFKA_HEAP_OPTS:--Xmx512m} -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
  -cp "$classes" kafka.Kafka "$config"
