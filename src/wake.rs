//! What makes the daemon look: the log grew, time passed, or it shall end. Says that something happened, never what.

use crate::uri::Uri;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::warn;

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
    grew: mpsc::Receiver<()>,
    term: Signal,
    int: Signal,
    _watcher: Option<RecommendedWatcher>,
}

impl Wake {
    /// Watches the log directory where it is local; elsewhere, and on file systems that do not notify, only time wakes.
    ///
    /// # Errors
    ///
    /// The process cannot listen to signals.
    pub fn on(logs: &Uri) -> std::io::Result<Self> {
        let (sign, grew) = mpsc::channel(1);
        let watcher = match logs {
            Uri::Local(path) => watch(path, sign).inspect_err(|error| {
                warn!(%error, path = %path.display(), "no notifications for the log directory: it is polled");
            }),
            Uri::S3 { .. } | Uri::Hdfs { .. } => return Self::with(grew, None),
        };
        Self::with(grew, watcher.ok())
    }

    fn with(grew: mpsc::Receiver<()>, watcher: Option<RecommendedWatcher>) -> std::io::Result<Self> {
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { grew, term, int, _watcher: watcher })
    }

    /// The next event, at the latest after `patience`.
    pub async fn next(&mut self, patience: Duration) -> Event {
        tokio::select! {
            biased;
            _ = self.term.recv() => Event::End,
            _ = self.int.recv() => Event::End,
            Some(()) = self.grew.recv() => {
                tokio::time::sleep(BURST).await;
                while self.grew.try_recv().is_ok() {}
                Event::LogGrew
            }
            () = tokio::time::sleep(patience) => Event::Time,
        }
    }

    /// Returns when the process is told to end.
    pub async fn end(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

fn watch(path: &std::path::Path, sign: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
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
