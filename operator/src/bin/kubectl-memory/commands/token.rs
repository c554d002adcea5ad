//! `token`: tokens for callers.
//!
//! A token goes to standard output alone, so that it can be piped; words about it go to standard
//! error.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec, TokenRequestStatus};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use llm_memory_crds::MemoryStore;
use llm_memory_crds::memory_store::AuthMode;
use serde_json::json;

use crate::context::Context;
use crate::error::{Failure, Object};
use crate::exit::Exit;
use crate::{names, units, wait};

/// What to do with tokens.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a token of a ServiceAccount that the store accepts for a while
    Create {
        /// Name of the MemoryStore
        name: String,
        /// `serviceaccount/NAME` in the store's namespace, or `serviceaccount/NAMESPACE/NAME`
        #[arg(long = "for", value_name = "ACCOUNT", value_parser = account)]
        account: Account,
        /// How long it is valid; the cluster may shorten it
        #[arg(long, value_parser = units::duration, default_value = "1h")]
        duration: Duration,
    },
    /// Print a static token that the operator made
    Show {
        /// Name of the MemoryStore
        name: String,
        /// Name of the token
        #[arg(long = "name", value_name = "TOKEN", default_value = "default")]
        token: String,
    },
    /// Replace the static tokens; the former ones stay valid for the overlap
    Rotate {
        /// Name of the MemoryStore
        name: String,
        /// Return once the change is written, without waiting for the new tokens
        #[arg(long)]
        no_wait: bool,
        /// How long to wait for the new tokens
        #[arg(long, value_parser = units::duration, default_value = "2m")]
        timeout: Duration,
    },
}

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Left out: that of the store.
    pub(crate) namespace: Option<String>,
    /// Its name.
    pub(crate) name: String,
}

/// Reads `serviceaccount/NAME`, `serviceaccount/NAMESPACE/NAME`; `sa` is short for the word.
pub(crate) fn account(text: &str) -> Result<Account, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (namespace, name) = match parts.as_slice() {
        ["serviceaccount" | "sa", name] => (None, *name),
        ["serviceaccount" | "sa", namespace, name] => (Some((*namespace).to_owned()), *name),
        _ => {
            return Err(
                "it must be serviceaccount/NAME or serviceaccount/NAMESPACE/NAME".to_owned()
            );
        }
    };
    if name.is_empty() || namespace.as_deref() == Some("") {
        return Err("a name is empty".to_owned());
    }
    Ok(Account { namespace, name: name.to_owned() })
}

/// Runs one of the commands.
pub(crate) async fn run(context: &Context, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Create { name, account, duration } => {
            let store = context.store(name).await?;
            let made = request(context, &store, account, *duration).await?;
            let data = json!({ "token": made.token, "expiresAt": made.expiration_timestamp });
            context.printer.answer(&data, || made.token.clone().unwrap_or_default())?;
        }
        Command::Show { name, token } => {
            let store = context.store(name).await?;
            let value = fixed(context, &store, name, token).await?;
            context.printer.answer(&json!({ "name": token, "token": value }), || value.clone())?;
        }
        Command::Rotate { name, no_wait, timeout } => {
            let waited = (!no_wait).then_some(*timeout);
            rotate(context, name, waited).await?;
        }
    }
    Ok(Exit::Done)
}

/// How often a Secret is read that is waited for. It is not watched: whoever may read one Secret
/// need not be allowed to list them.
const LOOK: Duration = Duration::from_secs(1);

