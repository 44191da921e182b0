//! Sessions: the `console` blocks of a page, typed into a shell and compared with what the page shows.
//!
//! All blocks of a page run in order, in one shell (one more for root) in one [`World`], so a later block
//! sees what an earlier one did. The default root file system is there from the start, as on the machine of a
//! reader who has run a lesson before.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::console::{self, Block, Command};
use crate::page::{Book, Page};
use crate::terminal::Terminal;
use crate::typing::{TIME_LIMIT, type_command, wait_for_prompt, with_screen};
use crate::world::{User, World};
use crate::{Problem, blank};

/// The ID of the process before a page's first shell, and of the one before its first command.
const SHELL_PID: u32 = 4100;
const FIRST_PID: u32 = 4200;
const PIDS_PER_COMMAND: u32 = 40;

/// Which sessions are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// All: on machines that have cgroup version 2 with its controllers.
    All,
    /// On each page, those before its first block marked `cgroup2`: any machine can run these.
    Plain,
    /// Those of the pages with a block marked `cgroup2`.
    NeedingCgroup2,
}

/// What is to be run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The directory of the built programs.
    pub programs: &'a Path,
    /// Which sessions.
    pub sessions: Sessions,
    /// Only those of the pages whose path contains this.
    pub only: Option<&'a str>,
    /// The directory below which the pages are written anew, where they are wrong: that of the repository, or
    /// of a copy.
    pub bless: Option<&'a Path>,
}

/// Runs sessions and reports what differs; rewrites the pages instead where they are to be blessed.
pub fn check(book: &Book, run: &Run) -> Result<Vec<Problem>> {
    let readmes = crate::readme::pages(&book.root)?;
    let wanted = |page: &&Page| run.only.is_none_or(|part| page.file.to_string_lossy().contains(part));
    let pages: Vec<&Page> = book.pages.iter().chain(&readmes).filter(wanted).collect();
    // Each page has a world of its own, so they run side by side.
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        while let Some(page) = pages.get(next.fetch_add(1, Ordering::Relaxed)) {
            problems.extend(check_page(book, page, run)?);
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

/// How many sessions [`Sessions::Plain`] leaves out.
pub fn left_out(book: &Book) -> usize {
    let of_page = |page: &Page| {
        let blocks = readable_blocks(page);
        let is_run = |block: &&Block| is_run(page, block);
        let plain = before_cgroup2(&blocks);
        blocks.iter().filter(is_run).count() - blocks[..plain].iter().filter(is_run).count()
    };
    book.pages.iter().map(of_page).sum()
}

/// Blocks that can't be read are reported by `console::check`.
fn readable_blocks(page: &Page) -> Vec<Block> {
    console::blocks(&page.text).into_iter().flatten().collect()
}

/// The number of blocks before the first that needs cgroup version 2. What comes after it may stand on it.
fn before_cgroup2(blocks: &[Block]) -> usize {
    blocks.iter().position(|block| block.cgroup2).unwrap_or(blocks.len())
}

fn check_page(book: &Book, page: &Page, run: &Run) -> Result<Vec<Problem>> {
    let blocks = readable_blocks(page);
    let plain = before_cgroup2(&blocks);
    let needs_cgroup2 = plain < blocks.len();
    let chosen = match run.sessions {
        Sessions::Plain => &blocks[..plain],
        Sessions::NeedingCgroup2 if !needs_cgroup2 => &[],
        Sessions::All | Sessions::NeedingCgroup2 => &blocks[..],
    };
    if !chosen.iter().any(|block| is_run(page, block)) {
        return Ok(Vec::new());
    }
    let cgroup2 = needs_cgroup2 && run.sessions != Sessions::Plain;
    let mut session = Session::new(&book.root, run.programs, cgroup2)
        .with_context(|| format!("prepare the sessions of {}", page.file.display()))?;
    let mut problems = Vec::new();
    let mut outputs = Vec::new();
    for block in chosen {
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
    if let Some(directory) = run.bless.filter(|_| !problems.is_empty()) {
        let path = directory.join(&page.file);
        let text = console::rewrite(&page.text, &blocks, &outputs);
        fs::create_dir_all(path.parent().expect("a page is in a directory"))
            .with_context(|| format!("make the directory of {path:?}"))?;
        fs::write(&path, text).with_context(|| format!("write {path:?}"))?;
        eprintln!("{}: wrote the output of {} commands", page.file.display(), problems.len());
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
    fn new(repository: &Path, programs: &Path, cgroup2: bool) -> Result<Session> {
        let world = World::new(repository, programs, cgroup2)?;
        let mut session = Session { learner: None, root: None, world, commands: 0 };
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
