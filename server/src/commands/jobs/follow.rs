//! Follows a job to its end, whatever becomes of the server meanwhile.
//!
//! The job has a key, so that it may be submitted again whenever nobody knows whether it was: after
//! a lost answer, or when a server that was restored does not know it.

use std::time::{Duration, Instant};

use super::client::{self, Client, Trouble};
use super::order::Order;
use crate::cli::connect::Target;
use crate::cli::error::CliError;
use crate::cli::printer::tell;
use crate::jobs::{Job, JobState};

/// What one request asks the server to wait.
const WAIT: Duration = Duration::from_secs(25);
/// Answers are not asked for more often than this.
const PACE: Duration = Duration::from_secs(1);
/// The first and the longest pause after trouble.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// Refusals in a row of a token that rotates, and of certificates, which rotate too.
const MAX_REFUSED: u32 = 3;
/// Progress within one step is told this often.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Submits the job and waits for its end, `until` at the latest.
pub(super) fn follow(
    target: &Target,
    order: &Order,
    until: Option<Instant>,
) -> Result<Job, CliError> {
    let mut following = Following {
        target,
        order,
        until,
        known: None,
        told: Told::default(),
        pause: PAUSES.0,
        refused: 0,
    };
    loop {
        let begun = Instant::now();
        match following.next() {
            Ok(job) if job.state.is_final() => return Ok(job),
            Ok(job) => {
                following.told.tell(&job);
                following.known = Some((job.id.to_string(), job.revision));
                following.pause = PAUSES.0;
                following.refused = 0;
                let early = PACE.saturating_sub(begun.elapsed());
                following.sleep(early, "it has not ended")?;
            }
            Err(trouble) => following.bear(trouble)?,
        }
    }
}

struct Following<'a> {
    target: &'a Target,
    order: &'a Order,
    until: Option<Instant>,
    /// Id and revision of the job, once it was submitted.
    known: Option<(String, u64)>,
    told: Told,
    pause: Duration,
    refused: u32,
}

impl Following<'_> {
    fn next(&mut self) -> Result<Job, Trouble> {
        let client = client::connect(self.target)?;
        let answer = match &self.known {
            None => client.submit(self.order),
            Some((id, revision)) => client.look(id, *revision, self.left().min(WAIT)),
        };
        answer.map_err(|trouble| self.judge(&client, trouble))
    }

    /// A token that rotates may have been read a moment too early, and so may its authorities.
    fn judge(&mut self, client: &Client, trouble: Trouble) -> Trouble {
        match trouble {
            Trouble::Refused(error) => {
                self.refused += 1;
                if client.token_rotates() && self.refused <= MAX_REFUSED {
                    Trouble::Passing { reason: error.to_string(), retry_after: None }
                } else {
                    Trouble::Lasting(error.into())
                }
            }
            Trouble::Insecure(error) => {
                self.refused += 1;
                if self.refused <= MAX_REFUSED {
                    Trouble::Passing { reason: error.to_string(), retry_after: None }
                } else {
                    Trouble::Lasting(error.into())
                }
            }
            // Somebody else is the trouble by now.
            Trouble::Passing { reason, retry_after } => {
                self.refused = 0;
                Trouble::Passing { reason, retry_after }
            }
            other => other,
        }
    }

    fn bear(&mut self, trouble: Trouble) -> Result<(), CliError> {
        match trouble {
            Trouble::Lasting(error) => Err(error),
            Trouble::Refused(error) | Trouble::Insecure(error) => Err(error.into()),
            Trouble::Unknown => {
                tell("the server does not know the job: submitting it again");
                self.known = None;
                self.sleep(self.pause, "the server does not know it")
            }
            Trouble::Passing { reason, retry_after } => {
                self.told.trouble(&reason);
                // Clients that lost the same server do not come back in the same moment.
                let jitter = rand::random_range(0.5..1.5);
                let pause = retry_after.unwrap_or(self.pause).mul_f64(jitter);
                self.pause = (self.pause * 2).min(PAUSES.1);
                self.sleep(pause, &reason)
            }
        }
    }

    fn left(&self) -> Duration {
        self.until.map_or(WAIT, |until| until.saturating_duration_since(Instant::now()))
    }

    fn sleep(&self, pause: Duration, reason: &str) -> Result<(), CliError> {
        let left = self.left();
        if left.is_zero() {
            let message = match &self.known {
                Some((id, _)) => format!(
                    "the time of --timeout is over and the job {id} goes on ({reason}): look at \
                     it with `llm-memory jobs get --id {id}`, or run the same command with its \
                     --idempotency-key"
                ),
                None => {
                    format!("the time of --timeout is over and no server took the job: {reason}")
                }
            };
            return Err(CliError::Unfinished { message });
        }
        std::thread::sleep(pause.min(left));
        Ok(())
    }
}

/// What was told last.
#[derive(Default)]
struct Told {
    state: Option<JobState>,
    step: String,
    at: Option<Instant>,
    trouble: String,
}

impl Told {
    fn tell(&mut self, job: &Job) {
        self.trouble.clear();
        if self.state.replace(job.state) != Some(job.state) {
            let attempt = if job.attempts > 1 {
                format!(" (attempt {})", job.attempts)
            } else {
                String::new()
            };
            tell(format_args!("job {} {}{attempt}", job.id, job.state.as_str()));
        }
        let Some(progress) = &job.progress else { return };
        let due = self.at.is_none_or(|at| at.elapsed() >= TELL_EVERY);
        if progress.step == self.step && !due {
            return;
        }
        self.step.clone_from(&progress.step);
        self.at = Some(Instant::now());
        let step = &progress.step;
        match (progress.total, progress.done) {
            (Some(total), done) => {
                tell(format_args!("{step}: {done} of {total} {}", progress.what));
            }
            (None, 0) => tell(step),
            (None, done) => tell(format_args!("{step}: {done} {}", progress.what)),
        }
    }

    fn trouble(&mut self, reason: &str) {
        if self.trouble != reason {
            reason.clone_into(&mut self.trouble);
            tell(format_args!("waiting for the server: {reason}"));
        }
    }
}
