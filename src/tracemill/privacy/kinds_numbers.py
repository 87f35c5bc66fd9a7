"""Rules for numbers of money, medicine, accounts and national registers."""

from __future__ import annotations

from stdnum.au import tfn
from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ch_ahv
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.dk import cpr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar, pan
from stdnum.it import codicefiscale
from stdnum.mx import curp
from stdnum.nl import bsn
from stdnum.no import fodselsnummer
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.us import itin, rtn, ssn
from stdnum.za import idnr as za_idnr

from tracemill.privacy import validity
from tracemill.privacy.kinds import Rule

_NUMBER = r"(?: (?:number|no\.?|nr\.?|num|id|code))?"
_SAYS = r"(?: (?:is|was|are|of))?\s{0,2}[:#=]{0,2}\s{0,2}"
_CODE = r"([A-Za-z0-9](?:[A-Za-z0-9]|[-/._][A-Za-z0-9]){3,29})"


def _named(kind: str, group: str, words: str, value: str = _CODE, score: float = 0.75) -> Rule:
    """A rule for a value without a shape of its own, which only the words before it give away."""
    pattern = rf"(?i)\b(?:{words}){_NUMBER}{_SAYS}{value}"
    return Rule(kind, group, pattern, score, valid=validity.code)  # type: ignore[arg-type]


