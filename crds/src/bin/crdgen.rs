//! Writes the manifests into a folder, or compares them with it (`--check`).

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

#[allow(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a build tool: it writes files of the checkout and talks to its caller"
)]
fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (check, folder) = match arguments.as_slice() {
        [folder] => (false, folder),
        [flag, folder] if flag == "--check" => (true, folder),
        _ => {
            eprintln!("usage: crdgen [--check] FOLDER");
            return Ok(ExitCode::from(64));
        }
    };
    let mut stale = false;
    for (name, content) in llm_memory_crds::manifest::files()? {
        let path = Path::new(folder).join(name);
        if check {
            if std::fs::read_to_string(&path).ok().as_deref() != Some(content.as_str()) {
                eprintln!("{} is not what the types say: run ./justw crds", path.display());
                stale = true;
            }
        } else {
            std::fs::write(&path, content)?;
        }
    }
    Ok(if stale { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
