"""English phrases by which assistants decline and users correct them. What is declined or wrong is not named in them."""

from __future__ import annotations

import re
from collections.abc import Sequence

_VERB = (
    "(?:(?:help|assist|comply|fulfil+|do|answer|support|discuss|process|participat|shar|tell|reveal|disclos|agree|respond"
    "|handl|perform|complet|address|accommodat|execut)(?:e|ing)?"
    "|(?:engag|provid|continu|generat|creat|writ)(?:e|ing)|(?:provid|giv|offer)(?:e|ing)? (?:any )?(?:assistance|help|support))"
)
_CANNOT = (
    "(?:can(?:no|['’]?)t(?: and (?:will not|won['’]?t))?|can not|(?:won['’]?t|will not)(?: be able to| be)?"
    "|(?:am|['’]m) (?:not able|unable)(?: to)?|am (?:not allowed|prohibited|not permitted) (?:to|from)|am not in a position to"
    "|(?:am|['’]m) not (?:authori[sz]ed|equipped|trained|prepared|willing) to"
    "|(?:do(?: not|n['’]t) have (?:the|any)|have no|lack the)"
    " (?:abilit(?:y|ies)|capabilit(?:y|ies)|authority|permission|means|way) (?:to|of)"
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
    _pattern(rf"(?:\bnot|n['’]t) something (?:that )?I(?: can|(?:['’]m| am) \w+ to) {_VERB}\b"),
    _pattern(r"\b(?:outside(?: of)?|beyond) what I (?:can|am able to|['’]m able to) (?:help|assist|do)\b"),
    _pattern(r"\b(?:outside(?: of)?|beyond) my (?:capabilit|abilit|power|expertise|area of expertise|remit|scope)\w*"),
    _pattern(r"\binappropriate for me to\b"),
    _pattern(r"(?:\bnot|n['’]t)(?: be)? (?:appropriate|ethical|responsible|proper) (?:for me )?to\b"),
    _pattern(r"\bI(?:['’](?:ll|m going to)| will| am going to)? (?:have|need|want) to pass on (?:this|that|your|it)\b"),
    _pattern(r"\bI can(?:no|['’]?)t be of (?:any )?(?:assistance|help|service)\b"),
    _pattern(r"\b(?:your|this|that|the) request can(?:no|['’]?)t be \w+(?: by me)?(?: at this time)?[.!]"),
)
"""A short turn in which one of these is found declines as such."""
DECLINED = _pattern(
    r"\b(?:can(?:no|['’]?)t|can not|unable|impossible|won['’]?t|will not|decline|refuse|rather not|prefer not"
    r"|inappropriate|pass on|beyond|outside|not going to"
    r"|(?:not|n['’]t)(?: \w+)? (?:able|possible|allowed|permitted|authori[sz]ed|appropriate|willing|something))\b"
)
"""That something is not to be had, in a turn that says nothing else (:data:`SAYS_NOTHING`)."""
_GRAMMAR = """
a an the this that these those it its it's that's there here such so what which who i i'm i'd i'll i've me my myself
you your you're you've we our us is isn't am are aren't was be been being do does doesn't don't did doing done have
has had haven't having can can't cannot could couldn't will won't would wouldn't should shouldn't must may might not
no nor and or but if as because since for from of off to in into on at by with within without about than then too also
any anything some something someone all both either neither other another else one ones more further just only very
really quite rather even still yet ever never now currently today again however though although unfortunately
regrettably
"""
_DECLINING_WORDS = """
sorry apologies apologize apologise apology afraid regret respectfully please thank thanks understand understanding
inconvenience help assist assistance support answer answering respond response reply continue continuing proceed
provide providing offer handle complete completed process processed fulfill fulfil comply perform carry share discuss
engage participate accommodate decline refuse pass go going get make making take give say tell ask asking asked want
wanted need needed looking like prefer able unable possible impossible allowed permitted authorized authorised willing
comfortable supposed meant designed programmed trained equipped appropriate inappropriate outside beyond against fall
falls goes way ways means ability capability capabilities permission authority position place power scope remit limits
limitations request requests question questions task tasks thing things kind type sort topic matter conversation
subject content information guidelines guideline policy policies rules ai assistant model language digital virtual
feel let know happy glad
"""
SAYS_NOTHING = frozenset((_GRAMMAR + _DECLINING_WORDS).split())
"""Words of which a turn may consist and still say nothing about what was asked for."""
OPENING = 40
"""Words at the beginning of an answer in which it declines and objects, where what it declines is named."""
_OFFER = (
    "(?:provid|giv|offer|shar|suggest|recommend|assist|help|support|creat|generat|writ|answer|engag|participat|discuss|condon|promot"
    "|encourag|advis|teach|fulfil+|comply|facilitat|endors)(?:e|ing)?"
)
DECLINING = _pattern(
    rf"\bI(?: {_CANNOT}|['’]m (?:unable|not able) to) (?:\w+ )?{_OFFER}\b"
    r"|\b(?:it|that)(?:['’]s| is)(?: \w+)? (?:not|never) (?:\w+,? (?:or|and|nor) )?"
    r"(?:appropriate|ethical|legal|acceptable|respectful)\b"
    r"|\bI(?: am|['’]m)(?: just| only)? an? (?:AI|(?:large )?language model)[^.]{0,30}\b(?:do not|don['’]t|cannot|can['’]t)\b"
    r"|\bI(?: strongly)? (?:condemn"
    r"|(?:do not|don['’]t|cannot|can['’]t) (?:condone|promote|encourage|think it(?:['’]s| is) appropriate))\b"
)
OBJECTION_STEMS = (
    "ethical",
    "legal",
    "lawful",
    "acceptable",
    "appropriate",
    "moral",
    "harmful",
    "violen",
    "discriminat",
    "derogatory",
    "offensive",
    "hate",
    "stereotyp",
    "malicious",
    "respectful",
)
"""One of these stands in everything that :data:`OBJECTION` finds; looking for them is far quicker."""
OBJECTION = _pattern(
    r"\b(?:un|not (?:be )?|n['’]t )(?:ethical|legal|acceptable|appropriate)|\b(?:illegal|unlawful|inappropriate|immoral|harmful"
    r"|violence|violent|discriminat\w+|derogatory|offensive|hateful|hate speech|stereotyp\w+|malicious|disrespectful)\b"
)
"""An answer of any length whose opening declines by the one and objects by the other is a refusal, though it names what it
declines: "I cannot provide instructions for breaking in: it is illegal". A policy that is applied names no such objection."""
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


