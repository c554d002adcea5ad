//! Reads what is needed of a Git repository: where it is, its branch, its remotes.

use std::path::{Component, Path, PathBuf};

use llm_memory_disk::{Disk, OpenMode};

use super::ProjectError;

/// Longest of Git's files that is read, bytes.
const MAX_FILE: u64 = 1 << 20;

/// A checkout and where its repository lies.
#[derive(Debug)]
pub(super) struct Repository {
    /// Top folder of the checkout.
    pub(super) root: PathBuf,
    /// Top folder of the main checkout: another one only for a linked worktree.
    pub(super) main_root: PathBuf,
    /// Folder with `HEAD` of this checkout.
    git_dir: PathBuf,
    /// Folder with `config`, shared by all worktrees.
    common_dir: PathBuf,
}

/// The repository that `start` lies in, if any.
pub(super) fn find(disk: &dyn Disk, start: &Path) -> Result<Option<Repository>, ProjectError> {
    let mut folder = Some(start);
    while let Some(root) = folder {
        let dot_git = root.join(".git");
        if disk.exists(&dot_git)? {
            return open(disk, root, &dot_git).map(Some);
        }
        folder = root.parent();
    }
    Ok(None)
}

fn open(disk: &dyn Disk, root: &Path, dot_git: &Path) -> Result<Repository, ProjectError> {
    let is_folder = disk.list(root)?.iter().any(|entry| entry.name == ".git" && entry.is_dir);
    let git_dir = if is_folder {
        dot_git.to_path_buf()
    } else {
        // A worktree or submodule has a file that says where its repository is.
        let text = read(disk, dot_git)?;
        let Some(target) = text.trim().strip_prefix("gitdir:") else {
            return Err(ProjectError::Git {
                path: dot_git.to_path_buf(),
                reason: "expected a folder, or a file with `gitdir: PATH`".to_owned(),
            });
        };
        resolve(root, target.trim())
    };
    let shared = git_dir.join("commondir");
    let common_dir = if disk.exists(&shared)? {
        resolve(&git_dir, read(disk, &shared)?.trim())
    } else {
        git_dir.clone()
    };
    let main_root = if common_dir == git_dir {
        root.to_path_buf()
    } else {
        common_dir.parent().unwrap_or(root).to_path_buf()
    };
    Ok(Repository { root: root.to_path_buf(), main_root, git_dir, common_dir })
}

/// `path` seen from `base`, with `.` and `..` worked out by name, so that the same folder has
/// the same path from wherever it was reached.
fn resolve(base: &Path, path: &str) -> PathBuf {
    let mut out = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                out.push(component);
            }
        }
    }
    out
}

fn read(disk: &dyn Disk, path: &Path) -> Result<String, ProjectError> {
    let file = disk.open(path, OpenMode::Read)?;
    let length = file.len()?;
    if length > MAX_FILE {
        return Err(ProjectError::Git {
            path: path.to_path_buf(),
            reason: format!("has {length} bytes, more than {MAX_FILE}"),
        });
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(0, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Repository {
    /// The branch that is checked out; `None` for a detached head.
    pub(super) fn branch(&self, disk: &dyn Disk) -> Result<Option<String>, ProjectError> {
        let head = self.git_dir.join("HEAD");
        if !disk.exists(&head)? {
            return Ok(None);
        }
        let text = read(disk, &head)?;
        Ok(text.trim().strip_prefix("ref:").map(|name| {
            let name = name.trim();
            name.strip_prefix("refs/heads/").unwrap_or(name).to_owned()
        }))
    }

    /// URL of the remote that stands for the project: `origin`, else the one that `branch`
    /// follows, else the first. Included configuration files are not followed.
    pub(super) fn remote(
        &self,
        disk: &dyn Disk,
        branch: Option<&str>,
    ) -> Result<Option<String>, ProjectError> {
        let path = self.common_dir.join("config");
        if !disk.exists(&path)? {
            return Ok(None);
        }
        let settings = parse_config(&read(disk, &path)?);
        let url_of = |remote: &str| {
            settings
                .iter()
                .find(|setting| setting.is("remote", Some(remote), "url"))
                .map(|setting| setting.value.clone())
        };
        let followed = branch.and_then(|branch| {
            settings.iter().find(|setting| setting.is("branch", Some(branch), "remote"))
        });
        Ok(url_of("origin")
            .or_else(|| followed.and_then(|followed| url_of(&followed.value)))
            .or_else(|| {
                settings
                    .iter()
                    .find(|setting| setting.section == "remote" && setting.key == "url")
                    .map(|setting| setting.value.clone())
            })
            .filter(|url| !url.is_empty()))
    }
}

/// One line `key = value` and the section it stands in.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    /// Lower case.
    section: String,
    subsection: Option<String>,
    /// Lower case.
    key: String,
    value: String,
}

impl Setting {
    fn is(&self, section: &str, subsection: Option<&str>, key: &str) -> bool {
        self.section == section && self.subsection.as_deref() == subsection && self.key == key
    }
}

/// Reads Git's configuration format; lines that are not understood are skipped, as they may
/// belong to a newer Git and say nothing about remotes.
fn parse_config(text: &str) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut section = String::new();
    let mut subsection = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim();
        if let Some(rest) = line.strip_prefix('[') {
            let Some((header, rest)) = split_header(rest) else { continue };
            (section, subsection) = header;
            line = rest.trim();
        }
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let (key, raw) = line.split_once('=').unwrap_or((line, "true"));
        let mut raw = raw.to_owned();
        // A backslash at the end of a line continues the value on the next one.
        while raw.ends_with('\\') && !raw.ends_with("\\\\") {
            raw.pop();
            raw.push_str(lines.next().unwrap_or_default());
        }
        settings.push(Setting {
            section: section.clone(),
            subsection: subsection.clone(),
            key: key.trim().to_lowercase(),
            value: parse_value(&raw),
        });
    }
    settings
}