MONEY: tuple[Rule, ...] = (
    Rule("payment_card", "money", r"[2-6]\d{3}(?:[ -]?\d){9,15}", 0.97, valid=validity.card, apart="-"),
    Rule("iban", "money", r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}", 0.99, valid=validity.iban),
    Rule("bic", "money", r"[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?", 0.8, ("bic", "swift")),
    Rule(
        "card_security_code",
        "money",
        r"(?i)\b(?:cvv2?|cvc2?|cid|security code|card verification)(?: (?:number|code))?(?:"
        r" is)?\s{0,2}[:#=]?\s{0,2}(\d{3,4})",
        0.85,
    ),
    Rule(
        "card_expiry",
        "money",
        r"(?i)\b(?:exp(?:\.|iry|ires|iration)?(?: date)?|valid thru)(?:"
        r" is)?\s{0,2}[:#=]?\s{0,2}((?:0[1-9]|1[0-2])/(?:20)?\d\d)",
        0.8,
    ),
    Rule(
        "bank_account",
        "money",
        r"(?i)\b(?:bank account|checking account|savings account|account|acct|kontonummer|konto)\.?(?:"
        r" (?:number|no\.?|nr\.?|num))?(?: is)?\s{0,2}[:#=]?\s{0,2}(\d(?:[ -]?\d){5,16})",
        0.8,
    ),
    Rule("bank_routing_number", "money", r"\d{9}", 0.9, ("routing", "aba", "rtn", "transit"), valid=validity.by(rtn)),
    Rule("bank_sort_code", "money", r"\d{2}-\d{2}-\d{2}", 0.85, ("sort code", "sort-code", "sortcode")),
    Rule(
        "crypto_wallet",
        "money",
        r"(?:bc1[02-9ac-hj-np-z]{11,71}|[13][1-9A-HJ-NP-Za-km-z]{25,34})",
        0.97,
        valid=validity.bitcoin,
    ),
    Rule("crypto_wallet", "money", r"0x[0-9a-fA-F]{40}", 0.85),
)
MEDICAL: tuple[Rule, ...] = (
    _named(
        "medical_record_number",
        "medical",
        r"medical record|mrn|patient(?: (?:id|number|no\.?))|chart|hospital number|health record",
        score=0.85,
    ),
    _named(
        "health_plan_number",
        "medical",
        r"health plan(?: beneficiary)?|beneficiary|member id|subscriber id|insurance id|policy number"
        r"|insurance policy|group number|medicaid|krankenversicherungsnummer",
    ),
    _named("prescription_number", "medical", r"prescription|rx"),
    Rule(
        "us_mbi",
        "medical",
        r"[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d{2}",
        0.9,
        ("medicare", "mbi", "beneficiary"),
        0.7,
    ),
    Rule("us_npi", "medical", r"[12]\d{9}", 0.9, ("npi", "provider"), valid=validity.npi),
    Rule("us_dea", "medical", r"[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}", 0.9, ("dea", "prescriber"), 0.7, valid=validity.dea),
    Rule("uk_nhs", "medical", r"\d{3}[ -]?\d{3}[ -]?\d{4}", 0.95, ("nhs", "health service"), valid=validity.by(nhs)),
)
ACCOUNTS: tuple[Rule, ...] = (
    _named("passport", "account", r"passport|reisepass|passeport|pasaporte", r"([A-Z0-9]{6,10})", 0.85),
    _named(
        "driver_license",
        "account",
        r"driv(?:er|ing)(?:'?s)? licen[cs]e|dl(?: (?:number|no\.?))|führerschein",
        r"([A-Z0-9](?:[A-Z0-9]|[ -][A-Z0-9]){4,19})",
        0.85,
    ),
    _named(
        "customer_id",
        "account",
        r"customer(?: (?:id|number|no\.?))|client id|loyalty(?: number)|frequent flyer|membership(?: (?:id|number))",
    ),
    _named("employee_id", "account", r"employee(?: (?:id|number|no\.?))|staff id|personnel number|badge"),
    _named(
        "certificate_number",
        "account",
        r"certificate(?: (?:number|no\.?))|professional licen[cs]e|licen[cs]e(?: (?:number|no\.?))",
    ),
    _named(
        "tax_id", "account", r"tax(?:payer)? (?:id|identification)|tin|ein|vat(?: (?:id|number|no\.?))|ust-?id(?:nr)?"
    ),
)
NATIONAL: tuple[Rule, ...] = (
    Rule(
        "us_ssn",
        "national",
        r"\d{3}-\d{2}-\d{4}",
        0.97,
        ("ssn", "social security", "social"),
        0.9,
        valid=validity.by(ssn),
    ),
    Rule("us_ssn", "national", r"\d{3} ?\d{2} ?\d{4}", 0.85, ("ssn", "social security"), valid=validity.by(ssn)),
    Rule(
        "us_itin",
        "national",
        r"9\d{2}[- ]?[5-9]\d[- ]?\d{4}",
        0.9,
        ("itin", "taxpayer", "tax"),
        valid=validity.by(itin),
    ),
    Rule(
        "uk_nino",
        "national",
        r"(?i:[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D])",
        0.95,
        ("national insurance", "nino", "ni number"),
        0.75,
        valid=validity.nino,
    ),
    Rule(
        "ca_sin",
        "national",
        r"\d{3}[- ]\d{3}[- ]\d{3}|\d{9}",
        0.9,
        ("sin", ("social insurance")),
        valid=validity.by(sin),
    ),
    Rule("au_tfn", "national", r"\d{3} ?\d{3} ?\d{2,3}", 0.9, ("tfn", "tax file"), valid=validity.by(tfn)),
    Rule(
        "de_tax_id",
        "national",
        r"\d{2} ?\d{3} ?\d{3} ?\d{3}",
        0.9,
        ("steuer", "idnr", "tax id", "steuer-id", "steueridentifikationsnummer"),
        valid=validity.by(idnr),
    ),
    Rule(
        "fr_nir",
        "national",
        r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}",
        0.95,
        ("nir", "sécurité sociale", "securite sociale", "insee"),
        0.8,
        valid=validity.by(nir),
    ),
    Rule(
        "es_dni", "national", r"\d{8}-?[A-HJ-NP-TV-Z]", 0.95, ("dni", "nif", "documento"), 0.8, valid=validity.by(dni)
    ),
    Rule(
        "es_nie", "national", r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]", 0.95, ("nie", "extranjero"), 0.85, valid=validity.by(nie)
    ),
    Rule(
        "it_fiscal_code",
        "national",
        r"(?i:[A-Z]{6}\d{2}[ABCDEHLMPRST]\d{2}[A-Z]\d{3}[A-Z])",
        0.98,
        valid=validity.by(codicefiscale),
    ),
    Rule(
        "nl_bsn",
        "national",
        r"\d{4}\.?\d{2}\.?\d{3}",
        0.9,
        ("bsn", "burgerservicenummer", "sofinummer"),
        valid=validity.by(bsn),
    ),
    Rule(
        "be_nn",
        "national",
        r"\d{2}\.?\d{2}\.?\d{2}-?\d{3}\.?\d{2}",
        0.9,
        ("rijksregister", "registre national", "national number", "insz", "niss"),
        valid=validity.by(nn),
    ),
    Rule("pl_pesel", "national", r"\d{11}", 0.9, ("pesel",), valid=validity.by(pesel)),
    Rule(
        "se_personnummer",
        "national",
        r"(?:19|20)?\d{6}[-+]?\d{4}",
        0.9,
        ("personnummer", "personal number"),
        valid=validity.by(personnummer),
    ),
    Rule(
        "fi_hetu",
        "national",
        r"\d{6}[-+A]\d{3}[0-9A-Y]",
        0.95,
        ("hetu", "henkilötunnus"),
        0.85,
        valid=validity.by(hetu),
    ),
    Rule(
        "no_fodselsnummer",
        "national",
        r"\d{6} ?\d{5}",
        0.9,
        ("fødselsnummer", "fodselsnummer", "personnummer"),
        valid=validity.by(fodselsnummer),
    ),
    Rule("dk_cpr", "national", r"\d{6}-?\d{4}", 0.9, ("cpr", "personnummer"), valid=validity.by(cpr)),
    Rule("ch_ahv", "national", r"756\.?\d{4}\.?\d{4}\.?\d{2}", 0.97, valid=validity.by(ch_ahv)),
    Rule("br_cpf", "national", r"\d{3}\.\d{3}\.\d{3}-\d{2}", 0.97, valid=validity.by(cpf)),
    Rule("br_cpf", "national", r"\d{11}", 0.9, ("cpf",), valid=validity.by(cpf)),
    Rule(
        "in_aadhaar",
        "national",
        r"[2-9]\d{3} ?\d{4} ?\d{4}",
        0.95,
        ("aadhaar", "aadhar", "uidai"),
        valid=validity.by(aadhaar),
    ),
    Rule(
        "in_pan",
        "national",
        r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]",
        0.9,
        ("pan", "permanent account"),
        0.7,
        valid=validity.by(pan),
    ),
    Rule("mx_curp", "national", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d", 0.97, valid=validity.by(curp)),
    Rule("cn_ric", "national", r"[1-9]\d{5}(?:19|20)\d{9}[\dXx]", 0.97, valid=validity.by(ric)),
    Rule(
        "za_id",
        "national",
        r"\d{13}",
        0.9,
        ("id number", "south african", "identity number"),
        valid=validity.by(za_idnr),
    ),
)
RULES: tuple[Rule, ...] = (*MONEY, *MEDICAL, *ACCOUNTS, *NATIONAL)
