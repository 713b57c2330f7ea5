//! What real servers recorded: every path that differs between the listings around a window is named by that window's own
//! log, by itself or through an ancestor that was renamed, deleted or is to be looked through.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syncd_parsers::records::{self, End, Parsed};
use syncd_parsers::{Dialect, Entry, Op};

struct Window {
    dialect: &'static str,
    folder: &'static str,
    log: &'static str,
    number: usize,
    bucket: &'static str,
}

const WINDOWS: [Window; 5] = [
    Window { dialect: "minio", folder: "minio/two-clients", log: "audit-1.jsonl", number: 1, bucket: "lake2" },
    Window { dialect: "minio", folder: "minio/two-clients", log: "audit-2.jsonl", number: 2, bucket: "lake2" },
    Window { dialect: "minio", folder: "minio/two-clients-nested", log: "audit-1.jsonl", number: 1, bucket: "lake3" },
    Window { dialect: "minio", folder: "minio/two-clients-nested", log: "audit-2.jsonl", number: 2, bucket: "lake3" },
    CEPH,
];
const CEPH: Window =
    Window { dialect: "ceph-rgw", folder: "ceph-rgw-16.2", log: "ops-1.log", number: 1, bucket: "data" };

/// Keys with what stands for their content.
type Listing = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Line {
    key: String,
    etag: String,
}

impl Window {
    fn file(&self, name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/recorded").join(self.folder).join(name)
    }

    fn listing(&self, number: usize) -> Listing {
        let text = fs::read_to_string(self.file(&format!("state-{number}.jsonl"))).expect("a listing");
        let lines = text.lines().map(|line| serde_json::from_str::<Line>(line).expect("a line of ours"));
        lines.map(|line| (line.key, line.etag)).collect()
    }

    /// The paths of all keys that came, went, or hold something else.
    fn differing(&self) -> BTreeSet<Vec<u8>> {
        let (before, after) = (self.listing(self.number - 1), self.listing(self.number));
        let keys = before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key));
        keys.map(|key| format!("/{}/{key}", self.bucket).into_bytes()).collect()
    }

    fn parsed(&self) -> Parsed {
        let dialect: &dyn Dialect = syncd_parsers::dialect::by_name(self.dialect).expect("a dialect");
        let mut parsed = Parsed::default();
        records::parse_block(dialect, &fs::read(self.file(self.log)).expect("a log"), 0, End::Closed, &mut parsed);
        parsed
    }
}

/// Whether an entry makes syncd look at a path.
fn names(entry: &Entry, path: &[u8]) -> bool {
    let is_at = |end: &Vec<u8>| end.as_slice() == path.strip_suffix(b"/").unwrap_or(path);
    let is_above = |end: &Vec<u8>| path.starts_with(&[end.as_slice(), b"/"].concat());
    let is_deep = matches!(entry.op, Op::Rename | Op::Delete | Op::Rescan);
    let ends = || std::iter::once(&entry.path).chain(&entry.to);
    ends().any(is_at) || (is_deep && ends().any(is_above))
}

fn unnamed(differing: BTreeSet<Vec<u8>>, entries: &[&Entry]) -> Vec<String> {
    let is_unnamed = |path: &Vec<u8>| !entries.iter().any(|entry| names(entry, path));
    differing.into_iter().filter(is_unnamed).map(|path| String::from_utf8_lossy(&path).into_owned()).collect()
}

#[test]
fn every_path_that_differs_is_named() {
    for window in WINDOWS {
        let (parsed, differing) = (window.parsed(), window.differing());
        let entries: Vec<&Entry> = parsed.entries.iter().map(|(_, entry)| entry).collect();
        let place = format!("{} window {}", window.folder, window.number);
        assert_eq!(parsed.bad_lines, 0, "{place}: every record is understood");
        assert!(differing.len() > 50, "{place}: {} paths differ", differing.len());
        assert_eq!(unnamed(differing, &entries), [""; 0], "{place}");
    }
}

/// The one rescan of this window, of a bucket in which a form put an object, must not hide what single records miss.
#[test]
fn all_but_what_ceph_cannot_tell_is_named_by_records_of_its_own() {
    let parsed = CEPH.parsed();
    let entries: Vec<&Entry> = parsed.entries.iter().map(|(_, entry)| entry).collect();
    let (rescans, others): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.op == Op::Rescan);
    assert_eq!(rescans.iter().map(|entry| entry.path.as_slice()).collect::<Vec<_>>(), [b"/data"]);
    assert_eq!(unnamed(CEPH.differing(), &others), UNTOLD);
}

/// A form names no key; tools of the cluster, and lifecycle rules, leave no record.
const UNTOLD: [&str; 1] = ["/data/edge/posted my file.txt"];

#[test]
fn no_entry_of_minio_looks_wider_than_its_objects() {
    for window in WINDOWS.iter().filter(|window| window.dialect == "minio") {
        let parsed = window.parsed();
        let wide = parsed.entries.iter().find(|(_, entry)| entry.op == Op::Rescan || entry.path.len() < 7);
        assert_eq!(wide, None, "{} window {}", window.folder, window.number);
    }
}
