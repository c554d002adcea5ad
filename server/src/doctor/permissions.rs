//! Owner and permissions of the data folder: 0750 for folders, 0640 for files, 0600 for secrets.

use std::path::{Path, PathBuf};

use llm_memory_disk::Disk;

use super::Finding;
use crate::config::Config;
use crate::serve::run_files;

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
        Ok(false) => return vec![creatable(disk, root, may_create_in)],
        Err(error) => return vec![unreadable(root, &error)],
    }
    let mut findings: Vec<Finding> = owner(root).into_iter().collect();
    let secrets = secrets(config);
    let mut offenders: Vec<Offender> =
        secrets.iter().filter_map(|path| offender(path, SECRET_MODE)).collect();
    offenders.extend(offender(root, FOLDER_MODE));
    let whole = walk(disk, root, &secrets, &mut offenders).unwrap_or_else(|error| {
        findings.push(unreadable(root, &error));
        true
    });
    for (mode, what) in [(FOLDER_MODE, "folders"), (FILE_MODE, "files"), (SECRET_MODE, "secrets")] {
        let of_kind: Vec<&Offender> =
            offenders.iter().filter(|offender| offender.wanted == mode).collect();
        if of_kind.is_empty() {
            continue;
        }
        let shown = || of_kind.iter().take(MAX_NAMED);
        let named: Vec<String> = shown()
            .map(|offender| format!("{} ({:04o})", offender.path.display(), offender.mode))
            .collect();
        let paths: Vec<String> =
            shown().map(|offender| offender.path.display().to_string()).collect();
        let more = of_kind.len().saturating_sub(MAX_NAMED);
        let (more, again) = if more > 0 {
            (format!(" and {more} more"), ", then run this again for the others")
        } else {
            (String::new(), "")
        };
        findings.push(Finding::warning(
            CHECK,
            format!(
                "{what} that more people can use than {mode:04o} lets: {}{more}",
                named.join(", ")
            ),
            format!("chmod {mode:04o} {}{again}", paths.join(" ")),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{} is as it should be", root.display())));
    }
    if !whole {
        findings.push(Finding::ok(
            CHECK,
            format!("only {MAX_ENTRIES} files and folders were looked at; there are more"),
        ));
    }
    findings
}

/// Whether the server can create the data folder, which does not exist: in the nearest folder
/// above it that does.
fn creatable(disk: &dyn Disk, root: &Path, may_create_in: impl Fn(&Path) -> bool) -> Finding {
    // Of a path that begins nowhere, the working folder is above it.
    let above = |path: &Path| {
        let parent = path.parent()?;
        Some(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }.to_path_buf())
    };
    let mut folder = above(root);
    while let Some(path) = &folder
        && !disk.exists(path).unwrap_or(false)
    {
        folder = above(path);
    }
    match folder {
        Some(folder) if !may_create_in(&folder) => Finding::critical(
            CHECK,
            format!(
                "{} does not exist, and this user may not create it in {}",
                root.display(),
                folder.display()
            ),
            format!("create {} for this user, or name another folder (--data-dir)", root.display()),
        ),
        _ => Finding::ok(
            CHECK,
            format!("{} does not exist yet; the server creates it", root.display()),
        ),
    }
}

