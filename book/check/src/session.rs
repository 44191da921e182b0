//! Sessions: the `console` blocks of a page, typed into a shell and compared with what the page shows.
//!
//! All blocks of a page run in order, in one shell (one more for root) in one [`World`], so a later block
//! sees what an earlier one did. The default root file system is there from the start, as on the machine of a
//! reader who has run a lesson before.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::console::{self, Block, Command};
use crate::page::{Book, Page};
use crate::terminal::Terminal;
use crate::world::{User, World};
use crate::{Problem, blank, screen};

/// How long one command may take. An emulated machine is ten times as slow as a real one; a command that
/// hangs is rare.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// How long the line before a `^C` is awaited.
const LINE_LIMIT: Duration = Duration::from_secs(60);

/// How long the screen must have been still before `^C` is typed: what was typed last must have started.
const SILENCE: Duration = Duration::from_secs(3);

/// The ID of the process before a page's first shell, and of the one before its first command.
const SHELL_PID: u32 = 4100;
const FIRST_PID: u32 = 4200;
const PIDS_PER_COMMAND: u32 = 40;

/// The prompt of the shell: the last status between two record separators, which no program prints.
static PROMPT: LazyLock<Regex> = LazyLock::new(|| Regex::new("\x1e(\\d+)\x1e").expect("a valid pattern"));

/// Runs the sessions of every page (of those whose path contains `only`, where given), with the built
/// programs of the directory `programs`, and reports what differs; with `bless` rewrites the page instead.
pub fn check(book: &Book, programs: &Path, only: Option<&str>, bless: bool) -> Result<Vec<Problem>> {
    let readmes = crate::readme::pages(&book.root)?;
    let wanted = |page: &&Page| only.is_none_or(|part| page.file.to_string_lossy().contains(part));
    let pages: Vec<&Page> = book.pages.iter().chain(&readmes).filter(wanted).collect();
    // Each page has a world of its own, so they run side by side.
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        while let Some(page) = pages.get(next.fetch_add(1, Ordering::Relaxed)) {
            problems.extend(check_page(book, page, programs, bless)?);
        }
        Ok(problems)
    };
    let mut problems = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let count = std::thread::available_parallelism().map_or(1, |count| count.get());
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            problems.extend(worker.join().expect("a worker does not panic")?);
        }
        Ok(())
    })?;
    problems.sort();
    Ok(problems)
}

fn check_page(book: &Book, page: &Page, programs: &Path, bless: bool) -> Result<Vec<Problem>> {
    // Blocks that can't be read are reported by `console::check`.
    let blocks: Vec<Block> = console::blocks(&page.text).into_iter().flatten().collect();
    if !blocks.iter().any(|block| is_run(page, block)) {
        return Ok(Vec::new());
    }
    let mut session = Session::new(&book.root, programs)
        .with_context(|| format!("prepare the sessions of {}", page.file.display()))?;
    let mut problems = Vec::new();
    let mut outputs = Vec::new();
    for block in &blocks {
        let mut of_block = Vec::new();
        for command in block.commands.iter().filter(|_| is_run(page, block)) {
            match session.run(block, command) {
                Ok(output) if blank::output(&output) == blank::output(&command.output) => {
                    of_block.push(command.output.clone());
                }
                Ok(output) => {
                    problems.push(Problem::new(&page.file, command.line, difference(command, &output)));
                    of_block.push(output);
                }
                Err(error) => {
                    // What follows would run in a state that the page does not tell of.
                    let what = format!("`{}`: {error:#}", command.text);
                    problems.push(Problem::new(&page.file, command.line, what));
                    return Ok(problems);
                }
            }
        }
        outputs.push(of_block);
    }
    if bless && !problems.is_empty() {
        let path = book.root.join(&page.file);
        let text = console::rewrite(&page.text, &blocks, &outputs);
        fs::write(&path, text).with_context(|| format!("write {path:?}"))?;
        println!("{}: wrote the output of {} commands", page.file.display(), problems.len());
        return Ok(Vec::new());
    }
    Ok(problems)
}

/// A page's blocks run unless they say why not; of README.md those run that show an output.
fn is_run(page: &Page, block: &Block) -> bool {
    let in_book = page.file.starts_with("book");
    let shows_output = block.commands.iter().any(|command| !command.output.is_empty());
    block.norun.is_none() && (in_book || shows_output)
}

/// What differs, for a reader who has to decide which side is wrong.
fn difference(command: &Command, output: &[String]) -> String {
    let (page, real) = (blank::output(&command.output), blank::output(output));
    let same = page.iter().zip(&real).take_while(|(page, real)| page == real).count();
    let side = |lines: &[String], blanked: &[String]| match (lines.get(same), blanked.get(same)) {
        (Some(line), Some(_)) => line.clone(),
        _ => "(nothing more)".to_string(),
    };
    format!(
        "`{}` prints something else, from line {} of its output on\n    page:   {}\n    really: {}\n  all of it, which \
         `scripts/book bless` would write:\n    {}",
        command.text,
        same + 1,
        side(&command.output, &page),
        side(output, &real),
        output.join("\n    "),
    )
}

/// The shells of one page.
struct Session {
    // Terminals end before their world does.
    learner: Option<Terminal>,
    root: Option<Terminal>,
    world: World,
    commands: u32,
}

impl Session {
    fn new(repository: &Path, programs: &Path) -> Result<Session> {
        let mut session =
            Session { learner: None, root: None, world: World::new(repository, programs)?, commands: 0 };
        if programs.join("rootfs-builder").is_file() {
            let text = "cargo run -q -p rootfs-builder -- build".to_string();
            let terminal = session.terminal(User::Learner)?;
            let (output, status) = type_command(terminal, &text, &[], None)?;
            if status != 0 {
                bail!("{text}: exit status {status}\n{}", output.join("\n"));
            }
        }
        Ok(session)
    }

    fn terminal(&mut self, user: User) -> Result<&mut Terminal> {
        let place = match user {
            User::Learner => &mut self.learner,
            User::Root => &mut self.root,
        };
        if place.is_none() {
            self.world.set_last_pid(SHELL_PID)?;
            let mut terminal = Terminal::open(&self.world, user)?;
            wait_for_prompt(&mut terminal, Instant::now() + TIME_LIMIT)
                .with_context(|| with_screen(&terminal, "the shell does not start"))?;
            *place = Some(terminal);
        }
        Ok(place.as_mut().expect("just opened"))
    }

    /// Runs one command; returns the lines that a page shows for it.
    fn run(&mut self, block: &Block, command: &Command) -> Result<Vec<String>> {
        let user = if block.root { User::Root } else { User::Learner };
        self.terminal(user)?;
        self.world.set_last_pid(FIRST_PID + PIDS_PER_COMMAND * self.commands)?;
        self.commands += 1;
        let inner = block.inner.as_deref();
        let (mut output, status) = type_command(self.terminal(user)?, &command.text, &command.output, inner)?;
        if status != 0 {
            output.push(format!("[exit status: {status}]"));
        }
        Ok(output)
    }
}

/// Types a command, and to the program that it starts those lines of the page's output that are typed;
/// returns what the screen shows.
fn type_command(
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
fn wait_for_prompt(terminal: &mut Terminal, deadline: Instant) -> Result<i32> {
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
fn with_screen(terminal: &Terminal, what: &str) -> String {
    let shown = screen::plain(&terminal.seen());
    format!("{what}; the screen shows:\n    {}\n  cause", shown.trim_end().replace('\n', "\n    "))
}
