use super::*;

fn entry(name: &str) -> (TokenEntry, String) {
    let (mut entry, token) = own_admin();
    entry.name = name.to_owned();
    entry.subject = None;
    (entry, token)
}

fn authenticator(entries: Vec<TokenEntry>, open: bool) -> Authenticator {
    let lockout = Lockout::new(5, Duration::from_secs(600));
    Authenticator::new(entries, open, None, lockout, Box::new(|_| {}))
}

fn peer(last: u8) -> Option<SocketAddr> {
    Some(SocketAddr::from(([10, 0, 0, last], 4000)))
}

#[test]
fn a_server_without_tokens_is_open_only_when_it_was_told_so() {
    let now = Timestamp::now();
    let check = |auth: &Authenticator| auth.check(None, peer(1), Instant::now(), now);
    assert_eq!(check(&authenticator(vec![], true)).unwrap().subject, "local");
    assert_eq!(check(&authenticator(vec![], false)), Err(Denied::Missing));
    let (entry, _) = entry("a");
    assert_eq!(check(&authenticator(vec![entry], true)), Err(Denied::Missing));
}

#[test]
fn a_server_that_has_had_tokens_does_not_become_open_again() {
    let auth = authenticator(vec![], true);
    assert!(auth.is_open());
    let (entry, token) = entry("a");
    auth.replace(vec![entry]);
    let now = Timestamp::now();
    assert_eq!(auth.check(Some(&token), None, Instant::now(), now).unwrap().subject, "a");
    auth.replace(vec![]);
    assert_eq!(auth.check(None, None, Instant::now(), now), Err(Denied::Missing));
    assert!(auth.check(Some(&token), None, Instant::now(), now).is_err());
}

#[test]
fn a_token_that_cannot_be_used_lets_nobody_in_and_keeps_strangers_out() {
    let auth = authenticator(vec![], true);
    let (mut entry, token) = entry("a");
    entry.roles.clear();
    let file = serde_json::to_vec(&[&entry]).unwrap();
    auth.replace(token_file::read(&file).unwrap());
    let now = Timestamp::now();
    assert_eq!(auth.check(None, None, Instant::now(), now), Err(Denied::Missing));
    assert!(auth.check(Some(&token), None, Instant::now(), now).is_err());
}

#[test]
fn five_wrong_tokens_lock_the_address_out_for_everybody_but_who_has_a_right_one() {
    let (entry, token) = entry("a");
    let auth = authenticator(vec![entry], false);
    let (start, now) = (Instant::now(), Timestamp::now());
    for _ in 0..5 {
        let denied = auth.check(Some("guess"), peer(1), start, now).unwrap_err();
        assert!(matches!(denied, Denied::Invalid { .. }));
    }
    assert_eq!(auth.check(Some(&token), peer(1), start, now).unwrap().subject, "a");
    assert!(matches!(
        auth.check(Some("guess"), peer(1), start, now),
        Err(Denied::LockedOut { retry_after }) if retry_after == Duration::from_secs(600)
    ));
    let denied = auth.check(Some("guess"), peer(2), start, now).unwrap_err();
    assert!(matches!(denied, Denied::Invalid { .. }));
    let later = start + Duration::from_secs(600);
    let denied = auth.check(Some("guess"), peer(1), later, now).unwrap_err();
    assert!(matches!(denied, Denied::Invalid { .. }));
}

#[test]
fn a_right_token_does_not_make_the_guesses_from_its_address_forgotten() {
    let (entry, token) = entry("a");
    let auth = authenticator(vec![entry], false);
    let (start, now) = (Instant::now(), Timestamp::now());
    for _ in 0..5 {
        auth.check(Some("guess"), peer(1), start, now).unwrap_err();
        auth.check(Some(&token), peer(1), start, now).unwrap();
    }
    assert_eq!(auth.locked_out(), 1);
}

