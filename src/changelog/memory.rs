//! What one record of a log has to know of those before it: what ids are called, and whether it has been there. Pure.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use syncd_parsers::dialect::{Delivery, Framing, Resolve};
use syncd_parsers::records::Parsed;
use syncd_parsers::{Dialect, Entry};

/// How many records with ids are remembered at least; twice as many at most, at 16 bytes each.
const RECORDS_MAX: usize = 1 << 20;

/// Sees the records of one pass over the logs, in their order.
#[derive(Default)]
pub struct Memory {
    resolver: Option<Box<dyn Resolve>>,
    doubles: Doubles,
    /// False of what one writer appends to a file: its records have no ids, and come once.
    may_repeat: bool,
}

impl Memory {
    pub fn of(dialect: &dyn Dialect) -> Self {
        let is_plain = dialect.framing() == Framing::Lines && matches!(dialect.delivery(), Delivery::Appended(_));
        Self { resolver: dialect.resolver(), doubles: Doubles::default(), may_repeat: !is_plain }
    }

    /// False if every record stands for itself.
    pub fn is_needed(&self) -> bool {
        self.resolver.is_some() || self.may_repeat
    }

    /// Forgets the records, which will come again.
    pub fn forget(&mut self) {
        self.doubles = Doubles::default();
    }

    /// Puts paths where there are ids, and takes out the entries of records that were there before. Returns how many
    /// records these were.
    pub fn pass(&mut self, parsed: &mut Parsed) -> u64 {
        let doubles = if parsed.ids.is_empty() { 0 } else { self.doubles.take_out(parsed) };
        if let Some(resolver) = &mut self.resolver {
            parsed.entries = resolve(resolver.as_mut(), std::mem::take(&mut parsed.entries));
        }
        doubles
    }
}

fn resolve(resolver: &mut dyn Resolve, entries: Vec<(u64, Entry)>) -> Vec<(u64, Entry)> {
    let mut resolved = Vec::with_capacity(entries.len());
    let mut out = Vec::new();
    for (offset, entry) in entries {
        resolver.resolve(entry, &mut out);
        resolved.extend(out.drain(..).map(|entry| (offset, entry)));
    }
    resolved
}

/// Records, known by all that they say: records of one request may share its id.
#[derive(Default)]
struct Doubles {
    young: HashSet<u128>,
    old: HashSet<u128>,
    /// Two, since one of 64 bits could take a change for another; at random, since a log could be made to fit a known one.
    hashers: [RandomState; 2],
}

impl Doubles {
    fn take_out(&mut self, parsed: &mut Parsed) -> u64 {
        let mut entries = std::mem::take(&mut parsed.entries).into_iter().peekable();
        let mut doubles = 0;
        for (offset, id) in &parsed.ids {
            while let Some(other) = entries.next_if(|(at, _)| at < offset) {
                parsed.entries.push(other);
            }
            let before = parsed.entries.len();
            parsed.entries.extend(std::iter::from_fn(|| entries.next_if(|(at, _)| at == offset)));
            if !self.is_new(id, &parsed.entries[before..]) {
                parsed.entries.truncate(before);
                doubles += 1;
            }
        }
        parsed.entries.extend(entries);
        doubles
    }

    fn is_new(&mut self, id: &[u8], entries: &[(u64, Entry)]) -> bool {
        let said: Vec<_> = entries.iter().map(|(_, of)| (of.time, of.op, &of.path, &of.to)).collect();
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one((id, &said))));
        let digest = high << 64 | low;
        if self.old.contains(&digest) || !self.young.insert(digest) {
            return false;
        }
        if self.young.len() == RECORDS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDateTime;
    use syncd_parsers::Op;

    fn parsed(records: &[(&str, &[&str])]) -> Parsed {
        let entry = |path: &&str| Entry {
            time: NaiveDateTime::default(),
            op: Op::Write,
            path: path.as_bytes().to_vec(),
            to: None,
            into: false,
            user: None,
        };
        let offsets = || (0..).map(|index| index * 10);
        let entries = records.iter().zip(offsets());
        let entries = entries.flat_map(|((_, paths), at)| paths.iter().map(move |path| (at, entry(path))));
        let ids = records.iter().zip(offsets()).filter(|((id, _), _)| !id.is_empty());
        let ids = ids.map(|((id, _), at)| (at, id.as_bytes().into()));
        Parsed { entries: entries.collect(), ids: ids.collect(), ..Parsed::default() }
    }

    fn paths(parsed: &Parsed) -> Vec<String> {
        parsed.entries.iter().map(|(_, entry)| String::from_utf8_lossy(&entry.path).into_owned()).collect()
    }

    #[test]
    fn a_record_that_comes_again_says_nothing() {
        let mut doubles = Doubles::default();
        let mut first = parsed(&[("1", &["/a", "/b"]), ("2", &["/a"])]);
        assert_eq!((doubles.take_out(&mut first), first.entries.len()), (0, 3));
        let mut again = parsed(&[("3", &["/c"]), ("1", &["/a", "/b"]), ("", &["/d"])]);
        assert_eq!((doubles.take_out(&mut again), paths(&again)), (1, vec!["/c".to_owned(), "/d".to_owned()]));
    }

    #[test]
    fn records_of_one_request_that_say_different_things_all_count() {
        let mut records = parsed(&[("1", &["/a"]), ("1", &["/b"]), ("1", &["/a", "/b"])]);
        assert_eq!(Doubles::default().take_out(&mut records), 0);
        assert_eq!(records.entries.len(), 4);
    }
}
