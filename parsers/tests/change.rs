//! A change that is written is the change that is read, whatever bytes are in its names.

use chrono::{DateTime, SubsecRound};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use syncd_parsers::{Change, Op, RelPath};

const OPS: [Op; 6] = [Op::Write, Op::Mkdir, Op::Rename, Op::Delete, Op::Attr, Op::Rescan];

/// Names of any bytes but those that no name can have; the root, too.
fn paths() -> impl Strategy<Value = RelPath> {
    vec(vec(any::<u8>(), 1..12), 0..4).prop_filter_map("a path", |names| RelPath::new(names.join(&b'/')).ok())
}

fn changes() -> impl Strategy<Value = Change> {
    let text = || "\\PC*|[\u{0}-\u{1f}\"\\\\]*";
    let time = (-62_135_596_800_i64..253_402_300_799, 0_u32..1_000_000);
    let parts =
        (time, select(&OPS[..]), paths(), option::of(paths()), any::<bool>(), option::of(text()), text(), any::<u64>());
    parts.prop_map(|((seconds, micros), op, path, to, into, user, log, offset)| {
        let time = DateTime::from_timestamp(seconds, micros * 1000).expect("in range").trunc_subsecs(6);
        Change { time, op, path, to, into, user, log, offset }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn every_change_written_is_the_change_read(change in changes()) {
        let line = serde_json::to_vec(&change).expect("a line");
        prop_assert!(!line.contains(&b'\n'));
        prop_assert_eq!(serde_json::from_slice::<Change>(&line).expect("readable"), change);
    }

    #[test]
    fn what_is_no_change_is_an_error(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(serde_json::from_slice::<Change>(&bytes).is_err());
    }
}

#[test]
fn a_time_is_read_to_the_microsecond_however_finely_it_is_written() {
    let change = |time: &str| {
        let line = format!(r#"{{"time":"{time}","op":"write","path":"a","log":"l","offset":0}}"#);
        serde_json::from_str::<Change>(&line).expect("a change")
    };
    let plain = change("2026-11-21T00:00:00.035555Z");
    for finer in [
        "2026-11-21T00:00:00.0355559Z",
        "2026-11-21T00:00:00.03555555555555555Z",
        "2026-11-21T01:00:00.035555999+01:00",
    ] {
        assert_eq!(change(finer), plain, "{finer}");
    }
}
