//! Which files point to others, and so must appear after them: success markers, table logs, snapshot indexes.

use globset::{Glob, GlobSet, GlobSetBuilder};
use syncd_parsers::RelPath;

/// What is published last unless told otherwise, in this order among themselves: files of one rank appear
/// after all of a lower one.
pub const DEFAULT: &[&[&str]] = &[
    &["**/_delta_log/**", "**/.hoodie/**", "**/metadata/*.avro", "**/meta-*.dat", "**/snap-*.dat"],
    &["**/metadata/*.metadata.json", "**/index-[0-9]*"],
    &["**/_SUCCESS", "**/index.latest", "**/metadata/version-hint.text", "**/_delta_log/_last_checkpoint"],
];

/// The patterns, compiled.
#[derive(Debug, Clone)]
pub struct Publish(Vec<GlobSet>);

impl Publish {
    /// Patterns by rank; a path has the highest rank of those that match it.
    ///
    /// # Errors
    ///
    /// A pattern is not a glob.
    pub fn new<S: AsRef<str>>(ranks: &[impl AsRef<[S]>]) -> Result<Self, globset::Error> {
        let set = |patterns: &[S]| {
            let mut builder = GlobSetBuilder::new();
            for pattern in patterns {
                builder.add(Glob::new(pattern.as_ref())?);
            }
            builder.build()
        };
        Ok(Self(ranks.iter().map(|patterns| set(patterns.as_ref())).collect::<Result<_, _>>()?))
    }

    /// Where in the order a file comes; `None` for data, which comes first.
    #[must_use]
    pub fn rank(&self, path: &RelPath) -> Option<usize> {
        let path = path.as_str()?;
        self.0.iter().rposition(|patterns| patterns.is_match(path))
    }
}

impl Default for Publish {
    fn default() -> Self {
        Self::new(DEFAULT).expect("the test below compiles these very patterns")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_points_to_data_comes_after_it_in_the_right_order() {
        let publish = Publish::default();
        let rank = |path: &str| publish.rank(&RelPath::new(path).expect("a path"));
        assert_eq!(rank("t/part-0.parquet"), None);
        assert!(rank("t/part-0.parquet") < rank("t/_SUCCESS"));
        assert!(rank("repo/snap-x.dat") < rank("repo/index-7"));
        assert!(rank("repo/index-7") < rank("repo/index.latest"));
        assert!(rank("t/_delta_log/00001.json") < rank("t/_delta_log/_last_checkpoint"));
        assert!(rank("t/metadata/snap-1.avro") < rank("t/metadata/v3.metadata.json"));
        assert_eq!(rank("_SUCCESS"), Some(2));
    }
}
