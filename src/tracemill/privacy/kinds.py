"""What a kind of personal data or secret looks like: rules for contacts, places, dates, devices and people.

A rule is a pattern in RE2's syntax, a check of what it matched, and words that stand near such a value. RE2 matches in time
linear in the text, whatever the text is; what its patterns cannot say (there is no looking around) the checks say.
The other rules are in :mod:`kinds_numbers` (money, medicine, national ids) and :mod:`kinds_secrets`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tracemill.privacy import validity

Group: TypeAlias = Literal[
    "contact", "place", "date", "device", "person", "money", "medical", "national", "account", "secret"
]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind is found. The value is the pattern's first group where it has one, else all of the match.

    ``score`` (0 to 1) holds with one of the ``context`` words near, or where there are none; ``alone`` without such a
    word (0: then it is none). ``valid`` is asked last, with the matched text. A matched value has no letter or digit on
    either side unless ``inside`` allows it, nor a sign out of ``apart`` with a digit behind it.
    """

    kind: str
    group: Group
    pattern: str
    score: float = 0.9
    context: tuple[str, ...] = ()
    alone: float = 0.0
    valid: Callable[[str], bool] | None = None
    inside: bool = False
    apart: str = ""


LETTER = r"[A-Za-z\x{C0}-\x{24F}\x{370}-\x{1FFF}\x{3040}-\x{D7FF}]"
"""A letter, near enough: RE2 makes far more states of \\p{L}, and of a count after it."""
CAPITAL = r"[A-Z\x{C0}-\x{DE}\x{391}-\x{3A9}\x{410}-\x{42F}]"

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|"
    r"aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
DATE = (
    r"(?i:(?:19|20)\d\d[-/.](?:1[0-2]|0?[1-9])[-/.](?:3[01]|[12]\d|0?[1-9])"
    r"|(?:3[01]|[12]\d|0?[1-9])[-/.](?:3[01]|[12]\d|0?[1-9])[-/.](?:19|20)\d\d"
    rf"|{_MONTH}\.? (?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?,? (?:19|20)\d\d"
    rf"|(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?(?: of)? {_MONTH}\.?,? (?:19|20)\d\d)"
)
"""A whole date: year, month and day, in figures or with the month's English name."""

_STREET = (
    r"(?:street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|place|pl|square|sq"
    r"|terrace|ter|way|parkway"
    r"|pkwy|highway|hwy|circle|cir|close|crescent|grove|gardens|row|alley|trail|trl)"
)
STATE = r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY])"
_BORN = (
    "born",
    "birth",
    "birthday",
    "birthdate",
    "dob",
    "d.o.b",
    "geboren",
    "geburtsdatum",
    "naissance",
    "nacimiento",
    "nascimento",
)
_NAME = rf"{CAPITAL}(?:{LETTER}|['-])+"

