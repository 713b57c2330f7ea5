//! The loop: wake, make a window, apply it, wait, stop. Orders the parts and decides nothing itself.

use crate::apply::Mode;
use crate::changelog::Made;
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

/// Rounds until the process is told to end, or a guard refuses.
///
/// # Errors
///
/// A refusal, which a person has to look at; anything else is tried again.
pub async fn run(logs: &Logs, job: &Job, mut wake: Wake) -> Result<(), JobError> {
    let mut wait = FIRST_WAIT;
    let mut rounds = Rounds { logs, job, looked: None };
    loop {
        let patience = tokio::select! {
            biased;
            () = wake.end() => break,
            done = rounds.next() => match done {
                Ok(done) => {
                    wait = FIRST_WAIT;
                    done.iter().for_each(tell);
                    rounds.patience()
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

fn tell((made, applying): &(Made, Applying)) {
    if made.window.is_some() || applying.windows > 0 {
        info!(windows = applying.windows, changes = applying.changes, "{}", applying.report);
    }
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
        let logs = Logs {
            logs: lines.clone(),
            change_log: Arc::new(Memory::tree()),
            dialect: None,
            zone: Zone::UTC,
            scope: Scope::new("/data").expect("a root"),
            since: None,
            until: None,
            accept_gap: false,
        };
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
}
