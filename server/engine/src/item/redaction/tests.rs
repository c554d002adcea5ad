use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::ids::Timestamp;
use crate::item::fixtures;

fn redactor() -> &'static Redactor {
    static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| Redactor::builtin().unwrap());
    &REDACTOR
}

fn with(patterns: &[&str]) -> Redactor {
    let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    Redactor::new(&PatternFile { patterns, builtin: false, ..PatternFile::default() }).unwrap()
}

/// A secret of each built-in class, joined from pieces so that this file itself holds none.
fn samples() -> Vec<(&'static str, String)> {
    let alnum = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0";
    let cut = |length: usize| alnum.repeat(3)[..length].to_owned();
    let hex = "0123456789abcdef".repeat(4);
    vec![
        ("sk-", format!("use sk-{} here", cut(32))),
        ("sk-ant", format!("sk-ant-api03-{}-AA", cut(40))),
        ("pk-", format!("pk-{}", cut(32))),
        ("jwt", format!("eyJ{}.eyJ{}.{}", cut(20), cut(30), cut(43))),
        ("bearer", format!("Authorization: Bearer {}.{}.{}", cut(20), cut(20), cut(20))),
        ("opaque bearer", format!("curl -H 'Authorization: Bearer {}'", cut(30))),
        ("basic", format!("Authorization: Basic {}=", "dXNlcjpodW50ZXIyCg")),
        ("slack", format!("xoxb-{}-{}", "123456789012", cut(24))),
        ("slack webhook", format!("https://hooks.slack.com/services/T0AAAA/B0BBBB/{}", cut(24))),
        ("google", format!("AIza{}", cut(35))),
        ("github", format!("ghp_{}", cut(36))),
        ("github fine-grained", format!("github_pat_{}_{}", cut(22), cut(59))),
        ("gitlab", format!("glpat-{}", cut(20))),
        ("llm-memory", format!("llmm_{}_{}", &hex[..12], hex)),
        ("npm", format!("npm_{}", cut(36))),
        ("npmrc", format!("//registry.example.org/:_authToken={}", cut(36))),
        ("pypi", format!("pypi-{}", cut(60))),
        ("aws id", format!("AKIA{}", "IOSFODNN7ABCDEFG")),
        ("aws secret", format!("AWS_SECRET_ACCESS_KEY={}", cut(40))),
        ("aws secret in a name", format!("TF_VAR_aws_secret_access_key={}/{}", cut(20), cut(19))),
        ("azure", format!("AccountKey={}==", cut(86))),
        ("stripe", format!("sk_live_{}", cut(24))),
        ("sendgrid", format!("SG.{}.{}", cut(22), cut(43))),
        ("hugging face", format!("hf_{}", cut(34))),
        ("digitalocean", format!("dop_v1_{hex}")),
        ("vault", format!("hvs.{}", cut(30))),
        ("telegram", format!("123456789:AA{}", cut(33))),
        (
            "pem",
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-256-CBC,00\n\n{}\n{}\n\
                 -----END RSA PRIVATE KEY-----",
                cut(64),
                cut(64)
            ),
        ),
        ("pem cut short", format!("-----BEGIN PRIVATE KEY-----\\n{}\\n", cut(64))),
        ("postgres", "postgres://app:s3cr3tPazz@db.internal:5432/app".to_owned()),
        ("api key", format!("api_key = \"{}\"", cut(20))),
        ("api key bare", format!("API-KEY: {}", cut(20))),
        ("password", "password: \"hunter2hunter2\"".to_owned()),
        ("password bare", "password=Tr0ub4dor&3".to_owned()),
        ("password env", "DB_PASSWORD=supersecretvalue".to_owned()),
        ("password strong", "password = 'SuperSecret123!'".to_owned()),
        ("token", format!("token='{}'", cut(24))),
        ("token letters", "token = \"abcdefghijklmnopqrstuvwxyz\"".to_owned()),
        ("password in prose", "the admin password is hunter2!hunter2".to_owned()),
    ]
}

