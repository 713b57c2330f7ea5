//! Every recorded window of real NameNodes: from the listing before, its own audit log, and a live source that stands
//! where the listing after says, the destination comes to that listing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use syncd::apply::Mode;
use syncd::checkpoint::State;
use syncd::demo::Listing;
use syncd::job::{Job, Settings};
use syncd::round::Logs;
use syncd::scope::Scope;
use syncd::store::Store;
use syncd::store::local::Local;
use syncd::zone::Zone;

struct Recording {
    folder: PathBuf,
    root: &'static str,
    number: usize,
}

impl Recording {
    fn listing(&self, number: usize) -> Listing {
        let lines = fs::read_to_string(self.folder.join(format!("state-{number}.jsonl"))).expect("a listing");
        Listing::parse(&lines, self.root).expect("a listing of our own form")
    }
}

fn recordings() -> Vec<Recording> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recorded");
    let folders = [
        ("hdfs-2.7.3/one-client", "/plain2"),
        ("hdfs-2.7.3/six-clients", "/lake"),
        ("hdfs-2.7.3/spark", "/warehouse"),
        ("hdfs-3.4.1/four-clients", "/data"),
    ];
    let windows = folders.iter().flat_map(|(folder, root)| [1, 2].map(|number| (folder, *root, number)));
    windows.map(|(folder, root, number)| Recording { folder: base.join(folder), root, number }).collect()
}

fn local(path: &Path) -> Arc<dyn Store> {
    Arc::new(Local::open(path).expect("a folder"))
}

/// The time of the recordings: lines of the future would be no evidence.
fn then() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(1_795_000_000, 0).expect("a time of 2026")
}

async fn replay(recording: &Recording) -> Vec<String> {
    let temp = tempfile::tempdir().expect("a folder");
    let at = |name: &str| temp.path().join(name);
    let (before, after) = (recording.listing(recording.number - 1), recording.listing(recording.number));
    before.stage(&at("source")).expect("stages");
    fs::create_dir(at("logs")).expect("a folder");
    let job = Job {
        source: local(&at("source")),
        destination: local(&at("destination")),
        pair: ("source".into(), "destination".into()),
        state: Arc::new(State::open(&at("state")).expect("opens")),
        settings: Settings::default(),
        events: Arc::new(|_| {}),
        now: then,
    };
    job.import(Some(Vec::new())).await.expect("imports");
    assert_eq!(before.differences(&at("destination")).expect("reads"), [""; 0], "after the import");

    after.stage(&at("source")).expect("stages");
    let log = format!("hdfs-audit-{}.log", recording.number);
    fs::copy(recording.folder.join(&log), at("logs").join(&log)).expect("copies");
    let logs =
        Logs::new(local(&at("logs")), local(&at("changes")), Zone::UTC, Scope::new(recording.root).expect("a root"));
    let made = logs.make(Some(&*job.state), then() + chrono::TimeDelta::days(9)).await.expect("makes a window");
    let window = made.window.expect("the log has changes");
    assert_eq!(window.bad, 0, "every recorded line is understood");
    let applied = job.apply(&*logs.change_log, Mode::Act).await.expect("applies");
    assert_eq!(applied.report.owed_paths, 0, "{:?}", applied.report);
    let differences = after.differences(&at("destination")).expect("reads");

    let verified = job.verify(Mode::Look).await.expect("verifies");
    assert_eq!(verified.differing_paths as usize, differences.len(), "verify sees what the listing says");
    let again = job.apply(&*logs.change_log, Mode::Act).await.expect("applies again");
    assert_eq!(again.windows, 0, "nothing is left to apply");
    differences
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_window_ends_with_the_destination_equal_to_the_source() {
    for recording in recordings() {
        let name = format!("{} window {}", recording.folder.display(), recording.number);
        let differences = replay(&recording).await;
        assert!(differences.is_empty(), "{name}: {}", differences.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_equal_and_a_calm_day_costs_little() {
    let told = syncd::demo::run(false, |_| {}).await.expect("the demo runs");
    let calm = told.windows.last().expect("the demo has windows");
    assert_eq!((told.differences, calm.changes, calm.report.copied_files), (0, 1, 1));
    let calls = calm.source_calls.total() + calm.destination_calls.total();
    assert!(calls <= 30, "{calls} calls for one changed file among {} entries", calm.rescan_entries);
}
