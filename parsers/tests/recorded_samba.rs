//! What a real smbd recorded: every path of the share that differs between the listings around a window is named by
//! that window's own log, in both layouts of syslog.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syncd_parsers::detect::{Sample, detect};
use syncd_parsers::records::{self, End, Parsed};
use syncd_parsers::{Dialect, Entry, Op, dialect};

const SHARE: &[u8] = b"/srv/samba/share-data/";

#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Hex { hex: String },
}

#[derive(Deserialize)]
struct Line {
    path: Name,
    #[serde(flatten)]
    content: Content,
}

/// What makes a difference.
#[derive(Deserialize, PartialEq)]
struct Content {
    r#type: String,
    size: Option<u64>,
    md5: Option<String>,
    target: Option<String>,
    mtime: Option<f64>,
}

type Listing = BTreeMap<Vec<u8>, Content>;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/recorded/samba-4.17").join(name)
}

fn listing(number: usize) -> Listing {
    let text = fs::read_to_string(file(&format!("state-{number}.jsonl"))).expect("a listing");
    let lines = text.lines().map(|line| serde_json::from_str::<Line>(line).expect("a line of ours"));
    lines.map(|line| ([SHARE, &bytes(line.path)].concat(), line.content)).collect()
}

fn bytes(name: Name) -> Vec<u8> {
    match name {
        Name::Text(text) => text.into_bytes(),
        Name::Hex { hex } => (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("two digits of hexadecimal"))
            .collect(),
    }
}

fn parsed(log: &str) -> Parsed {
    let dialect = dialect::by_name("samba-full-audit").expect("a dialect");
    let mut parsed = Parsed::default();
    records::parse_block(dialect, &fs::read(file(log)).expect("a log"), 0, End::Closed, &mut parsed);
    assert_eq!(parsed.bad_lines, 0, "every recorded line is understood: {:?}", parsed.bad.first());
    parsed
}

/// By itself, as the directory of something named, or below something deep.
fn is_named(path: &[u8], entries: &[(u64, Entry)]) -> bool {
    let is_below = |path: &[u8], above: &[u8]| path.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"));
    entries.iter().any(|(_, entry)| {
        let is_deep = matches!(entry.op, Op::Rename | Op::Delete | Op::Rescan);
        let names = [Some(&entry.path), entry.to.as_ref()];
        names
            .into_iter()
            .flatten()
            .any(|name| name == path || is_below(name, path) || (is_deep && is_below(path, name)))
    })
}

#[test]
fn every_path_that_differs_is_named_by_its_window() {
    for number in [1, 2] {
        let (before, after) = (listing(number - 1), listing(number));
        let paths: BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
        let differing: Vec<_> = paths.into_iter().filter(|path| before.get(*path) != after.get(*path)).collect();
        assert!(differing.len() > 40, "the window changed much: {}", differing.len());
        for log in [format!("audit-{number}.log"), format!("audit-{number}.trad.log")] {
            let entries = parsed(&log).entries;
            let missed = differing.iter().filter(|path| !is_named(path, &entries));
            let missed: Vec<_> = missed.map(|path| String::from_utf8_lossy(path)).collect();
            assert!(missed.is_empty(), "{log}: {missed:?}");
        }
    }
}

#[test]
fn both_layouts_name_the_same() {
    for number in [1, 2] {
        let named = |log: String| -> Vec<_> {
            let entries = parsed(&log).entries.into_iter();
            entries.map(|(_, entry)| (entry.op, entry.path, entry.to)).collect()
        };
        assert_eq!(named(format!("audit-{number}.log")), named(format!("audit-{number}.trad.log")));
    }
}

#[test]
fn the_log_is_told_by_its_own_lines() {
    for log in ["audit-1.log", "audit-2.trad.log"] {
        let bytes = fs::read(file(log)).expect("a log");
        let found = detect(Sample { bytes: &bytes, is_whole: true }).map(Dialect::name);
        assert_eq!(found, Ok("samba-full-audit"));
    }
}
