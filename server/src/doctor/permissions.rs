//! Owner and permissions of the data folder: 0750 for folders, 0640 for files, 0600 for secrets.

use std::path::{Path, PathBuf};

use llm_memory_disk::Disk;

use super::Finding;
use crate::config::Config;

const CHECK: &str = "permissions";
/// Folders may be used by their owner and looked into by their group.
const FOLDER_MODE: u32 = 0o750;
/// Files may be read by their group.
const FILE_MODE: u32 = 0o640;
/// Secrets are their owner's alone.
const SECRET_MODE: u32 = 0o600;
/// Entries looked at; a large store has more, all made by the same code.
const MAX_ENTRIES: usize = 10_000;
/// Offenders named.
const MAX_NAMED: usize = 5;

/// Looks at the folder and everything in it.
pub(super) fn check(disk: &dyn Disk, config: &Config) -> Vec<Finding> {
    let root = &config.data_dir;
    match disk.exists(root) {
        Ok(true) => {}
        Ok(false) => {
            return vec![Finding::ok(
                CHECK,
                format!("{} does not exist yet; the server creates it", root.display()),
            )];
        }
        Err(error) => return vec![unreadable(root, &error)],
    }
    let mut findings: Vec<Finding> = owner(root).into_iter().collect();
    let mut offenders = Vec::new();
    if let Err(error) = walk(disk, root, &mut offenders) {
        findings.push(unreadable(root, &error));
    }
    for (mode, what) in [(FOLDER_MODE, "folders"), (FILE_MODE, "files"), (SECRET_MODE, "secrets")] {
        let of_kind: Vec<&Offender> =
            offenders.iter().filter(|offender| offender.wanted == mode).collect();
        let Some(first) = of_kind.first() else { continue };
        let named: Vec<String> = of_kind
            .iter()
            .take(MAX_NAMED)
            .map(|offender| format!("{} ({:04o})", offender.path.display(), offender.mode))
            .collect();
        let more = of_kind.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        findings.push(Finding::warning(
            CHECK,
            format!(
                "{what} that more people can use than {mode:04o} lets: {}{more}",
                named.join(", ")
            ),
            format!("chmod {mode:04o} {}", first.path.display()),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{} is as it should be", root.display())));
    }
    findings
}

struct Offender {
    path: PathBuf,
    mode: u32,
    wanted: u32,
}

fn walk(
    disk: &dyn Disk,
    root: &Path,
    offenders: &mut Vec<Offender>,
) -> Result<(), llm_memory_disk::DiskError> {
    let mut folders = vec![root.to_path_buf()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in disk.list(&folder)? {
            let path = folder.join(&entry.name);
            let secret = matches!(entry.name.as_str(), "admin.token" | "tokens.json");
            let wanted = match (entry.is_dir, secret) {
                (true, _) => FOLDER_MODE,
                (false, true) => SECRET_MODE,
                (false, false) => FILE_MODE,
            };
            if entry.mode & !wanted & 0o777 != 0 {
                offenders.push(Offender { path: path.clone(), mode: entry.mode, wanted });
            }
            if entry.is_dir {
                folders.push(path);
            }
            seen += 1;
            if seen >= MAX_ENTRIES {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn owner(root: &Path) -> Option<Finding> {
    let stat = rustix::fs::stat(root).ok()?;
    let user = rustix::process::geteuid().as_raw();
    (stat.st_uid != user && user != 0).then(|| {
        Finding::critical(
            CHECK,
            format!("{} belongs to user {}, this is user {user}", root.display(), stat.st_uid),
            format!("chown -R {user} {}, or run as that user", root.display()),
        )
    })
}

fn unreadable(root: &Path, error: &llm_memory_disk::DiskError) -> Finding {
    Finding::critical(
        CHECK,
        error.to_string(),
        format!("let this user read and write {}", root.display()),
    )
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;
    use crate::config::{Sources, load};
    use crate::doctor::Level;

    fn config(root: &Path) -> Config {
        let environment =
            vec![("LLM_MEMORY_DATA_DIR".to_owned(), root.to_str().unwrap().to_owned())];
        load(&OsDisk, &Sources { environment, ..Sources::default() }).unwrap().config
    }

    #[test]
    fn files_that_others_can_read_are_named_with_the_command_that_mends_them() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("global");
        OsDisk.create_dir_all(&inside).unwrap();
        OsDisk.durable_write(&inside.join("journal.ndjson"), b"").unwrap();
        OsDisk.durable_write_private(&folder.path().join("tokens.json"), b"[]").unwrap();
        let good = check(&OsDisk, &config(folder.path()));
        assert_eq!(good.iter().map(|f| f.level).max(), Some(Level::Ok), "{good:?}");
        // A secret with the mode of an ordinary file.
        OsDisk.durable_write(&folder.path().join("tokens.json"), b"[]").unwrap();
        let findings = check(&OsDisk, &config(folder.path()));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Warning);
        assert!(findings[0].remedy.as_ref().unwrap().starts_with("chmod 0600 "), "{findings:?}");
    }
}