RULES: tuple[Rule, ...] = (
    Rule(
        "email",
        "contact",
        rf"(?:{LETTER}|[0-9._%+'-])+@(?:(?:{LETTER}|[0-9-])+\.)+{LETTER}{{2,}}",
        0.99,
        valid=validity.email,
    ),
    Rule(
        "phone",
        "contact",
        r"(?:\+\d{1,3}[ .\-/]?(?:\(\d{1,5}\)[ .\-/]?)?\d(?:[ .\-/]?\d){5,13}"
        r"|\(\d{2,5}\) ?[ .-]?\d{2,5}(?:[ .-]?\d{2,5}){1,3}|1?[ .-]?\d{3}[ .-]\d{3}[ .-]\d{4}"
        r"|00[1-9]\d{0,2}(?:[ .\-/]\d{2,5}){2,5}|0\d{1,4}[ /-]\d{2,5}(?:[ -]\d{2,5}){1,3})",
        0.85,
        valid=validity.phone,
    ),
    Rule(
        "phone",
        "contact",
        r"\d{7,15}",
        0.75,
        (
            "phone",
            "telephone",
            "tel",
            "mobile",
            "cell",
            "call",
            "sms",
            "text me",
            "whatsapp",
            "fax",
            "reach me",
            "telefon",
            "handy",
        ),
        valid=validity.bare_phone,
    ),
    Rule("ip_address", "device", r"(?:\d{1,3}\.){3}\d{1,3}", 0.9, valid=validity.ip_address, apart="."),
    Rule(
        "ip_address",
        "device",
        r"(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}"
        r"|(?:[0-9a-fA-F]{1,4}:){0,6}[0-9a-fA-F]{0,4}::(?:[0-9a-fA-F]{1,4}:){0,6}[0-9a-fA-F]{0,4}(?:(?:\.\d{1,3}){3})?",
        0.9,
        valid=validity.ip_address,
    ),
    Rule(
        "mac_address",
        "device",
        r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}|(?:[0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}",
        0.95,
        valid=validity.mac,
    ),
    Rule(
        "imei", "device", r"\d{2}[- ]?\d{6}[- ]?\d{6}[- ]?\d", 0.95, ("imei", "handset", "device"), valid=validity.imei
    ),
    Rule(
        "device_serial",
        "device",
        r"(?i:serial(?: number| no\.?)?|s/n|device id)\s{0,2}(?:[:#=]|is)?\s{0,2}([A-Z0-9][A-Z0-9-]{5,24})",
        0.75,
        valid=validity.code,
    ),
    Rule(
        "vehicle_vin",
        "device",
        r"[A-HJ-NPR-Z0-9]{17}",
        0.9,
        ("vin", "vehicle", "chassis", "car"),
        0.6,
        valid=validity.vin,
    ),
    Rule(
        "license_plate",
        "device",
        r"(?i:licen[cs]e plate|number ?plate|plate(?: number| no\.?)|registration(?: plate| number)"
        r"|kennzeichen|vehicle reg)"
        r"(?: (?:is|was))?\s{0,2}[:#=]?\s{0,2}([A-Z0-9ÄÖÜ]{1,4}[ -]?[A-Z0-9]{1,4}(?:[ -]?[A-Z0-9]{1,4})?)",
        0.8,
        valid=validity.code,
    ),
    Rule(
        "geo_coordinates",
        "place",
        r"-?(?:[0-8]?\d|90)\.\d{4,8}°?[NS]?, ?-?(?:1[0-7]\d|\d{1,2}|180)\.\d{4,8}°?[EW]?",
        0.85,
    ),
    Rule(
        "street_address",
        "place",
        rf"\d{{1,6}}[A-Za-z]?(?:[ -]\d{{1,4}})? (?:[NSEW]\.? |North |South |East |West"
        rf" )?(?:(?:{CAPITAL}|\d)(?:{LETTER}|['.-])* ){{1,4}}(?i:{_STREET})"
        r"\b\.?(?:,? (?i:apt|apartment|suite|ste|unit|floor|fl|room|rm|#)\.? ?#?[A-Za-z0-9-]{1,6})?"
        rf"(?:, ?(?:{CAPITAL}(?:{LETTER}|['.-])+ ?){{1,3}},? {STATE}(?: \d{{5}}(?:-\d{{4}})?)?)?",
        0.85,
    ),
    Rule(
        "street_address",
        "place",
        rf"(?:{CAPITAL}(?:{LETTER}|[.-])+(?:straße|strasse|str\.|weg|platz|allee|gasse|laan|straat)"
        rf"|{CAPITAL}(?:{LETTER}|[.-])+ (?:Straße|Strasse|Str\.|Weg|Platz|Allee|Gasse|Laan|Straat)"
        r"|(?:Rue|Avenue|Boulevard|Calle|Avenida|Via|Viale|Piazza|Rua|Plaza) (?:(?:de|du|des|la|le|del"
        r"|di|da|do|dos) ){0,2}"
        rf"{CAPITAL}(?:{LETTER}|['.-])+(?: {CAPITAL}(?:{LETTER}|['.-])+)?,?)"
        r" \d{1,4}[a-z]?",
        0.85,
    ),
    Rule("post_box", "place", r"(?i:p\.? ?o\.? ?box|postfach|apartado)\s{0,2}#?\d{1,8}", 0.9),
    Rule("postal_code", "place", rf"\b{STATE},? (\d{{5}}(?:-\d{{4}})?)", 0.75),
    Rule("postal_code", "place", r"[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}", 0.75, valid=validity.uk_postcode),
    Rule(
        "postal_code",
        "place",
        r"\d{5}(?:-\d{4})?|[A-Z]\d[A-Z] ?\d[A-Z]\d|\d{4} ?[A-Z]{2}",
        0.75,
        ("zip", "zip code", "zipcode", "postal", "postcode", "plz", "postleitzahl"),
    ),
    Rule("date_of_birth", "date", DATE, 0.9, _BORN, valid=validity.date),
    Rule("date", "date", DATE, 0.7, valid=validity.date),
    Rule(
        "age_over_89",
        "date",
        r"(?i)\b(?:aged?:? |is |am |i'm )(9\d|1[01]\d)(?: years? old| y/?o\b|-year-old)?|\b(9\d"
        r"|1[01]\d)(?: years? old| y/o|-year-old)",
        0.8,
        valid=validity.old_age,
    ),
    Rule(
        "person_name",
        "person",
        rf"(?:(?i:my (?:full )?name is|my name's|i am called|call me|name of(?: the)? (?:patient"
        rf"|customer|passenger|guest)(?: is)?[:]?)"
        rf"|(?i:patient|customer|passenger|guest|full|first|last|sur|cardholder|account holder)(?:"
        rf" ?(?i:name))?:|\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof)\.?) ({_NAME}(?: (?:{_NAME}|[A-Z]\.)){{0,3}})",
        0.8,
        valid=validity.name,
    ),
    Rule(
        "person_name",
        "person",
        rf"\b(?:I am|I'm|I’m|This is|this is) ({_NAME}(?: (?:{_NAME}|[A-Z]\.)){{1,2}})",
        0.65,
        valid=validity.name,
    ),
    Rule(
        "profile_url",
        "contact",
        r"(?i)https?://(?:[a-z]{2,3}\.)?(?:linkedin\.com/in|facebook\.com|instagram\.com|twitter\.com"
        r"|x\.com|github\.com|tiktok\.com/@|t\.me|medium\.com/@)/?([\w.%-]{3,64})",
        0.8,
        valid=validity.profile,
    ),
    Rule(
        "social_handle",
        "contact",
        r"@[A-Za-z_][A-Za-z0-9_.]{2,29}",
        0.75,
        ("twitter", "instagram", "telegram", "handle", "tiktok", "discord", "mastodon", "follow", "ig", "insta"),
    ),
    Rule(
        "username",
        "account",
        r"(?i)\b(?:user ?name|user[ _-]?id|login|handle|screen name)\b[\"']?(?: is|:|=|"
        r" ?#)\s{0,2}[\"'`]?([A-Za-z0-9](?:[\w.@-]{0,61}[A-Za-z0-9_]))",
        0.75,
        valid=validity.handle,
    ),
    Rule(
        "username",
        "account",
        r"[a-z]{2,20}[._][a-z]{2,20}[._]?\d{2,6}",
        0.7,
        ("user", "username", "account", "handle", "member", "customer", "login"),
    ),
)