#[test]
fn the_owner_of_the_data_folder_cannot_be_locked_out() {
    let (admin, token) = own_admin();
    let lockout = Lockout::new(1, Duration::from_secs(600));
    let auth = Authenticator::new(vec![], false, Some(admin), lockout, Box::new(|_| {}));
    let (start, now) = (Instant::now(), Timestamp::now());
    auth.check(Some("guess"), peer(1), start, now).unwrap_err();
    assert_eq!(auth.check(Some(&token), peer(1), start, now).unwrap().subject, "local");
    let denied = auth.check(Some("guess"), peer(1), start, now).unwrap_err();
    assert!(matches!(denied, Denied::LockedOut { .. }));
}

#[test]
fn wrong_secrets_for_one_token_lock_its_name_out_from_everywhere_but_not_its_holder() {
    let (entry, token) = entry("a");
    let id = entry.id.clone().unwrap();
    let auth = authenticator(vec![entry], false);
    let (start, now) = (Instant::now(), Timestamp::now());
    for last in 0..5 {
        auth.check(Some(&format!("llmm_{id}_wrong")), peer(last), start, now).unwrap_err();
    }
    assert!(matches!(
        auth.check(Some(&format!("llmm_{id}_wrong")), peer(99), start, now),
        Err(Denied::LockedOut { .. })
    ));
    assert_eq!(auth.locked_out(), 1);
    assert!(auth.check(Some(&token), peer(99), start, now).is_ok());
    assert_eq!(auth.locked_out(), 0, "the holder has shown that he is there");
}

#[test]
fn an_expired_token_says_when_it_ended() {
    let (mut entry, token) = entry("a");
    entry.expires = Some("2026-01-01T00:00:00Z".parse().unwrap());
    let auth = authenticator(vec![entry], false);
    let at = |text: &str| auth.check(Some(&token), None, Instant::now(), text.parse().unwrap());
    assert!(at("2025-12-31T23:59:59Z").is_ok());
    let denied = at("2026-01-01T00:00:00Z").unwrap_err();
    let text = denied.to_string();
    assert_eq!(text, "invalid token: it expired at 2026-01-01T00:00:00.000Z");
    assert!(matches!(denied, Denied::Invalid { who: Some(who), .. } if who == "a"));
}

#[test]
fn only_tokens_that_somebody_could_be_asked_about_are_foreign() {
    use std::sync::Arc as Shared;

    use llm_memory_disk::{Disk, OsDisk};

    use crate::config::{Sources, load};

    let jwt = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwOi8vMTI3LjAuMC4xOjEifQ.x";
    let other = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL290aGVyIn0.x";
    let with = |settings: &[(&str, &str)], entries: Vec<TokenEntry>| {
        let environment =
            settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let config = load(&OsDisk, &Sources { environment, ..Sources::default() }).unwrap().config;
        let disk: Shared<dyn Disk> = Shared::new(OsDisk);
        let outside = Outside::new(&disk, &config.auth, Vec::new(), Box::new(|_| {})).unwrap();
        authenticator(entries, false).with_outside(outside)
    };
    let kubernetes = [
        ("LLM_MEMORY_KUBERNETES_AUDIENCE", "memory"),
        ("LLM_MEMORY_KUBERNETES_API_SERVER", "http://127.0.0.1:1"),
    ];
    let auth = with(&kubernetes, Vec::new());
    assert!(auth.foreign(jwt).is_some() && auth.foreign(other).is_some());
    for ours in ["llmm_a_b", "a.b.c", "", "a..b"] {
        assert!(auth.foreign(ours).is_none(), "{ours}");
    }
    // A token of our own may look as it likes.
    let (mut entry, _) = entry("a");
    entry.sha256 = Digest::of(jwt.as_bytes());
    assert!(with(&kubernetes, vec![entry]).foreign(jwt).is_none());
    assert!(with(&[], Vec::new()).foreign(jwt).is_none());
}

#[test]
fn the_owner_of_the_folder_is_the_same_through_a_running_server_as_without_one() {
    assert_eq!(own_admin().0.principal(), Principal::local_owner());
}
