"""Calls of OpenAI's HTTP interface, as they went over the wire, as Interactions."""
