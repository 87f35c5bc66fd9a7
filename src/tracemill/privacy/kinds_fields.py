"""What the name of a field says of its value: ``first_name``, ``dob``, ``address``, in JSON and in text that quotes it.

A key is compared without case and signs: ``firstName``, ``first_name`` and ``First name`` are one. Some keys mean a person
only among others that do: ``name`` beside ``email`` does, ``name`` of a function does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import re2

from tracemill.privacy.wording import words

_KEYS: dict[str, tuple[str, str]] = {
    "person_name": (
        "person",
        (
            "first_name firstname given_name forename middle_name last_name lastname surname family_name "
            "full_name fullname display_name maiden_name customer_name user_real_name patient_name "
            "passenger_name guest_name contact_name cardholder card_holder account_holder nickname "
            "employee_name recipient_name sender_name author_name spouse_name mother_name father_name "
            "emergency_contact_name vorname nachname nombre apellido "
        ),
    ),
    "username": (
        "account",
        "user_name username login login_name handle screen_name user_handle user_id userid raw_user_id uid ",
    ),
    "email": ("contact", "email e_mail email_address mail emails contact_email user_email "),
    "phone": (
        "contact",
        (
            "phone phone_number telephone tel mobile mobile_number mobile_phone cell cell_phone home_phone "
            "work_phone contact_number "
        ),
    ),
    "fax": ("contact", "fax fax_number "),
    "street_address": (
        "place",
        (
            "street street_address address address1 address2 address_line_1 address_line_2 address_line1 "
            "address_line2 addr home_address shipping_address billing_address mailing_address house_number "
            "apartment residence "
        ),
    ),
    "city": ("place", "city town municipality county district suburb "),
    "postal_code": ("place", "zip zip_code zipcode postal_code postcode plz "),
    "geo_coordinates": ("place", "latitude longitude lat lng lon coordinates geo_location "),
    "date_of_birth": ("date", "dob date_of_birth birth_date birthdate birthday birth_day born geburtsdatum "),
    "date": (
        "date",
        "admission_date discharge_date date_of_death death_date appointment_date visit_date service_date ",
    ),
    "us_ssn": ("national", "ssn social_security social_security_number "),
    "national_id": (
        "national",
        (
            "national_id nationalid national_id_number identity_number personal_id tax_number aadhaar cpf "
            "curp pesel bsn nino sin dni nif "
        ),
    ),
    "tax_id": ("account", "tax_id taxid tin ein vat_id "),
    "passport": ("account", "passport passport_number passport_no "),
    "driver_license": (
        "account",
        "driver_license drivers_license driver_licence driving_licence license_number licence_number ",
    ),
    "license_plate": ("device", "license_plate licence_plate plate plate_number registration_plate "),
    "vehicle_vin": ("device", "vin vehicle_identification_number "),
    "device_serial": ("device", "serial_number serial device_id deviceid hardware_id advertising_id idfa android_id "),
    "imei": ("device", "imei "),
    "ip_address": ("device", "ip ip_address ipaddress client_ip remote_addr remote_address "),
    "mac_address": ("device", "mac mac_address "),
    "payment_card": ("money", "card_number credit_card credit_card_number cardnumber pan_number debit_card "),
    "card_last_four": ("money", "last_four last4 card_last_four last_four_digits "),
    "card_security_code": ("money", "cvv cvc cvv2 security_code "),
    "card_expiry": ("money", "card_expiry expiry_date expiration_date exp_date card_exp "),
    "iban": ("money", "iban "),
    "bic": ("money", "bic swift swift_code "),
    "bank_account": ("money", "account_number accountnumber bank_account bank_account_number account_no "),
    "bank_routing_number": ("money", "routing_number routing aba sort_code "),
    "medical_record_number": (
        "medical",
        "mrn medical_record_number medical_record patient_id patientid patient_number chart_number ",
    ),
    "health_plan_number": (
        "medical",
        (
            "health_plan_number beneficiary_id beneficiary_number member_id subscriber_id insurance_id "
            "insurance_number policy_number "
        ),
    ),
    "prescription_number": ("medical", "prescription_number rx_number "),
    "biometric": (
        "medical",
        "fingerprint voiceprint face_id iris_scan retina_scan biometric biometrics face_embedding ",
    ),
    "photo": ("person", "photo photo_url avatar avatar_url profile_picture profile_image picture "),
    "customer_id": (
        "account",
        (
            "customer_id customerid customer_number client_id_number loyalty_number frequent_flyer_number "
            "membership_number payment_id payment_method_id account_id "
        ),
    ),
    "employee_id": ("account", "employee_id employee_number staff_id badge_number "),
    "certificate_number": ("account", "certificate_number professional_license "),
    "social_handle": ("contact", "twitter instagram telegram facebook linkedin tiktok social_handle twitter_handle "),
    "profile_url": ("contact", "profile_url linkedin_url homepage personal_website "),
    "password": ("secret", "password passwd pwd passphrase passcode pass user_password new_password old_password "),
    "pin": ("secret", "pin pin_code otp one_time_code verification_code security_answer "),
    "generic_secret": (
        "secret",
        (
            "api_key apikey access_token auth_token refresh_token client_secret secret secret_key private_key "
            "token authorization session_token csrf_token cookie set_cookie x_api_key bearer_token id_token "
        ),
    ),
}


@lru_cache(maxsize=16_384)
def normal(key: str) -> str:
    """A key without case and without all but letters and digits."""
    return "".join(character for character in key.lower() if character.isalnum())


FIELDS: dict[str, str] = {normal(key): kind for kind, (_, keys) in _KEYS.items() for key in keys.split()}
GROUPS: dict[str, str] = {kind: group for kind, (group, _) in _KEYS.items()}
_NAMES = "|".join(sorted({key.replace("_", "[ _-]?") for _, keys in _KEYS.values() for key in keys.split()}))
_KEY = re2.compile(
    rf"(?i)[\"']({_NAMES})[\"']\s{{0,4}}:\s{{0,4}}"
    r"(?:\"((?:[^\"\\\n]|\\.)+)\"|'([^'\\\n]+)'|(\d{3,20}))"
)
_PLACES = frozenset(
    map(normal, words("address home_address shipping_address billing_address mailing_address residence"))
)
_PEOPLE = frozenset(
    map(
        normal,
        words(
            "user customer patient passenger passengers saved_passengers guest contact person people profile "
            "employee member client recipient sender author owner account_holder traveler travelers "
            "beneficiary spouse assignee reporter participant participants attendee attendees "
        ),
    )
)
_TELLING = frozenset(
    key
    for key, kind in FIELDS.items()
    if kind in {"person_name", "email", "phone", "date_of_birth", "us_ssn", "street_address", "medical_record_number"}
)
_NOT_VALUES = frozenset(
    words(
        "string integer number boolean object array null none true false unknown n/a na - usa us uk gb "
        "germany france yes no required optional any male female other redacted primary home work mobile "
        "default "
    )
)
_OWNED = frozenset(map(normal, words("payment_methods payment_method accounts cards bank_accounts policies")))
_BARE = frozenset(("name", "id"))
_COUNTRYISH = frozenset(map(normal, words("country country_code province state region")))


def kind_of(key: str, parents: Iterable[str] = (), siblings: frozenset[str] = frozenset()) -> str | None:
    """The kind of a value that stands under a key, or None.

    ``parents`` are the keys around it, the nearest first; ``siblings`` the normalised keys of the same object. Under an
    address every field is a part of it, but for the country and the state.
    """
    name = normal(key)
    around = [normal(one) for one in parents]
    if around and around[0] in _PLACES and name not in _COUNTRYISH:
        return FIELDS.get(name, "street_address")
    if name in _BARE:
        if name == "id" and _OWNED.intersection(around):
            return "customer_id"
        person = bool(siblings & _TELLING) or bool(around and around[0] in _PEOPLE)
        return ("person_name" if name == "name" else "customer_id") if person else None
    if (
        name not in FIELDS
        and around
        and around[0] == "name"
        and name in ("first", "last", "middle", "given", "family", "full")
    ):
        return "person_name"
    return FIELDS.get(name)


def is_value(kind: str, text: str) -> bool:
    """Whether a text under such a key can be a value: no type's name, no empty word, no tag that stands for one."""
    bare = text.strip()
    if len(bare) < 2 or bare.lower() in _NOT_VALUES or (bare.startswith("[") and bare.endswith("]")):
        return False
    if bare.startswith("{") or "{{" in bare or set(bare) <= set("*xX.-_ "):
        return False
    if kind == "person_name":
        return any(one.isalpha() for one in bare) and len(bare) <= 80
    if kind in (
        "phone",
        "us_ssn",
        "national_id",
        "payment_card",
        "bank_account",
        "bank_routing_number",
        "card_security_code",
        "card_last_four",
        "date_of_birth",
        "pin",
    ):
        return any(one.isdigit() for one in bare)
    return True


@lru_cache(maxsize=4096)
def _kind_of_bytes(key: bytes) -> str | None:
    return FIELDS.get(normal(key.decode("utf-8", "replace")))


def written(data: bytes) -> Iterator[tuple[str, int, int, float]]:
    """Values of telling fields in a text that only quotes JSON: kind, start and end in bytes, score."""
    if b":" not in data or (b'"' not in data and b"'" not in data):
        return
    for match in _KEY.finditer(data):
        kind = _kind_of_bytes(match[1])
        if kind is None:
            continue
        group = next(number for number in (2, 3, 4) if match.start(number) >= 0)
        if is_value(kind, match[group].decode("utf-8", "replace")):
            yield kind, match.start(group), match.end(group), 0.9
