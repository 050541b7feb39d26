"""Triggers of KEDA: they follow what the services themselves use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sluice_backends.redis import keys
from sluice_common.settings import SluiceSettings
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from tools.deploy_checks.loading import load
from tools.deploy_checks.manifests import Manifest, by_name, of_kind, our_workloads, shown


def triggers(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield triggers that watch other streams, topics and queues than the services do."""
    scaled = {workload.name: workload for workload in our_workloads(manifests)}
    known = by_name(manifests, "TriggerAuthentication")
    for manifest in of_kind(manifests, "ScaledObject"):
        workload = scaled.get(manifest["spec"]["scaleTargetRef"]["name"])
        if workload is None:
            continue  # reported by `replicas`
        settings = load(workload, manifests)
        found = manifest["spec"]["triggers"]
        for problem in _problems(found, settings):
            yield f"{shown(manifest)}: {problem}"
        for trigger in found:
            name = trigger.get("authenticationRef", {}).get("name")
            if name is not None and name not in known:
                yield f"{shown(manifest)}: there is no TriggerAuthentication {name}"
        modifiers = manifest["spec"].get("advanced", {}).get("scalingModifiers")
        if modifiers is not None:
            terms = {term.strip() for term in modifiers["formula"].split("+")}
            if terms != {trigger.get("name") for trigger in found}:
                yield f"{shown(manifest)}: its formula is not the sum of its triggers"
        elif sum(trigger["type"] == "redis-streams" for trigger in found) > 1:
            yield f"{shown(manifest)}: shards count one by one; add them by a formula"


def _problems(triggers: Sequence[dict[str, Any]], settings: SluiceSettings) -> Iterator[str]:
    streams = {t["metadata"]["stream"] for t in triggers if t["type"] == "redis-streams"}
    wanted = {keys.queue(shard) for shard in range(settings.redis.shards)}
    if streams and streams != wanted:
        yield f"follows {len(streams)} streams, not those of {len(wanted)} shards"
    for trigger in triggers:
        given = trigger["metadata"]
        match trigger["type"]:
            case "redis-streams":
                # With a consumer group KEDA counts what is taken and not what waits.
                if "consumerGroup" in given or "streamLength" not in given:
                    yield f"{trigger.get('name')}: does not count the whole stream"
            case "kafka":
                if given["topic"] != UPLOADS_TOPIC:
                    yield f"topic {given['topic']} is not {UPLOADS_TOPIC}"
                if given["consumerGroup"] != settings.processor.group:
                    yield f"group {given['consumerGroup']} is not {settings.processor.group}"
                if given["bootstrapServers"] != settings.kafka.bootstrap_servers:
                    yield "its brokers are not SLUICE_KAFKA__BOOTSTRAP_SERVERS"
            case "aws-sqs-queue":
                if given["queueURL"] != settings.sqs.queue_url:
                    yield "its queue is not SLUICE_SQS__QUEUE_URL"
            case other:
                yield f"{other} is a trigger that no check knows"
