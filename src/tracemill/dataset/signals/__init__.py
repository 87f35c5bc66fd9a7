"""Signals: how behaviour becomes examples.

Most look at one interaction and what is attached to it (:mod:`tracemill.dataset.signals.single` names them all), ``trials``
at two attempts at a task, ``regenerations`` at the calls of a conversation. Each answers with examples, or with a
:class:`~tracemill.core.steps.Drop` that says why it makes nothing of what it saw. They are pure, and know nothing of files.
"""
