//! The identities file: a JSON list of rules that say what callers may do whom somebody else
//! vouches for. The first rule that matches a caller counts. One that cannot be used admits nobody.

use std::collections::BTreeSet;

use llm_memory_engine::ids::{ProjectId, TenantId, Timestamp};
use llm_memory_engine::item::Sensitivity;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::bar::Bar;
use super::identity::Identity;
use crate::access::{Principal, Role};
use crate::auth::entries::{self, Fault, NotAList};
use crate::auth::token_file::TokenScopes;
use crate::config::nearest;

/// Any name in a namespace.
pub(super) const ANY: &str = "*";

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// A ServiceAccount of the cluster.
    #[serde(default)]
    pub service_account: Option<ServiceAccount>,
    /// Somebody whom an OpenID Connect issuer vouches for.
    #[serde(default)]
    pub oidc: Option<Oidc>,
    /// Subject written into provenance and audit; the caller's own name when left out.
    #[serde(default)]
    pub subject: Option<String>,
    /// Roles held.
    pub roles: BTreeSet<Role>,
    /// Tenant; the store's own when left out.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// Projects allowed; any when left out.
    #[serde(default)]
    pub projects: Option<BTreeSet<ProjectId>>,
    /// Scopes allowed; all when left out.
    #[serde(default)]
    pub scopes: Option<TokenScopes>,
    /// Highest sensitivity visible; `private` when left out.
    #[serde(default)]
    pub clearance: Option<Sensitivity>,
    /// Sees only what it created.
    #[serde(default)]
    pub own_only: bool,
    /// Maintenance works on the scopes of every tenant.
    #[serde(default)]
    pub every_tenant: bool,
}

/// ServiceAccounts that a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name; `*` is any of the namespace.
    pub name: String,
    /// Audience that its token must be for; the one in the configuration when left out. With one
    /// that no other server knows, whoever receives the token here cannot use it there.
    #[serde(default)]
    pub audience: Option<String>,
}

/// Callers of an issuer that a rule is for: one subject, or all whose claim has a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// The issuer, as in `iss`.
    pub issuer: String,
    /// The subject, as in the configured claim.
    #[serde(default)]
    pub subject: Option<String>,
    /// A claim, such as `groups`.
    #[serde(default)]
    pub claim: Option<String>,
    /// What it must be, or contain where it is a list.
    #[serde(default)]
    pub value: Option<String>,
}

/// An identities file, rule by rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdentitiesFile {
    /// What decides, in the order of the file.
    pub entries: Vec<Entry>,
    /// What is wrong with some of them.
    pub faults: Vec<Fault>,
}

/// One place in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A rule that counts.
    Rule(Box<Rule>),
    /// One that cannot be used. It keeps its place: whom it may have been for, a later and wider
    /// one must not let in.
    Bar(Bar),
}

impl Entry {
    /// The rule, if it counts.
    pub fn rule(&self) -> Option<&Rule> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::Bar(_) => None,
        }
    }

    fn matches(&self, identity: &Identity) -> bool {
        match self {
            Self::Rule(rule) => rule.matches(identity),
            Self::Bar(bar) => bar.matches(identity),
        }
    }
}

/// Reads an identities file rule by rule.
pub fn read(bytes: &[u8]) -> Result<IdentitiesFile, NotAList> {
    let mut file = IdentitiesFile::default();
    for (index, raw) in entries::list(bytes)?.into_iter().enumerate() {
        let entry = format!("rule {}", index + 1);
        let read = misspelled(raw).map_or_else(|| entries::read::<Rule>(raw), Err);
        match read.and_then(|rule| rule.check().map(|()| rule)) {
            Ok(rule) => {
                let covers = |earlier: &Entry| earlier.rule().is_some_and(|e| e.covers(&rule));
                if let Some(earlier) = file.entries.iter().position(covers) {
                    let number = earlier + 1;
                    let reason = format!(
                        "rule {number} matches whomever this one does, and the first that matches \
                         counts: remove one of them, or put this one first"
                    );
                    file.faults.push(Fault::Superfluous { entry, reason });
                }
                file.entries.push(Entry::Rule(Box::new(rule)));
            }
            Err(reason) => {
                let bar = Bar::of(raw);
                let reason = format!("{reason}; until it is mended, no later rule lets {bar} in");
                file.faults.push(Fault::Unusable { entry, reason });
                file.entries.push(Entry::Bar(bar));
            }
        }
    }
    Ok(file)
}

