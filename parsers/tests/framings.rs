//! How logs of each framing are cut into records, with dialects so small that only the cutting can go wrong.

use chrono::{DateTime, NaiveDateTime};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use syncd_parsers::dialect::Framing;
use syncd_parsers::records::{self, DEPTH_MAX, EVENT_REACH, End, FILE_MAX, LINE_MAX, OBJECT_MAX, Parsed};
use syncd_parsers::{Dialect, Entry, Op, ParseError};

/// Takes every record that is `{…}`, or whose text begins with `e`, and gives its text as a path.
struct Plain(Framing);

impl Dialect for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn framing(&self) -> Framing {
        self.0
    }

    fn begins(&self, _line: &[u8]) -> bool {
        true
    }

    fn event<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        line.starts_with(b"e").then(|| line.split(|b| *b == b' ').next()).flatten()
    }

    fn id<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        record.get(..2)
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let is_ours = match self.0 {
            Framing::Objects => serde_json::from_slice::<serde_json::Value>(record).is_ok(),
            _ => record.starts_with(b"e"),
        };
        is_ours.then_some(()).ok_or(ParseError::malformed(0, "ours"))?;
        let time = DateTime::UNIX_EPOCH.naive_utc();
        out.push(Entry { time, op: Op::Write, path: record.to_vec(), to: None, into: false, user: None });
        Ok(time)
    }

    fn salvage(&self, _line: &[u8], _out: &mut Vec<Entry>) {}
}

const OBJECTS: Plain = Plain(Framing::Objects);
const EVENTS: Plain = Plain(Framing::Events);
const FILES: Plain = Plain(Framing::Files);

fn parse(dialect: &dyn Dialect, log: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    records::parse_block(dialect, log, 0, End::Closed, &mut parsed);
    parsed
}

fn in_pieces(dialect: &dyn Dialect, log: &[u8], pieces: usize) -> Parsed {
    let mut parsed = Parsed::default();
    for range in records::split_for_parallel(dialect, log, pieces) {
        let mut part = Parsed::default();
        records::parse_range(dialect, log, range, 0, End::Closed, &mut part);
        parsed.append(part);
    }
    parsed
}

fn in_reads(dialect: &dyn Dialect, log: &[u8], cuts: impl IntoIterator<Item = usize>) -> Parsed {
    let (mut parsed, mut consumed) = (Parsed::default(), 0);
    for end in cuts {
        let block = &log[consumed..end.min(log.len()).max(consumed)];
        consumed += records::parse_block(dialect, block, consumed as u64, End::More, &mut parsed);
    }
    records::parse_block(dialect, &log[consumed..], consumed as u64, End::Closed, &mut parsed);
    parsed
}

/// The records, `?` before what is bad.
fn texts(parsed: &Parsed) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let records = parsed.entries.iter().map(|(offset, entry)| (*offset, text(&entry.path)));
    let bad = parsed.bad.iter().map(|bad| (bad.offset, format!("?{}", text(&bad.text))));
    let mut all: Vec<_> = records.chain(bad).collect();
    all.sort_by_key(|(offset, _)| *offset);
    all.into_iter().map(|(_, text)| text).collect()
}

fn objects(log: &str) -> Vec<String> {
    texts(&parse(&OBJECTS, log.as_bytes()))
}

fn events(log: &str) -> Vec<String> {
    texts(&parse(&EVENTS, log.as_bytes()))
}

#[test]
fn objects_stand_on_lines_or_beside_each_other_or_in_lists() {
    for log in [
        "{\"a\":1}\n{\"b\":{}}\n",
        "{\"a\":1}{\"b\":{}}",
        "[\n{\"a\":1},\r\n{\"b\":{}}]\n",
        "[{\"a\":1},\n{\"b\":{}},\n",
        "\u{feff}{\"a\":1}\r\n{\"b\":{}}",
    ] {
        assert_eq!(objects(log), ["{\"a\":1}", "{\"b\":{}}"], "{log}");
    }
}

#[test]
fn quotes_and_escapes_and_lines_within_an_object_do_not_end_it() {
    for object in ["{\"a\":\"}{\\\"\\\\\"}", "{\n  \"a\": [\n    {},\n    {\"b\": \"]\"}\n  ]\n}", "{}"] {
        assert_eq!(objects(&format!("{object}\n{object}\n")), [object, object]);
    }
}

#[test]
fn the_elements_of_a_wrapper_are_the_records() {
    for log in [
        "{\"Records\":[{\"a\":1},{\"b\":2}]}",
        "{ \"records\" : [\n {\"a\":1},\n {\"b\":2}\n]\n}\n",
        "{\"Messages\":[{\"a\":1},{\"b\":2}],\"more\":false,\"next\":\"x]}\"}",
        "{\"Records\":[{\"a\":1}]}\n{\"Records\":[]}\n{\"Records\":[{\"b\":2}]}\n",
    ] {
        assert_eq!(objects(log), ["{\"a\":1}", "{\"b\":2}"], "{log}");
    }
    assert_eq!(objects("{\"Record\":[{}]}").len(), 1, "another name is no wrapper's");
    assert_eq!(objects("{\"x\":1,\"Records\":[{}]}").len(), 1, "nor is one that comes later");
}

