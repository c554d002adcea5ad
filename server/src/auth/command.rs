//! `llm-memory token create|list|revoke`: the owner of the token file changes it. A running server
//! notices the change by itself.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use llm_memory_disk::{Disk, LockGuard};
use llm_memory_engine::ids::{Digest, ProjectId, Scope, TenantId, Timestamp};
use llm_memory_engine::item::Sensitivity;
use serde_json::{Value, json};

use super::token_file::{self, TokenEntry, TokenScopes};
use crate::access::{Principal, Role};
use crate::answer::{Answer, Failure};
use crate::audit::{Entry, Kind};
use crate::cli::duration;

/// How long a command waits for another one that changes the same file.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often it looks.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The command's place in the tree.
pub fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let list = |name: &'static str, value: &'static str, help: &'static str| {
        text(name, value, help).value_delimiter(',').action(ArgAction::Append)
    };
    let scopes = || PossibleValuesParser::new(["global", "local", "committed"]);
    Command::new("token")
        .about("Creates, lists and revokes the bearer tokens of a server")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("create")
                .about("Creates a token and prints it once; only its hash is stored")
                .arg(Arg::new("name").required(true).help("Name of the token, unique"))
                .arg(text("subject", "NAME", "Subject in provenance and audit (default: the name)"))
                .arg(
                    list("role", "ROLE", "Roles held (default: agent); approver has no effect yet")
                        .value_parser(PossibleValuesParser::new(Role::ALL.map(Role::as_str))),
                )
                .arg(text("tenant", "NAME", "Tenant the token belongs to"))
                .arg(list("project", "NAME", "Projects allowed (default: any)"))
                .arg(list("read", "SCOPE", "Scopes that may be read").value_parser(scopes()))
                .arg(list("write", "SCOPE", "Scopes that may be written").value_parser(scopes()))
                .arg(
                    text("clearance", "LEVEL", "Highest sensitivity visible (default: private)")
                        .value_parser(PossibleValuesParser::new(["public", "team", "private"])),
                )
                .arg(
                    Arg::new("own-only")
                        .long("own-only")
                        .action(ArgAction::SetTrue)
                        .help("Sees only what it created"),
                )
                .arg(
                    Arg::new("every-tenant")
                        .long("every-tenant")
                        .action(ArgAction::SetTrue)
                        .conflicts_with("tenant")
                        .help(
                            "Maintains the scopes of every tenant, and sees what was found there",
                        ),
                )
                .arg(text(
                    "expires",
                    "WHEN",
                    "End: a span from now (24h, 30d, 2w), or a moment (RFC 3339)",
                )),
        )
        .subcommand(Command::new("list").about("Lists the tokens; never the secrets"))
        .subcommand(
            Command::new("revoke")
                .about("Removes a token")
                .arg(Arg::new("name").required(true).help("Name of the token")),
        )
}

/// What the audit log says of a command that ended like this: `None` when it changes nothing.
pub(crate) fn audited(matches: &ArgMatches, outcome: &Result<Answer, Failure>) -> Option<Entry> {
    let (word, matches) = matches.subcommand().filter(|(word, _)| *word != "list")?;
    // A mistyped name is no fault of the server.
    let outcome = outcome.as_ref().map_or_else(|failure| failure.code, |_| "ok");
    let mut entry = Entry::new(Kind::Call, outcome);
    entry.tool = Some(format!("token.{word}"));
    entry.id = matches.get_one::<String>("name").cloned();
    entry.subject = Some(Principal::local_owner().subject);
    entry.write = true;
    Some(entry.from_peer("cli", None))
}

/// Runs the command on the token file at `path`.
pub fn run(
    disk: &dyn Disk,
    path: &Path,
    matches: &ArgMatches,
    now: Timestamp,
) -> Result<Answer, Failure> {
    match matches.subcommand() {
        Some(("create", matches)) => create(disk, path, matches, now),
        Some(("revoke", matches)) => {
            let name = matches.get_one::<String>("name").map_or("", String::as_str);
            revoke(disk, path, name)
        }
        _ => list(disk, path, now),
    }
}

fn create(
    disk: &dyn Disk,
    path: &Path,
    matches: &ArgMatches,
    now: Timestamp,
) -> Result<Answer, Failure> {
    let (mut entry, token) = from_arguments(matches, now)?;
    let _alone = lock(disk, path)?;
    let mut entries = read(disk, path)?;
    if entries.iter().any(|known| known.name == entry.name) {
        return Err(Failure::usage(format!(
            "there is a token named {:?}: revoke it first, or choose another name",
            entry.name
        )));
    }
    entry.created = Some(now);
    let document = json!({ "token": token, "entry": entry, "file": path });
    let text = format!(
        "{token}\n\nThis is the only time the token is shown. Its hash is in {}.\n\
         A running server accepts it within a few seconds.",
        path.display()
    );
    entries.push(entry);
    write(disk, path, &entries)?;
    Ok(Answer::done(document, text))
}

