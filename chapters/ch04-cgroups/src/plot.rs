// ANCHOR: plot
//! A live plot: what a cgroup uses, against its limit, over time.
//!
//! On a terminal each picture is drawn over the last one: `ESC [ n A` moves the cursor up n lines, `ESC [ K`
//! clears the rest of a line (console_codes(4)). Into a file or a pipe a plot is some plain lines, each with
//! a bar. Both go to standard error, as the narration does.

use std::io::{IsTerminal, Write, stderr};

use lesson::view::table::terminal_width;

use crate::size::show_bytes;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Memory.
    Bytes,
    /// Writes to a disk.
    BytesPerSecond,
    /// CPU time in a second of time: 1 is one CPU that is always busy.
    Cpus,
    /// Processes and threads.
    Processes,
}

impl Unit {
    /// The value for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Bytes => show_bytes(value),
            Unit::BytesPerSecond => format!("{}/s", show_bytes(value)),
            Unit::Cpus => format!("{value:.2} CPUs"),
            Unit::Processes if value == 1.0 => "1 process".into(),
            Unit::Processes => format!("{value:.0} processes"),
        }
    }
}

/// Where plots go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nowhere: `--quiet`.
    Nowhere,
    /// Plain lines.
    Lines,
    /// A terminal, with or without colour.
    Terminal {
        /// Not where NO_COLOR is set.
        colour: bool,
    },
}

impl Output {
    /// What standard error is.
    pub fn find(quiet: bool) -> Output {
        let is_set = |name: &str, value: &str| std::env::var_os(name).is_some_and(|text| text == value);
        let colour = std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty());
        match quiet {
            true => Output::Nowhere,
            // A terminal that calls itself dumb can't move its cursor.
            false if stderr().is_terminal() && !is_set("TERM", "dumb") => Output::Terminal { colour },
            false => Output::Lines,
        }
    }
}

/// One look at a cgroup.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the experiment began.
    pub seconds: f64,
    /// In the plot's unit.
    pub usage: f64,
}

/// A plot in the making.
#[derive(Debug)]
pub struct Plot {
    output: Output,
    unit: Unit,
    limit: f64,
    /// How many seconds fit in the picture.
    span: f64,
    samples: Vec<Sample>,
    /// How many lines of the last picture stand above the cursor.
    drawn: usize,
    /// When the next plain line is due.
    next_line: f64,
}

impl Plot {
    /// An empty plot for about `span` seconds.
    pub fn new(output: Output, unit: Unit, limit: f64, span: f64) -> Plot {
        Plot { output, unit, limit, span, samples: Vec::new(), drawn: 0, next_line: 0.0 }
    }

    /// Adds a sample, and draws. The last one is always shown.
    pub fn add(&mut self, sample: Sample, is_last: bool) {
        self.samples.push(sample);
        self.span = self.span.max(sample.seconds);
        let text = match self.output {
            Output::Nowhere => return,
            Output::Terminal { colour } => {
                let picture = self.picture(terminal_width(&stderr()).unwrap_or(80).clamp(50, 100), colour);
                let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
                self.drawn = picture.len();
                let lines: String = picture.iter().map(|line| format!("{line}\x1b[K\n")).collect();
                up + &lines
            }
            Output::Lines if sample.seconds < self.next_line && !is_last => return,
            Output::Lines => {
                self.next_line = sample.seconds + self.span / 10.0;
                self.line(sample)
            }
        };
        // A reader who has closed standard error wants no plot.
        stderr().write_all(text.as_bytes()).unwrap_or_default();
    }
}
// ANCHOR_END: plot

// ANCHOR: picture
/// How many rows of characters are below the limit, and above it.
const BELOW: usize = 8;
const ABOVE: usize = 2;

/// The columns left of the axis.
const LABEL: usize = 14;

