//! The loop: wake, make a window, apply it, wait, stop. Orders the parts and decides nothing itself.

use crate::apply::Mode;
use crate::changelog::Made;
use crate::checkpoint::StateError;
use crate::job::{Applying, Job, JobError};
use crate::round::Logs;
use crate::wake::{Event, Wake};
use std::time::Duration;
use tracing::{error, info, warn};

/// How often the log directory is looked at where nothing notifies.
const POLL: Duration = Duration::from_secs(5);
/// After a failed round: the first wait, which doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// One round: the logs' news become a window, and every window that is due is applied.
///
/// # Errors
///
/// A guard refused, or a part failed: the checkpoint stands where it stood, and the next round begins there.
pub async fn round(logs: &Logs, job: &Job) -> Result<(Made, Applying), JobError> {
    let made = logs.make(Some(&*job.state), (job.now)()).await?;
    made.warnings.iter().for_each(|warning| warn!("{warning}"));
    let applying = job.apply(&*logs.change_log, Mode::Act).await?;
    Ok((made, applying))
}

/// Rounds until the process is told to end, or a guard refuses.
///
/// # Errors
///
/// A refusal, which a person has to look at; anything else is tried again.
pub async fn run(logs: &Logs, job: &Job, mut wake: Wake) -> Result<(), JobError> {
    let mut wait = FIRST_WAIT;
    loop {
        let patience = tokio::select! {
            biased;
            () = wake.end() => break,
            done = round(logs, job) => match done {
                Ok(done) => {
                    wait = FIRST_WAIT;
                    tell(&done)?;
                    POLL
                }
                Err(failed) => after(job, failed, &mut wait)?,
            },
        };
        if wake.next(patience).await == Event::End {
            break;
        }
    }
    info!("ended in order; the next start goes on from the checkpoint");
    Ok(())
}

fn tell((made, applying): &(Made, Applying)) -> Result<(), StateError> {
    if made.window.is_some() || applying.windows > 0 {
        info!(windows = applying.windows, changes = applying.changes, "{}", applying.report);
    }
    Ok(())
}

/// How long to wait after a failed round; a refusal ends the daemon.
fn after(job: &Job, failed: JobError, wait: &mut Duration) -> Result<Duration, JobError> {
    job.note_failure(&failed)?;
    if failed.is_refusal() {
        return Err(failed);
    }
    error!(
        error = crate::apply::chain(&failed),
        "this round failed; it will be made again in {}",
        crate::report::duration(*wait)
    );
    let now = *wait;
    *wait = (*wait * 2).min(LAST_WAIT);
    Ok(now)
}