fn from_arguments(matches: &ArgMatches, now: Timestamp) -> Result<(TokenEntry, String), Failure> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let list = |name: &str| {
        matches.get_many::<String>(name).map(|all| all.map(String::as_str).collect::<Vec<_>>())
    };
    let parse_all = |name: &str| -> Result<Option<Vec<Scope>>, Failure> {
        let Some(words) = list(name) else { return Ok(None) };
        words
            .into_iter()
            .map(|word| word.parse().map_err(Failure::usage))
            .collect::<Result<_, _>>()
            .map(Some)
    };
    let roles = list("role").unwrap_or_else(|| vec![Role::Agent.as_str()]);
    let scopes = match (parse_all("read")?, parse_all("write")?) {
        (None, None) => None,
        // A token that is told what it may write, but not what it may read, may read the same.
        (read, write) => {
            let write = write.unwrap_or_default();
            Some(TokenScopes { read: read.unwrap_or_else(|| write.clone()), write })
        }
    };
    let (id, token) = token_file::generate();
    let entry = TokenEntry {
        name: text("name").unwrap_or_default().to_owned(),
        id: Some(id),
        sha256: Digest::of(token.as_bytes()),
        subject: text("subject").map(str::to_owned),
        roles: roles
            .into_iter()
            .map(|role| role.parse().map_err(Failure::usage))
            .collect::<Result<_, _>>()?,
        tenant: text("tenant").map(TenantId::new).transpose().map_err(Failure::usage)?,
        projects: match list("project") {
            Some(names) => Some(
                names
                    .into_iter()
                    .map(|name| ProjectId::new(name).map_err(Failure::usage))
                    .collect::<Result<_, _>>()?,
            ),
            None => None,
        },
        scopes,
        clearance: match text("clearance") {
            Some("public") => Some(Sensitivity::Public),
            Some("team") => Some(Sensitivity::Team),
            _ => None,
        },
        own_only: matches.get_flag("own-only"),
        every_tenant: matches.get_flag("every-tenant"),
        expires: text("expires")
            .map(|when| duration::until(when, now))
            .transpose()
            .map_err(|reason| Failure::usage(format!("--expires: {reason}")))?,
        created: None,
    };
    Ok((entry, token))
}

fn revoke(disk: &dyn Disk, path: &Path, name: &str) -> Result<Answer, Failure> {
    let _alone = lock(disk, path)?;
    let mut entries = read(disk, path)?;
    let before = entries.len();
    entries.retain(|entry| entry.name != name);
    if entries.len() == before {
        return Err(Failure::missing(format!(
            "there is no token named {name:?} in {}; `llm-memory token list` shows them",
            path.display()
        )));
    }
    write(disk, path, &entries)?;
    Ok(Answer::done(
        json!({ "revoked": name, "remaining": entries.len() }),
        format!("revoked {name}; a running server refuses it within a few seconds"),
    ))
}

fn list(disk: &dyn Disk, path: &Path, now: Timestamp) -> Result<Answer, Failure> {
    let entries = read(disk, path)?;
    let mut text = String::new();
    if entries.is_empty() {
        writeln!(text, "no tokens in {}", path.display()).unwrap_or_default();
    }
    for entry in &entries {
        let roles: Vec<&str> = entry.roles.iter().map(|role| role.as_str()).collect();
        let ends = match entry.expires {
            None => "never expires".to_owned(),
            Some(end) if end <= now => format!("expired {end}"),
            Some(end) => format!("expires {end}"),
        };
        let limits = limits(entry);
        writeln!(text, "{}  {}  {ends}{limits}", entry.name, roles.join(",")).unwrap_or_default();
    }
    Ok(Answer::done(json!({ "file": path, "tokens": without_hashes(&entries) }), text))
}

/// What keeps a token from seeing or changing everything, for people.
fn limits(entry: &TokenEntry) -> String {
    let list = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(",");
    let scopes = |all: &[Scope]| list(&mut all.iter().map(ToString::to_string));
    let mut out = String::new();
    let mut add = |what: &str, value: String| {
        let value = if value.is_empty() { "none".to_owned() } else { value };
        out.push_str(&format!("  {what} {value}"));
    };
    if let Some(tenant) = &entry.tenant {
        add("tenant", tenant.to_string());
    }
    if let Some(projects) = &entry.projects {
        add("projects", list(&mut projects.iter().map(ToString::to_string)));
    }
    if let Some(allowed) = &entry.scopes {
        add("reads", scopes(&allowed.read));
        add("writes", scopes(&allowed.write));
    }
    if let Some(clearance) = entry.clearance {
        add("clearance", clearance.to_string());
    }
    if entry.own_only {
        out.push_str("  own items only");
    }
    if entry.every_tenant {
        out.push_str("  every tenant");
    }
    out
}

/// Hashes of tokens that people made themselves could be guessed; there is no need to show them.
fn without_hashes(entries: &[TokenEntry]) -> Value {
    let mut list = json!(entries);
    for entry in list.as_array_mut().into_iter().flatten() {
        if let Some(object) = entry.as_object_mut() {
            object.remove("sha256");
        }
    }
    list
}

/// The entries of the file at `path`; none when there is no file.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<TokenEntry>, Failure> {
    match disk.read(path) {
        Ok(bytes) => token_file::parse(&bytes)
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display()))),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(Failure::failed(error)),
    }
}

