//! What makes the daemon look: the log grew, time passed, or it shall end. Says that something happened, never what.

use crate::uri::Uri;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// How long after a first sign the others of the same burst are awaited.
const BURST: Duration = Duration::from_millis(50);

/// A reason to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    LogGrew,
    Time,
    End,
}

/// Waits for events. The watch on the log directory lives as long as this.
pub struct Wake {
    /// The log directory, where it is local: elsewhere nothing notifies.
    dir: Option<PathBuf>,
    watched: Option<Watched>,
    sign: mpsc::Sender<()>,
    grew: mpsc::Receiver<()>,
    term: Signal,
    int: Signal,
}

/// A watch, and the device and inode of the directory that it is on: it does not follow a path.
struct Watched {
    _watcher: RecommendedWatcher,
    is: (u64, u64),
}

impl Wake {
    /// Watches the log directory where it is local; elsewhere, and on file systems that do not notify, only time wakes. A
    /// directory that is not there yet, or is replaced, is watched from the next event on that is [`Event::Time`].
    ///
    /// # Errors
    ///
    /// The process cannot listen to signals.
    pub async fn on(logs: &Uri) -> std::io::Result<Self> {
        let dir = match logs {
            Uri::Local(path) => Some(path.clone()),
            Uri::S3 { .. } | Uri::Hdfs { .. } => None,
        };
        let (sign, grew) = mpsc::channel(1);
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut wake = Self { dir, watched: None, sign, grew, term, int };
        wake.watch().await;
        if let (Some(dir), None) = (&wake.dir, &wake.watched) {
            warn!(path = %dir.display(), "no notifications for the log directory yet: it is polled");
        }
        Ok(wake)
    }

    /// The next event, at the latest after `patience`. Growth since the last one is an event at once.
    pub async fn next(&mut self, patience: Duration) -> Event {
        let event = tokio::select! {
            biased;
            () = end(&mut self.term, &mut self.int) => Event::End,
            Some(()) = self.grew.recv() => Event::LogGrew,
            () = tokio::time::sleep(patience) => Event::Time,
        };
        match event {
            Event::LogGrew if self.pause(BURST).await == Event::End => return Event::End,
            Event::LogGrew => while self.grew.try_recv().is_ok() {},
            Event::Time => self.watch().await,
            Event::End => {}
        }
        event
    }

    /// Waits `patience` out, whatever grows meanwhile; only an end comes earlier.
    pub async fn pause(&mut self, patience: Duration) -> Event {
        tokio::select! {
            biased;
            () = self.end() => Event::End,
            () = tokio::time::sleep(patience) => Event::Time,
        }
    }

    /// Returns when the process is told to end.
    pub async fn end(&mut self) {
        end(&mut self.term, &mut self.int).await;
    }

    /// Watches what is at the directory's path now, unless that is what is watched.
    async fn watch(&mut self) {
        let Some(dir) = &self.dir else { return };
        let is = tokio::fs::metadata(dir).await.ok().map(|meta| (meta.dev(), meta.ino()));
        if is == self.watched.as_ref().map(|watched| watched.is) {
            return;
        }
        self.watched = is.and_then(|is| {
            let watcher = watcher(dir, self.sign.clone());
            let watcher = watcher.inspect_err(|error| warn!(%error, "the log directory cannot be watched"));
            watcher.ok().map(|watcher| Watched { _watcher: watcher, is })
        });
        if self.watched.is_some() {
            info!(path = %dir.display(), "the log directory is watched");
        }
    }
}

async fn end(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

fn watcher(path: &Path, sign: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let reads_only = event.is_ok_and(|event| event.kind.is_access());
        if !reads_only {
            // A full channel already holds a sign that nobody has taken.
            let _ = sign.try_send(());
        }
    })?;
    watcher.watch(path, RecursiveMode::Recursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(1);

    async fn wake_on(dir: &Path) -> Wake {
        Wake::on(&Uri::Local(dir.to_owned())).await.expect("signals")
    }

    #[tokio::test]
    async fn growth_between_two_waits_is_not_missed() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut wake = wake_on(dir.path()).await;
        fs::write(dir.path().join("a.log"), "one").expect("writes");
        assert_eq!(wake.pause(BURST).await, Event::Time, "a pause waits its time out");
        assert_eq!(wake.next(LONG).await, Event::LogGrew, "what grew during the pause");
        assert_eq!(wake.next(SHORT).await, Event::Time, "told once");
    }

    #[tokio::test]
    async fn a_directory_that_comes_later_or_is_replaced_is_watched_too() {
        let temp = tempfile::tempdir().expect("a folder");
        let dir = temp.path().join("logs");
        let mut wake = wake_on(&dir).await;
        for _ in 0..2 {
            fs::create_dir(&dir).expect("makes");
            while wake.next(SHORT).await != Event::Time {}
            fs::write(dir.join("a.log"), "one").expect("writes");
            assert_eq!(wake.next(LONG).await, Event::LogGrew);
            fs::rename(&dir, temp.path().join("old")).expect("moves");
            while wake.next(SHORT).await != Event::Time {}
            fs::remove_dir_all(temp.path().join("old")).expect("removes");
        }
    }

    #[tokio::test]
    async fn reading_the_logs_is_no_growth() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("a.log"), "one").expect("writes");
        let mut wake = wake_on(dir.path()).await;
        fs::read(dir.path().join("a.log")).expect("reads");
        assert_eq!(wake.next(BURST).await, Event::Time);
    }
}
