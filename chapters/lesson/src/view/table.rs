//! A view as text, and two of them side by side.
//!
//! The marks are those of `diff -y`: `|` a line that differs, `<` one that only the left has, `>` only the
//! right.

use std::os::fd::AsFd;

use super::View;
use super::lines::{Line, sections};

/// Rows of a list that are shown where both sides have the same.
const SAME: usize = 3;
/// Rows of a list that are shown where they differ, for each mark.
const DIFFERENT: usize = 12;
/// Lines that one cell of the table may take.
const LINES: usize = 3;
/// The width of the titles' column.
const TITLE: usize = 14;

/// The mark between two cells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Same,
    Differs,
    OnlyLeft,
    OnlyRight,
}

struct Row {
    mark: Mark,
    left: String,
    right: String,
}

/// One view, complete, in `width` columns.
pub fn list(view: &View, colour: bool, width: usize) -> String {
    let mut output = String::new();
    for section in sections(view) {
        let cells =
            section.lines.iter().flat_map(|line| wrap(&line.text, width.saturating_sub(TITLE), usize::MAX));
        for (position, cell) in cells.enumerate() {
            let title = if position == 0 { section.title } else { "" };
            // Groups may be empty: no blanks at the end of its line.
            let title = format!("{title:<TITLE$}");
            let title = if cell.is_empty() { title.trim_end() } else { &title };
            output += &format!("{}{cell}\n", paint(title, BOLD, colour));
        }
    }
    output
}

/// Two views with their names, side by side in `width` columns; what differs has a mark between the columns.
/// Long lists are shortened, with a count. `rows` are the titles of those to show, such as `links`; all where
/// there are none.
pub fn table(
    left: (&str, &View),
    right: (&str, &View),
    rows: Option<&[&str]>,
    colour: bool,
    width: usize,
) -> String {
    let cell = width.saturating_sub(TITLE + 3).max(20) / 2;
    let mut output = paint(&format!("{:TITLE$}{:<cell$}   {}", "", left.0, right.0), BOLD, colour) + "\n";
    for (left, right) in sections(left.1).into_iter().zip(sections(right.1)) {
        let mut title = left.title;
        if rows.is_some_and(|rows| !rows.contains(&title)) {
            continue;
        }
        for row in shorten(compare(left.lines, right.lines)) {
            output += &print_row(title, &row, cell, colour);
            title = "";
        }
    }
    output + &format!("{:TITLE$}| differs   < only {}   > only {}\n", "", left.0, right.0)
}

/// The number of columns of the terminal, or `None` where `output` is none.
pub fn terminal_width(output: &impl AsFd) -> Option<usize> {
    use std::os::fd::AsRawFd;
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a `winsize` through the pointer, which is valid and unshared for the call.
    let result = unsafe { libc::ioctl(output.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    // A terminal that was never told its size has 0 columns.
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Lines with the same key side by side, in the left's order; then those that only the right has.
fn compare(left: Vec<Line>, right: Vec<Line>) -> Vec<Row> {
    let mut right: Vec<Option<Line>> = right.into_iter().map(Some).collect();
    let mut rows = Vec::new();
    for line in left {
        // Several mounts may stand on one point: the first of them is compared with the first, and so on.
        let partner =
            right.iter_mut().find(|other| other.as_ref().is_some_and(|other| other.key == line.key));
        let row = match partner.and_then(Option::take) {
            Some(other) if other.text == line.text => {
                Row { mark: Mark::Same, left: line.text, right: other.text }
            }
            Some(other) => Row { mark: Mark::Differs, left: line.text, right: other.text },
            None => Row { mark: Mark::OnlyLeft, left: line.text, right: String::new() },
        };
        rows.push(row);
    }
    let only_right = right.into_iter().flatten();
    rows.extend(only_right.map(|line| Row { mark: Mark::OnlyRight, left: String::new(), right: line.text }));
    rows
}

/// At most a few rows of each mark, and the number of those left out.
fn shorten(mut rows: Vec<Row>) -> Vec<Row> {
    for mark in [Mark::Differs, Mark::OnlyLeft, Mark::OnlyRight, Mark::Same] {
        let limit = if mark == Mark::Same { SAME } else { DIFFERENT };
        let count = rows.iter().filter(|row| row.mark == mark).count();
        // A line that says "1 more" takes the place that the line itself would take.
        if count > limit + 1 {
            let mut seen = 0;
            rows.retain(|row| {
                seen += usize::from(row.mark == mark);
                row.mark != mark || seen <= limit
            });
            rows.push(more(mark, count - limit));
        }
    }
    rows
}

fn more(mark: Mark, count: usize) -> Row {
    let text = |what: &str| format!("... and {count} more {what}");
    let (left, right) = match mark {
        Mark::Same => (text("on both sides"), text("on both sides")),
        Mark::Differs => (text("that differ"), text("that differ")),
        Mark::OnlyLeft => (text("only here"), String::new()),
        Mark::OnlyRight => (String::new(), text("only here")),
    };
    Row { mark, left, right }
}

fn print_row(title: &str, row: &Row, cell: usize, colour: bool) -> String {
    let mark = match row.mark {
        Mark::Same => " ",
        Mark::Differs => "|",
        Mark::OnlyLeft => "<",
        Mark::OnlyRight => ">",
    };
    let style = if row.mark == Mark::Same { "" } else { YELLOW };
    let (left, right) = (wrap(&row.left, cell, LINES), wrap(&row.right, cell, LINES));
    let empty = String::new();
    let mut output = String::new();
    for line in 0..left.len().max(right.len()) {
        let title = if line == 0 { title } else { "" };
        let (left, right) = (left.get(line).unwrap_or(&empty), right.get(line).unwrap_or(&empty));
        let cells = format!("{left:<cell$} {mark} {right}");
        let title = paint(&format!("{title:<TITLE$}"), BOLD, colour);
        output += &format!("{title}{}\n", paint(cells.trim_end(), style, colour));
    }
    output
}

/// Cuts `text` into lines of `width` characters, at a space or after a comma where there is one; after
/// `limit` lines the rest is left out, with a sign of it.
fn wrap(text: &str, width: usize, limit: usize) -> Vec<String> {
    let width = width.max(8);
    let mut characters: Vec<char> = text.chars().collect();
    let mut lines = Vec::new();
    while characters.len() > width {
        if lines.len() + 1 == limit {
            characters.truncate(width - 3);
            characters.extend("...".chars());
            break;
        }
        let cut = characters[..width].iter().rposition(|character| matches!(character, ' ' | ','));
        let rest = characters.split_off(cut.map_or(width, |cut| cut + 1));
        lines.push(String::from_iter(characters).trim_end().to_owned());
        characters = rest;
    }
    lines.push(characters.into_iter().collect());
    lines
}

const BOLD: &str = "\x1b[1m";
const YELLOW: &str = "\x1b[33m";

fn paint(text: &str, style: &str, colour: bool) -> String {
    if colour && !style.is_empty() && !text.trim().is_empty() {
        format!("{style}{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