#[test]
fn every_class_is_recognised() {
    let redactor = redactor();
    for (name, text) in samples() {
        let redacted = redactor.redact(&text);
        assert!(redacted.text.contains(DEFAULT_REPLACEMENT), "{name}: {text}");
        assert!(!redacted.hashes.is_empty(), "{name}");
    }
}

#[test]
fn only_the_secret_is_replaced() {
    let redacted = redactor().redact("postgres://app:s3cr3tPazz@db.internal:5432/app");
    assert_eq!(redacted.text, "postgres://app:<redacted-secret>@db.internal:5432/app");
    assert_eq!(redacted.hashes, [Digest::of(b"s3cr3tPazz")]);
    let redacted = redactor().redact("let password = \"hunter2hunter2\"; // change me");
    assert_eq!(redacted.text, "let password = \"<redacted-secret>\"; // change me");
}

#[test]
fn one_secret_has_one_hash_whatever_stands_around_it() {
    let secret = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let redactor = redactor();
    let expected = [Digest::of(secret.as_bytes())];
    for text in [
        secret.clone(),
        format!("token = \"{secret}\""),
        format!("export GITHUB_TOKEN={secret}"),
        format!("Authorization: Bearer {secret}"),
    ] {
        assert_eq!(redactor.redact(&text).hashes, expected, "{text}");
    }
}

#[test]
fn ordinary_source_and_prose_stay_as_they_are() {
    let redactor = redactor();
    for text in [
        "let token = self.tokens.next_significant();",
        "fn password(&self) -> &SecretString { &self.password }",
        "pub token: CancellationToken,",
        "password: Option<String>,",
        "const API_KEY: &str = \"<your key>\";",
        "api_key = os.environ[\"OPENAI_API_KEY\"]",
        "apiKey: process.env.API_KEY",
        "token = secrets.token_urlsafe(32)",
        "\"password\": \"Enter your password\"",
        "PASSWORD=${DB_PASSWORD}",
        "password = \"changeme123\"",
        "postgres://user:password@localhost/db",
        "http://localhost:8080/a@b",
        "the token_bucket_limiter_v2 algorithm",
        "key: sha256_digest_of_file",
        "use sk-learn and task-force words, risk-averse-strategies-for-trading",
        "-----BEGIN PRIVATE KEY-----",
        "if line.starts_with(\"-----BEGIN RSA PRIVATE KEY-----\") { parse(line) }",
        "Bearer authentication with OAuth2 tokens is described in RFC6750",
        "commit 5db01ae8f0a1b2c3d4e5f60718293a4b5c6d7e8f fixes it",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "secret_key = SecretKey::from_bytes(&bytes)?",
        "token: TokenKind::IdentifierOrKeyword1",
        "\"progressToken\": \"progress-1\",",
        "client_secret: \"test-m2m-client\".to_string()",
        "ResourceReturnTypeToken: D3D10_SB_RESOURCE_RETURN_TYPE,",
        "E_UNRECOGNIZED_TOKEN = 0x8004400a,",
        "let secret = vld1q_u64(secret_base.add(i * 2));",
        "pub DestroySecret: BCryptDestroySecretFn,",
    ] {
        let redacted = redactor.redact(text);
        assert_eq!(redacted.text, text);
    }
}

#[test]
fn the_operations_manual_patterns_work_as_written() {
    let file = PatternFile::parse(
        r#"{"patterns": [
              "sk-[a-zA-Z0-9]{20,}",
              "pk-[a-zA-Z0-9]{32,}",
              "Bearer [A-Za-z0-9\\-_]+\\.[A-Za-z0-9\\-_]+\\.[A-Za-z0-9\\-_]*",
              "api[_-]?key[\"'\\s:=]+[a-zA-Z0-9+/=]{16,}",
              "password[\"'\\s:=]+[^\\s\"']{8,}",
              "token[\"'\\s:=]+[^\\s\"']{20,}"
            ],
            "replacement": "[REDACTED-SECRET]",
            "enabled": true}"#,
    )
    .unwrap();
    let redactor = Redactor::new(&file).unwrap();
    for text in [
        "sk-abcdefghijklmnopqrst",
        "pk-abcdefghijklmnopqrstuvwxyz012345",
        "Bearer aaa.bbb.ccc",
        "api-key: abcdefghijklmnop",
        "password: opensesame",
        "token abcdefghijklmnopqrst",
    ] {
        let once = redactor.redact(text);
        assert_eq!(once.text, "[REDACTED-SECRET]", "{text}");
        assert_eq!(redactor.redact(&once.text), Redacted { text: once.text, hashes: vec![] });
    }
}

