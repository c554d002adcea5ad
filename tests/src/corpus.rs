//! Real text for demonstrations and benchmarks: the README, CHANGELOG, sources and manifests of
//! this workspace's own locked dependencies, as cargo has unpacked them, cut into memories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// Longest text or code of one memory, in bytes; longer passages are cut at a line.
const PASSAGE: usize = 2_400;
/// Passages that one crate's changelog, and its sources, may contribute.
const CHANGES_OF_A_CRATE: usize = 10;
const SOURCES_OF_A_CRATE: usize = 24;

/// The memories, as arguments of `memory_upsert` without a scope, and how many crates they are of.
pub fn load(limit: usize) -> Result<(Vec<Value>, usize)> {
    let packages = packages()?;
    let mut items = Vec::new();
    for package in &packages {
        package.collect(&mut items);
    }
    ensure!(!items.is_empty(), "cargo has no sources of the dependencies; run cargo fetch");
    // Every n-th, so that a small limit still sees every crate.
    let step = items.len().div_ceil(limit.max(1)).max(1);
    Ok((items.into_iter().step_by(step).take(limit).collect(), packages.len()))
}

struct Package {
    name: String,
    version: String,
    folder: PathBuf,
}

fn packages() -> Result<Vec<Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform"])
        // Crates for other systems need not have been downloaded.
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .context("could not run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let text = |package: &Value, field: &str| {
        package.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let all = metadata.get("packages").and_then(Value::as_array).context("no packages")?;
    let mut packages = Vec::new();
    // A package without a source is this workspace's own.
    for package in all.iter().filter(|package| package.get("source").is_some_and(Value::is_string))
    {
        let manifest = PathBuf::from(text(package, "manifest_path"));
        packages.push(Package {
            name: text(package, "name"),
            version: text(package, "version"),
            folder: manifest.parent().map(Path::to_path_buf).unwrap_or_default(),
        });
    }
    Ok(packages)
}

impl Package {
    fn collect(&self, items: &mut Vec<Value>) {
        for name in ["README.md", "Readme.md", "readme.md"] {
            self.prose(name, "readme", usize::MAX, items);
        }
        for name in ["CHANGELOG.md", "CHANGES.md", "RELEASES.md"] {
            self.prose(name, "changelog", CHANGES_OF_A_CRATE, items);
        }
        if let Ok(manifest) = fs::read_to_string(self.folder.join("Cargo.toml.orig")) {
            items.push(self.item(
                "Cargo.toml",
                &json!({
                    "type": "config", "title": format!("{} {}: manifest", self.name, self.version),
                    "code": cut(&manifest), "language": "toml", "tags": ["manifest"],
                }),
            ));
        }
        let mut sources = Vec::new();
        rust_files(&self.folder.join("src"), 3, &mut sources);
        let mut left = SOURCES_OF_A_CRATE;
        for path in sources {
            let Ok(source) = fs::read_to_string(&path) else { continue };
            let file = path.strip_prefix(&self.folder).unwrap_or(&path).display().to_string();
            for passage in code_passages(&source).into_iter().take(left.min(4)) {
                left -= 1;
                items.push(self.snippet(&file, &passage));
            }
        }
    }

    /// One memory a section of a Markdown file.
    fn prose(&self, name: &str, tag: &str, most: usize, items: &mut Vec<Value>) {
        let Ok(text) = fs::read_to_string(self.folder.join(name)) else { return };
        for (heading, body) in sections(&text).into_iter().take(most) {
            let steps = ["usage", "install", "getting started", "how to", "example"];
            let lower = heading.to_lowercase();
            let kind =
                if steps.iter().any(|word| lower.contains(word)) { "runbook" } else { "note" };
            let title = match heading.as_str() {
                "" => format!("{} {}", self.name, self.version),
                heading => format!("{}: {heading}", self.name),
            };
            items.push(self.item(
                name,
                &json!({
                    "type": kind, "title": title.chars().take(200).collect::<String>(),
                    "text": cut(&body), "tags": [tag],
                }),
            ));
        }
    }

    fn snippet(&self, file: &str, passage: &Passage<'_>) -> Value {
        let what = passage.symbols.first().map_or("module", String::as_str);
        let mut item = self.item(
            file,
            &json!({
                "type": "snippet", "title": format!("{}: {what} ({file})", self.name),
                "code": cut(passage.code), "language": "rust", "tags": ["source"],
                "symbols": passage.symbols,
            }),
        );
        if let Some(context) = item.get_mut("context").and_then(Value::as_object_mut) {
            let range = json!({ "start": passage.first_line, "end": passage.last_line });
            context.insert("range".to_owned(), range);
        }
        item
    }

