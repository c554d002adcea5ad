//! The built-in patterns.

use super::Judge;
use super::judge::{assignment, generated, in_url, named_or_whole, password};

/// One class of secrets.
pub(super) struct Secret {
    /// Name, for tests and documentation.
    #[cfg_attr(not(test), expect(dead_code, reason = "names the class for readers and tests"))]
    pub(super) name: &'static str,
    /// Literal texts, without regard to case, of which a text with such a secret has at least
    /// one. They decide cheaply whether the pattern needs to be tried.
    pub(super) hints: &'static [&'static str],
    /// The pattern; its group `secret`, if any, is what is replaced.
    pub(super) pattern: &'static str,
    /// Decides whether a match is a secret.
    pub(super) judge: Judge,
}

const fn known(
    name: &'static str,
    hints: &'static [&'static str],
    pattern: &'static str,
) -> Secret {
    Secret { name, hints, pattern, judge: named_or_whole }
}

const fn judged(
    name: &'static str,
    hints: &'static [&'static str],
    pattern: &'static str,
    judge: Judge,
) -> Secret {
    Secret { name, hints, pattern, judge }
}

/// All classes.
pub(super) const SECRETS: &[Secret] = &[
    known(
        "sk- API key (OpenAI, Anthropic and others)",
        &["sk-"],
        r"\bsk-(?:[A-Za-z0-9]{20,}|(?:proj|ant|svcacct|admin|or-v1|lf)-[A-Za-z0-9_-]{20,})",
    ),
    known("pk- API key", &["pk-"], r"\bpk-[A-Za-z0-9]{32,}"),
    known("JSON web token", &["eyJ"], r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    judged(
        "bearer token",
        &["bearer"],
        r"(?i)\bbearer\s+(?P<secret>[A-Za-z0-9_~+/-]+(?:\.[A-Za-z0-9_~+/-]+)*=*)",
        generated,
    ),
    judged(
        "basic authorization",
        &["basic"],
        r#"(?i)\bauthorization["']?\s*[:=]\s*["']?basic\s+(?P<secret>[A-Za-z0-9+/]{8,}={0,2})"#,
        named_or_whole,
    ),
    known("Slack token", &["xox"], r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    known("Slack app token", &["xapp-"], r"\bxapp-[0-9]-[A-Za-z0-9-]{10,}"),
    known(
        "Slack webhook",
        &["hooks.slack.com"],
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9_/-]{20,})",
    ),
    known("Google API key", &["AIza"], r"\bAIza[A-Za-z0-9_-]{35}"),
    known("Google OAuth token", &["ya29."], r"\bya29\.[A-Za-z0-9_-]{20,}"),
    known("Google OAuth client secret", &["GOCSPX-"], r"\bGOCSPX-[A-Za-z0-9_-]{28}"),
    known(
        "GitHub token",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        r"\bgh[opsur]_[A-Za-z0-9]{36,}",
    ),
    known("GitHub fine-grained token", &["github_pat_"], r"\bgithub_pat_[A-Za-z0-9_]{22,}"),
    known("GitLab token", &["glpat-"], r"\bglpat-[A-Za-z0-9_-]{20,}"),
    // Our own, which agents are given in their configuration.
    known("llm-memory token", &["llmm_"], r"\bllmm_[0-9a-f]{12}_[0-9a-f]{40,}"),
    known("npm token", &["npm_"], r"\bnpm_[A-Za-z0-9]{36}\b"),
    known(
        "npm registry credential",
        &["_authToken", "_auth"],
        r"(?i):_auth(?:token)?\s*=\s*(?P<secret>[A-Za-z0-9+/=_.-]{16,})",
    ),
    known("PyPI token", &["pypi-"], r"\bpypi-[A-Za-z0-9_-]{50,}"),
    known("crates.io token", &["cio"], r"\bcio[A-Za-z0-9]{32}\b"),
    known(
        "AWS access key id",
        &["AKIA", "ASIA", "ABIA", "ACCA"],
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",
    ),
    known(
        "AWS secret",
        &["aws"],
        // No word boundary before it: `TF_VAR_aws_secret_access_key`.
        r#"(?i)aws[_-]?(?:secret|access|session)[a-z_-]*["']?\s*[:=]\s*["']?(?P<secret>[A-Za-z0-9/+=]{20,})"#,
    ),
    known(
        "Azure storage key",
        &["AccountKey", "SharedAccessKey"],
        r"(?i)\b(?:Account|SharedAccess)Key=(?P<secret>[A-Za-z0-9+/]{43,}={1,2})",
    ),
    known("Stripe key", &["_live_", "_test_"], r"\b[srp]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    known("Stripe webhook secret", &["whsec_"], r"\bwhsec_[A-Za-z0-9+/]{24,}"),
    known("SendGrid key", &["SG."], r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    known("Hugging Face token", &["hf_"], r"\bhf_[A-Za-z0-9]{34,}"),
    known("DigitalOcean token", &["do"], r"\bdo[opr]_v1_[0-9a-f]{64}"),
    known("Docker token", &["dckr_"], r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{27,}"),
    known("Databricks token", &["dapi"], r"\bdapi[0-9a-f]{32}\b"),
    known("Shopify token", &["shp"], r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    known("Vault token", &["hvs.", "hvb."], r"\bhv[sb]\.[A-Za-z0-9_-]{24,}"),
    known("Telegram bot token", &[":AA"], r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}\b"),
    known("age key", &["AGE-SECRET-KEY-"], r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}"),
    known(
        "private key",
        &["PRIVATE KEY"],
        // A single dash can stand in the headers of an encrypted key; the end line begins with
        // five.
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-[^-]){40,}?-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
    ),
    known(
        "private key without its end",
        &["PRIVATE KEY"],
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr])*(?:[A-Za-z0-9+/=]{40,}(?:\s|\\[nr])*)+",
    ),
    judged(
        "password in a connection string",
        &["://"],
        r#"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s:/@"'`]*:(?P<secret>[^\s/@"'`]{3,})@[A-Za-z0-9\[]"#,
        in_url,
    ),
    judged(
        "assignment of a key, password or token",
        &["key", "secret", "token", "pass", "pwd"],
        concat!(
            r#"(?i)\b(?P<key>[a-z0-9_.-]*(?:api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key"#,
            r#"|secret|token|password|passwd|passphrase|pwd))["']?(?P<op>\s*(?::=|=>|[:=])\s*)"#,
            r#"(?:b?["'](?P<quoted>[^"'\s]{8,})["']|(?P<bare>[^\s"'`,;()\[\]]{8,})(?P<call>[(\[]?))"#,
        ),
        assignment,
    ),
    judged(
        "password in a sentence",
        &["pass"],
        r#"(?i)\bpass(?:word|phrase|wd|code)(?:\s+is)?[:\s]\s*["'`]?(?P<secret>[^\s"'`,;()]{8,})"#,
        password_in_sentence,
    ),
    judged(
        "key or token in a sentence",
        &["key", "token", "secret"],
        r#"(?i)\b(?:api[_ -]?key|token|secret)(?:\s+is)?[:\s]\s*["'`]?(?P<secret>[A-Za-z0-9+/=_-]{20,})"#,
        generated,
    ),
];

fn password_in_sentence(captures: &regex::Captures<'_>) -> Option<std::ops::Range<usize>> {
    let span = password(captures)?;
    let secret = captures.name("secret")?.as_str();
    // In prose, names with digits follow the word as often as passwords do; a sign, or several
    // changes between letters and digits, tell them apart.
    super::judge::looks_mixed(secret).then_some(span)
}
