//! Finding out what dialect a log is of: never a panic, and never an answer that reads nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use syncd_parsers::detect::{Sample, detect};
use syncd_parsers::records::{self, End, Parsed};

fuzz_target!(|log: &[u8]| {
    for is_whole in [true, false] {
        let Ok(found) = detect(Sample { bytes: log, is_whole }) else { continue };
        let mut parsed = Parsed::default();
        records::parse_block(found, log, 0, End::Closed, &mut parsed);
        assert!(!is_whole || parsed.records > 0, "{} reads nothing of it", found.name());
    }
});
