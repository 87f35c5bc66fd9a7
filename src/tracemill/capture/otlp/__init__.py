"""OpenTelemetry: spans and log events of language-model applications as records."""
