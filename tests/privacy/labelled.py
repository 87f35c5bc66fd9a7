"""One text for every kind, its value between « and », and texts that look like something and are nothing. All invented."""

from __future__ import annotations

import random
import string

from tracemill.privacy.detect import Finding

_drawn = random.Random(4)


def drawn(length: int, letters: str = string.ascii_letters + string.digits) -> str:
    """Letters that look like a key's."""
    return "".join(_drawn.choice(letters) for _ in range(length - 2)) + "a7"


HEX = "0123456789abcdef"
JWT = f"eyJ{drawn(20)}.eyJ{drawn(40)}.{drawn(43)}"

EXAMPLES: tuple[tuple[str, str], ...] = (
    ("email", "Write to «ada.lovelock+home@mail.example.co.uk», please."),
    ("email", "Schreib an «jürgen.groß@müller-söhne.example»!"),
    ("phone", "Call me at «+44 20 7946 0958» tomorrow"),
    ("phone", "or (work) «(212) 555-0123»."),
    ("phone", "my mobile: «2125550187»"),
    ("ip_address", "it came from «84.17.52.9»"),
    ("ip_address", "and from «2a02:8108:4a40:1::17»."),
    ("mac_address", "the card is «00:1B:44:11:3A:B7»"),
    ("imei", "IMEI «49-015420-323751-8»"),
    ("device_serial", "serial number: «C02XK1ZZJG5J»"),
    ("vehicle_vin", "the car, VIN «1M8GDM9AXKP042788»"),
    ("license_plate", "license plate «7ABC123» was seen"),
    ("geo_coordinates", "meet at «48.208176, 16.373819»"),
    ("street_address", "I live at «742 Birch Hollow Lane, Apt 5» now"),
    ("street_address", "Lieferung: «Lindenstraße 17»"),
    ("street_address", "au «Rue de la Paix 12»"),
    ("post_box", "send it to «P.O. Box 4471»"),
    ("postal_code", "zip code «60614»"),
    ("postal_code", "in London «SW1A 1AA»"),
    ("date_of_birth", "born on «12 March 1984» in Graz"),
    ("date_of_birth", "DOB: «03/12/1984»"),
    ("date", "we met on «2024-02-29» again"),
    ("age_over_89", "she is «93» years old"),
    ("person_name", "Hello, my name is «Orla Quist» and"),
    ("person_name", "Dear Mrs. «Quist-Haber», thank you"),
    ("profile_url", "https://www.linkedin.com/in/«orla-quist-b12»"),
    ("social_handle", "follow me on Instagram: «@orla.quist»"),
    ("username", "my user id is «orla_quist_77»."),
    ("username", "the user, «orla_quist_7731», asked"),
    ("payment_card", "card «4111 1111 1111 1111» please"),
    ("iban", "IBAN «DE89 3704 0044 0532 0130 00»"),
    ("bic", "SWIFT: «DEUTDEFF500»"),
    ("card_security_code", "the CVV is «331»"),
    ("card_expiry", "expires «09/27»"),
    ("bank_account", "account number «000123456789»"),
    ("bank_routing_number", "routing «111000025»"),
    ("bank_sort_code", "sort code «20-45-77»"),
    ("crypto_wallet", "pay to «1BoatSLRHtKNngkdXEeobR76b53LETtpyT»"),
    ("crypto_wallet", f"or «0x{drawn(40, HEX)}»"),
    ("medical_record_number", "MRN: «A-4471-22»"),
    ("health_plan_number", "member ID «XEH123456789»"),
    ("prescription_number", "prescription number «7744-123»"),
    ("us_mbi", "Medicare «1EG4-TE5-MK73»"),
    ("us_npi", "provider NPI «1234567893»"),
    ("us_dea", "DEA «AB1234563»"),
    ("uk_nhs", "NHS number «943 476 5919»"),
    ("passport", "passport number «X4471192»"),
    ("driver_license", "driver's license «D1234567»"),
    ("customer_id", "customer number «K-99123»"),
    ("employee_id", "employee id: «E10442»"),
    ("certificate_number", "certificate number «CERT-88-1201»"),
    ("tax_id", "VAT number «ATU12345678»"),
    ("us_ssn", "it is «536-90-4399» as you know"),
    ("us_itin", "ITIN «912-90-3456»"),
    ("uk_nino", "national insurance «AB 12 34 56 C»"),
    ("ca_sin", "SIN «123-456-782»"),
    ("au_tfn", "TFN «123 456 782»"),
    ("de_tax_id", "Steuer-ID «36 574 261 809»"),
    ("fr_nir", "NIR «2 95 10 99 126 111 93»"),
    ("es_dni", "DNI «54362315K»"),
    ("es_nie", "NIE «X2482300W»"),
    ("it_fiscal_code", "codice «RCCMNL83S18D969H»"),
    ("nl_bsn", "BSN «111222333»"),
    ("be_nn", "registre national «85.07.30-033.28»"),
    ("pl_pesel", "PESEL «44051401359»"),
    ("se_personnummer", "personnummer «880320-0016»"),
    ("fi_hetu", "hetu «131052-308T»"),
    ("no_fodselsnummer", "fødselsnummer «15108695088»"),
    ("dk_cpr", "CPR «211062-5629»"),
    ("ch_ahv", "AHV «756.9217.0769.85»"),
    ("br_cpf", "CPF «390.533.447-05»"),
    ("in_aadhaar", "Aadhaar «2345 6789 0124»"),
    ("in_pan", "PAN «ACUPA7085R»"),
    ("mx_curp", "CURP «BOXW310820HNERXN09»"),
    ("cn_ric", "ID «11010519491231002X»"),
    ("za_id", "South African «7503305044089»"),
    ("aws_access_key", f"key «AKIA{'QYLPMN5HHH44TRCA'}»"),
    ("aws_secret_key", f"aws secret_access_key «{drawn(40)}»"),
    ("google_api_key", f"«AIza{drawn(35)}»"),
    ("google_oauth_token", f"«ya29.{drawn(60)}»"),
    ("github_token", f"use «ghp_{drawn(36)}» for it"),
    ("gitlab_token", f"«glpat-{drawn(20)}»"),
    ("slack_token", f"«xoxb-{drawn(12, string.digits[1:])}-{drawn(24)}»"),
    ("slack_webhook", f"«https://hooks.slack.com/services/T{drawn(8)}/B{drawn(8)}/{drawn(24)}»"),
    ("discord_webhook", f"«https://discord.com/api/webhooks/123456789012345678/{drawn(68)}»"),
    ("stripe_key", f"«sk_live_{drawn(24)}»"),
    ("anthropic_key", f"«sk-ant-api03-{drawn(80)}»"),
    ("openai_key", f"«sk-proj-{drawn(48)}»"),
    ("huggingface_token", f"«hf_{drawn(34)}»"),
    ("groq_key", f"«gsk_{drawn(52)}»"),
    ("perplexity_key", f"«pplx-{drawn(48)}»"),
    ("xai_key", f"«xai-{drawn(80)}»"),
    ("replicate_token", f"«r8_{drawn(37)}»"),
    ("twilio_key", f"«SK{drawn(32, HEX)}»"),
    ("sendgrid_key", f"«SG.{drawn(22)}.{drawn(43)}»"),
    ("mailgun_key", f"«key-{drawn(32, HEX)}»"),
    ("mailchimp_key", f"«{drawn(32, HEX)}-us14»"),
    ("npm_token", f"«npm_{drawn(36)}»"),
    ("pypi_token", f"«pypi-{drawn(120)}»"),
    ("digitalocean_token", f"«dop_v1_{drawn(64, HEX)}»"),
    ("shopify_token", f"«shpat_{drawn(32, HEX)}»"),
    ("square_token", f"«sq0atp-{drawn(22)}»"),
    ("telegram_bot_token", f"«110201543:AA{drawn(33)}»"),
    ("databricks_token", f"«dapi{drawn(32, HEX)}»"),
    ("grafana_token", f"«glsa_{drawn(41)}»"),
    ("newrelic_key", f"«NRAK-{drawn(27, string.ascii_uppercase).upper()}»"),
    ("vault_token", f"«hvs.{drawn(90)}»"),
    ("notion_token", f"«ntn_{drawn(46)}»"),
    ("linear_key", f"«lin_api_{drawn(40)}»"),
    ("postman_key", f"«PMAK-{drawn(24, HEX)}-{drawn(34, HEX)}»"),
    ("atlassian_token", f"«ATATT3{drawn(180)}»"),
    ("sentry_dsn", f"«https://{drawn(32, HEX)}@o44.ingest.example.com/1234»"),
    ("tracemill_key", f"«tm_{drawn(16, HEX)}_{drawn(72, HEX)}»"),
    ("private_key", f"see «-----BEGIN RSA PRIVATE KEY-----\n{drawn(200)}\n-----END RSA PRIVATE KEY-----» there"),
    ("jwt", f"it is «{JWT}»"),
    ("azure_key", f"AccountName=x;AccountKey=«{drawn(86)}==»;EndpointSuffix"),
    ("bearer_token", f"Authorization: Bearer «{drawn(40)}»"),
    ("basic_auth", "curl -H 'Authorization: Basic «b3JsYTpodW50ZXIy»'"),
    ("url_password", "postgres://orla:«s3cr3t!x»@db.example.com/app"),
    ("url_token", f"open https://app.example.com/reset?lang=de&token=«{drawn(30)}» now"),
    ("password", "password: «hunter2!»"),
    ("password", "DB_PASSWORD=«Tr0ub4dor&3»"),
    ("password", "my password is «corr3ct-h0rse»"),
    ("pin", "the PIN is «4471»"),
    ("generic_secret", f'client_secret = "«{drawn(32)}»"'),
    ("session_cookie", f"Cookie: PHPSESSID=«{drawn(26)}»"),
    ("city", '{"city": "«Klosterneuburg»"}'),
    ("fax", '{"fax_number": "«0043 2243 4471»"}'),
    ("photo", '{"avatar_url": "«orla-at-the-beach.png»"}'),
    ("biometric", '{"fingerprint": "«0f3a99c1»"}'),
    ("national_id", '{"national_id": "«AX-99812-C»"}'),
    ("card_last_four", '{"last_four": "«4471»"}'),
)
NOTHING: tuple[str, ...] = (
    "",
    "Version 1.2.3.4.5 was released; see chapter 10.2.1.",
    "The password is required. Reset your password here.",
    "You can change the password: it must be strong.",
    "I am Happy to help. I'm Sorry for the wait.",
    "Order 4111111111111112 shipped",  # a card's shape with a wrong check digit
    "order #123-4567890-1234567 over $1,234.56",
    "IBAN DE00370400440532013000",
    "ratio 3.14159265, 2.7 and 100 %",
    "at 12:30:45 on the clock; 127.0.0.1 and ::1 are nobody's, std::vector neither",
    "flights HAT069, HAT083 at 06:00:00, seats 17, 12, 3 and prices 51, 121, 239",
    "Mail [EMAIL], call [PHONE] or pay with [PAYMENT_CARD:0123456789ab].",
    "token usage: 1532 tokens, temperature=0.7, max_tokens: 4096",
    "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b fixes it",
    "uuid 018f3c3e-7b1a-7cc2-98c4-dc0c0c07398f",
    "def name(self): return {'name': 'search_direct_flight', 'type': 'function'}",
    "00:00:00:00:00:00 and 999.999.999.999",
)


def labelled(text: str, kind: str) -> tuple[str, tuple[str, int, int]]:
    """A text without its signs, and the span they stood around."""
    start, end = text.index("«"), text.index("»") - 1
    return text.replace("«", "").replace("»", ""), (kind, start, end)


def spans(found: list[Finding]) -> list[tuple[str, int, int]]:
    """Findings without their scores."""
    return [(one.kind, one.start, one.end) for one in found]
