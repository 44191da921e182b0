// ANCHOR: imports
//! The tree of each branch beside the union's: a row for a path, a column for a branch.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};
use ch05_layers::overlay::{Form, Marks, marks};
use ch05_layers::whiteout::{self, Name};
use log::{Level, log_enabled};
// ANCHOR_END: imports

// ANCHOR: tree
/// A directory as a column: its title, and what it has.
pub struct Tree {
    title: String,
    cells: BTreeMap<Row, Cell>,
}

/// Where something is shown: a whiteout in the row of the name that it hides. Rows are sorted as a tree is walked.
pub type Row = Vec<OsString>;

struct Cell {
    text: String,
    /// Whether it hides something.
    is_mark: bool,
}

impl Tree {
    /// Reads the directory at `path`: that of a branch, or the mount point of a union.
    pub fn read(title: &str, path: &Path) -> Result<Tree> {
        let mut tree = Tree { title: title.into(), cells: BTreeMap::new() };
        tree.walk(path, &Row::new())?;
        Ok(tree)
    }

    fn walk(&mut self, directory: &Path, row: &Row) -> Result<()> {
        for entry in fs::read_dir(directory).with_context(|| format!("read the directory {directory:?}"))? {
            let entry = entry.with_context(|| format!("read the directory {directory:?}"))?;
            let (path, name) = (entry.path(), entry.file_name());
            let metadata = entry.metadata().with_context(|| format!("stat {path:?}"))?;
            let (hidden, is_whiteout) = match whiteout::classify(&name) {
                Name::Whiteout(hidden) => (hidden, true),
                Name::Plain(name) => (name, false),
                // AuFS's own files are no part of the layer, but for this one.
                Name::Opaque => (OsStr::new(""), true),
                Name::Reserved | Name::Malformed => continue,
            };
            let mut text = name.to_string_lossy().into_owned();
            let is_device = metadata.file_type().is_char_device() && metadata.rdev() == 0;
            let mut is_mark = is_whiteout || is_device;
            if is_device {
                text += " (0:0)";
            }
            let row: Row = row.iter().cloned().chain([hidden.to_owned()]).collect();
            if metadata.is_dir() {
                text += "/";
                if is_opaque(&path)? {
                    text += " (opaque)";
                    is_mark = true;
                }
                self.walk(&path, &row)?;
            }
            let indent = 2 * (row.len() - 1);
            self.cells.insert(row, Cell { text: format!("{:indent$}{text}", ""), is_mark });
        }
        Ok(())
    }

    /// Whether it is that of an init layer.
    pub fn is_init(&self) -> bool {
        self.title.ends_with("(init)")
    }

    fn text(&self, row: &Row) -> &str {
        self.cells.get(row).map_or("", |cell| &cell.text)
    }

    fn width(&self, rows: &Rows) -> usize {
        let texts = rows.keys().map(|row| self.text(row)).chain([self.title.as_str()]);
        texts.map(|text| text.chars().count()).max().unwrap_or_default()
    }
}

/// Whether overlayfs takes the directory for opaque.
fn is_opaque(path: &Path) -> Result<bool> {
    let directory = File::open(path).with_context(|| format!("open {path:?}"))?;
    for form in [Marks::Trusted, Marks::User].map(Form::Overlay) {
        if marks::is_opaque(directory.as_fd(), form).with_context(|| format!("the marks of {path:?}"))? {
            return Ok(true);
        }
    }
    Ok(false)
}
// ANCHOR_END: tree

// ANCHOR: print
/// The rows of a table: the texts in them, from left to right.
pub type Rows = BTreeMap<Row, Vec<String>>;

/// The rows of the table of these trees. What only the first has is left out.
pub fn rows<'a>(trees: impl Iterator<Item = &'a Tree> + Clone) -> Rows {
    let texts = |row: &Row| trees.clone().map(|tree| tree.text(row).to_string()).collect();
    let paths = trees.clone().skip(1).flat_map(|tree| tree.cells.keys());
    paths.map(|row| (row.clone(), texts(row))).collect()
}

/// Prints the trees side by side on standard error; nothing with `--quiet`. The rows for which `is_new` is true are
/// marked.
pub fn print(trees: &[&Tree], is_new: impl Fn(&Row) -> bool) {
    if !log_enabled!(Level::Info) {
        return;
    }
    let colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let rows = rows(trees.iter().copied());
    let titles: Vec<String> =
        trees.iter().map(|tree| format!("{:<1$}", tree.title, tree.width(&rows))).collect();
    eprintln!("\n       {}", titles.join("  ").trim_end());
    for row in rows.keys() {
        let mut line = String::from(if is_new(row) { "     > " } else { "       " });
        for tree in trees {
            let padded = format!("{:<1$}  ", tree.text(row), tree.width(&rows));
            let is_mark = tree.cells.get(row).is_some_and(|cell| cell.is_mark);
            line += &if is_mark && colour { format!("\x1b[31m{padded}\x1b[0m") } else { padded };
        }
        eprintln!("{}", line.trim_end());
    }
    eprintln!();
}
// ANCHOR_END: print
