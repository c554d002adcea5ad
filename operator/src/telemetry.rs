//! Logs of the operator.

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

/// Sets up logs on stderr.
pub fn init(level: &str, format: &str) -> Result<()> {
    let filter = EnvFilter::try_new(level)
        .with_context(|| format!("LOG_LEVEL {level:?}: use error, warn, info, debug or trace"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if format == "json" {
        logs.json().flatten_event(true).init();
    } else {
        logs.init();
    }
    Ok(())
}