type Header = (String, Option<String>);

/// Reads `section "subsection"]` or the older `section.subsection]`.
fn split_header(text: &str) -> Option<(Header, &str)> {
    let Some(quote) = text.find('"').filter(|quote| text.find(']').is_some_and(|end| *quote < end))
    else {
        let (name, rest) = text.split_once(']')?;
        let header = match name.split_once('.') {
            Some((section, subsection)) => {
                (section.trim().to_lowercase(), Some(subsection.trim().to_lowercase()))
            }
            None => (name.trim().to_lowercase(), None),
        };
        return Some((header, rest));
    };
    let section = text.get(..quote)?.trim().to_lowercase();
    let mut subsection = String::new();
    let mut characters = text.get(quote + 1..)?.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => subsection.extend(characters.next().map(|(_, character)| character)),
            '"' => {
                let rest = text.get(quote + 1 + at + 1..)?.trim_start().strip_prefix(']')?;
                return Some(((section, Some(subsection)), rest));
            }
            _ => subsection.push(character),
        }
    }
    None
}

/// Takes quotes, escapes, comments and outer white space away.
fn parse_value(raw: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    // Length up to the last character that is not trimmed.
    let mut kept = 0;
    let mut characters = raw.trim_start().chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => break,
            '\\' => {
                out.extend(characters.next().map(|escaped| match escaped {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                }));
                kept = out.len();
                continue;
            }
            _ => out.push(character),
        }
        if quoted || !character.is_whitespace() {
            kept = out.len();
        }
    }
    out.truncate(kept);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sections_comments_quotes_and_continuations_are_understood() {
        let settings = parse_config(
            "; comment\n[Core]\n\tbare = false # no\n[remote \"a \\\"b\\\" c\"]\n\
             url = \"https://x/#y\" ; z\n[remote.old]\nURL=file:///p\n[x] one = 1\\\n 2\nflag\n",
        );
        let found: Vec<_> = settings
            .iter()
            .map(|s| (&*s.section, s.subsection.as_deref(), &*s.key, &*s.value))
            .collect();
        assert_eq!(
            found,
            [
                ("core", None, "bare", "false"),
                ("remote", Some("a \"b\" c"), "url", "https://x/#y"),
                ("remote", Some("old"), "url", "file:///p"),
                ("x", None, "one", "1 2"),
                ("x", None, "flag", "true"),
            ]
        );
    }

    #[test]
    fn paths_are_resolved_by_name() {
        assert_eq!(resolve(Path::new("/a/b"), "../c/./d"), Path::new("/a/c/d"));
        assert_eq!(resolve(Path::new("/a"), "/x/y"), Path::new("/x/y"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[\\[\\]\"\\\\=#;a \n]{0,60}") {
            let _ = parse_config(&text);
        }
    }
}