/// Asks for new static tokens, and waits for them as long as `patience`.
async fn rotate(context: &Context, name: &str, patience: Option<Duration>) -> Result<(), Failure> {
    let store = context.store(name).await?;
    made_by_operator(&store, name)?;
    if store.spec.paused {
        let reason = format!(
            "it is paused, so the operator would not act. `kubectl memory resume {name}` first"
        );
        return Err(Failure::Refused { object: format!("memorystore {name}"), reason });
    }
    let (before, patience) = match patience {
        None => (None, None),
        Some(patience) => match secret(context, name).await {
            Ok(before) => (before, Some(patience)),
            // Whoever may change the store may ask for other tokens, and need not see them.
            Err(forbidden @ Failure::Forbidden { .. }) => {
                context.printer.note(&format!("not waiting for the new tokens: {forbidden}"));
                (None, None)
            }
            Err(error) => return Err(error),
        },
    };
    let at = format!("{:.0}", Timestamp::now());
    let patch = json!({ "spec": { "mcp": { "auth": { "rotateAt": at } } } });
    let store = context.patch(name, &patch).await?;
    if let Some(patience) = patience {
        let replaced = until_replaced(context, name, before.as_ref(), &store);
        tokio::time::timeout(patience, replaced).await.unwrap_or_else(|_| {
            Err(Failure::Timeout {
                waited: units::spelled(patience),
                what: format!("new tokens in secret {}", names::tokens(name)),
                seen: "the former tokens".to_owned(),
                remedy: format!("`kubectl memory status {name}` shows what holds it up."),
            })
        })?;
    }
    let overlap = store.spec.mcp.auth.rotate_overlap_minutes;
    let (result, words) = match patience {
        Some(_) => ("replaced", "are replaced"),
        None => ("requested", "are to be replaced"),
    };
    let data = json!({ "name": name, "rotateAt": at, "overlapMinutes": overlap, "result": result });
    context.printer.answer(&data, || {
        format!(
            "tokens of memorystore {name} {words}; the former ones stay valid for {overlap} minutes"
        )
    })
}