/// Fields of a rule.
pub(super) const RULE: &[&str] = &[
    "serviceAccount",
    "oidc",
    "subject",
    "roles",
    "tenant",
    "projects",
    "scopes",
    "clearance",
    "ownOnly",
    "everyTenant",
];

/// The first field that nobody knows, with the one that may have been meant.
fn misspelled(rule: &RawValue) -> Option<String> {
    const PARTS: [(&str, &[&str]); 3] = [
        ("serviceAccount", &["namespace", "name", "audience"]),
        ("oidc", &["issuer", "subject", "claim", "value"]),
        ("scopes", &["read", "write"]),
    ];
    let rule: Value = serde_json::from_str(rule.get()).ok()?;
    let unknown = |value: &Value, known: &[&'static str]| {
        value.as_object()?.keys().find(|key| !known.contains(&key.as_str())).cloned()
    };
    let whole = unknown(&rule, RULE).map(|key| (String::new(), key, RULE));
    let part = || {
        PARTS.iter().find_map(|(part, known)| {
            let key = unknown(rule.get(part)?, known)?;
            Some((format!("{part}."), key, *known))
        })
    };
    let (place, key, known) = whole.or_else(part)?;
    let hint = match nearest(&key, known.iter().copied()) {
        Some(near) => format!("did you mean {place}{near}?"),
        None => format!("there are {}", known.join(", ")),
    };
    Some(format!("no such field {place}{key}; {hint}"))
}

/// Whether `text` may be the name of a namespace or an account.
pub(super) fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    !text.is_empty() && text.chars().all(fits)
}

impl ServiceAccount {
    fn names(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && (self.name == ANY || self.name == name)
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let wrong = |reason: &str| Err(reason.to_owned());
        match (&self.service_account, &self.oidc) {
            (Some(account), None) => {
                for (field, text) in [("namespace", &account.namespace), ("name", &account.name)] {
                    let any = field == "name" && text == ANY;
                    if !any && !is_name(text) {
                        return Err(format!("serviceAccount.{field} {text:?} is no name of one"));
                    }
                }
                if account.audience.as_ref().is_some_and(String::is_empty) {
                    return wrong(
                        "serviceAccount.audience is empty; leave it out for the configured one",
                    );
                }
            }
            (None, Some(oidc)) => match (&oidc.subject, &oidc.claim, &oidc.value) {
                (Some(text), None, None) if !text.is_empty() => {}
                (None, Some(claim), Some(value)) if !claim.is_empty() && !value.is_empty() => {}
                _ => return wrong("oidc needs either a subject, or a claim and its value"),
            },
            _ => return wrong("it needs either serviceAccount or oidc, to say whom it is for"),
        }
        if self.subject.as_ref().is_some_and(String::is_empty) {
            return wrong("subject is empty; leave it out to take the caller's own name");
        }
        if self.roles.is_empty() {
            return wrong(
                "roles is empty; give it at least one of admin, operator, monitor, approver, agent",
            );
        }
        Ok(())
    }

    /// Whether this rule, coming first, leaves `later` nobody.
    fn covers(&self, later: &Self) -> bool {
        match (&self.service_account, &later.service_account) {
            (Some(first), Some(second)) => {
                first.namespace == second.namespace
                    && first.audience == second.audience
                    && (first.name == ANY || first.name == second.name)
            }
            _ => self.oidc.is_some() && self.oidc == later.oidc,
        }
    }

    fn matches(&self, identity: &Identity) -> bool {
        match identity {
            Identity::ServiceAccount { namespace, name, audiences } => {
                self.service_account.as_ref().is_some_and(|account| {
                    account.audience.as_ref().is_some_and(|audience| audiences.contains(audience))
                        && account.names(namespace, name)
                })
            }
            Identity::Oidc { issuer, subject, claims } => self.oidc.as_ref().is_some_and(|oidc| {
                let named = oidc.subject.as_ref() == Some(subject);
                let claimed = || match (&oidc.claim, &oidc.value) {
                    (Some(claim), Some(value)) => has_value(claims.get(claim), value),
                    _ => false,
                };
                oidc.issuer == *issuer && (named || claimed())
            }),
            Identity::Other { .. } => false,
        }
    }
}

