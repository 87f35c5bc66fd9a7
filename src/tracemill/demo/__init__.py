"""The demo: a small sample written for it, and the main job run on that sample through the product itself."""
