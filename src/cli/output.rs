//! What people and machines are shown: text and bars on stderr, JSON on stdout.

use crate::apply::Mode;
use crate::job::Applying;
use crate::report::{Did, Event, Report, bytes};
use crate::status::Page;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where everything is printed.
pub(super) struct Output {
    json: bool,
    bar: ProgressBar,
    copied: Arc<AtomicU64>,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{spinner} {prefix}: {pos} changes, {msg}, {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Self { json, bar, copied: Arc::default() }
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

    /// What is done with each path that a run touches: the bar moves, and with `explain` a line tells.
    pub(super) fn events(&self, explain: bool) -> Arc<dyn Fn(&Event<'_>) + Send + Sync> {
        let (json, bar, copied) = (self.json, self.bar.clone(), self.copied.clone());
        Arc::new(move |event| {
            if let Did::Copy { bytes: len } = event.did {
                let all = copied.fetch_add(len, Ordering::Relaxed) + len;
                bar.set_message(format!("{} copied", bytes(all)));
            }
            bar.inc(1);
            match (explain, json) {
                (false, _) => {}
                (true, true) => print_line(&event.to_json()),
                (true, false) => bar.suspend(|| eprintln!("{event}")),
            }
        })
    }
}

/// A reader that went away (`syncd … | head`) is no failure of ours.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
