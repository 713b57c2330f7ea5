//! The loop: wake, make a window, apply it, wait, stop. Orders the parts and decides nothing itself.

use crate::apply::Mode;
use crate::changelog::{ChangelogError, Made};
use crate::job::{Applying, Job, JobError};
use crate::round::Logs;
use crate::wake::{Event, Wake};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// How often the log directory is looked at where nothing notifies, and what is due is looked at again.
const POLL: Duration = Duration::from_secs(5);
/// After a failed round: the first wait, which doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);
/// Windows that may follow each other without a rest; then there is one in each interval.
const WINDOWS_AT_ONCE: u32 = 600;
const WINDOW_INTERVAL: Duration = Duration::from_secs(5);

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

/// Rounds until the process is told to end, or a person has to decide. A round that is under way then is given up: what it
/// did stays, and the next start repeats it.
///
/// # Errors
///
/// A refusal, or an import that has not finished; anything else is tried again.
pub async fn run(logs: &Logs, job: &Job, mut wake: Wake) -> Result<(), JobError> {
    let (mut wait, mut pace) = (FIRST_WAIT, Pace { full_at: Instant::now() });
    loop {
        let done = tokio::select! {
            biased;
            () = wake.end() => break,
            done = round(logs, job) => done,
        };
        let event = match done {
            Ok(done) => {
                wait = FIRST_WAIT;
                tell(&done);
                let rest = if done.0.window.is_some() { pace.spend(Instant::now()) } else { Duration::ZERO };
                next(&mut wake, rest).await
            }
            Err(failed) => after(job, failed, &mut wait, &mut wake).await?,
        };
        if event == Event::End {
            break;
        }
    }
    info!("ended in order; the next start goes on from the checkpoint");
    Ok(())
}

/// Every window stays in the change log, and is listed by every later round: many in a row are fine, for ever they are not.
/// So a log that never rests is read in larger bites.
struct Pace {
    /// When as many windows as at first may follow each other again.
    full_at: Instant,
}

impl Pace {
    /// How long to rest after a window that was made now.
    fn spend(&mut self, now: Instant) -> Duration {
        self.full_at = self.full_at.max(now) + WINDOW_INTERVAL;
        (self.full_at - now).saturating_sub(WINDOW_INTERVAL * WINDOWS_AT_ONCE)
    }
}

async fn next(wake: &mut Wake, rest: Duration) -> Event {
    if !rest.is_zero() && wake.pause(rest).await == Event::End {
        return Event::End;
    }
    wake.next(POLL).await
}

fn tell((made, applying): &(Made, Applying)) {
    if made.window.is_some() || applying.windows > 0 {
        info!(windows = applying.windows, changes = applying.changes, "{}", applying.report);
    }
}

/// Waits after a failed round. Where a person has to decide, the daemon ends; growth of the log does not cut the wait
/// short, unless logs are all that is missing.
async fn after(job: &Job, failed: JobError, wait: &mut Duration, wake: &mut Wake) -> Result<Event, JobError> {
    if failed.is_refusal() || matches!(failed, JobError::NotReady(_)) {
        return Err(failed);
    }
    if let Err(second) = job.note_failure(&failed) {
        error!(error = crate::apply::chain(&second), "the status page could not be written");
    }
    let text = crate::apply::chain(&failed);
    if let JobError::Changelog(ChangelogError::NoLogs | ChangelogError::NoLines { .. }) = failed {
        warn!("{text}; waiting for it");
        return Ok(wake.next(POLL).await);
    }
    error!(error = text, "this round failed; it will be made again in {}", crate::report::duration(*wait));
    let now = *wait;
    *wait = (*wait * 2).min(LAST_WAIT);
    Ok(wake.pause(now).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_never_rests_gives_a_window_in_each_interval_in_the_long_run() {
        let mut now = Instant::now();
        let (began, mut pace, mut rested) = (now, Pace { full_at: now }, 0);
        for _ in 0..1000 {
            let rest = pace.spend(now);
            rested += u32::from(!rest.is_zero());
            now += rest;
        }
        assert_eq!(rested, 1000 - WINDOWS_AT_ONCE);
        assert_eq!(now - began, WINDOW_INTERVAL * (1000 - WINDOWS_AT_ONCE));
        now += WINDOW_INTERVAL * 10;
        let rests: Vec<bool> = (0..11).map(|_| !pace.spend(now).is_zero()).collect();
        assert_eq!(rests.iter().filter(|rest| !**rest).count(), 10, "ten intervals of rest are ten windows at once");
    }
}
