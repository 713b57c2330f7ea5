//! The loop: wake, make a window, apply it, wait, stop. Orders the parts and decides nothing itself.

use crate::apply::Mode;
use crate::changelog::{ChangelogError, Made};
use crate::job::{Applying, Job, JobError};
use crate::round::Logs;
use crate::wake::{Event, Wake};
use chrono::TimeDelta;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// How often the log directory is looked at where nothing notifies; and the stores, while no window is due.
const POLL: Duration = Duration::from_secs(5);
/// While nothing changes, a window that says so is made no more often.
const IDLE_MAX: TimeDelta = TimeDelta::minutes(1);
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

/// Rounds that do not wake each other. A look at HDFS is a line in its log, ours too: so while the log names nothing, the
/// stores are left alone, but for one look every [`POLL`] (are they still there, is a watched file finished).
struct Rounds<'a> {
    logs: &'a Logs,
    job: &'a Job,
    /// When the stores were last looked at; `None` if the last round failed.
    looked: Option<Instant>,
}

impl Rounds<'_> {
    async fn next(&mut self) -> Result<Option<(Made, Applying)>, JobError> {
        let before = self.looked.take();
        let made = self.logs.make_unless_idle(Some(&*self.job.state), (self.job.now)(), IDLE_MAX).await?;
        made.warnings.iter().for_each(|warning| warn!("{warning}"));
        if made.window.is_none() && before.is_some_and(|at| at.elapsed() < POLL) {
            self.looked = before;
            return Ok(None);
        }
        let applying = self.job.apply(&*self.logs.change_log, Mode::Act).await?;
        self.looked = Some(Instant::now());
        Ok(Some((made, applying)))
    }

    /// Until the stores are due.
    fn patience(&self) -> Duration {
        self.looked.map_or(POLL, |at| POLL.saturating_sub(at.elapsed()))
    }
}

/// Rounds until the process is told to end, or a person has to decide. A round that is under way then is given up: what it
/// did stays, and the next start repeats it.
///
/// # Errors
///
/// A refusal, or an import that has not finished; anything else is tried again.
pub async fn run(logs: &Logs, job: &Job, mut wake: Wake) -> Result<(), JobError> {
    let (mut wait, mut pace) = (FIRST_WAIT, Pace { full_at: Instant::now() });
    let mut rounds = Rounds { logs, job, looked: None };
    loop {
        let done = tokio::select! {
            biased;
            () = wake.end() => break,
            done = rounds.next() => done,
        };
        let event = match done {
            Ok(done) => {
                wait = FIRST_WAIT;
                done.iter().for_each(tell);
                let made = done.is_some_and(|(made, _)| made.window.is_some());
                let rest = if made { pace.spend(Instant::now()) } else { Duration::ZERO };
                next(&mut wake, rest, rounds.patience()).await
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

async fn next(wake: &mut Wake, rest: Duration, patience: Duration) -> Event {
    if !rest.is_zero() && wake.pause(rest).await == Event::End {
        return Event::End;
    }
    wake.next(patience).await
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
    use crate::checkpoint::State;
    use crate::job::Settings;
    use crate::scope::Scope;
    use crate::store::count::Counted;
    use crate::store::mem::Memory;
    use crate::zone::Zone;
    use chrono::{DateTime, Utc};
    use std::sync::Arc;
    use syncd_parsers::RelPath;

    fn now() -> DateTime<Utc> {
        "2026-06-01T12:00:00Z".parse().expect("a time")
    }

    /// Appends a line of the NameNode's log at that second.
    fn log(logs: &Memory, text: &mut String, second: u32, command: &str, path: &str) {
        *text += &format!(
            "2026-06-01 10:00:{second:02},000 INFO FSNamesystem.audit: allowed=true\tugi=x (auth:SIMPLE)\tip=/1.1.1.1\t\
             cmd={command}\tsrc={path}\tdst=null\tperm=null\tproto=rpc\n"
        );
        logs.write(&RelPath::new("hdfs-audit.log").expect("a path"), text.clone());
    }

    #[tokio::test(start_paused = true)]
    async fn lines_about_reads_neither_make_a_window_nor_make_us_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let (memory, lines) = (Arc::new(Memory::tree()), Arc::new(Memory::tree()));
        let source = Arc::new(Counted::new(memory.clone()));
        let job = Job {
            source: source.clone(),
            destination: Arc::new(Memory::tree()),
            pair: ("source".into(), "destination".into()),
            state: Arc::new(State::open(dir.path()).expect("opens")),
            settings: Settings::default(),
            events: Arc::new(|_| {}),
            now,
        };
        let logs = Logs::new(lines.clone(), Arc::new(Memory::tree()), Zone::UTC, Scope::new("/data").expect("a root"));
        job.import(Some(Vec::new())).await.expect("imports");
        let (mut text, mut rounds) = (String::new(), Rounds { logs: &logs, job: &job, looked: None });
        memory.write(&RelPath::new("a").expect("a path"), "new");
        log(&lines, &mut text, 1, "create", "/data/a");
        let first = rounds.next().await.expect("a round").expect("a window");
        assert_eq!((first.1.windows, first.1.report.copied_files), (1, 1));
        source.take();
        log(&lines, &mut text, 3, "getfileinfo", "/data/a");
        assert!(rounds.next().await.expect("a round").is_none());
        let calls = source.take();
        assert_eq!((calls.health, calls.total()), (0, 0));
        assert!(rounds.patience() <= POLL);
        tokio::time::advance(POLL).await;
        let (made, _) = rounds.next().await.expect("a round").expect("the stores are due");
        assert!(made.window.is_none());
        assert_eq!(source.take().health, 1);
        log(&lines, &mut text, 5, "delete", "/data/b");
        let (made, _) = rounds.next().await.expect("a round").expect("a window");
        assert_eq!(made.window.map(|window| (window.seq, window.lines)), Some((2, 2)), "the read line is not lost");
    }

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
