//! Lists that may be longer than memory: what is put off to the end of a window, and directories too large to sort
//! at once. Beyond a limit they continue in unnamed temporary files.

use crate::store::{Listed, Named, Odd, StoreError};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};

/// How many items a spool keeps in memory.
const HELD_MAX: usize = 50_000;
/// How many entries of one directory are sorted in memory at a time.
const SORTED_MAX: usize = 20_000;

/// Items in the order in which they were pushed.
#[derive(Debug)]
pub struct Spool<T> {
    held: Vec<T>,
    spilled: Option<BufWriter<File>>,
    len: usize,
}

impl<T> Default for Spool<T> {
    fn default() -> Self {
        Self { held: Vec::new(), spilled: None, len: 0 }
    }
}

impl<T: Serialize + DeserializeOwned> Spool<T> {
    /// # Errors
    ///
    /// The temporary file could not be made or written.
    pub fn push(&mut self, item: T) -> io::Result<()> {
        self.len += 1;
        if self.held.len() < HELD_MAX {
            self.held.push(item);
            return Ok(());
        }
        let file = match &mut self.spilled {
            Some(file) => file,
            none => none.insert(BufWriter::new(tempfile::tempfile()?)),
        };
        write_line(file, &item)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All items, first those in memory.
    ///
    /// # Errors
    ///
    /// The temporary file could not be written or read; later as items of the iterator.
    pub fn drain(&mut self) -> io::Result<impl Iterator<Item = io::Result<T>> + use<T>> {
        let Self { held, spilled, .. } = std::mem::take(self);
        let rest = spilled.map(|file| read_lines(file)).transpose()?;
        Ok(held.into_iter().map(Ok).chain(rest.into_iter().flatten()))
    }
}

fn write_line<T: Serialize>(file: &mut impl Write, item: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *file, item)?;
    file.write_all(b"\n")
}

fn read_lines<T: DeserializeOwned>(file: BufWriter<File>) -> io::Result<impl Iterator<Item = io::Result<T>>> {
    let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    let lines = BufReader::new(file).split(b'\n');
    Ok(lines.map(|line| Ok(serde_json::from_slice(&line?)?)))
}

/// A listing sorted by name, as bytes, each name once, and what in it cannot be named. Stores list in orders of their
/// own (HDFS compares signed bytes, S3 whole keys, POSIX not at all), and two sides can be compared as streams only in
/// one order.
pub struct Sorted {
    entries: Vec<Named>,
    runs: Vec<BufWriter<File>>,
    pub odd: Vec<Odd>,
}

impl Sorted {
    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self { entries: Vec::new(), runs: Vec::new(), odd: Vec::new() }
    }

    /// Reads the listing to its end.
    ///
    /// # Errors
    ///
    /// The listing's own, or `spill` applied to an error of the temporary files.
    pub async fn of(
        mut listing: BoxStream<'_, Result<Listed, StoreError>>,
        spill: impl Fn(io::Error) -> StoreError,
    ) -> Result<Self, StoreError> {
        let mut sorted = Self::empty();
        while let Some(listed) = listing.next().await {
            match listed? {
                Listed::Odd(odd) => sorted.odd.push(odd),
                Listed::Entry(entry) => sorted.entries.push(entry),
            }
            if sorted.entries.len() >= SORTED_MAX {
                sorted.spill().map_err(&spill)?;
            }
        }
        sorted.sort();
        Ok(sorted)
    }

    /// The entries in order.
    ///
    /// # Errors
    ///
    /// A temporary file could not be read; later as items of the iterator.
    pub fn into_entries(self) -> io::Result<Box<dyn Iterator<Item = io::Result<Named>> + Send>> {
        if self.runs.is_empty() {
            return Ok(Box::new(self.entries.into_iter().map(Ok)));
        }
        let mut runs: Vec<Run> = vec![Box::new(self.entries.into_iter().map(Ok))];
        for file in self.runs {
            runs.push(Box::new(read_lines(file)?));
        }
        Ok(Box::new(Merge::of(runs)?))
    }

    fn sort(&mut self) {
        self.entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        self.entries.dedup_by(|one, other| one.name == other.name);
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let mut run = BufWriter::new(tempfile::tempfile()?);
        self.entries.drain(..).try_for_each(|entry| write_line(&mut run, &entry))?;
        self.runs.push(run);
        Ok(())
    }
}

type Run = Box<dyn Iterator<Item = io::Result<Named>> + Send>;

/// Sorted runs as one.
struct Merge {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    entries: Vec<Option<Named>>,
    last: Option<Vec<u8>>,
}

impl Merge {
    fn of(runs: Vec<Run>) -> io::Result<Self> {
        let entries = runs.iter().map(|_| None).collect();
        let mut merge = Self { runs, heads: BinaryHeap::new(), entries, last: None };
        (0..merge.runs.len()).try_for_each(|run| merge.advance(run))?;
        Ok(merge)
    }

    fn advance(&mut self, run: usize) -> io::Result<()> {
        self.entries[run] = self.runs[run].next().transpose()?;
        if let Some(entry) = &self.entries[run] {
            self.heads.push(Reverse((entry.name.clone(), run)));
        }
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = io::Result<Named>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Reverse((name, run)) = self.heads.pop()?;
            let entry = self.entries[run].take();
            if let Err(error) = self.advance(run) {
                return Some(Err(error));
            }
            if self.last.as_ref() != Some(&name) {
                self.last = Some(name);
                return entry.map(Ok);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Meta;

    #[test]
    fn a_spool_gives_back_everything_in_order_also_beyond_its_memory() {
        let mut spool = Spool::default();
        (0..HELD_MAX + 10).for_each(|n| spool.push(n).expect("temporary files work"));
        assert_eq!(spool.len(), HELD_MAX + 10);
        let back: io::Result<Vec<usize>> = spool.drain().expect("readable").collect();
        assert_eq!(back.expect("readable"), (0..HELD_MAX + 10).collect::<Vec<_>>());
        assert!(spool.is_empty());
    }

    #[tokio::test]
    async fn a_listing_longer_than_memory_comes_back_sorted_and_without_doubles() {
        let count = SORTED_MAX * 2 + 7;
        let entry = |n: usize| {
            let name = format!("{:06}", (n * 7919) % count).into_bytes();
            Ok(Listed::Entry(Named { name, meta: Meta::file(n as u64) }))
        };
        let listing = futures::stream::iter((0..count).chain(0..5).map(entry));
        let sorted = Sorted::of(listing.boxed(), |error| panic!("{error}")).await.expect("lists");
        let names: Vec<Vec<u8>> =
            sorted.into_entries().expect("reads").map(|entry| entry.expect("reads").name).collect();
        assert_eq!(names.len(), count);
        assert!(names.is_sorted());
    }
}