#[test]
fn what_is_no_object_is_bad_to_the_end_of_its_line() {
    assert_eq!(objects("hello {}\n{\"a\":1} x {}\n{\"b\":2}\n"), ["?hello {}", "{\"a\":1}", "?x {}", "{\"b\":2}"]);
    assert_eq!(objects("\"a\": 1\n}\n"), ["?\"a\": 1", "?}"]);
    assert!(parse(&OBJECTS, &[0; 10]).bad_lines == 1);
}

#[test]
fn a_damaged_object_costs_its_own_lines() {
    assert_eq!(objects("{\"a\":\"x\n{\"b\":2}\n"), ["?{\"a\":\"x", "{\"b\":2}"]);
    assert_eq!(objects("{\"a\":[\n{\"b\":2}\n{\"c\":3}\n"), ["?{\"a\":[", "{\"b\":2}", "{\"c\":3}"]);
    assert_eq!(objects("{\"b\":2}\n{\"a\":1,"), ["{\"b\":2}", "?{\"a\":1,"]);
}

#[test]
fn an_object_waits_for_its_end_and_not_longer_than_the_limit() {
    let mut parsed = Parsed::default();
    let mut log = b"{\"a\":1}\n{\"b\":[".to_vec();
    for end in [End::More, End::Quiet] {
        assert_eq!(records::parse_block(&OBJECTS, &log, 0, end, &mut parsed), 8);
    }
    log.resize(8 + OBJECT_MAX, b'x');
    assert_eq!(records::decided(&OBJECTS, &log, End::More), 8);
    log.push(b'x');
    assert_eq!(records::decided(&OBJECTS, &log, End::More), 8 + OBJECT_MAX / LINE_MAX * LINE_MAX);
}

#[test]
fn an_object_of_just_the_limit_is_read() {
    let of = |len: usize| [&b"{\"a\":\""[..], &vec![b'x'; len - 8], b"\"}"].concat();
    assert_eq!(parse(&OBJECTS, &of(OBJECT_MAX)).records, 1);
    let over = parse(&OBJECTS, &of(OBJECT_MAX + 1));
    assert!(over.records == 0 && over.bad_lines > 0);
}

#[test]
fn objects_within_each_other_have_a_limit() {
    let of = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    assert_eq!(parse(&OBJECTS, of(DEPTH_MAX).as_bytes()).records, 1);
    assert_eq!(parse(&OBJECTS, of(DEPTH_MAX + 1).as_bytes()).bad_lines, 1);
}

#[test]
fn lines_of_one_event_are_one_record_wherever_they_stand() {
    assert_eq!(events("e1 a\ne1 b\ne2 c\n"), ["e1 a\ne1 b", "e2 c"]);
    assert_eq!(events("e1 a\ne2 c\ne1 b\ne2 d\ne1 e"), ["e1 a\ne1 b\ne1 e", "e2 c\ne2 d"]);
    assert_eq!(events("e1 a\nother\ne1 b\n"), ["e1 a\ne1 b", "?other"]);
}

#[test]
fn a_line_far_from_its_event_is_bad_and_one_much_later_is_another_event() {
    let filler = |bytes: usize| "e-filler\n".repeat(bytes / 9);
    let far = "e1 a\n".to_owned() + &filler(EVENT_REACH / 2) + "e1 b\n" + &filler(EVENT_REACH / 2 + 20) + "e1 c\n";
    let found: Vec<String> = events(&far).into_iter().filter(|text| text.contains("e1")).collect();
    assert_eq!(found, ["e1 a\ne1 b", "?e1 c"]);
    let later = "e1 a\n".to_owned() + &filler(EVENT_REACH + 20) + "e1 c\n";
    let found: Vec<String> = events(&later).into_iter().filter(|text| text.contains("e1")).collect();
    assert_eq!(found, ["e1 a", "e1 c"]);
}

#[test]
fn an_event_waits_for_lines_that_may_follow_unless_the_log_is_quiet() {
    let log = b"e1 a\ne2 b\ne1 c\n";
    let mut parsed = Parsed::default();
    assert_eq!(records::parse_block(&EVENTS, log, 0, End::More, &mut parsed), 0);
    assert_eq!(records::parse_block(&EVENTS, log, 0, End::Quiet, &mut parsed), log.len());
    assert_eq!(texts(&parsed), ["e1 a\ne1 c", "e2 b"]);
    let far = [&log[..], &b"other\n".repeat(EVENT_REACH / 6 + 1)].concat();
    assert!(records::decided(&EVENTS, &far, End::More) > log.len());
}

#[test]
fn a_file_is_one_record_once_it_is_whole() {
    let mut parsed = Parsed::default();
    assert_eq!(records::parse_block(&FILES, b"e\n\0x", 0, End::More, &mut parsed), 0);
    assert_eq!(records::parse_block(&FILES, b"e\n\0x", 0, End::Quiet, &mut parsed), 4);
    assert_eq!(texts(&parsed), ["e\n\0x"]);
}