/// Whether a claim is `value`, or a list with it.
pub(super) fn has_value(claim: Option<&Value>, value: &str) -> bool {
    match claim {
        Some(Value::String(text)) => text == value,
        Some(Value::Array(list)) => list.iter().any(|one| one.as_str() == Some(value)),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    }
}

/// The caller that `identity` is, by the first of `entries` that matches; `None` when none does, or
/// that one cannot be used. Rules for ServiceAccounts name an audience: whoever puts them in force
/// fills it in.
pub fn principal(
    entries: &[Entry],
    identity: &Identity,
    expires: Option<Timestamp>,
) -> Option<Principal> {
    let rule = entries.iter().find(|entry| entry.matches(identity))?.rule()?;
    let (read, write) = TokenScopes::sets(rule.scopes.as_ref());
    Some(Principal {
        subject: rule.subject.clone().unwrap_or_else(|| identity.subject()),
        roles: rule.roles.clone(),
        tenant: rule.tenant.clone(),
        projects: rule.projects.clone(),
        read,
        write,
        clearance: rule.clearance.unwrap_or(Sensitivity::Private),
        own_only: rule.own_only,
        every_tenant: rule.every_tenant,
        expires,
    })
}

/// What to tell somebody whom none of `entries` lets in.
pub fn unmapped(entries: &[Entry], identity: &Identity) -> String {
    let first = entries.iter().position(|entry| entry.matches(identity));
    if let Some(first) = first {
        return format!(
            "rule {} of the identities file may be for {}, and cannot be used: the status page and \
             the log of the server say why",
            first + 1,
            identity.subject()
        );
    }
    let rules = entries.iter().filter_map(Entry::rule);
    let Identity::ServiceAccount { namespace, name, audiences } = identity else {
        return identity.unmapped();
    };
    let accounts = rules.filter_map(|rule| rule.service_account.as_ref());
    let mut named = accounts.filter(|account| account.names(namespace, name));
    match named.find_map(|account| account.audience.as_ref()) {
        Some(needed) => format!(
            "service account {namespace}/{name} is let in with a token for the audience {needed} \
             only; this one is for {}",
            audiences.join(", ")
        ),
        None => identity.unmapped(),
    }
}

#[cfg(test)]
mod tests {
    use llm_memory_engine::ids::Scope;
    use serde_json::json;

    use super::*;

    fn account(namespace: &str, name: &str) -> Identity {
        of_audience(namespace, name, "memory")
    }