#[test]
fn a_named_group_narrows_what_is_replaced() {
    let redactor = with(&["ticket (?P<secret>[0-9]+)"]);
    assert_eq!(redactor.redact("ticket 4711 open").text, "ticket <redacted-secret> open");
}

#[test]
fn a_bad_pattern_is_named_with_index_and_reason() {
    let build = |patterns: Vec<String>| {
        Redactor::new(&PatternFile { patterns, ..PatternFile::default() }).unwrap_err().to_string()
    };
    let message = build(vec!["ok+".into(), "(unclosed".into()]);
    assert!(message.starts_with("patterns[1]: \"(unclosed\": "), "{message}");
    assert!(message.contains("unclosed group"), "{message}");
    assert!(build(vec!["a*".into()]).contains("empty text"));
    assert!(build(vec!["(?=a)".into()]).contains("look-around"));
    assert!(build(vec!["(?:a{1000}){1000}".into()]).contains("smaller repetition"));
    assert!(build(vec!["a".into(); 201]).contains("at most 200"));
    assert!(PatternFile::parse("{\"pattern\": []}").unwrap_err().to_string().contains("patterns"));
}

#[test]
fn switched_off_nothing_is_redacted() {
    let file = PatternFile { enabled: false, ..PatternFile::default() };
    let redactor = Redactor::new(&file).unwrap();
    for (name, text) in samples() {
        assert_eq!(redactor.redact(&text).text, text, "{name}");
    }
}

#[test]
fn every_string_of_an_item_is_redacted() {
    let redactor = redactor();
    let secret = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let mut content = fixtures::full("x", Timestamp::from_millis(0));
    content.secret_hash_refs.clear();
    let mut places = 0;
    for field in strings_of(&mut content) {
        field.clone_from(&secret);
        places += 1;
    }
    assert_eq!(redactor.redact_content(&mut content).redactions, places);
    assert_eq!(content.secret_hash_refs, [Digest::of(secret.as_bytes())]);
    assert!(!serde_json::to_string(&content).unwrap().contains(&secret));
}

#[test]
fn old_hashes_stay_only_while_a_replacement_is_left() {
    let redactor = redactor();
    let mut content = fixtures::note("x", "key <redacted-secret>", Timestamp::from_millis(0));
    content.secret_hash_refs = vec![Digest::of(b"old")];
    let cleaned = redactor.redact_content(&mut content);
    assert_eq!(cleaned, Cleaned { redactions: 0, marked: true });
    assert_eq!(content.secret_hash_refs.len(), 1);
    content.text = "nothing here".into();
    redactor.redact_content(&mut content);
    assert!(content.secret_hash_refs.is_empty());
}

#[test]
fn class_names_are_distinct() {
    let mut names: Vec<_> = builtin::SECRETS.iter().map(|secret| secret.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

proptest! {
    #[test]
    fn redacting_twice_changes_nothing_more(
        before in "[a-z =:\"\n]{0,20}",
        which in 0..30_usize,
        after in ".{0,20}",
    ) {
        let redactor = redactor();
        let samples = samples();
        let text = format!("{before} {} {after}", samples[which % samples.len()].1);
        let once = redactor.redact(&text);
        let twice = redactor.redact(&once.text);
        prop_assert_eq!(&twice.text, &once.text);
        prop_assert!(twice.hashes.is_empty());
    }

    #[test]
    fn text_around_secrets_is_kept(words in proptest::collection::vec("[a-z]{1,7}", 0..30)) {
        let text = words.join(" ");
        prop_assert_eq!(redactor().redact(&text).text, text);
    }
}