#[test]
fn a_file_beyond_the_limit_is_bad() {
    let mut log = vec![b'e'; FILE_MAX];
    assert_eq!(parse(&FILES, &log).records, 1);
    log.push(b'e');
    assert_eq!((parse(&FILES, &log).records, parse(&FILES, &log).bad_lines), (0, 1));
    let mut parsed = Parsed::default();
    assert_eq!(records::parse_block(&FILES, &log, 0, End::More, &mut parsed), log.len());
    records::parse_block(&FILES, &log, log.len() as u64, End::More, &mut parsed);
    assert_eq!((parsed.records, parsed.bad_lines), (0, 1));
}

#[test]
fn ids_are_those_of_records_that_change_something() {
    let parsed = parse(&EVENTS, b"e1 a\nother\ne2 b\n");
    let ids: Vec<_> = parsed.ids.iter().map(|(offset, id)| (*offset, &**id)).collect();
    assert_eq!(ids, [(0, &b"e1"[..]), (11, &b"e2"[..])]);
}

#[test]
fn no_dialect_finds_a_record_in_zeros_or_noise_of_any_length() {
    let noise: Vec<u8> = (0..LINE_MAX + 7).map(|at| 0x80 | u8::try_from(at % 127).expect("small")).collect();
    for dialect in syncd_parsers::dialect::all() {
        for log in [&vec![0; LINE_MAX + 7], &vec![b'x'; LINE_MAX + 7], &noise, &vec![b'\n'; 1000]] {
            let parsed = parse(*dialect, log);
            assert_eq!((parsed.records, parsed.entries.len()), (0, 0), "{}", dialect.name());
            assert!(parsed.bad.iter().all(|bad| bad.text.len() <= records::BAD_TEXT_MAX));
        }
    }
}

/// Pieces of JSON, whole and broken.
const JSON: [&str; 20] = [
    "{\"a\":1}",
    "{\"a\":1}\n",
    "{\"a\":\"x}\"}\n",
    "{\n\"a\": [\n{},\n{}\n]\n}\n",
    "{\"Records\":[",
    "]}",
    "],\"more\":\"x\"}\n",
    ",\n",
    "\n",
    "\r\n",
    "{",
    "}",
    "}\n{",
    "\"",
    "\\",
    "[",
    "]",
    "text\n",
    "\u{feff}",
    "\0",
];

const LINES: [&str; 8] = ["e1 a\n", "e1 b\n", "e2 c\n", "e3 d\n", "e1", "other\n", "\n", "e2 \r\n"];

fn logs(of: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    vec(select(of), 0..40).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn objects_are_the_same_however_they_are_read(log in logs(&JSON), pieces in 1_usize..20, mut cuts in vec(0_usize..200, 0..8)) {
        cuts.sort_unstable();
        let whole = parse(&OBJECTS, &log);
        prop_assert_eq!(&in_pieces(&OBJECTS, &log, pieces), &whole);
        prop_assert_eq!(&in_reads(&OBJECTS, &log, cuts), &whole);
        prop_assert_eq!(&in_reads(&OBJECTS, &log, 0..=log.len()), &whole);
    }

    #[test]
    fn objects_are_the_same_from_any_line_on(log in logs(&JSON), at in 0_usize..200) {
        let mut parsed = Parsed::default();
        let border = at.min(log.len());
        for range in [0..border, border..log.len()] {
            records::parse_range(&OBJECTS, &log, range, 0, End::Closed, &mut parsed);
        }
        prop_assert_eq!(parsed, parse(&OBJECTS, &log));
    }

    #[test]
    fn events_are_the_same_however_they_are_read(log in logs(&LINES), pieces in 1_usize..20, mut cuts in vec(0_usize..200, 0..8)) {
        cuts.sort_unstable();
        let whole = parse(&EVENTS, &log);
        prop_assert_eq!(&in_pieces(&EVENTS, &log, pieces), &whole);
        prop_assert_eq!(&in_reads(&EVENTS, &log, cuts), &whole);
        prop_assert_eq!(&in_reads(&EVENTS, &log, 0..=log.len()), &whole);
    }

    #[test]
    fn mingled_events_over_many_blocks_are_the_same_however_they_are_read(
        numbers in vec((0_u32..3000, 1_usize..4000), 50..400), block in 1000_usize..300_000
    ) {
        let line = |(number, len): &(u32, usize)| format!("e{} {}\n", number / 3, "x".repeat(*len));
        let mut numbers = numbers;
        numbers.sort_by_key(|(number, len)| number + (*len as u32 % 40));
        let log: String = numbers.iter().map(line).collect();
        let whole = parse(&EVENTS, log.as_bytes());
        prop_assert_eq!(&in_pieces(&EVENTS, log.as_bytes(), 7), &whole);
        prop_assert_eq!(&in_reads(&EVENTS, log.as_bytes(), (1..).map(|n| n * block).take_while(|at| *at < log.len())), &whole);
    }
}