    fn of_audience(namespace: &str, name: &str, audience: &str) -> Identity {
        Identity::ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            audiences: vec![audience.to_owned()],
        }
    }

    fn person(issuer: &str, subject: &str, claims: &Value) -> Identity {
        let claims = claims.as_object().unwrap().clone();
        Identity::Oidc { issuer: issuer.to_owned(), subject: subject.to_owned(), claims }
    }

    fn person_of(subject: &str) -> Identity {
        person("i", subject, &json!({"g": "v"}))
    }

    fn file(text: &Value) -> IdentitiesFile {
        let mut file = read(text.to_string().as_bytes()).unwrap();
        for entry in &mut file.entries {
            let Entry::Rule(rule) = entry else { continue };
            if let Some(account) = &mut rule.service_account {
                account.audience.get_or_insert_with(|| "memory".to_owned());
            }
        }
        file
    }

    fn rules(text: &Value) -> Vec<Entry> {
        let IdentitiesFile { entries, faults } = file(text);
        assert_eq!(faults, []);
        entries
    }

    #[test]
    fn the_first_rule_that_matches_says_what_a_caller_may_do() {
        let rules = rules(&json!([
            {"serviceAccount": {"namespace": "agents", "name": "planner"}, "roles": ["agent"],
             "projects": ["web"], "scopes": {"read": ["global", "local"], "write": ["local"]},
             "tenant": "acme", "clearance": "team", "ownOnly": true},
            {"serviceAccount": {"namespace": "agents", "name": "*"}, "roles": ["monitor"],
             "subject": "some-agent"},
        ]));
        let of = |identity: &Identity| principal(&rules, identity, None);
        let planner = of(&account("agents", "planner")).unwrap();
        assert_eq!(planner.subject, "system:serviceaccount:agents:planner");
        assert!(planner.write.contains(Scope::Local) && !planner.write.contains(Scope::Global));
        assert!(planner.own_only && planner.clearance == Sensitivity::Team);
        assert_eq!(planner.tenant.unwrap().as_str(), "acme");
        let other = of(&account("agents", "critic")).unwrap();
        assert_eq!((other.subject.as_str(), other.projects), ("some-agent", None));
        assert!(other.roles.contains(&Role::Monitor));
        assert_eq!(of(&account("elsewhere", "planner")), None);
        assert_eq!(of(&Identity::Other { name: "system:admin".to_owned() }), None);
    }

    #[test]
    fn a_rule_may_ask_for_a_token_that_no_other_server_takes() {
        let rules = rules(&json!([
            {"serviceAccount": {"namespace": "system", "name": "operator", "audience": "store-1"},
             "roles": ["operator"]},
            {"serviceAccount": {"namespace": "system", "name": "*"}, "roles": ["agent"]},
        ]));
        let roles = |audience: &str| {
            let caller = principal(&rules, &of_audience("system", "operator", audience), None);
            caller.map(|caller| caller.roles)
        };
        assert_eq!(roles("store-1"), Some([Role::Operator].into()));
        assert_eq!(roles("memory"), Some([Role::Agent].into()));
        assert_eq!(roles("store-2"), None);
        let told = unmapped(&rules, &of_audience("system", "operator", "store-2"));
        assert!(told.contains("audience store-1 only; this one is for store-2"), "{told}");
        let told = unmapped(&rules, &of_audience("elsewhere", "operator", "memory"));
        assert!(told.contains("is not mapped"), "{told}");
    }

    #[test]
    fn people_are_matched_by_issuer_and_by_subject_or_claim() {
        let issuer = "https://idp.example";
        let rules = rules(&json!([
            {"oidc": {"issuer": issuer, "subject": "ada"}, "roles": ["admin"]},
            {"oidc": {"issuer": issuer, "claim": "groups", "value": "team-a"}, "roles": ["agent"]},
        ]));
        let of = |identity: &Identity| principal(&rules, identity, None);
        let ada = of(&person(issuer, "ada", &json!({}))).unwrap();
        assert_eq!((ada.subject.as_str(), ada.roles.contains(&Role::Admin)), ("oidc:ada", true));
        let member = of(&person(issuer, "bob", &json!({"groups": ["x", "team-a"]}))).unwrap();
        assert!(member.roles.contains(&Role::Agent));
        assert!(of(&person(issuer, "bob", &json!({"groups": "team-a"}))).is_some());
        for claims in [json!({}), json!({"groups": ["team-ab"]}), json!({"groups": {"team-a": 1}})]
        {
            assert_eq!(of(&person(issuer, "bob", &claims)), None, "{claims}");
        }
        assert_eq!(of(&person("https://other", "ada", &json!({"groups": ["team-a"]}))), None);
    }

    #[test]
    fn rules_that_make_no_sense_are_told_with_what_would_be_right() {
        let account = json!({"namespace": "a", "name": "b"});
        let oidc = json!({"issuer": "https://i", "subject": "s"});
        for (rules, words) in [
            (
                json!([{"serviceAcount": account, "roles": ["agent"]}]),
                "did you mean serviceAccount?",
            ),
            (
                json!([{"serviceAccount": {"namespace": "a", "names": "b"}, "roles": ["agent"]}]),
                "did you mean serviceAccount.name?",
            ),
            (json!([{"oidc": oidc, "role": ["agent"]}]), "did you mean roles?"),
            (json!([{"oidc": oidc, "roles": ["agent"], "colour": 1}]), "no such field colour"),
            (
                json!([{"serviceAccount": {"namespace": "a", "name": "b", "audience": ""},
                     "roles": ["agent"]}]),
                "audience is empty",
            ),
            (json!([{"oidc": oidc, "roles": []}]), "roles is empty"),
            (json!([{"roles": ["agent"]}]), "either serviceAccount or oidc"),
            (json!([{"oidc": oidc, "serviceAccount": account, "roles": ["agent"]}]), "either"),
            (
                json!([{"oidc": {"issuer": "i", "claim": "groups"}, "roles": ["agent"]}]),
                "its value",
            ),
            (
                json!([{"oidc": {"issuer": "i", "claim": "g", "value": "v", "subject": "s"},
                     "roles": ["agent"]}]),
                "either a subject",
            ),
            (
                json!([{"serviceAccount": {"namespace": "*", "name": "b"}, "roles": ["agent"]}]),
                "namespace \"*\"",
            ),
            (
                json!([{"oidc": oidc, "roles": ["agent"], "projects": ["not a project!"]}]),
                "admits nobody: projects[0]: ",
            ),
            (json!([{"oidc": oidc, "roles": ["agent"], "tenant": "a b"}]), "nobody: tenant: "),
        ] {
            let IdentitiesFile { entries, faults } = file(&rules);
            assert!(matches!(&entries[..], [Entry::Bar(_)]), "{rules}: {entries:?}");
            let fault = faults[0].to_string();
            assert!(fault.starts_with("rule 1 admits nobody: "), "{rules}: {fault}");
            assert!(fault.contains(words), "{rules}: {fault}");
        }
        let error = read(json!({"oidc": oidc}).to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains("line 1, column"), "{error}");
    }

    #[test]
    fn a_rule_that_an_earlier_one_covers_is_only_pointed_out() {
        let account = json!({"namespace": "a", "name": "b"});
        let oidc = json!({"issuer": "https://i", "subject": "s"});
        for rules in [
            json!([{"oidc": oidc, "roles": ["agent"]}, {"oidc": oidc, "roles": ["admin"]}]),
            json!([{"serviceAccount": {"namespace": "a", "name": "*"}, "roles": ["agent"]},
                {"serviceAccount": account, "roles": ["admin"]}]),
        ] {
            let IdentitiesFile { entries, faults } = file(&rules);
            assert!(entries.iter().all(|entry| entry.rule().is_some()), "{entries:?}");
            let fault = faults[0].to_string();
            assert!(fault.starts_with("rule 2 has no effect: rule 1 matches"), "{fault}");
            assert!(matches!(faults[..], [Fault::Superfluous { .. }]));
        }
    }

    #[test]
    fn a_rule_that_cannot_be_used_admits_nobody_and_widens_no_other() {
        let all =
            json!({"serviceAccount": {"namespace": "agents", "name": "*"}, "roles": ["admin"]});
        let person =
            json!({"oidc": {"issuer": "i", "claim": "g", "value": "v"}, "roles": ["admin"]});
        let named = |mut account: Value| {
            account["roles"] = json!(["monitor"]);
            account
        };
        let planner = json!({"namespace": "agents", "name": "planner"});
        let ada = person_of("ada");
        // Which rule cannot be used, and who of planner, critic and ada still comes in.
        for (bad, left) in [
            (named(json!({"serviceAccount": planner, "projects": ["not one!"]})), "critic ada"),
            (named(json!({"serviceAccount": planner, "tenant": 7})), "critic ada"),
            (named(json!({"serviceAcount": planner})), "critic ada"),
            (named(json!({"serviceAccount": {"namespace": "agents", "nam": "planner"}})), "ada"),
            (named(json!({"serviceAccount": {"name": "planner"}})), "critic ada"),
            (named(json!({"serviceAccount": "agents/planner"})), "ada"),
            (named(json!({"oidc": {"issuer": "i", "subject": "ada"}, "own": 1})), "planner critic"),
            (named(json!({"oidc": {"issuer": "i", "subjct": "bob"}})), "planner critic"),
            (
                named(json!({"oidc": {"issuer": "i", "subject": "bob"}, "own": 1})),
                "planner critic ada",
            ),
            (named(json!({"oidc": {"issuer": "o"}})), "planner critic ada"),
            (named(json!({"oidc": {"isuer": "i", "subject": "ada"}})), "planner critic"),
            (named(json!({})), ""),
            (json!(7), ""),
        ] {
            let file = file(&json!([bad, all, person]));
            let comes = |identity: &Identity| principal(&file.entries, identity, None).is_some();
            let mut who = Vec::new();
            for (name, identity) in [
                ("planner", account("agents", "planner")),
                ("critic", account("agents", "critic")),
                ("ada", ada.clone()),
            ] {
                if comes(&identity) {
                    who.push(name);
                } else {
                    let told = unmapped(&file.entries, &identity);
                    assert!(told.starts_with("rule 1 of the identities file may be for"), "{told}");
                }
            }
            assert_eq!(who.join(" "), left, "{bad}");
            assert_eq!(file.faults.len(), 1, "{:?}", file.faults);
        }
        let twice = br#"[{"serviceAccount": {"namespace": "a", "name": "x", "name": "y"},
            "roles": ["agent"]}]"#;
        let barred = principal(&read(twice).unwrap().entries, &account("z", "z"), None);
        assert_eq!(barred, None);
    }
}