_SIGNS_OF_DECLINING = (
    *("n't", "'not", "unable", "impossible", "have no", "lack the", "prohibit", "declin", "refus", "inappropriate"),
    *("against", "violat", "outside", "beyond", "something", "pass on", "an ai", "a ai", "language"),
)
_WORDS_OF_DECLINING = frozenset({"not", "cannot", "cant", "wont"})
"""One of these signs or words stands in whatever :data:`REFUSALS` and :data:`DECLINED` find."""


def declines(content: str, found: Sequence[str]) -> bool:
    """Whether a short text of the words ``found`` declines what it calls only "that", or says nothing but no. English only."""
    if content.isascii():
        lowered = content.lower()
        if _WORDS_OF_DECLINING.isdisjoint(found) and not any(sign in lowered for sign in _SIGNS_OF_DECLINING):
            return False
    return _says_only_no(content, found) or any(pattern.search(content) for pattern in REFUSALS)


def _says_only_no(content: str, found: Sequence[str]) -> bool:
    """Whether somebody declines for himself in words that name nothing."""
    if not all(word in SAYS_NOTHING or word.replace("’", "'") in SAYS_NOTHING for word in found):
        return False
    own = any(word in ("i", "me", "my") or word[:2] in ("i'", "i’") for word in found)
    return own and DECLINED.search(content) is not None


def declines_and_objects(content: str) -> bool:
    """Whether the first words of an answer decline something and object to it. English only."""
    opening = " ".join(content[: OPENING * 20].split(None, OPENING)[:OPENING])
    lowered = opening.lower()
    if not any(stem in lowered for stem in OBJECTION_STEMS):
        return False
    return OBJECTION.search(opening) is not None and DECLINING.search(opening) is not None
