//! What people and machines are shown: text and bars on stderr, JSON on stdout.

use crate::apply::Mode;
use crate::job::Applying;
use crate::report::{Did, Event, Report, bytes};
use crate::status::Page;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many differences the document of a verification names; it always counts all.
const DIFFERENCES_MAX: usize = 1000;

/// Where everything is printed.
pub(super) struct Output {
    json: bool,
    bar: ProgressBar,
    copied: Arc<AtomicU64>,
    /// For the document of a verification.
    differences: Arc<Mutex<Vec<Value>>>,
}

/// What is told of single paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    Nothing,
    /// Each path as it is touched, as a line of text or JSON.
    Lines,
    /// Each as a line of text; for machines they stand within the one document.
    Differences,
}

#[derive(Serialize)]
struct Verification<'a> {
    #[serde(flatten)]
    report: &'a Report,
    differences: &'a [Value],
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{spinner} {prefix}: {pos} changes, {msg}, {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Self { json, bar, copied: Arc::default(), differences: Arc::default() }
    }

    /// A line for people.
    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    pub(super) fn warn(&self, line: &str) {
        self.say(&format!("warning: {line}"));
    }

    /// The one document for machines.
    pub(super) fn document(&self, value: &impl Serialize) {
        if self.json {
            print_line(&serde_json::to_string(value).expect("what is shown is plain data"));
        }
    }

    pub(super) fn error(&self, error: &anyhow::Error) {
        let text = crate::apply::chain(error.as_ref());
        self.document(&serde_json::json!({ "error": text }));
        self.say(&format!("error: {text}"));
    }

    pub(super) fn report(&self, what: &str, report: &Report) {
        self.document(report);
        self.say(&format!("{what}: {report}"));
    }

    pub(super) fn verification(&self, what: &str, report: &Report) {
        let differences = self.differences.lock().unwrap_or_else(PoisonError::into_inner);
        self.document(&Verification { report, differences: &differences });
        self.say(&format!("{what}: {report}"));
    }

    pub(super) fn applied(&self, applied: &Applying, mode: Mode) {
        self.document(applied);
        let would = if mode == Mode::Look { " (nothing was changed: this was a dry run)" } else { "" };
        let Applying { windows, changes, report, .. } = applied;
        self.say(&format!("applied {windows} windows with {changes} changes: {report}{would}"));
    }

    pub(super) fn page(&self, page: &Page) {
        self.document(page);
        self.say(&page.sentence);
        for owed in &page.owed {
            self.say(&format!("  owed: {} ({}), since {}", owed.path, owed.reason, crate::report::time(owed.since)));
        }
        for doubt in &page.log.doubts {
            self.say(&format!("  lines may be missing: {doubt}"));
        }
        for blind in &page.cannot_tell {
            self.say(&format!("  only a verification finds: {blind}"));
        }
        if let Some(error) = page.last_run.as_ref().and_then(|run| run.error.as_ref()) {
            self.say(&format!("  the last run failed: {error}"));
        }
    }

    /// Shows a bar while something works, where stderr is a terminal.
    pub(super) async fn watch<T>(&self, what: &'static str, work: impl Future<Output = T>) -> T {
        self.bar.set_prefix(what);
        self.bar.enable_steady_tick(Duration::from_millis(200));
        let done = work.await;
        self.bar.finish_and_clear();
        done
    }

    /// What is done with each path that a run touches: the bar moves, and what `tell` says is told.
    pub(super) fn events(&self, tell: Tell) -> Arc<dyn Fn(&Event<'_>) + Send + Sync> {
        let (json, bar, copied) = (self.json, self.bar.clone(), self.copied.clone());
        let differences = self.differences.clone();
        Arc::new(move |event| {
            if let Did::Copy { bytes: len } = event.did {
                let all = copied.fetch_add(len, Ordering::Relaxed) + len;
                bar.set_message(format!("{} copied", bytes(all)));
            }
            bar.inc(1);
            match (tell, json) {
                (Tell::Nothing, _) => {}
                (Tell::Lines, true) => print_line(&event.to_json()),
                (Tell::Differences, true) => keep(&differences, event),
                (Tell::Lines | Tell::Differences, false) => bar.suspend(|| eprintln!("{event}")),
            }
        })
    }
}

fn keep(differences: &Mutex<Vec<Value>>, event: &Event<'_>) {
    let mut kept = differences.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < DIFFERENCES_MAX {
        kept.extend(serde_json::from_str::<Value>(&event.to_json()));
    }
}

/// A reader that went away (`syncd … | head`) is no failure of ours.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
