//! What holds for every name, every block and every way to cut it, on inputs that a generator draws.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use syncd_parsers::hdfs::{Hdfs, Names};
use syncd_parsers::jindofs::JindoFs;
use syncd_parsers::records::{self, End, Parsed};
use syncd_parsers::{Dialect, Op};

const HEAD: &str = "2026-11-21 03:51:07,555 INFO FSNamesystem.audit: allowed=true\tugi=etl (auth:SIMPLE)\tip=/10.0.0.7";

/// Parts that names are made of, the worst first.
const PARTS: [&str; 16] = [
    "\tdst=/a",
    "\tperm=b",
    "\tcmd=delete",
    "\tsrc=/c",
    "\t",
    "\\",
    "\\t",
    "\\u00e9",
    "\\uD83D",
    "\"",
    "é",
    "😀",
    "/x",
    " dst=",
    ", /y",
    "[",
];
const LINES: [&str; 4] = [
    "\n",
    "\n2026-11-21 03:51:08,000 INFO FSNamesystem.audit: allowed=true\tugi=u\tip=/1\tcmd=delete\tsrc=/prod",
    "\n2026-11-21 03:51:08,000 allowed=false\tugi=u",
    "\nTS",
];

fn of_parts(parts: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    vec(select(parts), 0..=most).prop_map(|parts| format!("/d/n{}z", parts.concat()))
}

/// A name on one line: all that a client may put into it, newlines excepted.
fn one_line() -> impl Strategy<Value = String> {
    of_parts(&PARTS, 5)
}

/// A name over a few lines, which may look like lines of the log. None of them is a whole record: what
/// docs/formats/hdfs.md says cannot be told.
fn several_lines() -> impl Strategy<Value = String> {
    of_parts(&LINES, 7)
}

fn escape_java(name: &str) -> String {
    name.encode_utf16()
        .map(|unit| match u8::try_from(unit) {
            Ok(b'\t') => "\\t".into(),
            Ok(b'\n') => "\\n".into(),
            Ok(byte @ (b'\\' | b'"')) => format!("\\{}", char::from(byte)),
            Ok(byte @ 0x20..=0x7f) => char::from(byte).to_string(),
            _ => format!("\\u{unit:04X}"),
        })
        .collect()
}

fn line(command: &str, src: &str, dst: &str) -> String {
    format!("{HEAD}\tcmd={command}\tsrc={src}\tdst={dst}\tperm=etl:hadoop:rw-r--r--\tproto=rpc\n")
}

fn parse(dialect: &dyn Dialect, log: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    records::parse_block(dialect, log, 0, End::Closed, &mut parsed);
    parsed
}

fn names(names: Names, log: &str, op: Op, path: &str, to: Option<&str>) -> bool {
    let parsed = parse(&Hdfs { names }, log.as_bytes());
    parsed.entries.iter().any(|(offset, entry)| {
        *offset == 0 && entry.op == op && entry.path == path.as_bytes() && entry.to.as_deref() == to.map(str::as_bytes)
    })
}

/// Percent-encoded as S3 and its clients do it: all but these bytes, and the slash.
fn percent(key: &[u8]) -> String {
    let encode = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => char::from(*byte).to_string(),
        other => format!("%{other:02X}"),
    };
    key.iter().map(encode).collect()
}

/// The same, as HTML forms do it.
fn form(key: &[u8]) -> String {
    percent(key).replace("%20", "+")
}

/// A key of any bytes, which does not end in a slash, as markers of directories do.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop_oneof![
        vec(any::<u8>(), 1..6),
        select(
            &[" ", "+", "%20", "%2B", "%2520", "/", "?", "&", "\"", "\" 404 -", "\n", "lake/", "/v1/", "ü", "-"][..]
        )
        .prop_map(|part| part.as_bytes().to_vec()),
    ];
    vec(parts, 1..6).prop_map(|parts| [&b"k"[..], &parts.concat(), b"k"].concat())
}

/// The same, as text.
fn text_key() -> impl Strategy<Value = String> {
    key().prop_map(|key| String::from_utf8_lossy(&key).into_owned())
}

fn path_of(key: &[u8]) -> Vec<u8> {
    [b"/lake/", key].concat()
}

/// The operations and paths that one record gives, and that it is a record.
fn named(dialect: &str, record: &str) -> Result<Vec<(Op, Vec<u8>)>, TestCaseError> {
    let mut out = Vec::new();
    let dialect = syncd_parsers::dialect::by_name(dialect).expect("a dialect");
    prop_assert!(dialect.parse(record.as_bytes(), &mut out).is_ok(), "{record}");
    Ok(out.into_iter().map(|entry| (entry.op, entry.path)).collect())
}