/// Waits until the operator has made other tokens than `before`.
async fn until_replaced(
    context: &Context,
    name: &str,
    before: Option<&Secret>,
    patched: &MemoryStore,
) -> Result<(), Failure> {
    let (names, generation) = (token_names(patched), patched.metadata.generation);
    context.printer.note("waiting for the operator to make new tokens");
    loop {
        if secret(context, name).await?.is_some_and(|now| are_others(&names, before, &now)) {
            return Ok(());
        }
        let store = context.store(name).await?;
        if let Some(refused) = wait::refused(&store, name, generation, &wait::HOPELESS) {
            return Err(refused);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The tokens that the operator makes for a store, by their keys in the Secret.
fn token_names(store: &MemoryStore) -> Vec<String> {
    let tokens = store.spec.mcp.auth.tokens.as_ref();
    tokens.map_or_else(
        || vec!["default".to_owned()],
        |tokens| tokens.iter().map(|token| token.name.clone()).collect(),
    )
}

/// Whether none of the tokens `names` of `before` is in `now`. Other keys are of no account:
/// whoever added them keeps them.
fn are_others(names: &[String], before: Option<&Secret>, now: &Secret) -> bool {
    let token = |secret: &Secret, name: &str| secret.data.as_ref()?.get(name).cloned();
    names.iter().all(|name| {
        let former = before.and_then(|before| token(before, name));
        former.is_none_or(|former| token(now, name) != Some(former))
    })
}

/// The Secret with the tokens that the operator makes.
async fn secret(context: &Context, name: &str) -> Result<Option<Secret>, Failure> {
    let secret = names::tokens(name);
    let object = context.object("secret", &secret, "");
    let read = context.api::<Secret>().get_opt(&secret).await;
    read.map_err(|error| object.failed("read", error))
}

/// A token of a ServiceAccount, made for the store's audience.
pub(crate) async fn request(
    context: &Context,
    store: &MemoryStore,
    account: &Account,
    duration: Duration,
) -> Result<TokenRequestStatus, Failure> {
    let namespace = account.namespace.as_deref().unwrap_or(&context.namespace);
    if !is_mapped(store, namespace, &account.name, &context.namespace) {
        context.printer.note(&format!(
            "warning: the store refuses serviceaccount {namespace}/{}, because spec.mcp.auth.serviceAccounts does not list it",
            account.name
        ));
    }
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let wanted = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(vec![store.spec.mcp.auth.audience.clone()]),
            expiration_seconds: Some(seconds),
            bound_object_ref: None,
        }),
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(context.client.clone(), namespace);
    let made = accounts.create_token_request(&account.name, &PostParams::default(), &wanted).await;
    let object = Object {
        kind: "serviceaccount",
        name: &account.name,
        namespace,
        missing: "make it with `kubectl create serviceaccount`, or name another with --for",
    };
    let made = made.map_err(|error| object.failed("make a token for", error))?;
    let status = made.status.unwrap_or_default();
    if let Some(until) = &status.expiration_timestamp {
        let left = until.0.duration_since(Timestamp::now()).as_secs();
        context.printer.note(&format!("valid until {} ({} minutes)", until.0, left / 60));
    }
    Ok(status)
}

fn is_mapped(store: &MemoryStore, namespace: &str, name: &str, own_namespace: &str) -> bool {
    store.spec.mcp.auth.service_accounts.iter().any(|it| {
        it.namespace.as_deref().unwrap_or(own_namespace) == namespace
            && (it.name == name || it.name == "*")
    })
}

/// Refuses a store that has no static tokens of the operator's making.
fn made_by_operator(store: &MemoryStore, name: &str) -> Result<(), Failure> {
    let auth = &store.spec.mcp.auth;
    let reason = if auth.mode == AuthMode::None {
        "its spec.mcp.auth.mode is None, so there are no tokens".to_owned()
    } else if let Some(own) = &auth.secret_name {
        format!(
            "its tokens are in your own Secret {own}, which holds only their hashes. Use a token that you kept, or `kubectl memory token create`"
        )
    } else {
        return Ok(());
    };
    Err(Failure::Refused { object: format!("memorystore {name}"), reason })
}

/// A static token of the operator's Secret.
pub(crate) async fn fixed(
    context: &Context,
    store: &MemoryStore,
    name: &str,
    token: &str,
) -> Result<String, Failure> {
    made_by_operator(store, name)?;
    let secret = names::tokens(name);
    let missing = "the operator makes it; `kubectl memory status` shows whether it could";
    let found = context
        .api::<Secret>()
        .get(&secret)
        .await
        .map_err(|error| context.object("secret", &secret, missing).failed("read", error))?;
    let data = found.data.unwrap_or_default();
    let Some(value) = data.get(token) else {
        let known: Vec<_> = data.keys().map(String::as_str).collect();
        let reason = format!(
            "its Secret {secret} has no token {token:?}; there are: {}. Choose one with --name, or add it to spec.mcp.auth.tokens",
            known.join(", ")
        );
        return Err(Failure::Refused { object: format!("memorystore {name}"), reason });
    };
    Ok(String::from_utf8_lossy(&value.0).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use llm_memory_crds::memory_store::ServiceAccountMapping;

    use super::*;
    use crate::fixtures;

    #[test]
    fn an_account_is_named_with_or_without_its_namespace() {
        let own = Account { namespace: None, name: "agent".to_owned() };
        assert_eq!(account("serviceaccount/agent").unwrap(), own);
        assert_eq!(account("sa/agent").unwrap(), own);
        let other = Account { namespace: Some("team".to_owned()), ..own };
        assert_eq!(account("serviceaccount/team/agent").unwrap(), other);
        for wrong in ["agent", "user/agent", "sa/", "sa//agent", "sa/a/b/c"] {
            assert!(account(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_listed_accounts_count_as_mapped() {
        let mut store = fixtures::store();
        let map = |namespace: Option<&str>, name: &str| ServiceAccountMapping {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            ..ServiceAccountMapping::default()
        };
        store.spec.mcp.auth.service_accounts = vec![map(None, "agent"), map(Some("team"), "*")];
        assert!(is_mapped(&store, "prod", "agent", "prod"));
        assert!(!is_mapped(&store, "other", "agent", "prod"));
        assert!(is_mapped(&store, "team", "anybody", "prod"));
        assert!(!is_mapped(&store, "prod", "other", "prod"));
    }

    #[tokio::test]
    async fn a_forbidden_secret_is_named_with_the_reason() {
        let (context, server) = fixtures::cluster();
        let script = server.refuse(
            "/api/v1/namespaces/prod/secrets/mem-tokens",
            403,
            "secrets \"mem-tokens\" is forbidden: no rights",
        );
        let store = fixtures::store();
        let (result, ()) = tokio::join!(fixed(&context, &store, "mem", "default"), script);
        insta::assert_snapshot!(result.unwrap_err(), @r#"not allowed to read secret prod/mem-tokens: secrets "mem-tokens" is forbidden: no rights. Ask for that permission, or choose another user with --context"#);
    }

    #[tokio::test]
    async fn tokens_of_a_secret_of_ones_own_cannot_be_shown() {
        let (context, _server) = fixtures::cluster();
        let mut store = fixtures::store();
        store.spec.mcp.auth.secret_name = Some("mine".to_owned());
        let failure = fixed(&context, &store, "mem", "default").await.unwrap_err();
        assert!(failure.to_string().contains("your own Secret mine"), "{failure}");
    }
    fn of(tokens: &[(&str, &str)]) -> serde_json::Value {
        let data = tokens.iter().map(|(name, token)| ((*name).to_owned(), json!(token)));
        let data: serde_json::Map<String, serde_json::Value> = data.collect();
        json!({"metadata": {"name": "mem-tokens"}, "data": data})
    }

    /// What a rotation comes to when the Secret is read as `secrets` one after the other, the last
    /// of them for ever.
    async fn rotated(
        store: &MemoryStore,
        secrets: &[serde_json::Value],
        patience: Option<Duration>,
    ) -> Result<(), Failure> {
        let (context, server) = fixtures::cluster();
        let store = serde_json::to_value(store).unwrap();
        let reads = std::cell::Cell::new(0);
        let answers = server.serve(|path, _| {
            if path.ends_with("/memorystores/mem") {
                return Some(store.clone());
            }
            assert!(path.ends_with("/secrets/mem-tokens"), "{path}");
            let read = reads.replace(reads.get() + 1);
            secrets.get(read).or(secrets.last()).cloned()
        });
        tokio::select! {
            result = rotate(&context, "mem", patience) => result,
            () = answers => unreachable!("the client is there"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_replaced_when_the_secret_says_so() {
        let (mut store, minute) = (fixtures::store(), Some(Duration::from_secs(60)));
        let tokens = json!([{"name": "default"}, {"name": "ci"}]);
        store.spec.mcp.auth.tokens = serde_json::from_value(tokens).unwrap();
        let former = of(&[("default", "YQ=="), ("ci", "Yg=="), ("tokens.json", "W10=")]);
        let half = of(&[("default", "Yw=="), ("ci", "Yg=="), ("tokens.json", "W10=")]);
        let others = of(&[("default", "Yw=="), ("ci", "ZA=="), ("tokens.json", "W10=")]);
        rotated(&store, &[former.clone(), former.clone(), half.clone(), others], minute)
            .await
            .unwrap();
        let failure = rotated(&store, &[former.clone(), half], minute).await.unwrap_err();
        insta::assert_snapshot!(failure, @"gave up after 1m waiting for new tokens in secret mem-tokens; last seen: the former tokens. `kubectl memory status mem` shows what holds it up.");
        rotated(&store, std::slice::from_ref(&former), None).await.unwrap();
        // What the spec does not list is somebody else's, and stays.
        let half = of(&[("default", "Yw=="), ("ci", "Yg==")]);
        rotated(&fixtures::store(), &[former, half], minute).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_may_not_read_tokens_may_replace_them() {
        let forbidden = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
            "reason": "Forbidden", "message": "no rights",
        });
        let minute = Some(Duration::from_secs(60));
        rotated(&fixtures::store(), &[forbidden], minute).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_not_acted_on_gets_no_new_tokens() {
        let former = of(&[("default", "YQ==")]);
        let minute = Some(Duration::from_secs(60));
        let mut store = fixtures::store();
        fixtures::condition(&mut store, "Accepted", "False", "InvalidSpec", "mcp.port is taken");
        let failure = rotated(&store, std::slice::from_ref(&former), minute).await.unwrap_err();
        assert!(failure.to_string().contains("mcp.port is taken"), "{failure}");
        store.spec.paused = true;
        let failure = rotated(&store, &[former], minute).await.unwrap_err();
        assert!(failure.to_string().contains("it is paused"), "{failure}");
    }
}