    fn item(&self, file: &str, fields: &Value) -> Value {
        let path = format!("{}-{}/{file}", self.name, self.version);
        let mut item = fields.clone();
        if let Some(map) = item.as_object_mut() {
            if let Some(tags) = map.get_mut("tags").and_then(Value::as_array_mut) {
                tags.push(self.name.clone().into());
            }
            map.insert("files".to_owned(), json!([path]));
            map.insert(
                "context".to_owned(),
                json!({ "tool": "cargo", "package": self.name, "file": path }),
            );
            map.insert("sensitivity".to_owned(), "public".into());
        }
        item
    }
}

/// Heading and body of each section that has a body.
fn sections(text: &str) -> Vec<(String, String)> {
    let mut sections = Vec::new();
    let (mut heading, mut body, mut fenced) = (String::new(), String::new(), false);
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        if !fenced && (1..=3).contains(&level) && line.as_bytes().get(level) == Some(&b' ') {
            if body.trim().len() > 40 {
                sections.push((std::mem::take(&mut heading), body.trim().to_owned()));
            }
            line.trim_matches(['#', ' ']).clone_into(&mut heading);
            body = String::new();
        } else {
            body.push_str(line);
            body.push('\n');
        }
    }
    if body.trim().len() > 40 {
        sections.push((heading, body.trim().to_owned()));
    }
    sections
}

struct Passage<'a> {
    code: &'a str,
    symbols: Vec<String>,
    first_line: usize,
    last_line: usize,
}

/// Cuts Rust code into passages of whole top-level items: a passage ends at a blank line that a
/// line at the left margin follows, once it is long enough to be worth remembering.
fn code_passages(source: &str) -> Vec<Passage<'_>> {
    let mut passages = Vec::new();
    let (mut begin, mut first_line, mut offset) = (0, 1, 0);
    let mut lines = source.split_inclusive('\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        offset += line.len();
        let margin = lines.peek().is_none_or(|(_, next)| {
            !next.starts_with(char::is_whitespace) && !next.starts_with(['}', ')', ']'])
        });
        if line.trim().is_empty() && margin && offset - begin > 600 || offset == source.len() {
            let code = source.get(begin..offset).unwrap_or_default().trim_end();
            let symbols = symbols(code);
            if code.len() > 120 && !symbols.is_empty() {
                passages.push(Passage { code, symbols, first_line, last_line: index + 1 });
            }
            (begin, first_line) = (offset, index + 2);
        }
    }
    passages
}

/// Names that a passage defines, in order, each once.
fn symbols(code: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in code.lines() {
        let line = line.trim_start();
        if line.starts_with("//") || names.len() >= 12 {
            continue;
        }
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        let defines =
            |word: &str| matches!(word, "fn" | "struct" | "enum" | "trait" | "macro_rules");
        if words.by_ref().take(6).any(defines)
            && let Some(name) = words.find(|word| !word.is_empty())
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }
    names
}

fn rust_files(folder: &Path, depth: usize, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth > 0 {
                rust_files(&path, depth - 1, out);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// The first lines of `text`, at most [`PASSAGE`] bytes.
fn cut(text: &str) -> &str {
    if text.len() <= PASSAGE {
        return text;
    }
    let end = text.floor_char_boundary(PASSAGE);
    let head = text.get(..end).unwrap_or(text);
    head.rsplit_once('\n').map_or(head, |(whole, _)| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_begin_at_headings_outside_of_code() {
        let long = "words that are long enough to be worth keeping as one memory";
        let text = format!("# A\n{long}\n```\n# not a heading\n```\n## B\n{long}\n## Empty\n");
        let found = sections(&text);
        assert_eq!(
            found.iter().map(|(heading, _)| heading.as_str()).collect::<Vec<_>>(),
            ["A", "B"]
        );
        assert!(found[0].1.contains("# not a heading"));
    }

    #[test]
    fn passages_are_whole_items_with_their_lines_and_names() {
        let body = "    let x = 1;\n\n".repeat(50);
        let source = format!("fn one() {{\n{body}}}\n\npub struct Two {{\n{body}}}\n");
        let found = code_passages(&source);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].symbols.clone(), found[0].first_line), (vec!["one".to_owned()], 1));
        assert_eq!(found[1].symbols, ["Two"]);
        assert!(found[1].code.starts_with("pub struct Two"));
        assert_eq!(source.lines().nth(found[1].first_line - 1), Some("pub struct Two {"));
    }

    #[test]
    fn the_corpus_is_the_locked_dependencies() {
        let (items, crates) = load(500).unwrap();
        assert!(items.len() > 300 && crates > 50, "{} items of {crates} crates", items.len());
        for kind in ["note", "snippet", "config", "runbook"] {
            assert!(items.iter().any(|item| item["type"] == kind), "no {kind}");
        }
    }
}
