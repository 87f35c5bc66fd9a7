"""Rules for what opens a door: keys of providers, tokens, private keys, passwords. Shapes are their issuers'."""

from __future__ import annotations

from tracemill.privacy import validity
from tracemill.privacy.kinds import Rule

_ASSIGNED = r"[\"']?\s{0,3}(?::=|=>|[:=])\s{0,3}[\"'`]?"

PROVIDERS: tuple[tuple[str, str], ...] = (
    ("aws_access_key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"),
    ("google_api_key", r"AIza[A-Za-z0-9_-]{35}"),
    ("google_oauth_token", r"ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{28}"),
    ("github_token", r"gh[opsur]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}"),
    ("gitlab_token", r"gl(?:pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{20,}"),
    ("slack_token", r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-\d-[A-Za-z0-9-]{10,}"),
    ("slack_webhook", r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/+]{20,}"),
    ("discord_webhook", r"https://(?:ptb\.|canary\.)?discord(?:app)?\.com/api/webhooks/\d{17,20}/[A-Za-z0-9_-]{60,}"),
    ("stripe_key", r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9]{24,}"),
    ("anthropic_key", r"sk-ant-[A-Za-z0-9_-]{20,}"),
    ("openai_key", r"sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,}"),
    ("huggingface_token", r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    ("groq_key", r"gsk_[A-Za-z0-9]{40,}"),
    ("perplexity_key", r"pplx-[A-Za-z0-9]{32,}"),
    ("xai_key", r"xai-[A-Za-z0-9]{60,}"),
    ("replicate_token", r"r8_[A-Za-z0-9]{37,40}"),
    ("twilio_key", r"(?:SK|AC)[0-9a-f]{32}"),
    ("sendgrid_key", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,}"),
    ("mailgun_key", r"key-[0-9a-f]{32}"),
    ("mailchimp_key", r"[0-9a-f]{32}-us\d{1,2}"),
    ("npm_token", r"npm_[A-Za-z0-9]{36}"),
    ("pypi_token", r"pypi-[A-Za-z0-9_-]{50,}"),
    ("digitalocean_token", r"do[opr]_v1_[0-9a-f]{64}"),
    ("shopify_token", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    ("square_token", r"(?:EAAA[A-Za-z0-9_-]{60}|sq0(?:atp|csp)-[A-Za-z0-9_-]{22,43})"),
    ("telegram_bot_token", r"\d{8,10}:AA[A-Za-z0-9_-]{33}"),
    ("databricks_token", r"dapi[0-9a-f]{32}(?:-\d)?"),
    ("grafana_token", r"gl(?:sa|c)_[A-Za-z0-9+/=_-]{32,}"),
    ("newrelic_key", r"NRAK-[A-Z0-9]{27}"),
    ("vault_token", r"hv[sbr]\.[A-Za-z0-9_-]{24,}"),
    ("notion_token", r"(?:ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43})"),
    ("linear_key", r"lin_(?:api|oauth)_[A-Za-z0-9]{40,}"),
    ("postman_key", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    ("atlassian_token", r"ATATT3[A-Za-z0-9_=-]{100,250}"),
    ("sentry_dsn", r"https://[0-9a-f]{32}(?::[0-9a-f]{32})?@[\w.-]+/\d{1,20}"),
    ("tracemill_key", r"tm_[0-9a-f]{16}_[0-9a-f]{72}"),
)
"""Kinds whose values nothing but the issuer's shape gives away."""

RULES: tuple[Rule, ...] = (
    *(Rule(kind, "secret", pattern, 0.995) for kind, pattern in PROVIDERS),
    Rule(
        "private_key",
        "secret",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----[^-]*(?:-----END (?:[A-Z0-9]+"
        r" ){0,3}PRIVATE KEY(?: BLOCK)?-----)?",
        0.99,
        inside=True,
    ),
    Rule("jwt", "secret", r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?", 0.98),
    Rule(
        "aws_secret_key",
        "secret",
        r"[A-Za-z0-9/+]{40}",
        0.95,
        ("aws", "secret_access_key", "secretaccesskey", "secret access key"),
        valid=validity.random_text,
    ),
    Rule("azure_key", "secret", r"(?i:AccountKey|SharedAccessKey|sig)=([A-Za-z0-9+/%]{40,}={0,2})", 0.95),
    Rule(
        "bearer_token",
        "secret",
        r"(?i)\b(?:bearer|token)\s{1,3}([A-Za-z0-9._~+/-]{20,}=*)",
        0.85,
        valid=validity.random_text,
    ),
    Rule(
        "basic_auth",
        "secret",
        r"(?i)\bbasic\s{1,3}([A-Za-z0-9+/]{12,}={0,2})",
        0.8,
        ("authorization", "auth", "header", "curl"),
    ),
    Rule(
        "url_password", "secret", r"(?i)\b[a-z][a-z0-9+.-]{1,30}://[^\s:/@\"'<>]*:([^\s/@\"'<>]+)@", 0.995, inside=True
    ),
    Rule(
        "url_token",
        "secret",
        r"(?i)https?://[^\s\"'<>?]{3,}\?(?:[^\s\"'<>#]*&)?(?:token|access_token|auth|api_?key|key|sig"
        r"|signature|secret|session|sid|code|password|pwd|"
        r"x-amz-signature|x-amz-security-token|reset_token|invite)=([^\s\"'<>&#]{6,})",
        0.95,
        inside=True,
    ),
    Rule(
        "password",
        "secret",
        rf"(?i)(?:\b|_)(?:password|passwd|pwd|passphrase|passcode|passwort|contraseña|mot de"
        rf" passe){_ASSIGNED}([^\s\"'`,;]{{3,}})",
        0.9,
        valid=validity.password,
        inside=True,
    ),
    Rule(
        "password",
        "secret",
        r"(?i)\b(?:password|passphrase|passcode|pass word|pwd)(?: for [\w .-]{1,30})? (?:is|was|to)"
        r" [\"'`]?([^\s\"'`,;]{4,})",
        0.85,
        valid=validity.spoken_password,
        inside=True,
    ),
    Rule(
        "pin",
        "secret",
        r"(?i)\b(?:pin|one[- ]time code|verification code|otp|security answer)(?: (?:code|number))?(?:"
        r" is)?\s{0,2}[:=]?\s{0,2}(\d{4,8})",
        0.8,
    ),
    Rule(
        "generic_secret",
        "secret",
        rf"(?i)(?:api[_ -]?key|access[_ -]?token|auth[_ -]?token|refresh[_ -]?token|client[_ -]?secret"
        rf"|secret[_ -]?key|private[_ -]?token|secret|token|credential)s?{_ASSIGNED}([^\s\"'`,;\[]{{8,}})",
        0.8,
        valid=validity.random_text,
        inside=True,
    ),
    Rule(
        "session_cookie",
        "secret",
        r"(?i)\b(?:session(?:_?id)?|sid|phpsessid|jsessionid|csrftoken|connect\.sid)=([A-Za-z0-9%._~+/-]{12,})",
        0.85,
    ),
)
