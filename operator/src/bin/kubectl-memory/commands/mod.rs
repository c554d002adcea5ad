//! One file a command.

pub(crate) mod completion;
pub(crate) mod connect;
pub(crate) mod health;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod pod;
pub(crate) mod report;
pub(crate) mod restart;
pub(crate) mod routine;
pub(crate) mod status;
pub(crate) mod token;
mod usage;

use llm_memory_crds::memory_store::RoutineKind;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;

/// Runs what the command line asks for.
pub(crate) async fn run(cli: Cli) -> Result<Exit, Failure> {
    if let Command::Completion(args) = &cli.command {
        return completion::run(args);
    }
    let context = Context::new(&cli.common).await?;
    let context = &context;
    match cli.command {
        Command::Status(args) => status::run(context, &args).await,
        Command::Health(args) => health::run(context, &args).await,
        Command::List(args) => list::run(context, &args).await,
        Command::Verify(args) => routine::run(context, &args, RoutineKind::Verify).await,
        Command::Compact(args) => routine::run(context, &args, RoutineKind::Compaction).await,
        Command::Pause(store) => lifecycle::pause(context, &store.name, true).await,
        Command::Resume(store) => lifecycle::pause(context, &store.name, false).await,
        Command::Hibernate(args) => lifecycle::scale(context, &args, 0).await,
        Command::Wake(args) => lifecycle::scale(context, &args, 1).await,
        Command::Restart(args) => restart::run(context, &args).await,
        Command::Logs(args) => logs::run(context, &args).await,
        Command::Token(command) => token::run(context, &command).await,
        Command::Connect(args) => connect::run(context, &args).await,
        Command::Report(args) => report::run(context, &args).await,
        Command::Pod(command) => pod::run(context, &command).await,
        // Answered above, since it needs no cluster.
        Command::Completion(_) => Ok(Exit::Done),
    }
}
