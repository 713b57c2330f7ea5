//! Every `testdata/logs/<dialect>/<case>.log` gives its `<case>.jsonl`: one line for each entry and each
//! bad line, in the order of the log. Adding a case is adding two files; `SYNCD_BLESS=1` writes the second.

use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use syncd_parsers::detect::{Sample, detect};
use syncd_parsers::dialect::all;
use syncd_parsers::records::{self, Bad, End, Parsed};
use syncd_parsers::{Dialect, Entry, Op};

#[test]
fn every_case_gives_what_is_written_beside_it() {
    let is_blessing = std::env::var_os("SYNCD_BLESS").is_some();
    let mut wrong = Vec::new();
    for (log, dialect) in cases() {
        let found = as_lines(&parse(dialect, &read(&log)));
        let expected = log.with_extension("jsonl");
        if is_blessing {
            std::fs::write(&expected, &found).expect("testdata is writable");
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{} gives\n{found}", log.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_case_read_in_any_number_of_pieces_gives_what_it_gives_whole() {
    for (log, dialect) in cases() {
        let bytes = read(&log);
        let whole = parse(dialect, &bytes);
        for pieces in 1..=bytes.len().min(40) {
            let mut parsed = Parsed::default();
            for range in records::split_for_parallel(dialect, &bytes, pieces) {
                let mut part = Parsed::default();
                records::parse_range(dialect, &bytes, range, 0, End::Closed, &mut part);
                parsed.append(part);
            }
            assert_eq!(parsed, whole, "{} in {pieces} pieces", log.display());
        }
    }
}

#[test]
fn a_case_cut_at_any_border_of_lines_gives_what_it_gives_whole() {
    for (log, dialect) in cases() {
        let bytes = read(&log);
        let whole = parse(dialect, &bytes);
        let borders = (0..bytes.len()).filter(|at| *at == 0 || bytes[at - 1] == b'\n');
        for border in borders {
            let mut parsed = Parsed::default();
            for range in [0..border, border..bytes.len()] {
                records::parse_range(dialect, &bytes, range, 0, End::Closed, &mut parsed);
            }
            assert_eq!(parsed, whole, "{} cut at {border}", log.display());
        }
    }
}

#[test]
fn a_case_that_grows_byte_by_byte_gives_what_it_gives_whole() {
    for (log, dialect) in cases() {
        let bytes = read(&log);
        let (mut parsed, mut consumed) = (Parsed::default(), 0);
        for end in 0..=bytes.len() {
            let block = &bytes[consumed..end];
            consumed += records::parse_block(dialect, block, consumed as u64, End::More, &mut parsed);
        }
        records::parse_block(dialect, &bytes[consumed..], consumed as u64, End::Closed, &mut parsed);
        assert_eq!(parsed, parse(dialect, &bytes), "{}", log.display());
    }
}

#[test]
fn a_case_without_bad_lines_is_found_to_be_of_its_own_dialect() {
    for (log, dialect) in cases() {
        let bytes = read(&log);
        let must_be_told = dialect.name().ends_with("-relative"); // its dialect alone cannot read it
        if parse(dialect, &bytes).bad_lines == 0 && !must_be_told {
            let found = detect(Sample { bytes: &bytes, is_whole: true }).map(Dialect::name);
            assert_eq!(found, Ok(family(dialect)), "{}", log.display());
        }
    }
}

#[test]
fn no_other_dialect_finds_a_change_in_a_case() {
    for (log, dialect) in cases().into_iter().filter(|(log, dialect)| parse(*dialect, &read(log)).bad_lines == 0) {
        for other in all().iter().filter(|other| family(**other) != family(dialect)) {
            let parsed = parse(*other, &read(&log));
            assert!(
                parsed.bad_lines > parsed.records || parsed.entries.is_empty(),
                "{} reads {}",
                other.name(),
                log.display()
            );
        }
    }
}

/// The name of a dialect without its spelling: `hdfs` of `hdfs-raw`.
fn family(dialect: &dyn Dialect) -> &'static str {
    let of = |family: &&str| {
        dialect.name().strip_prefix(*family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    all().iter().map(|dialect| dialect.name()).find(of).unwrap_or(dialect.name())
}

#[test]
fn every_dialect_has_cases() {
    for dialect in syncd_parsers::dialect::all() {
        assert!(cases().iter().any(|(_, own)| own.name() == dialect.name()), "{}", dialect.name());
    }
}

fn parse(dialect: &dyn Dialect, bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    let consumed = records::parse_block(dialect, bytes, 0, End::Closed, &mut parsed);
    assert_eq!(consumed, bytes.len(), "a closed log is read to its end");
    parsed
}

/// Every log below `testdata/logs/`, with the dialect that its folder is named after.
fn cases() -> Vec<(PathBuf, &'static dyn Dialect)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/logs");
    let mut cases = Vec::new();
    for folder in entries_of(&root).into_iter().filter(|entry| entry.is_dir()) {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("folders have plain names").to_owned();
        let dialect = syncd_parsers::dialect::by_name(&name).expect("each folder is named as a dialect");
        let logs = entries_of(&folder).into_iter().filter(|file| file.extension().is_some_and(|ext| ext == "log"));
        cases.extend(logs.map(|log| (log, dialect)));
    }
    cases
}

fn entries_of(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("readable").path()).collect();
    entries.sort();
    entries
}

fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).expect("readable")
}

/// Entries and bad lines in the order of the log.
fn as_lines(parsed: &Parsed) -> String {
    let entries = parsed.entries.iter().map(|(offset, entry)| (*offset, of_entry(*offset, entry)));
    let mut lines: Vec<(u64, Value)> = entries.chain(parsed.bad.iter().map(|bad| (bad.offset, of_bad(bad)))).collect();
    lines.sort_by_key(|(offset, _)| *offset);
    lines.iter().map(|(_, line)| format!("{line}\n")).collect()
}

fn of_entry(offset: u64, entry: &Entry) -> Value {
    let mut line = Map::new();
    line.insert("at".into(), offset.into());
    line.insert("time".into(), entry.time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string().into());
    line.insert("op".into(), json!(entry.op));
    line.insert("path".into(), of_bytes(&entry.path));
    if let Some(to) = &entry.to {
        line.insert("to".into(), of_bytes(to));
    }
    if entry.op == Op::Rename {
        line.insert("into".into(), entry.into.into());
    }
    if let Some(user) = &entry.user {
        line.insert("user".into(), user.as_str().into());
    }
    Value::Object(line)
}

fn of_bad(bad: &Bad) -> Value {
    let reason = format!("column {}: expected {}", bad.column, bad.expected);
    json!({"at": bad.offset, "bad": reason, "text": of_bytes(&bad.text)})
}

/// A string where it is UTF-8, else `{"hex": "…"}`.
fn of_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()}),
    }
}