/// Keeps other commands from changing the file at `path`, from reading it to replacing it: of two
/// at one time the second would bring back what the first one revoked.
fn lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn LockGuard>, Failure> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        disk.create_dir_all(folder).map_err(Failure::failed)?;
    }
    let begun = Instant::now();
    loop {
        // The token file itself is replaced, and a lock on it would go with it.
        match disk.lock(&path.with_added_extension("lock")) {
            Err(error) if error.is_locked() && begun.elapsed() < LOCK_WAIT => {
                std::thread::sleep(LOCK_POLL);
            }
            Err(error) if error.is_locked() => {
                return Err(Failure::failed(format!(
                    "another command is changing {}: try again",
                    path.display()
                )));
            }
            locked => return locked.map_err(Failure::failed),
        }
    }
}

fn write(disk: &dyn Disk, path: &Path, entries: &[TokenEntry]) -> Result<(), Failure> {
    let mut bytes = serde_json::to_vec_pretty(entries).map_err(Failure::failed)?;
    bytes.push(b'\n');
    disk.durable_write_private(path, &bytes).map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;

    fn token(path: &Path, line: &str) -> Result<Answer, Failure> {
        let words = std::iter::once("token").chain(line.split_whitespace());
        let matches = command().try_get_matches_from(words).map_err(Failure::usage)?;
        run(&OsDisk, path, &matches, "2026-11-22T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_created_token_is_shown_once_and_only_its_hash_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let created = token(
            &path,
            "create ci --role agent,monitor --project web --write local --expires 30d",
        )
        .unwrap();
        let secret = created.document["token"].as_str().unwrap();
        let file = String::from_utf8(OsDisk.read(&path).unwrap()).unwrap();
        assert!(!file.contains(secret));
        let entries = read(&OsDisk, &path).unwrap();
        let found = token_file::find(&entries, secret).unwrap();
        assert_eq!(found.expires.unwrap().to_string(), "2026-12-22T00:00:00.000Z");
        assert_eq!(found.scopes.as_ref().unwrap().read, [Scope::Local]);
        let listed = token(&path, "list").unwrap();
        assert_eq!(
            listed.text,
            concat!(
                "ci  monitor,agent  expires 2026-12-22T00:00:00.000Z",
                "  projects web  reads local  writes local\n",
            )
        );
        assert!(!listed.document.to_string().contains(&found.sha256.to_hex()));
    }

    #[test]
    fn names_are_unique_and_revoking_removes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/tokens.json");
        token(&path, "create a").unwrap();
        assert!(token(&path, "create a").unwrap_err().message.contains("revoke it first"));
        token(&path, "revoke a").unwrap();
        assert!(token(&path, "revoke a").unwrap_err().message.contains("no token named"));
        assert_eq!(token(&path, "list").unwrap().document["tokens"], json!([]));
    }

    #[test]
    fn a_mistyped_name_is_no_fault_of_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        let outcome = |line: &str| {
            let words = std::iter::once("token").chain(line.split_whitespace());
            let matches = command().try_get_matches_from(words).unwrap();
            let outcome = run(&OsDisk, &path, &matches, Timestamp::now());
            audited(&matches, &outcome).unwrap().outcome
        };
        assert_eq!(
            (outcome("create a"), outcome("create a")),
            ("ok".into(), "invalid_argument".into())
        );
        assert_eq!(outcome("revoke nosuch"), "not_found");
        OsDisk.durable_write(&path, b"torn").unwrap();
        assert_eq!(outcome("revoke a"), "failed");
    }

    #[test]
    fn a_token_may_reach_every_tenant_or_belong_to_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        token(&path, "create whole --role operator --every-tenant").unwrap();
        token(&path, "create part --role operator").unwrap();
        let every: Vec<bool> =
            read(&OsDisk, &path).unwrap().iter().map(|entry| entry.every_tenant).collect();
        assert_eq!(every, [true, false]);
        assert!(token(&path, "create both --tenant acme --every-tenant").is_err());
    }

    #[test]
    fn commands_at_one_time_lose_no_change_of_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        token(&path, "create old").unwrap();
        let other = OsDisk.lock(&folder.path().join("tokens.json.lock")).unwrap();
        std::thread::scope(|scope| {
            let revoking = scope.spawn(|| token(&path, "revoke old").unwrap());
            std::thread::sleep(LOCK_POLL * 5);
            assert!(!revoking.is_finished());
            drop(other);
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || token(path, &format!("create new{number}")).unwrap());
            }
        });
        let names: Vec<String> =
            read(&OsDisk, &path).unwrap().into_iter().map(|entry| entry.name).collect();
        assert!(names.len() == 8 && !names.contains(&"old".to_owned()), "{names:?}");
    }

    #[test]
    fn arguments_that_make_no_sense_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        for line in [
            "create a --role boss",
            "create a --expires yesterday",
            "create a --expires 2020-01-01T00:00:00Z",
            "create a --expires 0d",
            "create a --project ../x",
        ] {
            token(&path, line).unwrap_err();
        }
        assert!(!OsDisk.exists(&path).unwrap());
    }
}
