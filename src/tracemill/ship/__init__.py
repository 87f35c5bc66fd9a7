"""The sidecar that takes what applications wrote into folders to a receiver, as `lightspeed-to-dataverse-exporter` does."""
