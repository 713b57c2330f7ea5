//! One log of one dialect (`SYNCD_DIALECT`), read in three ways that have to agree.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use syncd_parsers::Dialect;
use syncd_parsers::dialect::by_name;
use syncd_parsers::records::{self, End, Parsed};

static DIALECT: LazyLock<&'static dyn Dialect> = LazyLock::new(|| {
    let name = std::env::var("SYNCD_DIALECT").unwrap_or_else(|_| "hdfs".to_owned());
    by_name(&name).unwrap_or_else(|| panic!("SYNCD_DIALECT={name} is no dialect"))
});

fuzz_target!(|log: &[u8]| {
    let mut whole = Parsed::default();
    records::parse_block(*DIALECT, log, 0, End::Closed, &mut whole);
    assert!(in_pieces(log) == whole, "pieces differ");
    assert!(in_reads(log) == whole, "reads differ");
});

fn in_pieces(log: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    for range in records::split_for_parallel(*DIALECT, log, 3) {
        let mut part = Parsed::default();
        records::parse_range(*DIALECT, log, range, 0, End::Closed, &mut part);
        parsed.append(part);
    }
    parsed
}

/// Cut at places that the log itself gives.
fn in_reads(log: &[u8]) -> Parsed {
    let (mut parsed, mut consumed, mut end) = (Parsed::default(), 0, 0);
    while end < log.len() {
        end += usize::from(log[end]) + 1;
        let block = &log[consumed..end.min(log.len())];
        consumed += records::parse_block(*DIALECT, block, consumed as u64, End::More, &mut parsed);
    }
    records::parse_block(*DIALECT, &log[consumed..], consumed as u64, End::Closed, &mut parsed);
    parsed
}
