//! Typing at a terminal as a reader does: a command to the shell, lines to the program that it starts, and no
//! key before what should be on the screen is there.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::terminal::Terminal;
use crate::{blank, screen};

/// How long one command may take. An emulated machine is ten times as slow as a real one; a command that
/// hangs is rare.
pub const TIME_LIMIT: Duration = Duration::from_secs(300);

/// How long the line before a `^C` is awaited.
const LINE_LIMIT: Duration = Duration::from_secs(60);

/// How long the screen must have been still before `^C` is typed: what was typed last must have started.
const SILENCE: Duration = Duration::from_secs(3);

/// The prompt of the shell: the last status between two record separators, which no program prints.
static PROMPT: LazyLock<Regex> = LazyLock::new(|| Regex::new("\x1e(\\d+)\x1e").expect("a valid pattern"));

/// Types a command, and to the program that it starts those lines of the page's output that are typed;
/// returns what the screen shows.
pub fn type_command(
    terminal: &mut Terminal,
    text: &str,
    page: &[String],
    inner: Option<&str>,
) -> Result<(Vec<String>, i32)> {
    let deadline = Instant::now() + TIME_LIMIT;
    terminal.clear();
    terminal.type_in(&format!("{text}\n"))?;
    let mut previous = "";
    for line in page {
        if line == "^C" {
            wait_for_line(terminal, previous);
            terminal.type_in("\x03")?;
        } else if let Some((prompt, typed)) = inner.and_then(|prompt| split_prompt(line, prompt)) {
            wait_for_inner(terminal, deadline, prompt).with_context(|| {
                with_screen(terminal, &format!("no prompt `{prompt}` to type `{typed}` at"))
            })?;
            let echoed = screen::lines_shown(&terminal.seen());
            terminal.type_in(&format!("{typed}\n"))?;
            // The prompt still stands there until the terminal has echoed the line.
            terminal
                .wait_for(deadline, |seen| (screen::lines_shown(seen) > echoed).then_some(()))
                .with_context(|| with_screen(terminal, &format!("`{typed}` was not echoed")))?;
        }
        previous = line;
    }
    let status = wait_for_prompt(terminal, deadline)
        .with_context(|| with_screen(terminal, "the command does not end"))?;
    let seen = terminal.seen();
    let shown = PROMPT.split(&seen).next().unwrap_or_default();
    Ok((screen::without_echo(&screen::plain(shown), text), status))
}

/// Waits for the shell's prompt; returns the status that it shows.
pub fn wait_for_prompt(terminal: &mut Terminal, deadline: Instant) -> Result<i32> {
    let status =
        terminal.wait_for(deadline, |seen| PROMPT.captures(seen).map(|found| found[1].to_string()))?;
    status.parse().context("the status in the shell's prompt")
}

/// Waits until the last line of the screen is the prompt of the program that runs.
fn wait_for_inner(terminal: &mut Terminal, deadline: Instant, prompt: &str) -> Result<()> {
    let asked = terminal.wait_for(deadline, |seen| {
        let ended = PROMPT.is_match(seen);
        let shown = screen::plain(seen);
        let last = shown.rsplit('\n').next().unwrap_or_default();
        (ended || last == prompt).then_some(!ended)
    })?;
    if !asked {
        bail!("the program has ended");
    }
    Ok(())
}

/// Waits until the line has appeared (none is awaited where it is empty), and then until the screen is still.
/// A line that was typed has appeared as soon as it is echoed, before what it starts is there to get the
/// signal.
fn wait_for_line(terminal: &mut Terminal, line: &str) {
    let line = blank::line(line);
    // Where the line does not come, the page is wrong, and the comparison says so.
    let _ = terminal.wait_for(Instant::now() + LINE_LIMIT, |seen| {
        let shown = screen::plain(seen);
        let found = line.is_empty() || shown.lines().any(|shown| blank::line(shown) == line);
        found.then_some(())
    });
    terminal.wait_for_silence(SILENCE);
}

/// A line of the page that is typed at the inner prompt: the prompt, and what is typed.
fn split_prompt<'a>(line: &'a str, prompt: &'a str) -> Option<(&'a str, &'a str)> {
    // An empty line is typed where an editor has taken the space behind the prompt away.
    match line.strip_prefix(prompt) {
        Some(typed) => Some((prompt, typed)),
        None => (line == prompt.trim_end()).then_some((prompt, "")),
    }
}

/// An error's message: `what`, and the screen as it is.
pub fn with_screen(terminal: &Terminal, what: &str) -> String {
    let shown = screen::plain(&terminal.seen());
    format!("{what}; the screen shows:\n    {}\n  cause", shown.trim_end().replace('\n', "\n    "))
}
