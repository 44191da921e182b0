//! What a terminal's screen shows: the bytes that programs write, without what only moves the cursor.

use std::sync::LazyLock;

use regex::Regex;

/// Control sequences, of which a page shows nothing: colours, cursor movements, titles. console_codes(4)
static CONTROL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("\x1b\\[[0-9;?]*[A-Za-z]|\x1b\\][^\x07]*\x07|\x1b[=>]|\x07").expect("a valid pattern")
});

/// How many lines the screen has begun.
pub fn lines_shown(seen: &str) -> usize {
    seen.matches('\n').count()
}

/// What a screen shows in the end: without control sequences, and with the last of what a line was
/// overwritten with.
pub fn plain(seen: &str) -> String {
    let text = CONTROL.replace_all(seen, "").replace("\r\n", "\n");
    let lines = text.split('\n').map(|line| {
        let last = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
        let mut shown = String::new();
        for letter in last.chars() {
            match letter {
                '\x08' => drop(shown.pop()),
                '\t' => shown.push_str(&" ".repeat(8 - shown.chars().count() % 8)),
                letter => shown.push(letter),
            }
        }
        shown
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The lines of the screen without the echo of what was typed to the shell.
pub fn without_echo(shown: &str, typed: &str) -> Vec<String> {
    let rest = shown.replacen(&format!("{typed}\n"), "", 1);
    let mut lines: Vec<String> = rest.lines().map(|line| line.trim_end().to_string()).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_screen_shows_what_was_written_last() {
        assert_eq!(plain("one\r\ntwo\r\n"), "one\ntwo\n");
        assert_eq!(plain("10 %\r55 %\r100 %\r\n"), "100 %\n");
        assert_eq!(plain("a\tb\r\n"), "a       b\n");
        assert_eq!(plain("lx\x08s\r\n"), "ls\n");
        assert_eq!(plain("\x1b[1;31mred\x1b[0m \x1b[6n\x1b]0;title\x07end"), "red end");
    }
}
