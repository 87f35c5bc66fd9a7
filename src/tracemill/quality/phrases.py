"""English phrases by which assistants decline and users correct them. What is declined or wrong is not named in them."""

from __future__ import annotations

import re

_VERB = (
    "(?:(?:help|assist|comply|fulfil+|do|answer|support|discuss|process|participat|shar|tell|reveal|disclos|agree|respond)(?:e|ing)?"
    "|(?:engag|provid|continu|generat|creat|writ)(?:e|ing)|(?:provid|giv|offer)(?:e|ing)? (?:any )?(?:assistance|help|support))"
)
_CANNOT = (
    "(?:can(?:no|['’]?)t(?: and (?:will not|won['’]?t))?|can not|(?:won['’]?t|will not)(?: be able to| be)?"
    "|(?:am|['’]m) (?:not able|unable)(?: to)?|am (?:not allowed|prohibited|not permitted) (?:to|from)|am not in a position to"
    "|not able to|unable to|not comfortable"
    "|(?:am|['’]m) not (?:going|programmed|designed|permitted) to"
    "|(?:must|have to|need to) (?:decline|refuse)|decline|refuse to|do(?: not|n['’]t) feel comfortable)"
)
_THAT = (
    r"(?:(?:with|in|to) )?(?:that|this|so|such|your|these|those|any of (?:that|this))"
    r"(?: (?:one|specific|particular|harmful|sensitive))? ?"
)
_REQUEST = (
    r"(?:request|question|task|topic|content|information|issue|matter|conversation|discussion|prompt"
    r"|(?:kind|type|sort) of \w+)?s?(?: for you)?"
)
_END = r"\s*(?:[.!,;:\n—-]|$|because|as|at (?:this|the moment)|on (?:ethical|legal|moral)|since|right now|due to)"


def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(source, re.IGNORECASE | re.DOTALL)


REFUSALS = (
    _pattern(rf"\bI(?: {_CANNOT}|['’]m (?:unable|not able) to) (?:\w+ )?{_VERB} (?:you )?{_THAT}{_REQUEST}{_END}"),
    _pattern(
        r"^(?:i['’]?m |i am )?(?:very |so )?(?:sorry|apologi[sz]e|unfortunately)?[,.]? ?(?:but )?(?:I )?"
        rf"{_CANNOT} {_VERB} (?:you )?{_THAT}{_REQUEST}[.!]?$"
    ),
    _pattern(
        r"\bas an? (?:AI|artificial intelligence|language model|large language)\b.{0,60}?"
        r"\b(?:can(?:no|['’]?)t|not able|unable|don['’]t|do not)"
    ),
    _pattern(r"\bI(?:['’]m| am) (?:just|only) an? (?:AI|language model)"),
    _pattern(
        r"\b(?:against|violates?) (?:my|our)(?: usage| content)? (?:guidelines|programming|policy|policies|principles)\b"
    ),
    _pattern(r"\bI (?:must|have to|need to) (?:respectfully )?(?:decline|refuse)\b"),
    _pattern(
        r"\b(?:not something|something) (?:that )?I(?: can(?:no|['’])?t?|['’]m| am)(?: not| un)?(?: ?able| allowed)?"
        r"(?: to)?(?: do| help| assist| discuss)?(?: with)?[.!]"
    ),
    _pattern(r"\b(?:outside(?: of)?|beyond) what I (?:can|am able to|['’]m able to) (?:help|assist|do)\b"),
    _pattern(r"\binappropriate for me to\b"),
)
"""A short turn in which one of these is found declines as such."""
CORRECTION = _pattern(
    r"^(?:no|nope|wrong)\b[,.! —-]+(?:that['’]?s (?:wrong|not|incorrect)|this is (?:wrong|not)|it['’]?s (?:not|wrong)"
    r"|you (?:did|were|have|are|should)|i (?:said|meant|asked|wanted)|not (?:that|this|what))\b"
    r"|\bthat(?:['’]s| is) (?:wrong|incorrect|not (?:right|correct|true|what i (?:asked|said|meant|wanted)))"
    r"|\bnot what i (?:asked|said|meant|wanted|requested)"
    r"|\byou (?:misunderstood|misread|got (?:it|that) wrong|are (?:wrong|mistaken)|made (?:a mistake|an error)|forgot|ignored)"
    r"|\byou['’]re (?:wrong|mistaken)|\bi already (?:told you|said|gave you)"
    r"|\bi (?:just (?:told|said)|said|asked for|meant)\b[^.?!]{0,40}\bnot\b"
)
"""A user's message in which this is found corrects the assistant's turn before it."""
_SIGNS = ("not", "wrong", "already", "mist", "misread", "misunderstood", "incorrect", "error", "forgot", "ignored")
"""One of these stands in whatever :data:`CORRECTION` finds behind the beginning of a text."""


def corrects(content: str) -> bool:
    """Whether a user's message corrects the assistant's turn before it. English only."""
    if content.isascii():  # which folds no other way than by its letters
        lowered = content.lower()
        if not lowered.startswith(("no", "wrong")) and not any(sign in lowered for sign in _SIGNS):
            return False
    return CORRECTION.search(content) is not None
