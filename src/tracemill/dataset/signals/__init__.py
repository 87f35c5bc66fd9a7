"""Signals: how behaviour becomes examples.

Three look at one interaction and what was said of it (``supervised``, ``labelled``, ``edits``), one at two trials of a
task (``trials``). Each answers with examples, or with a :class:`~tracemill.core.steps.Drop` that says why it makes
nothing of what it saw. They are pure, and know nothing of files.
"""