/// A character cell filled from below by so many eighths.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl Plot {
    /// The whole plot as lines of text, none wider than `width`.
    fn picture(&self, width: usize, colour: bool) -> Vec<String> {
        let columns = width - LABEL - 2;
        let heights: Vec<usize> = (0..columns).map(|column| self.height(column, columns)).collect();
        let mut lines = Vec::new();
        for row in (0..BELOW + ABOVE).rev() {
            let label = if row == BELOW { self.unit.show(self.limit) } else { String::new() };
            let cells = heights.iter().map(|height| match height.saturating_sub(row * 8).min(8) {
                // The limit is the upper edge of the row below.
                0 if row == BELOW => (EIGHTHS[1], "\x1b[31m"),
                eighths => (EIGHTHS[eighths], "\x1b[36m"),
            });
            lines.push(format!("{label:>LABEL$} │{}", paint(cells, colour)));
        }
        let now = self.samples.last().map_or(0.0, |sample| sample.usage);
        let end = format!("{:.1} s", self.span);
        lines.push(format!("{:>LABEL$} └{}", "0", "─".repeat(columns)));
        lines.push(format!(
            "{:LABEL$}  0 s  now {}{end:>space$}",
            "",
            self.unit.show(now),
            space = columns.saturating_sub(9 + self.unit.show(now).len())
        ));
        lines
    }

    /// How high a column is, in eighths of a row: what the last sample before its end says. A column of the
    /// time to come is empty.
    fn height(&self, column: usize, columns: usize) -> usize {
        let (begin, end) = (column as f64, column as f64 + 1.0);
        let at = |sample: &Sample| sample.seconds / self.span * columns as f64;
        let is_future = self.samples.last().is_none_or(|last| at(last) < begin);
        let sample = self.samples.iter().rev().find(|sample| at(sample) < end).or(self.samples.first());
        match sample {
            Some(sample) if !is_future => (sample.usage / self.limit * (BELOW * 8) as f64).round() as usize,
            _ => 0,
        }
    }

    /// One sample as a line with a bar: `0.50 s  16.0 MiB of 64.0 MiB  |##########          |`.
    fn line(&self, sample: Sample) -> String {
        const BAR: usize = 40;
        let filled = (sample.usage / self.limit * BAR as f64).round() as usize;
        let bar: String = (0..BAR).map(|place| if place < filled { '#' } else { ' ' }).collect();
        let over = if filled > BAR { "#" } else { "" };
        let usage = self.unit.show(sample.usage);
        format!("{:>7.2} s {usage:>14} of {:14} |{bar}|{over}\n", sample.seconds, self.unit.show(self.limit))
    }
}

/// The cells as text; with colour, an escape sequence where the colour changes.
fn paint(cells: impl Iterator<Item = (char, &'static str)>, colour: bool) -> String {
    let mut text = String::new();
    let mut last = "";
    for (cell, its_colour) in cells {
        if colour && its_colour != last {
            text.push_str(its_colour);
            last = its_colour;
        }
        text.push(cell);
    }
    if !last.is_empty() {
        text.push_str("\x1b[0m");
    }
    text
}
// ANCHOR_END: picture

// ANCHOR: tests
#[cfg(test)]
mod tests {
    use super::{Output, Plot, Sample, Unit};

    fn plot(usage: &[f64]) -> Plot {
        let mut plot = Plot::new(Output::Nowhere, Unit::Processes, 20.0, 2.0);
        for (index, usage) in usage.iter().enumerate() {
            plot.add(Sample { seconds: index as f64, usage: *usage }, false);
        }
        plot
    }

    #[test]
    fn what_is_at_the_limit_fills_the_rows_below_it() {
        let picture = plot(&[20.0, 20.0, 20.0]).picture(50, false);
        assert_eq!(picture[1], format!("{:>14} │{}", "20 processes", "▁".repeat(34)));
        assert_eq!(picture[2], format!("{:14} │{}", "", "█".repeat(34)));
        assert_eq!(picture[9], format!("{:14} │{}", "", "█".repeat(34)));
    }

    #[test]
    fn what_is_over_the_limit_stands_out_above_it() {
        let picture = plot(&[21.0, 21.0, 21.0]).picture(50, false);
        assert!(picture[1].ends_with(&"▃".repeat(34)), "{picture:?}");
    }

    #[test]
    fn the_time_to_come_is_empty_and_no_line_is_too_wide() {
        let picture = plot(&[10.0, 10.0]).picture(50, false);
        assert_eq!(picture[9].trim_end().chars().count(), 16 + 18, "{picture:?}");
        assert!(picture.iter().all(|line| line.chars().count() <= 50), "{picture:?}");
    }

    #[test]
    fn a_plain_line_has_a_bar_that_ends_at_the_limit() {
        let line = plot(&[]).line(Sample { seconds: 0.5, usage: 10.0 });
        assert_eq!(line, format!("   0.50 s   10 processes of 20 processes   |{:40}|\n", "#".repeat(20)));
    }
}
// ANCHOR_END: tests