fn s3_line(operation: &str, key: &str, request: &str) -> String {
    format!(
        "owner lake [01/Jun/2026:10:00:00 +0000] 198.51.100.7 etl R1 {operation} {key} {request} 200 - - 1 2 3 \"-\" \"x\" - h="
    )
}

fn ceph_record(uri: &str) -> String {
    let record = serde_json::json!({
        "bucket": "lake", "time": "2026-06-01T10:00:00.562540Z", "operation": "put_obj", "uri": uri, "http_status": "200"
    });
    record.to_string()
}

/// Pieces of logs, good and bad, in any order.
fn logs() -> impl Strategy<Value = Vec<u8>> {
    let records = (one_line(), several_lines(), select(&["create", "rename", "open", "teleport"][..]))
        .prop_map(|(src, dst, command)| line(command, &src, &dst).into_bytes());
    let cut = (one_line(), 0_usize..160).prop_map(|(src, end)| {
        let line = line("delete", &src, "null").into_bytes();
        line[..end.min(line.len())].to_vec()
    });
    let noise =
        prop_oneof![vec(any::<u8>(), 0..20), Just(b"\n".to_vec()), Just(b"rest\tdst=null\tperm=null\n".to_vec())];
    vec(prop_oneof![3 => records, 1 => cut, 2 => noise], 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn an_escaped_name_comes_back(name in prop_oneof![one_line(), several_lines()], spelling in select(&[Names::Either, Names::Escaped][..])) {
        let log = line("create", &escape_java(&name), "null");
        prop_assert!(names(spelling, &log, Op::Write, &name, None), "{log}");
    }

    #[test]
    fn a_raw_name_comes_back(name in prop_oneof![one_line(), several_lines()], spelling in select(&[Names::Either, Names::Raw][..])) {
        let log = line("create", &name, "null");
        prop_assert!(names(spelling, &log, Op::Write, &name, None), "{log}");
    }

    #[test]
    fn both_escaped_names_of_a_rename_come_back(src in one_line(), dst in several_lines()) {
        let log = line("rename", &escape_java(&src), &escape_java(&dst));
        prop_assert!(names(Names::Either, &log, Op::Rename, &src, Some(&dst)), "{log}");
    }

    #[test]
    fn both_raw_names_of_a_rename_come_back(src in of_parts(&PARTS, 3), dst in of_parts(&PARTS, 2)) {
        let log = line("rename", &src, &dst);
        prop_assert!(names(Names::Either, &log, Op::Rename, &src, Some(&dst)), "{log}");
    }

    #[test]
    fn raw_names_of_a_rename_that_break_over_lines_come_back(src in of_parts(&LINES, 3), dst in of_parts(&LINES, 3)) {
        let log = line("rename", &src, &dst);
        prop_assert!(names(Names::Either, &log, Op::Rename, &src, Some(&dst)), "{log}");
    }

    #[test]
    fn a_key_of_s3_access_comes_back(key in key(), has_bucket in any::<bool>()) {
        let bucket = if has_bucket { "lake/" } else { "" };
        let request = format!("\"PUT /{bucket}{}?x-id=PutObject HTTP/1.1\"", percent(&key));
        for first in [percent(&key), form(&key)] {
            let put = s3_line("REST.PUT.OBJECT", &percent(first.as_bytes()), &request);
            prop_assert_eq!(named("s3-access", &put)?, [(Op::Write, path_of(&key))]);
        }
        let batch = s3_line("BATCH.DELETE.OBJECT", &form(&key), "-");
        prop_assert_eq!(named("s3-access", &batch)?, [(Op::Delete, path_of(&key))]);
    }

    #[test]
    fn what_clients_choose_hides_no_line_of_s3_access(agent in text_key(), query in text_key()) {
        let clean = |text: &str| text.replace(['\n', '\r', '\0'], "");
        let request = format!("\"DELETE /k?{} HTTP/1.1\"", clean(&query));
        let line = s3_line("REST.DELETE.OBJECT", "k", &request).replace("\"x\"", &format!("\"{}\"", clean(&agent)));
        let named = named("s3-access", &line)?;
        prop_assert!(named.iter().any(|(op, path)| *op != Op::Attr && path == b"/lake/k"), "{line} gives {named:?}");
    }

    #[test]
    fn a_key_of_ceph_comes_back(key in key(), has_bucket in any::<bool>()) {
        let bucket = if has_bucket { "lake/" } else { "" };
        let uri = format!("PUT /{bucket}{}?x-id=PutObject?x-id=PutObject HTTP/1.1", percent(&key));
        prop_assert!(named("ceph-rgw", &ceph_record(&uri))?.contains(&(Op::Write, path_of(&key))), "{uri}");
    }

    #[test]
    fn a_key_of_json_logs_comes_back(key in text_key(), other in text_key()) {
        let minio = serde_json::json!({
            "version": "1",
            "time": "2026-06-01T10:00:00Z", "requestPath": format!("/lake/{key}"), "requestHeader": {other.clone(): other},
            "api": {"name": "PutObject", "bucket": "lake", "object": key, "statusCode": 200},
        });
        prop_assert_eq!(named("minio", &minio.to_string())?, [(Op::Write, path_of(key.as_bytes()))]);
        let copy = minio.to_string().replace("PutObject", "CopyObject").replace("\"object\":", "\"source\":");
        prop_assert!(named("minio", &copy)?.contains(&(Op::Write, path_of(key.as_bytes()))));
        let cloudtrail = serde_json::json!({
            "eventTime": "2026-06-01T10:00:00Z", "eventSource": "s3.amazonaws.com", "eventName": "PutObject",
            "requestParameters": {"bucketName": "lake", "key": key},
        });
        prop_assert_eq!(named("cloudtrail", &cloudtrail.to_string())?, [(Op::Write, path_of(key.as_bytes()))]);
    }

    #[test]
    fn a_key_of_an_event_comes_back(key in key()) {
        let record = serde_json::json!({
            "eventTime": "2026-06-01T10:00:00Z", "eventSource": "minio:s3", "eventName": "s3:ObjectCreated:Put",
            "s3": {"bucket": {"name": "lake"}, "object": {"key": form(&key).replace('/', "%2F")}},
        });
        let plain = record.to_string();
        let message = serde_json::json!({"Type": "Notification", "Message": serde_json::json!({"Records": [record]}).to_string()});
        let queued = serde_json::json!({"Body": message.to_string()});
        for text in [plain, message.to_string(), queued.to_string()] {
            prop_assert_eq!(named("s3-event", &text)?, [(Op::Write, path_of(&key))]);
        }
    }

    #[test]
    fn damaged_records_are_read_or_refused(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
        let uri = "PUT /lake/a%20b?partNumber=1 HTTP/1.1";
        let line = s3_line("REST.PUT.OBJECT", "a%2520b", &format!("\"{uri}\""));
        for text in [line, ceph_record(uri)] {
            let mut bytes = text.into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut.max(1));
            for dialect in syncd_parsers::dialect::all() {
                let mut out = Vec::new();
                if dialect.parse(&bytes, &mut out).is_err() {
                    prop_assert!(out.is_empty(), "{} leaves {out:?}", dialect.name());
                }
                dialect.salvage(&bytes, &mut out);
                dialect.id(&bytes);
            }
        }
    }

    #[test]
    fn no_bytes_make_a_dialect_panic(bytes in vec(any::<u8>(), 0..400), log in logs()) {
        for dialect in syncd_parsers::dialect::all() {
            parse(*dialect, &bytes);
            parse(*dialect, &log);
            parse(*dialect, &[HEAD.as_bytes(), &bytes].concat());
        }
    }

    #[test]
    fn reads_cut_anywhere_give_what_one_read_gives(log in logs(), mut cuts in vec(0_usize..4000, 0..8)) {
        cuts.sort_unstable();
        let dialects: [&dyn Dialect; 2] = [&Hdfs::default(), &JindoFs];
        for dialect in dialects {
            let (mut parsed, mut consumed) = (Parsed::default(), 0);
            for end in cuts.iter().map(|cut| (*cut).min(log.len())) {
                consumed += records::parse_block(dialect, &log[consumed..end.max(consumed)], consumed as u64, End::More, &mut parsed);
            }
            records::parse_block(dialect, &log[consumed..], consumed as u64, End::Closed, &mut parsed);
            prop_assert_eq!(parsed, parse(dialect, &log));
        }
    }

    #[test]
    fn pieces_give_what_the_whole_gives(log in logs(), pieces in 1_usize..20) {
        let dialect = Hdfs::default();
        let mut parsed = Parsed::default();
        for range in records::split_for_parallel(&dialect, &log, pieces) {
            let mut part = Parsed::default();
            records::parse_range(&dialect, &log, range, 0, End::Closed, &mut part);
            parsed.append(part);
        }
        prop_assert_eq!(parsed, parse(&dialect, &log));
    }

    #[test]
    fn every_line_is_part_of_a_record_or_bad_and_no_byte_is_read_twice(log in logs()) {
        let parsed = parse(&Hdfs::default(), &log);
        let newlines = log.iter().filter(|byte| **byte == b'\n').count() as u64;
        let has_rest = log.last().is_some_and(|byte| *byte != b'\n');
        prop_assert_eq!(parsed.lines, newlines + u64::from(has_rest));
        prop_assert!(parsed.records + parsed.bad_lines <= parsed.lines);
    }
}
