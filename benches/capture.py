"""Time on the caller's thread to capture one interaction: `python -m benches.capture`.

Each case runs in a process of its own, as an application would: captures at a steady pace, and only the call itself is
timed. The store is alive (the embedded one), hung (a delivery that never returns) or dead (a delivery that always fails).
Peers that are installed run the same payload with a backend that nobody listens at.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benches import results

CALLS = {2_000: 4000, 1_000_000: 150}
PAUSE = {2_000: 0.0002, 1_000_000: 0.01}
ROUNDS = 3
DEAD = "http://127.0.0.1:9"


def _messages(size: int) -> list[dict[str, Any]]:
    words = "the parcel was seen at the depot this morning and will be with you tomorrow "
    text = (words * (size // len(words) + 1))[:size]
    return [{"role": "system", "content": "You are helpful."}, {"role": "user", "content": text}]


def _ours(store: str) -> Callable[[list[dict[str, Any]]], Any]:
    from tracemill.core.errors import DeliveryError
    from tracemill.core.settings import load_settings
    from tracemill.sdk.client import Client
    from tracemill.sdk.collector import Collector
    from tracemill.sdk.delivery import Delivered

    folder = Path(tempfile.mkdtemp())
    settings = load_settings({"workspace": str(folder)}, environment={})

    class Bad:
        def deliver(self, _items: Sequence[bytes]) -> Delivered:
            if store == "hung":
                time.sleep(3600)
            raise DeliveryError("dead")

        def close(self) -> None:
            pass

    def alive() -> Any:
        from tracemill.workspace import Workspace

        return Workspace.open(settings=settings).delivery()

    collector = Collector(Client(folder, settings, alive if store == "alive" else Bad))
    response = {"role": "assistant", "content": "ok"}

    def call(messages: list[dict[str, Any]]) -> None:
        collector.log_interaction(
            platform="bench", messages=messages, response=response, success=True, duration_ms=12.5, conversation_id="c"
        )

    return call


def _opentelemetry(_store: str) -> Callable[[list[dict[str, Any]]], Any]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{DEAD}/v1/traces", timeout=1)))
    tracer = provider.get_tracer("bench")

    def call(messages: list[dict[str, Any]]) -> None:
        with tracer.start_as_current_span("chat gpt") as span:
            span.set_attribute("gen_ai.operation.name", "chat")
            span.set_attribute("gen_ai.conversation.id", "c")
            span.set_attribute("gen_ai.input.messages", json.dumps(messages))
            span.set_attribute("gen_ai.output.messages", '[{"role": "assistant", "content": "ok"}]')

    return call


def _langfuse(_store: str) -> Callable[[list[dict[str, Any]]], Any]:
    from langfuse import Langfuse

    client = Langfuse(public_key="pk-bench", secret_key="sk-bench", base_url=DEAD, timeout=1)

    def call(messages: list[dict[str, Any]]) -> None:
        with client.start_as_current_observation(name="chat", as_type="generation", input=messages) as observation:
            observation.update(output="ok")

    return call


TOOLS = {"tracemill": _ours, "opentelemetry": _opentelemetry, "langfuse": _langfuse}


def child(tool: str, store: str, size: int) -> None:
    """One case: print the microseconds of each call as JSON."""
    logging.disable(logging.CRITICAL)
    call = TOOLS[tool](store)
    messages = _messages(size)
    taken = []
    for number in range(CALLS[size] + 50):
        started = time.perf_counter_ns()
        call(messages)
        elapsed = time.perf_counter_ns() - started
        if number >= 50:
            taken.append(elapsed / 1000)
        time.sleep(PAUSE[size])
    print(json.dumps(taken), flush=True)
    os._exit(0)  # a hung delivery must not hold up the benchmark


def _measure(tool: str, store: str, size: int) -> dict[str, Any]:
    rounds = []
    for _ in range(ROUNDS):
        command = [sys.executable, "-m", "benches.capture", "--child", tool, store, str(size)]
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "TMPDIR": folder}
            found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
        rounds.append(sorted(json.loads(found.stdout.splitlines()[-1])))

    def at(share: float) -> float:
        return results.middle([taken[min(len(taken) - 1, int(len(taken) * share))] for taken in rounds])

    return {
        "tool": tool,
        "store": store,
        "payload": f"{size / 1000:,.0f} KB",
        "p50 µs": at(0.5),
        "p99 µs": at(0.99),
        "p99.9 µs": at(0.999),
        "max µs": results.middle([taken[-1] for taken in rounds]),
    }


def main() -> None:
    """Measure every case and write the results."""
    cases = [("tracemill", store) for store in ("alive", "hung", "dead")]
    for peer, module in (("opentelemetry", "opentelemetry.sdk"), ("langfuse", "langfuse")):
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if found:
            cases.append((peer, "dead"))
    rows = [_measure(tool, store, size) for size in CALLS for tool, store in cases]
    results.write(
        "capture",
        "Time on the caller's thread to capture one interaction",
        "python -m benches.capture",
        rows,
        [
            f"Each case in its own process, {CALLS[2000]} calls (2 KB) or {CALLS[1000000]} (1 MB); median of {ROUNDS} rounds.",
            "Aim at 2 KB: p50 ≤ 15 µs and p99 ≤ 200 µs, the same while the store hangs.",
            "OpenTelemetry: batch processor and OTLP/HTTP exporter; Langfuse: its own client; both with a dead backend.",
        ],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
