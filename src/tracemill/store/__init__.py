"""Where records live: the hot store now, sealed files behind the same verbs later."""
