// ANCHOR: record
//! The samples of the experiments in a file, as comma-separated values: `experiment,seconds,usage,limit`.
//!
//! Usage and limit are in bytes (`memory`), CPUs (`cpu`), processes (`fork_bomb`), bytes per second (`disk`).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::plot::Sample;

/// A file that takes samples.
#[derive(Debug)]
pub struct Record {
    file: File,
    path: PathBuf,
}

impl Record {
    /// Makes the file, or empties the one that is there.
    pub fn create(path: &Path) -> Result<Record> {
        let file = File::create(path).with_context(|| format!("open {path:?}"))?;
        let mut record = Record { file, path: path.into() };
        record.write("experiment,seconds,usage,limit\n")?;
        Ok(record)
    }

    /// Adds a sample of `experiment`.
    pub fn add(&mut self, experiment: &str, sample: Sample, limit: f64) -> Result<()> {
        let Sample { seconds, usage } = sample;
        self.write(&format!("{experiment},{seconds:.3},{usage:.3},{limit}\n"))
    }

    fn write(&mut self, line: &str) -> Result<()> {
        self.file.write_all(line.as_bytes()).with_context(|| format!("write to {:?}", self.path))
    }
}
// ANCHOR_END: record
