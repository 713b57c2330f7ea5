//! A line of the change log that can be read is the same when it was written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use syncd_parsers::Change;

fuzz_target!(|line: &[u8]| {
    if let Ok(change) = serde_json::from_slice::<Change>(line) {
        let written = serde_json::to_vec(&change).expect("a change can be written");
        assert_eq!(serde_json::from_slice::<Change>(&written).expect("what was written can be read"), change);
    }
});