/// Whether this process may make entries in `folder`.
fn may_create_in(folder: &Path) -> bool {
    use rustix::fs::Access;
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

struct Offender {
    path: PathBuf,
    mode: u32,
    wanted: u32,
}

/// Files that are their owner's alone, wherever the configuration has them.
fn secrets(config: &Config) -> Vec<PathBuf> {
    let mut secrets = vec![config.auth.tokens_file.clone()];
    secrets.extend(config.journal.signing_key_file.clone());
    secrets.push(config.data_dir.join(run_files::FOLDER).join(run_files::TOKEN));
    secrets
}

/// `path`, if it exists and lets more people in than `wanted`.
fn offender(path: &Path, wanted: u32) -> Option<Offender> {
    let mode = rustix::fs::stat(path).ok()?.st_mode & 0o777;
    (mode & !wanted != 0).then(|| Offender { path: path.to_path_buf(), mode, wanted })
}

/// Looks at everything below `root` but the secrets; false when there is more than it looks at.
fn walk(
    disk: &dyn Disk,
    root: &Path,
    secrets: &[PathBuf],
    offenders: &mut Vec<Offender>,
) -> Result<bool, llm_memory_disk::DiskError> {
    let mut folders = vec![root.to_path_buf()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in disk.list(&folder)? {
            if seen == MAX_ENTRIES {
                return Ok(false);
            }
            seen += 1;
            let path = folder.join(&entry.name);
            let wanted = if entry.is_dir { FOLDER_MODE } else { FILE_MODE };
            if entry.mode & !wanted & 0o777 != 0 && !secrets.contains(&path) {
                offenders.push(Offender { path: path.clone(), mode: entry.mode, wanted });
            }
            if entry.is_dir {
                folders.push(path);
            }
        }
    }
    Ok(true)
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

    fn chmod(path: &Path, mode: u32) {
        rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode)).unwrap();
    }

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
        chmod(folder.path(), 0o750);
        let good = check(&OsDisk, &config(folder.path()));
        assert_eq!(good.iter().map(|f| f.level).max(), Some(Level::Ok), "{good:?}");
        // A secret with the mode of an ordinary file.
        OsDisk.durable_write(&folder.path().join("tokens.json"), b"[]").unwrap();
        let findings = check(&OsDisk, &config(folder.path()));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Warning);
        assert!(findings[0].remedy.as_ref().unwrap().starts_with("chmod 0600 "), "{findings:?}");
    }

    #[test]
    fn the_remedy_is_for_every_file_that_is_named() {
        let folder = tempfile::tempdir().unwrap();
        chmod(folder.path(), 0o750);
        let paths: Vec<PathBuf> = (0..7).map(|n| folder.path().join(format!("f{n}"))).collect();
        let remedy = |paths: &[PathBuf]| {
            for path in paths {
                OsDisk.durable_write(path, b"").unwrap();
                chmod(path, 0o666);
            }
            check(&OsDisk, &config(folder.path()))[0].remedy.clone().unwrap()
        };
        let two = remedy(&paths[..2]);
        assert_eq!(two.split_whitespace().count(), 4, "{two}");
        assert!(remedy(&paths).ends_with(", then run this again for the others"));
    }

    #[test]
    fn a_folder_that_cannot_be_created_is_critical() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/b");
        let found = creatable(&OsDisk, &root, |above| above != folder.path());
        assert_eq!(found.level, Level::Critical, "{found:?}");
        assert!(found.message.contains(&format!("in {}", folder.path().display())), "{found:?}");
        assert_eq!(check(&OsDisk, &config(&root))[0].level, Level::Ok);
    }

    #[test]
    fn the_folder_itself_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        chmod(folder.path(), 0o777);
        let findings = check(&OsDisk, &config(folder.path()));
        assert_eq!(findings[0].level, Level::Warning);
        assert!(findings[0].remedy.as_ref().unwrap().starts_with("chmod 0750 "), "{findings:?}");
    }

    #[test]
    fn secrets_that_lie_elsewhere_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        chmod(folder.path(), 0o750);
        let mut config = config(folder.path());
        config.auth.tokens_file = elsewhere.path().join("who");
        config.journal.signing_key_file = Some(elsewhere.path().join("key.pem"));
        assert_eq!(check(&OsDisk, &config)[0].level, Level::Ok, "files that are not there");
        for name in ["who", "key.pem"] {
            OsDisk.durable_write(&elsewhere.path().join(name), b"x").unwrap();
        }
        let findings = check(&OsDisk, &config);
        let message = &findings[0].message;
        assert!(message.contains("who (0640)") && message.contains("key.pem"), "{message}");
    }
}
